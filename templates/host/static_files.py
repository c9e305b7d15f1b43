"""Put the static files of releases where nginx reads them: hard links below `static`, for nginx alone.

`static/SLOT` has the files of the slot's release. `static/kept` has, of all releases on the host, the files with names
that may carry a hash: pages of another release, of this host or of a host beside it, ask for them.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import NamedTuple

from . import release
from .descent import Descent, clear, link
from .folders import DEEPEST, Folder
from .release import Tell
from .run import Run
from .slot_names import SLOTS
from .used import by_age

LIST = "run/static.list"
"""The list of the paths of URLs, each with its directory in `code`; LAUNCHERS has its digest."""
FOLDER = "static"
_KEPT = "kept"
_LINE = re.compile(r"/(\S+)/ (\S+)")
HASHED = re.compile(r"[.-][0-9A-Za-z_-]{8,}\.")
"""Wider than the rule of nginx's file for `immutable`: keeping a file too many costs nothing."""
_TIMES = 1_600_000_000
"""Seconds since 1970: the times of static files lie before this."""
_IN_THE_WAY = (FileExistsError, NotADirectoryError, IsADirectoryError)


class _Content(NamedTuple):
    """The content of a file. digest: empty for anything but a readable file."""

    size: int
    digest: str


def date(folder: Folder) -> None:
    """Give each static file of a release a time that follows from its digest.

    nginx makes the ETag from time and size. So the same bytes have one ETag on every host, whenever they came there,
    and two contents of one size have different ETags, but for one pair in 1.6 thousand million.
    """
    manifest = release.listed(folder, "MANIFEST") or {}
    with Descent(folder) as code:
        for directory in _directories(folder).values():
            for path in sorted(path for path in manifest if path.startswith(f"{directory}/")):
                above, _, name = f"code/{path}".rpartition("/")
                time = 1 + int(manifest[path][:16], 16) % (_TIMES - 1)
                os.utime(name, (time, time), dir_fd=code.at(above).descriptor, follow_symlinks=False)


def place(run: Run, root: Folder, slot: str, name: str) -> None:
    """Let a slot without traffic have the static files of a release."""
    if root.status(FOLDER) is None:
        with _release(root, name) as folder:
            if _directories(folder):
                run.report("warning", "nginx serves no static files of this release: this host needs fab setup")
        return
    with root.below(FOLDER) as static, _release(root, name) as folder:
        for left in static.names():
            if left.startswith(".part-"):
                clear(static, left)
        if not _is_placed(static, slot, folder):
            _link_all(static, f".part-{run.id}", folder)
            clear(static, slot)
            static.rename(f".part-{run.id}", slot)
            static.sync()
    keep(run, root, name)


def empty(run: Run, root: Folder, slot: str) -> None:
    """Remove the static files of a slot: the application answers for them."""
    with root.below(FOLDER) as static:
        for name in (f".part-{run.id}", slot):
            clear(static, name)


def keep(run: Run, root: Folder, name: str) -> None:
    """Keep the files of a release whose names may carry a hash; the newest of one name is kept."""
    if root.status(FOLDER) is None:
        return
    with root.below(FOLDER) as static, _release(root, name) as folder:
        static.make(_KEPT, 0o755)
        with static.below(_KEPT) as kept, Descent(kept, make=True) as there:
            for path, source, file in _files(folder):
                if HASHED.search(file):
                    # A directory of an older release may have the name of a file.
                    with suppress(*_IN_THE_WAY):
                        _keep_one(run, source, there.at(path.rpartition("/")[0]), file)


def _keep_one(run: Run, source: Folder, target: Folder, name: str) -> None:
    there = target.status(name)
    if there and there.st_ino == os.stat(name, dir_fd=source.descriptor, follow_symlinks=False).st_ino:
        return
    if there:
        part = f".part-{run.id}"
        target.remove(part)
        os.link(name, part, src_dir_fd=source.descriptor, dst_dir_fd=target.descriptor, follow_symlinks=False)
        try:
            target.rename(part, name)
        finally:
            target.remove(part)
    else:
        link(source, target, name)


def forget(root: Folder, releases: Folder) -> None:
    """Remove the kept files that no release on the host has any more."""
    wanted = set()
    for name in by_age(releases):
        with releases.below(name) as folder:
            wanted |= {path for path, _, file in _files(folder) if HASHED.search(file)}
    with suppress(FileNotFoundError), root.below(FOLDER) as static, static.below(_KEPT) as kept:
        _sweep(kept, "", wanted)


def _sweep(folder: Folder, prefix: str, wanted: set[str]) -> None:
    """Remove all but the wanted files below a directory, and directories that are empty then."""
    if prefix.count("/") > DEEPEST:
        raise OSError(0, "nested too deep", folder.path)
    for name in folder.names():
        status = folder.status(name)
        if status and stat.S_ISDIR(status.st_mode):
            with folder.below(name) as inner:
                _sweep(inner, f"{prefix}{name}/", wanted)
            with suppress(OSError):
                os.rmdir(name, dir_fd=folder.descriptor)
        elif f"{prefix}{name}" not in wanted:
            folder.remove(name)


