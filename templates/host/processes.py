"""End the processes of an account: its own, those of its sub-uids, and those in user namespaces of either.

A look at /proc misses processes that fork and exit all the time. So a child becomes the account and signals every
process that the account may signal, in one system call, during which no process forks. The signal also reaches
processes in user namespaces that the account made. The looks find the other processes, and any that do not end.
"""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

from . import small_file
from .accounts import killed, leave_open, leaving_no_core, libc, of_uid
from .run import Refused, Run

SECONDS = 10
"""Seconds that processes may take to end after SIGKILL."""
_PATIENCE = 2
"""Seconds after which a process that SIGKILL does not end is taken to wait for what another account has mounted."""
_QUIET = 5
"""Looks in a row that must find no process: one look may miss a process of a sub-uid that forks all the time."""
_STRIKE_SECONDS = 1
"""Seconds that a child may take to kill the processes of its uid."""
_SUBUID = "/etc/subuid"
_CONNECTIONS = "/sys/fs/fuse/connections"
"""A directory for each mounted FUSE, of the account that mounted it, also in a mount namespace of its own."""
_LIMIT = 1 << 20
_PARENT, _OWNER = 0xB702, 0xB704
"""NS_GET_PARENT and NS_GET_OWNER_UID of ioctl_ns(2)."""


def name_of(uid: int) -> str:
    """Return the name of an account; its number if it has none."""
    account = of_uid(uid)
    return account.name if account else str(uid)


def end(run: Run, uid: int) -> None:
    """End every process of an account; Refused if that account started this program, or if new ones keep starting."""
    if any(uid in _uids(pid) for pid in _ancestors()):
        raise Refused(
            f"this would kill itself: it runs under {name_of(uid)}, all of whose processes it ends. "
            "Run it as root or as the new account"
        )
    deadline, owner, look, stuck = time.monotonic() + SECONDS, _Owner(uid), _Look(), _Stuck()
    uids, quiet = {uid}, 0
    while quiet < _QUIET:
        _abort(lambda maker, _: owner.has(maker))
        struck = {_strike(each) for each in uids} == {True}
        found = {pid: owned for pid in look.pids() if (owned := owner.of(pid))}
        for pid, owned in found.items():
            uids |= owned
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        quiet = quiet + 1 if struck and not found else 0
        if stuck.has_any(found):
            _abort_silent(run, uid)
        if not quiet and time.monotonic() > deadline:
            raise Refused(
                f"processes of {name_of(uid)} do not end, or begin again: lock that account (usermod -L -e 1)"
            )
        run.heed()
        time.sleep(0.02)


def _abort(wanted: Callable[[int, str], bool]) -> list[int]:
    """Abort each file system (FUSE) that `wanted` chooses by its account and its place; return these accounts.

    A process that waits for it ends by no signal. Another account may have the FUSE descriptor by which that file
    system answers, and root sees no mount of another namespace.
    """
    aborted = []
    with suppress(FileNotFoundError), os.scandir(_CONNECTIONS) as found:
        for entry in found:
            with suppress(OSError):
                maker = entry.stat(follow_symlinks=False).st_uid
                if wanted(maker, entry.path):
                    with open(f"{entry.path}/abort", "wb") as file:
                        file.write(b"1")
                    aborted.append(maker)
    return aborted


def _abort_silent(run: Run, uid: int) -> None:
    """Abort each FUSE that owes an answer, except root's: processes of this account may wait for it."""
    for maker in _abort(
        lambda maker, place: maker != 0 and small_file.read(f"{place}/waiting").strip() not in {"", "0"}
    ):
        whose = f"a file system (FUSE) of {name_of(maker)}"
        run.say("abort", f"{whose}, which does not answer while processes of {name_of(uid)} wait")


class _Stuck:
    """The processes that wait in the kernel, where SIGKILL does not reach them."""

    def __init__(self) -> None:
        self._since: dict[int, float] = {}

    def has_any(self, killed: Iterable[int]) -> bool:
        """Return whether one of these processes, which get SIGKILL at each look, has waited for too long."""
        now = time.monotonic()
        self._since = {pid: self._since.get(pid, now) for pid in killed if _waits(pid)}
        return any(now - since > _PATIENCE for since in self._since.values())


