"""Link the unchanged files of a release from its base, a release on the host: only the difference is sent."""

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
    """Make the manifest from that of the base, and link unchanged files; Edited if the base itself has changed."""
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
    """Write the manifest and return the base's part of it, path to digest; None if its digest is wrong."""
    dropped = set(_text(lists, "DROPPED").split("\n"))
    there = release.listed(base, "MANIFEST") or {}
    same = {path: digest for path, digest in there.items() if path not in dropped}
    lines = [*(f"{digest}  {path}" for path, digest in same.items()), *_text(lists, "CHANGED").splitlines()]
    # Sorted by the bytes of the path, which follows a digest and two blanks.
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
                # The check of digests finds a file that could not be linked; but a full disk is no edit.
                if error.errno in _DISK:
                    raise OSError(error.errno, error.strerror, f"{target.path}/{path}") from None


def set_modes(run: Run, code: Folder, executable: set[str]) -> None:
    """Replace a linked file by a copy if it is executable in one of the two releases and not in the other."""
    for folder, name, path in code.walk():
        status = folder.status(name)
        if status and stat.S_ISREG(status.st_mode) and bool(status.st_mode & 0o100) != (path in executable):
            _copy(folder, name, f".part-{run.id}", 0o755 if path in executable else 0o644)


def _copy(folder: Folder, name: str, part: str, mode: int) -> None:
    with folder.reader(name) as source, folder.writer(part, mode) as target:
        while data := source.read(_BLOCK):
            target.write(data)
    folder.rename(part, name)
