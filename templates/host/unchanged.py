"""Link the files of a release that are on the host already, so that only those that differ are sent.

Most are files of its base, the committed release; some of other releases. The files of its site may be in its own code.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, suppress

from . import release
from .descent import Descent, link
from .folders import DISK_ERRORS, Folder
from .run import Edited, Run

_GONE = (FileNotFoundError, NotADirectoryError)
_BLOCK = 1 << 20
_LIST_BYTES = 64 << 20


def link_from(run: Run, releases: Folder, part: Folder) -> None:
    """Link the base's files that have the same digest, and those of `others`; Edited if the base has gone."""
    executable = set(part.read("EXECUTABLE", _LIST_BYTES).decode("utf-8", "surrogateescape").split("\n"))
    part.remove("EXECUTABLE")
    with part.below("code") as target:
        if run.step["base"]:
            _link_base(run, releases, part, target, executable)
        for name, paths in run.step["others"].items():
            run.say("link", f"large files of {name}: {len(paths)}")
            # If a file is not linked, the check of digests fails, and the controller sends everything.
            with suppress(*_GONE), releases.below(name) as there, there.below("code") as source:
                _link(paths, source, target, executable)


def link_site(part: Folder) -> None:
    """Link files of the site from the code, which has them under another path; the controller did not send them."""
    wanted = release.listed(part, "SITE")
    if not wanted:
        return
    code = {(_name(path), digest): path for path, digest in (release.listed(part, "MANIFEST") or {}).items()}
    part.make("site", 0o755)
    with ExitStack() as stack:
        source, target = (stack.enter_context(part.below(name)) for name in ("code", "site"))
        there, here = stack.enter_context(Descent(source)), stack.enter_context(Descent(target, make=True))
        for path, digest in wanted.items():
            same = code.get((_name(path), digest))
            if same is not None:
                try:
                    if here.at(_above(path)).status(_name(path)) is None:
                        link(there.at(_above(same)), here.at(_above(path)), _name(path))
                except OSError as error:
                    _require_disk(error, f"{target.path}/{path}")


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _above(path: str) -> str:
    return path.rpartition("/")[0]


def _require_disk(error: OSError, path: str) -> None:
    """Raise the error again if the disk is full or broken. The check of digests finds a file that was not linked."""
    if error.errno in DISK_ERRORS:
        raise OSError(error.errno, error.strerror, path) from None


def _link_base(run: Run, releases: Folder, part: Folder, target: Folder, executable: set[str]) -> None:
    base, wanted = run.step["base"], release.listed(part, "MANIFEST") or {}
    try:
        with releases.below(base) as there, there.below("code") as source:
            kept = release.listed(there, "MANIFEST") or {}
            same = sorted(path for path, digest in wanted.items() if kept.get(path) == digest)
            run.say("link", f"{len(same)} unchanged files of {base}")
            _link(same, source, target, executable)
    except _GONE:
        raise Edited(base) from None


def _link(paths: Sequence[str], source: Folder, target: Folder, executable: set[str]) -> None:
    with Descent(source) as there, Descent(target, make=True) as here:
        for path in paths:
            above = _above(path)
            try:
                _link_one(there.at(above), here.at(above), _name(path), executable=path in executable)
            except OSError as error:
                _require_disk(error, f"{target.path}/{path}")


def _link_one(source: Folder, target: Folder, name: str, *, executable: bool) -> None:
    """Link a file; copy it if it is executable in one of the two releases and not in the other."""
    status = source.status(name)
    if status is None or bool(status.st_mode & 0o100) == executable:
        link(source, target, name)
        return
    with source.reader(name) as old, target.writer(name, 0o755 if executable else 0o644) as new:
        while data := old.read(_BLOCK):
            new.write(data)
