"""Root's files of the secrets: /etc/NAME/secrets/SECRET, 0600 in a directory of root's alone, each written by a rename.

systemd copies them for a unit when it starts the unit. While a restart with a new value is not committed, the former
value stays as SECRET.former-SLOT-TIME: SLOT is the slot that was committed when the new value was written, and TIME is
the time of the link `current` then. Every commit makes that link anew. As long as it has that time, the change is not
committed: `settle`, or a boot (put-back.conf), puts the former value back.
"""

from __future__ import annotations

import hashlib
import json
import os
from typing import BinaryIO

from . import claims, record, setup_lock, trust
from .folders import Folder
from .key_form import MOST, is_key
from .locks import Lock
from .record import Record
from .run import Refused, Run, utc_now
from .slot_names import slot_of

_LIMIT = 1_000_000
"""Bytes of all secrets of a service: systemd takes 1 MiB for one unit."""
_FORMER = ".former-"
_KEY = 32
_ROTATED, FALLBACKS = "SECRET_KEY", "SECRET_KEY_FALLBACKS"
"""The key that can be rotated, and the second key that processes get during a rotation. The record has the first."""


def perform(run: Run) -> None:
    """Run one action on the secrets; `steps.secret` of the controller documents the step's keys."""
    if os.geteuid() != 0:
        raise Refused("secrets need root")
    name = run.step["name"]
    trust.require_roots_own(f"/etc/{name}")
    if run.step["action"] in {"list", "read"}:
        _list(run) if run.step["action"] == "list" else _report_value(run)
        return
    # The link there decides whether a former value comes back.
    trust.require_roots_own("/opt/apps")
    if run.step["action"] == "settle" and not run.step["committed"]:
        _await_probation(run)
    value = _receive(run.payload, run.step["secret"]) if run.step["action"] == "set" else b""
    known = _begin(run)
    with _opened(name) as folder:
        secrets = Secrets(run, known, folder)
        if run.step["action"] == "set":
            secrets.set(run.step["secret"], value)
        elif run.step["action"] == "unset":
            secrets.unset(run.step["secret"])
        elif run.step["action"] == "swap":
            secrets.swap()
        elif run.step["action"] == "settle":
            secrets.settle()
        secrets.record()


class Secrets:
    """The secrets of one service, while no other run changes them or a slot."""

    def __init__(self, run: Run, known: Record, folder: Folder) -> None:
        self._run, self._record, self._folder = run, known, folder
        self._commit = _committed(run.step["root"])
        for name in folder.names():
            # Left by a run that was killed, or changes that have been committed since.
            if ".new-" in name or (_FORMER in name and self._commit_of(name) != self._commit):
                folder.remove(name)

    @staticmethod
    def _commit_of(name: str) -> str:
        return name.partition(_FORMER)[2]

    def _read(self, name: str) -> bytes | None:
        return self._folder.read(name, _LIMIT + 1) if self._folder.status(name) else None

    def _write(self, name: str, value: bytes, since: int | None = None) -> None:
        """Write a value. since: nanoseconds since 1970, the time of a value that moves here."""
        self._folder.replace(name, value, 0o600, f"{name}.new-{self._run.id}")
        if since is not None:
            os.utime(name, ns=(since, since), dir_fd=self._folder.descriptor, follow_symlinks=False)
        self._folder.sync()

    def _since(self, name: str) -> int | None:
        status = self._folder.status(name)
        return status.st_mtime_ns if status else None

    def set(self, secret: str, value: bytes) -> None:
        """Write the value; with `switch`, keep the former one until that is committed. Report whether it changed."""
        others = (self._read(name) or b"" for name in self._folder.names() if _FORMER not in name and name != secret)
        if len(value) + sum(map(len, others)) > _LIMIT:
            raise Refused(f"the secrets of a service may have {_LIMIT} bytes together: systemd takes no more")
        there = self._read(secret)
        former = self._keep(secret, value)
        if there != value:
            self._write(secret, value)
        if former == value or not self._run.step["switch"]:
            self._folder.remove(f"{secret}{_FORMER}{self._commit}")
            former = None
        if secret != FALLBACKS:
            self._record.secrets.add(secret)
        # Also `changed` if a former value is kept: what runs may still use that.
        self._run.report("secret", "changed" if former is not None or there != value else "same")

    def _keep(self, secret: str, value: bytes) -> bytes | None:
        """Return the former value that is kept, or None; with `switch`, first keep the one that the processes have."""
        kept = f"{secret}{_FORMER}{self._commit}"
        there, former = self._read(secret), self._read(kept)
        if self._run.step["switch"] and self._commit and there not in {None, value} and former is None:
            former = there
            self._write(kept, there or b"", self._since(secret))
        return former

    def swap(self) -> None:
        """Exchange the key with the other one, which signs from now on. Each keeps its time, to show which is newer."""
        key, other = self._read(_ROTATED), self._read(FALLBACKS)
        if key is None or other is None:
            raise Refused("there is no other key on this host: rotate again")
        self._keep(_ROTATED, other)
        self._keep(FALLBACKS, key)
        times = self._since(_ROTATED), self._since(FALLBACKS)
        self._write(_ROTATED, other, times[1])
        self._write(FALLBACKS, key, times[0])
        self._run.report("secret", "changed")

    def unset(self, secret: str) -> None:
        """Remove the secret."""
        gone = [name for name in self._folder.names() if name.partition(_FORMER)[0] == secret]
        for name in (*gone, *((FALLBACKS,) if secret == _ROTATED else ())):
            self._folder.remove(name)
        self._folder.sync()
        self._record.secrets.discard(secret)
        self._run.report("secret", "removed" if gone else "absent")

    def settle(self) -> None:
        """Put back the former value of each change that is not committed; those of committed ones are gone already.

        The link of the committed slot belongs to the deploy account, so `committed` of the step decides, if true.
        """
        for name in self._folder.names():
            if _FORMER in name and self._run.step["committed"]:
                self._folder.remove(name)
            elif _FORMER in name:
                self._folder.rename(name, name.partition(_FORMER)[0])
                self._run.say("undo", f"the former value of {name.partition(_FORMER)[0]} is put back")
        self._folder.sync()

    def record(self) -> None:
        """Write the names into the record."""
        changing = {name.partition(_FORMER)[0] for name in self._folder.names() if _FORMER in name}
        self._record.changing = changing - {FALLBACKS}
        self._record.write(self._run.id)