def examine(root: str, tell: Tell) -> None:
    """Report what nginx could serve and no release has, and what the committed slot lacks."""
    with Folder.open(root) as folder:
        if folder.status(FOLDER) is None:
            return
        try:
            with folder.below(FOLDER) as static, folder.below("releases") as releases:
                current = folder.link(f"{folder.link('current')}/release").rpartition("/")[2]
                _examine(static, releases, current, folder.link("current").rpartition("/")[2], tell)
        except OSError:
            tell("drift", f"edited {folder.path}/{FOLDER}")


def _examine(static: Folder, releases: Folder, committed: str, slot: str, tell: Tell) -> None:
    digests: dict[int, str] = {}
    known: dict[str, set[_Content]] = {}
    compared: set[str] = set()
    for name in by_age(releases):
        with releases.below(name) as folder:
            mine = {path: _content(source, file, digests) for path, source, file in _files(folder)}
        for path, content in mine.items():
            known.setdefault(path, set()).add(content)
        if name == committed:
            _compare(static, slot, mine, digests, tell)
            compared = {f"{slot}/{path}" for path in mine}
    for folder, name, path in static.walk():
        top, _, below = path.partition("/")
        if top.startswith("."):
            # Half-made by a run that was killed: nginx does not look there, and the next run removes it.
            continue
        if folder.link(name):
            tell("drift", f"points {static.path}/{path} {folder.link(name)}")
        elif path in compared:
            continue
        elif top not in {*SLOTS, _KEPT} or not _is_one_of(known.get(below, ()), folder, name, digests):
            tell("drift", f"extra {static.path}/{path}")


def _compare(static: Folder, slot: str, wanted: Mapping[str, _Content], digests: dict[int, str], tell: Tell) -> None:
    """Report each file of the committed release that its slot lacks, or has with another content."""
    same: dict[str, bool] = {}
    if static.status(slot):
        with static.below(slot) as top:
            for folder, name, path in top.walk():
                same[path] = path in wanted and _is_one_of({wanted[path]}, folder, name, digests)
    for path in wanted:
        if path not in same:
            tell("drift", f"missing {static.path}/{slot}/{path}")
        elif not same[path]:
            tell("drift", f"edited {static.path}/{slot}/{path}")


def _is_one_of(wanted: Collection[_Content], folder: Folder, name: str, digests: dict[int, str]) -> bool:
    """Return whether a file has one of these contents; a file of another size, which may be sparse, is not read."""
    status = folder.status(name)
    sizes = {content.size for content in wanted}
    return status is not None and status.st_size in sizes and _content(folder, name, digests) in wanted


def _content(folder: Folder, name: str, digests: dict[int, str]) -> _Content:
    """Return the content of a file, read once for all its hard links."""
    status = folder.status(name)
    if status is None or not stat.S_ISREG(status.st_mode):
        return _Content(-1, "")
    if status.st_ino not in digests:
        try:
            digests[status.st_ino] = release.digest_of(folder, name)
        except OSError:
            digests[status.st_ino] = ""
    return _Content(status.st_size, digests[status.st_ino])


@contextmanager
def _release(root: Folder, name: str) -> Iterator[Folder]:
    with root.below("releases") as releases, releases.below(name) as folder:
        yield folder


def _directories(folder: Folder) -> dict[str, str]:
    """Return the directory in `code` of each path of URLs, without outer slashes, by the list that LAUNCHERS names."""
    found = {}
    for line in release.lines(folder, LIST):
        match = _LINE.fullmatch(line)
        if match and all(map(release.is_place, match.groups())):
            found[match[1]] = match[2]
    return found


def _files(folder: Folder, *, unlisted: bool = False) -> Iterator[tuple[str, Folder, str]]:
    """Yield the path below `static/SLOT`, the directory and the name of each static file of a release.

    Links, and whatever else is no file, are left out, and so is what MANIFEST does not list: bytecode, or what the
    account added. A release of a former account has no MANIFEST, so nothing of it is kept.

    unlisted: yield the files of such a release: until the next deploy, such a release goes on as it is
    """
    manifest = release.listed(folder, "MANIFEST")
    for path, place in _directories(folder).items():
        with Descent(folder) as descent:
            try:
                top = descent.at(f"code/{place}")
            except (FileNotFoundError, NotADirectoryError):
                continue
            for inner, name, below in top.walk():
                status = inner.status(name)
                known = f"{place}/{below}" in manifest if manifest is not None else unlisted
                if known and status and stat.S_ISREG(status.st_mode) and not release.BYTECODE.search(below):
                    yield f"{path}/{below}", inner, name


def _is_placed(static: Folder, slot: str, folder: Folder) -> bool:
    """Return whether a slot has exactly the files of a release, as often in a rollback: no room is then needed."""
    try:
        with static.below(slot) as top:
            found = {path: inner.status(name) for inner, name, path in top.walk()}
    except OSError:
        return False
    wanted = {path: inner.status(name) for path, inner, name in _files(folder, unlisted=True)}
    return _inodes(found) == _inodes(wanted)


def _inodes(files: Mapping[str, os.stat_result | None]) -> dict[str, int]:
    return {path: status.st_ino for path, status in files.items() if status}


def _link_all(static: Folder, part: str, folder: Folder) -> None:
    static.make(part, 0o755)
    with static.below(part) as top, Descent(top, make=True) as there:
        for path, source, name in _files(folder, unlisted=True):
            link(source, there.at(path.rpartition("/")[0]), name)
