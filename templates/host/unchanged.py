"""Of a release of which most is here already only the difference comes: the rest is linked from the one that has it."""

from __future__ import annotations

import errno
import hashlib
import stat
from collections.abc import Mapping

from . import release
from .descent import Descent, link
from .folders import Folder
from .run import Edited, Run

_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS}
_BLOCK = 1 << 20


def link_from(run: Run, releases: Folder, part: Folder, lists: Mapping[str, bytes]) -> None:
    """Make the manifest out of that of the base, and link what has not changed; Edited unless that is as it was."""
    base = run.step["base"]
    try:
        with releases.below(base) as there:
            same = _manifest(there, part, lists)
            if same is None:
                raise Edited(base)
            run.say("link", f"{len(same)} unchanged files of {base}")
            with there.below("code") as source, part.below("code") as target:
                _link(sorted(same), source, target)
    except FileNotFoundError:
        raise Edited(base) from None


def _manifest(base: Folder, part: Folder, lists: Mapping[str, bytes]) -> dict[str, str] | None:
    """Write it, and return what of it is the base's, path to digest; None when it is not what it should come to."""
    dropped = set(_text(lists, "DROPPED").split("\n"))
    there = release.listed(base, "MANIFEST") or {}
    same = {path: digest for path, digest in there.items() if path not in dropped}
    lines = [*(f"{digest}  {path}" for path, digest in same.items()), *_text(lists, "CHANGED").splitlines()]
    # By the bytes of the path, which begins behind a digest and two blanks.
    sorted_lines = sorted((line.encode("utf-8", "surrogateescape") for line in lines), key=lambda line: line[66:])
    manifest = b"".join(line + b"\n" for line in sorted_lines)
    if _text(lists, "DIGEST").split(" ")[0] != hashlib.sha256(manifest).hexdigest():
        return None
    with part.writer("MANIFEST", 0o644) as file:
        file.write(manifest)
    return same


def _text(lists: Mapping[str, bytes], name: str) -> str:
    return lists.get(name, b"").decode("utf-8", "surrogateescape")


def _link(paths: list[str], source: Folder, target: Folder) -> None:
    with Descent(source) as there, Descent(target, make=True) as here:
        for path in paths:
            above, _, name = path.rpartition("/")
            try:
                link(there.at(above), here.at(above), name)
            except OSError as error:
                # What cannot be linked is found out by its digest; a full disk is nothing that was edited.
                if error.errno in _DISK:
                    raise OSError(error.errno, error.strerror, f"{target.path}/{path}") from None


def set_modes(run: Run, code: Folder, executable: set[str]) -> None:
    """A file that was linked may be executable in one release and not in the other: there it is a copy."""
    for folder, name, path in code.walk():
        found = folder.status(name)
        if found and stat.S_ISREG(found.st_mode) and bool(found.st_mode & 0o100) != (path in executable):
            _copy(folder, name, f".part-{run.id}", 0o755 if path in executable else 0o644)


def _copy(folder: Folder, name: str, part: str, mode: int) -> None:
    with folder.reader(name) as source, folder.writer(part, mode) as target:
        while data := source.read(_BLOCK):
            target.write(data)
    folder.rename(part, name)