def _waits(pid: int) -> bool:
    """Return whether a thread of a process waits without heeding signals."""
    with suppress(OSError):
        threads = os.listdir(f"/proc/{pid}/task")
        return any("\nState:\tD" in small_file.read(f"/proc/{pid}/task/{thread}/status") for thread in threads)
    return False


def _strike(uid: int) -> bool:
    """Kill every process of a uid at once, by a child with this uid; False if the uid's processes prevented that."""
    libc()
    child = os.fork()
    if child == 0:
        _strike_and_exit(uid)
    deadline = time.monotonic() + _STRIKE_SECONDS
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status == 0
        if time.monotonic() > deadline:
            # The processes can stop the child, which has their uid, and freeze it where they have cgroups of version 1.
            killed(child)
            return False
        time.sleep(0.001)


def _strike_and_exit(uid: int) -> None:
    """Signal all processes of the uid but this one, PID 1 and root's. Runs in the child."""
    status = 1
    try:
        leave_open()
        with leaving_no_core():
            os.setgroups([])
            os.setresuid(uid, uid, uid)
        # A signal from root would reach every process of the host.
        if os.geteuid() != 0:
            with suppress(ProcessLookupError):
                os.kill(-1, signal.SIGKILL)
            status = 0
    finally:
        os._exit(status)


class _Look:
    """A look at the processes of this host, which is repeated."""

    def __init__(self) -> None:
        self._seen = set[int]()

    def pids(self) -> list[int]:
        """Return all PIDs, the new ones first: a process may end before a look at the others is over."""
        pids = set(map(int, filter(str.isdigit, os.listdir("/proc"))))
        ordered = sorted(pids, key=self._seen.__contains__)
        self._seen = pids
        return ordered


class _Owner:
    """One account, with the sub-uids that /etc/subuid gives to it alone."""

    def __init__(self, uid: int) -> None:
        self._uid, self._ours, self._others = uid, list[range](), list[range]()
        for owner, numbers in _subordinate():
            (self._ours if owner in {str(uid), name_of(uid)} else self._others).append(numbers)
        own = os.stat("/proc/self/ns/user")
        self._space = (own.st_dev, own.st_ino)

    def of(self, pid: int) -> set[int]:
        """Return those uids of a process, and of the makers of its user namespaces, that are the account's or sub-uids.

        Empty for a process that is not the account's. Never root's uid, whatever /etc/subuid says.
        """
        return {uid for uid in (*_uids(pid), *self._makers(pid)) if self.has(uid)}

    def has(self, uid: int) -> bool:
        """Return whether a uid is the account's, or one of its sub-uids."""
        if uid in {0, self._uid}:
            return uid != 0
        return any(uid in uids for uids in self._ours) and not any(uid in uids for uids in self._others)

    def _makers(self, pid: int) -> Iterator[int]:
        """Yield the owners of the user namespaces of a process, from its own up to ours."""
        try:
            space = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY)
        except OSError:
            return
        try:
            while _identity(space) != self._space:
                maker = bytearray(4)
                fcntl.ioctl(space, _OWNER, maker)
                yield struct.unpack("I", maker)[0]
                above = fcntl.ioctl(space, _PARENT)
                os.close(space)
                space = above
        except OSError:
            return
        finally:
            os.close(space)


def _identity(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


def _subordinate() -> Iterator[tuple[str, range]]:
    """Yield the entries of /etc/subuid: an account, by name or number, and its sub-uids."""
    try:
        with open(_SUBUID, encoding="utf-8", errors="replace") as file:
            text = file.read(_LIMIT)
    except OSError:
        return
    for line in text.splitlines():
        owner, _, numbers = line.partition(":")
        start, _, count = numbers.partition(":")
        if start.isdecimal() and count.isdecimal():
            yield owner, range(int(start), int(start) + int(count))


def _uids(pid: int) -> set[int]:
    """Return the real, effective, saved and file system uid of a process; none if it has ended or is a zombie."""
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
            lines = dict(line.partition(":")[::2] for line in file)
    except OSError:
        return set()
    # A process whose first thread has ended looks like a zombie while other threads go on.
    over = "Z" in lines.get("State", "Z") and lines.get("Threads", "1").strip() == "1"
    return set() if over else set(map(int, lines["Uid"].split()))


def _ancestors() -> list[int]:
    """Return the processes that started this program, without PID 1."""
    pids, pid = [], os.getppid()
    while pid > 1:
        pids.append(pid)
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            pid = int(file.read().rpartition(") ")[2].split()[1])
    return pids
