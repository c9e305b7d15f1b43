"""Write root's files of a service, each by a rename; put the former ones back if the setup fails."""

from __future__ import annotations

import os
import stat
import tarfile
import time
from collections.abc import Collection, Mapping
from typing import BinaryIO, NamedTuple

from . import accounts, programs
from .background import Background
from .flush import flush_file
from .folders import Folder
from .kept import sha256
from .record import Record
from .run import Refused, Run

BACKUPS = "/var/backups/integrators-loop"
COPIES = 10
"""Copies kept of each edited file; older ones are removed."""


READ_BY_NGINX = 0o640
"""The mode of a file that nginx's workers read, too: it belongs to their group."""
_MOST = 64 << 20
"""Most bytes of a file that the controller sends."""


class Former(NamedTuple):
    """The former content of a path: a link's target, or a file's bytes and mode."""

    target: str
    data: bytes
    mode: int


class RootFiles:
    """The files of one service while a setup changes them."""

    def __init__(
        self,
        run: Run,
        record: Record,
        wanted: Mapping[str, bytes],
        *,
        overwrite: bool,
        unchecked: Collection[str] = (),
    ) -> None:
        """Begin with no change. unchecked: files that change without setup."""
        self._run, self._record, self._wanted, self._overwrite = run, record, wanted, overwrite
        self._unchecked = unchecked
        self._former: dict[str, Former | None] = {}

    def require_unedited(self, others: Mapping[str, bytes]) -> None:
        """Raise Refused, before any change, if a file that setup will write or remove was edited on the host.

        others: files that setup writes beside the wanted ones, by path.
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
        if former is None or path in self._unchecked:
            return False
        return bool(former.target) or (
            former.data != wanted and sha256(former.data).hexdigest() not in self._record.digests(path)
        )

    @property
    def leftovers(self) -> list[str]:
        """Files that only an earlier setup wrote, such as units of removed processes and old sudo rules."""
        return [
            path for path in self._record.paths if path not in self._wanted and self._record.files[path][0] == "file"
        ]

    def write(self, modes: Mapping[str, int]) -> None:
        """Write each wanted file that differs, and remove the leftovers."""
        for path in sorted(self._wanted):
            remove_parts(path)
        new = {path: (data, modes[path]) for path, data in sorted(self._wanted.items()) if not has(path, data)}
        for path in new:
            self._run.say("write", path)
        self.replace(new)
        # Units first: a leftover unit that starts meanwhile would fail if a file that it needs were gone before it.
        for path in sorted(self.leftovers, key=lambda path: not path.startswith("/etc/systemd/")):
            self.remove(path)

    def replace(self, files: Mapping[str, tuple[bytes, int]]) -> None:
        """Write files, each with its mode; keep the former content for `put_back`.

        All are on the disk before the first gets its name. Flushed at once, they share the writes of the disk, and wait
        for no other data, such as the venv that a first deploy builds meanwhile.
        """
        flushing = []
        for path, (data, mode) in files.items():
            self._keep(path, data)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            flushing.append(self._write_part(path, data, mode))
            self._run.point("setup.file")
        for flushed in flushing:
            flushed.result()
        for path in files:
            folder, name = os.path.split(path)
            with Folder.open(folder) as place:
                place.rename(self._part(name), name)
            self._run.point("setup.written")
        for folder in sorted({os.path.dirname(path) for path in files}):
            with Folder.open(folder) as place:
                place.sync()

    def _part(self, name: str) -> str:
        return f"{name}.new-{self._run.id}"

    def _write_part(self, path: str, data: bytes, mode: int) -> Background[None]:
        """Write a file under its temporary name; return its flush to the disk, which goes on in a thread."""
        folder, name = os.path.split(path)
        with Folder.open(folder) as place:
            part = self._part(name)
            place.remove(part)
            with place.writer(part, mode) as file:
                file.write(data)
                descriptor = os.dup(file.fileno())
            _hand_to_nginx(place, part, mode)
        return Background(lambda: flush_file(path, descriptor))

    def remove(self, path: str) -> None:
        """Remove a file that an earlier setup wrote; stop its unit first."""
        if read(path) is None:
            return
        self._run.say("remove", path)
        if path.endswith((".service", ".timer", ".socket", ".path")):
            _end_unit(os.path.basename(path))
        self._keep(path, None)
        os.unlink(path)

    def _keep(self, path: str, data: bytes | None) -> None:
        former = read(path)
        if former is not None and self._edited(path, data):
            self._copy(path, former)
        self._former.setdefault(path, former)

    def _copy(self, path: str, former: Former) -> None:
        """Copy an edited file to BACKUPS, and report where."""
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
            copies = [file for file in place.names() if file.startswith(f"{name}.") and file.endswith("Z")]
            for file in copies[:-COPIES]:
                place.remove(file)
        self._run.report("warning", f"{path} was not as setup wrote it; a copy is kept as {folder}/{copy}")

    def put_back(self) -> None:
        """Restore the former content of every file that this run changed."""
        for path, former in self._former.items():
            try:
                self._put_back(path, former)
            except OSError as error:
                self._run.report("warning", f"{path} could not be put back: {error.strerror or error}")
        self._former.clear()

    def _put_back(self, path: str, former: Former | None) -> None:
        folder, name = os.path.split(path)
        with Folder.open(folder) as place:
            place.remove(self._part(name))
            if former is None:
                place.remove(name)
            elif former.target:
                place.remove(name)
                os.symlink(former.target, name, dir_fd=place.descriptor)
            else:
                place.write(self._part(name), former.data, former.mode)
                _hand_to_nginx(place, self._part(name), former.mode)
                place.rename(self._part(name), name)

    @property
    def any_changed(self) -> bool:
        """True if this run has changed a file."""
        return bool(self._former)

    def changed(self, fragment: str) -> bool:
        """Return True if this run, or one that was killed, changed a file whose path contains `fragment`."""
        first = self._record.account is None
        unfinished = [path for path in self._record.files if first or len(self._record.digests(path)) > 1]
        return any(fragment in path for path in (*self._former, *unfinished, *self.leftovers))


def unpack(payload: BinaryIO) -> dict[str, bytes]:
    """Return the files of the payload by path, in memory: this writes nothing to the disk."""
    files = {}
    with tarfile.open(fileobj=payload, mode="r|") as archive:
        for member in archive:
            file = archive.extractfile(member) if member.isreg() and member.size <= _MOST else None
            if file is None:
                raise Refused(f"the controller sent {member.name}, which is no file for this step")
            files[member.name] = file.read()
    return files


def _hand_to_nginx(place: Folder, name: str, mode: int) -> None:
    if mode == READ_BY_NGINX:
        os.chown(name, -1, accounts.of_nginx().gid, dir_fd=place.descriptor, follow_symlinks=False)


def read(path: str) -> Former | None:
    """Return the content of a path below root's directories; None if it does not exist."""
    folder, name = os.path.split(path)
    try:
        with Folder.open(folder) as place:
            status = place.status(name)
            if status is None:
                return None
            if stat.S_ISLNK(status.st_mode):
                return Former(place.link(name), b"", 0)
            return Former("", place.read(name, 1 << 24), stat.S_IMODE(status.st_mode))
    except FileNotFoundError:
        return None