def _await_probation(run: Run) -> None:
    """Wait for the end of a probation, which decides about the change. Its guard needs the lock that `_begin` takes."""
    try:
        guard = Lock(run.step["name"], "guard")
    except OSError:
        # Nothing was ever deployed, or `_begin` names what is in the way.
        return
    with guard:
        if guard.held:
            run.say("wait", "the probation decides whether the former value comes back")
        if not guard.take_within(run, run.step["wait"], aloud=True):
            raise Refused("the probation has not ended in time")


def _list(run: Run) -> None:
    """Report each secret: its name, when it was written, and a fingerprint with a key of this listing alone."""
    key = run.payload.read(_KEY)
    try:
        folder = Folder.open(f"/etc/{run.step['name']}/secrets")
    except FileNotFoundError:
        return
    with folder:
        names = folder.names()
        for name in (name for name in names if "." not in name):
            with folder.reader(name) as file:
                since, value = os.fstat(file.fileno()).st_mtime, file.read(_LIMIT + 1)
            changing = any(other.startswith(f"{name}{_FORMER}") for other in names)
            row = {"name": name, "since": int(since), "changing": changing, "fingerprint": _fingerprint(value, key)}
            run.report("secret", json.dumps(row))


def _report_value(run: Run) -> None:
    """Report the value of a secret, for a host that lacks it: on the connection alone, and in no log."""
    with Folder.open(f"/etc/{run.step['name']}/secrets") as folder:
        run.report("value", folder.read(run.step["secret"], _LIMIT).hex())


def _fingerprint(value: bytes, key: bytes) -> str:
    return hashlib.blake2b(value, key=key, digest_size=6).hexdigest()


def _receive(payload: BinaryIO, secret: str) -> bytes:
    """Return the value that follows the step: a line with its size, then its bytes."""
    size = int(payload.readline(20))
    value = payload.read(size) if size <= _LIMIT else b""
    if len(value) != size or not size:
        raise Refused("the value did not arrive as it was sent")
    if secret in {_ROTATED, FALLBACKS} and not is_key(value):
        raise Refused(f"{secret} is one line of printable text, of at most {MOST} bytes, and this value is not")
    return value


def _begin(run: Run) -> Record:
    """Take the change lock, and return the record. A host that was never set up gets its record now."""
    name, root = run.step["name"], run.step["root"]
    known = record.read(name)
    claims.check(known, {**run.step, "files": [], "logs": False, "take_over": False})
    # Wait for any other run, not only for a guard.
    setup_lock.hold(run, root, known, run.step["wait"], verb="secrets", patient=True)
    if known.there:
        return record.read(name)
    os.mkdir(f"/etc/{name}", 0o755)
    known.made.add(("directory", f"/etc/{name}"))
    known.values.update({"by": run.who, "since": utc_now()})
    if run.step["origin"]:
        known.values["origin"] = run.step["origin"]
    known.write(run.id)
    return known


def _opened(name: str) -> Folder:
    with Folder.open(f"/etc/{name}") as above:
        above.make("secrets", 0o700)
        folder = above.below("secrets")
    os.fchmod(folder.descriptor, 0o700)
    return folder


def _committed(root: str) -> str:
    """Return the committed slot and the time of the deploy account's link to it; empty if there is none.

    The slot alone would be the same again after two commits.
    """
    try:
        slot, time = slot_of(os.readlink(f"{root}/current")), os.lstat(f"{root}/current").st_mtime_ns
    except OSError:
        return ""
    # As `stat -c %.9Y` prints it.
    return f"{slot}-{time // 10**9}.{time % 10**9:09}" if slot else ""
