"""Accounts of the host, and work that is done with the rights of one of them alone."""

from __future__ import annotations

import grp
import io
import os
import pwd
import select
import signal
import time
from collections.abc import Callable
from typing import Any, BinaryIO, NamedTuple

from . import programs
from .run import Refused, Run

HOME, SHELL = "/nonexistent", "/usr/sbin/nologin"
SYSTEM_UIDS = range(1, 1000)


class Account(NamedTuple):
    """An account of the host."""

    name: str
    uid: int
    gid: int


def find(name: str) -> Account | None:
    """The account of this name; None when there is none."""
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def of_uid(uid: int) -> Account | None:
    """The account with this number; None when there is none."""
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return None
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def group_exists(name: str) -> bool:
    """Whether the host has a group of this name."""
    try:
        grp.getgrnam(name)
    except KeyError:
        return False
    return True


def made_by_setup(name: str) -> bool:
    """Whether the account looks, to the letter, like one that `make_service_account` makes."""
    try:
        entry = pwd.getpwnam(name)
        group = grp.getgrgid(entry.pw_gid)
    except KeyError:
        return False
    return (entry.pw_dir, entry.pw_shell, group.gr_name) == (HOME, SHELL, name) and entry.pw_uid in SYSTEM_UIDS


def make_service_account(run: Run, name: str) -> Account:
    """The account that the service runs as; it has no home and no shell."""
    if find(name) is None:
        run.say("account", name)
        made = programs.run(
            *("useradd", "--system", "--user-group", "--no-create-home"),
            *("--home-dir", HOME, "--shell", SHELL, name),
        )
        if not made:
            raise Refused(f"useradd did not make the account {name}")
    found = find(name)
    if found is None or found.uid not in SYSTEM_UIDS:
        raise Refused(f"the account {name} is a person's: give the service another name")
    return found


def become(account: Account) -> None:
    """Give up root for good: this process has the rights of the account from now on, and nobody may trace it."""
    os.setgroups(os.getgrouplist(account.name, account.gid))
    os.setgid(account.gid)
    os.setuid(account.uid)
    os.chdir("/")


def as_account(account: Account, work: Callable[[BinaryIO], None], seconds: float, limit: int) -> bytes:
    """What `work` writes, run in a process that has the rights of the account alone.

    Raise OSError when it fails, or when it has not ended after `seconds` or has written more than `limit` bytes: the
    directories it reads belong to the account, which may have put anything there.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _work_and_exit(account, work, writing, limit)
    os.close(writing)
    written = b""
    try:
        written = _read(reading, time.monotonic() + seconds, limit)
    finally:
        os.close(reading)
        os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
    word, _, rest = written.partition(b"\n")
    if word == b"ok %d" % len(rest):
        return rest
    told = rest.decode("utf-8", "replace") if word == b"error" else f"its reader ended with status {status}"
    raise OSError(0, f"as {account.name}: {told}")


class _Kept(io.BytesIO):
    """What is written, as long as it is no more than `limit` bytes; OSError for more."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._left = limit

    def write(self, data: Any) -> int:
        """Keep it, or refuse."""
        self._left -= len(memoryview(data))
        if self._left < 0:
            raise OSError(0, "the files of the deploy account have too much to tell")
        return super().write(data)


def _work_and_exit(account: Account, work: Callable[[BinaryIO], None], writing: int, limit: int) -> None:
    """Run in the child: a line that says how it went, and how long it is, comes first: what was cut off is no answer.

    The account may end this process at any moment.
    """
    kept = _Kept(limit)
    try:
        become(account)
        work(kept)
        told = kept.getvalue()
        answer = b"ok %d\n%b" % (len(told), told)
    except BaseException as error:
        answer = b"error\n" + str(error).encode("utf-8", "replace")
    try:
        while answer:
            answer = answer[os.write(writing, answer) :]
    finally:
        # The parent ends it: an end of its own could be told from a cut by nothing.
        os.close(writing)
        os._exit(0)


def _read(descriptor: int, deadline: float, limit: int) -> bytes:
    kept = b""
    while True:
        ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise OSError(0, "the files of the deploy account could not be read in time")
        data = os.read(descriptor, 1 << 16)
        if not data:
            return kept
        kept += data
        if len(kept) > limit:
            raise OSError(0, f"the files of the deploy account say more than {limit >> 20} MiB")