def _end_unit(name: str) -> None:
    """Stop a unit and take it from the boot, so that systemd knows it no longer once its file is gone."""
    if "@." in name:
        # The processes of the slots.
        name = name.replace("@.", "@*.")
        programs.systemctl("stop", name)
    else:
        programs.systemctl("disable", "-q", "--now", name)
    # Otherwise systemd goes on listing a job that has failed, as `not-found failed`.
    programs.ask("systemctl", "reset-failed", name)


def has(path: str, data: bytes) -> bool:
    """Return True if a path is a regular file with exactly this content."""
    former = read(path)
    return former is not None and not former.target and former.data == data


def write_if_new(path: str, data: bytes, run: str) -> bool:
    """Write a file beside those of `RootFiles`, readable for all; return False if it had this content already."""
    if has(path, data):
        return False
    folder, name = os.path.split(path)
    os.makedirs(folder, 0o755, exist_ok=True)
    remove_parts(path)
    with Folder.open(folder) as place:
        place.replace(name, data, 0o644, f"{name}.new-{run}")
    return True


def remove_parts(path: str) -> None:
    """Remove the temporary files that a killed setup left beside a path."""
    folder, name = os.path.split(path)
    if not os.path.isdir(folder):
        return
    with Folder.open(folder) as place:
        for other in place.names():
            if other.startswith(f"{name}.new-"):
                place.remove(other)
