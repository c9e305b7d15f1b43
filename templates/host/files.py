"""Root's files of a service: each takes its place by a rename, and the former ones are put back if the setup fails."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Mapping
from typing import NamedTuple

from . import programs
from .folders import Folder
from .record import Record
from .run import Refused, Run

BACKUPS = "/var/backups/integrators-loop"
COPIES = 10
"""Of each file, the newest."""


class Former(NamedTuple):
    """What lay in a place: a link's target, or a file's bytes and mode."""

    target: str
    data: bytes
    mode: int


class RootFiles:
    """The files of one service while a setup changes them."""

    def __init__(self, run: Run, record: Record, wanted: Mapping[str, bytes], *, overwrite: bool) -> None:
        self._run, self._record, self._wanted, self._overwrite = run, record, wanted, overwrite
        self._former: dict[str, Former | None] = {}

    def require_unedited(self, others: Mapping[str, bytes]) -> None:
        """Refused, before anything is changed, when somebody edited a file that is to be written or removed.

        others: what is to be written beside the files that were asked for.
        """
        wanted = {**dict.fromkeys(self.leftovers), **self._wanted, **others}
        edited = [path for path in sorted(wanted) if self._edited(path, wanted[path])]
        if edited and not self._overwrite:
            raise Refused(
                f"edited on this host since setup wrote it: {', '.join(edited)}; `fab drift` shows how. "
                f"To write them anew say --overwrite: a copy is kept below {BACKUPS}"
            )

    def _edited(self, path: str, wanted: bytes | None) -> bool:
        former = read(path)
        if former is None:
            return False
        return bool(former.target) or (
            former.data != wanted and hashlib.sha256(former.data).hexdigest() not in self._record.digests(path)
        )

    @property
    def leftovers(self) -> list[str]:
        """Files that an earlier setup wrote and this one does not: units of processes that are gone, old sudo rules."""
        return [
            path for path in self._record.paths if path not in self._wanted and self._record.files[path][0] == "file"
        ]

    def write(self, modes: Mapping[str, int]) -> None:
        """Give each file its content, and remove what is left over."""
        for path, data in sorted(self._wanted.items()):
            remove_parts(path)
            if not has(path, data):
                self._run.say("write", path)
                self.replace(path, data, modes[path])
        for path in self.leftovers:
            self.remove(path)

    def replace(self, path: str, data: bytes, mode: int) -> None:
        """Give a file its content, and keep the former one until all is well."""
        self._keep(path, data)
        folder, name = os.path.split(path)
        os.makedirs(folder, exist_ok=True)
        with Folder.open(folder) as place:
            part = f"{name}.new-{self._run.id}"
            place.remove(part)
            place.write(part, data, mode)
            self._run.point("setup.file")
            place.rename(part, name)
            os.fsync(place.descriptor)
        self._run.point("setup.written")

    def remove(self, path: str) -> None:
        """Remove a file that an earlier setup wrote, with its unit stopped."""
        if read(path) is None:
            return
        self._run.say("remove", path)
        if path.endswith((".service", ".timer", ".socket")) and "@" not in path:
            programs.systemctl("disable", "-q", "--now", os.path.basename(path))
        self._keep(path, None)
        os.unlink(path)

    def _keep(self, path: str, data: bytes | None) -> None:
        former = read(path)
        if former is not None and self._edited(path, data):
            self._copy(path, former)
        self._former.setdefault(path, former)

    def _copy(self, path: str, former: Former) -> None:
        """Keep what somebody edited, and say where."""
        folder, name = os.path.split(f"{BACKUPS}/{self._record.name}{path}")
        previous = os.umask(0o077)
        try:
            os.makedirs(folder, exist_ok=True)
        finally:
            os.umask(previous)
        copy = f"{name}.{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
        with Folder.open(folder) as place:
            place.remove(copy)
            if former.target:
                os.symlink(former.target, copy, dir_fd=place.descriptor)
            else:
                place.write(copy, former.data, 0o600)
            old = [one for one in place.names() if one.startswith(f"{name}.") and one[len(name) + 1 :].endswith("Z")]
            for one in old[:-COPIES]:
                place.remove(one)
        self._run.report("warning", f"{path} is not as it was written here; what it was is kept as {folder}/{copy}")

    def put_back(self) -> None:
        """Give every file that was changed what it had before."""
        for path, former in self._former.items():
            try:
                self._put_back(path, former)
            except OSError as error:
                self._run.report("warning", f"{path} could not be put back: {error.strerror or error}")
        self._former.clear()

    def _put_back(self, path: str, former: Former | None) -> None:
        folder, name = os.path.split(path)
        with Folder.open(folder) as place:
            if former is None:
                place.remove(name)
            elif former.target:
                place.remove(name)
                os.symlink(former.target, name, dir_fd=place.descriptor)
            else:
                place.replace(name, former.data, former.mode, f"{name}.new-{self._run.id}")

    @property
    def any_changed(self) -> bool:
        """Whether this run has changed a file."""
        return bool(self._former)

    def changed(self, part: str) -> bool:
        """Whether a file whose path has this part was changed, by this run or by one that was killed before its end."""
        first = self._record.account is None
        unfinished = [path for path in self._record.files if first or len(self._record.digests(path)) > 1]
        return any(part in path for path in (*self._former, *unfinished, *self.leftovers))


def read(path: str) -> Former | None:
    """What lies in a place of root's; None where nothing does."""
    folder, name = os.path.split(path)
    try:
        with Folder.open(folder) as place:
            found = place.status(name)
            if found is None:
                return None
            if stat.S_ISLNK(found.st_mode):
                return Former(place.link(name), b"", 0)
            return Former("", place.read(name, 1 << 24), stat.S_IMODE(found.st_mode))
    except FileNotFoundError:
        return None


def has(path: str, data: bytes) -> bool:
    """Whether a place has exactly this content."""
    former = read(path)
    return former is not None and not former.target and former.data == data


def remove_parts(path: str) -> None:
    """What a setup left that was killed in the middle of a file."""
    folder, name = os.path.split(path)
    if not os.path.isdir(folder):
        return
    with Folder.open(folder) as place:
        for other in place.names():
            if other.startswith(f"{name}.new-"):
                place.remove(other)
