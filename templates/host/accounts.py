"""Find and make accounts of the host; run work with the rights of one account only."""

from __future__ import annotations

import grp
import io
import os
import pwd
import select
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from typing import Any, BinaryIO, NamedTuple, TypeVar

from . import nginx_conf, programs
from .run import Refused, Run

WEB_ACCOUNTS = ("www-data", "nginx")
"""The accounts of nginx's workers, as distributions name them."""
HOME, SHELL = "/nonexistent", "/usr/sbin/nologin"
SYSTEM_UIDS = range(1, 1000)
_DESCRIPTORS = 4096
"""This program has fewer files open."""
_SET_DUMPABLE = 4
"""PR_SET_DUMPABLE of prctl(2), which Python does not offer."""
_Key = TypeVar("_Key", str, int)


class Account(NamedTuple):
    """An account of the host."""

    name: str
    uid: int
    gid: int


def find(name: str) -> Account | None:
    """Return the account of this name, or None."""
    return _account(pwd.getpwnam, name)


def web_names() -> tuple[str, ...]:
    """Return the accounts that nginx's workers may have: the one that nginx.conf names, else those that exist."""
    there, named = tuple(filter(find, WEB_ACCOUNTS)), nginx_conf.worker()
    return tuple(name for name in there if name == named) if named else there


def of_nginx() -> Account:
    """Return the account of nginx's workers; Refused if there is none."""
    account = next(filter(None, map(find, web_names())), None)
    if account is not None:
        return account
    known, named = " or ".join(WEB_ACCOUNTS), nginx_conf.worker()
    if named:
        raise Refused(f"nginx's workers run as {named} on this host, and must run as {known}: `user` in nginx.conf")
    raise Refused(f"this host has no account of nginx's: {known}")


def of_uid(uid: int) -> Account | None:
    """Return the account with this uid, or None."""
    return _account(pwd.getpwuid, uid)


def _account(look: Callable[[_Key], pwd.struct_passwd], key: _Key) -> Account | None:
    try:
        entry = look(key)
    except KeyError:
        return None
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def group_exists(name: str) -> bool:
    """Return True if the host has a group of this name."""
    try:
        grp.getgrnam(name)
    except KeyError:
        return False
    return True


def made_by_setup(name: str) -> bool:
    """Return True if the account has exactly the attributes that `make_service_account` sets."""
    try:
        entry = pwd.getpwnam(name)
        group = grp.getgrgid(entry.pw_gid)
    except KeyError:
        return False
    return (entry.pw_dir, entry.pw_shell, group.gr_name) == (HOME, SHELL, name) and entry.pw_uid in SYSTEM_UIDS


def make_service_account(run: Run, name: str) -> Account:
    """Return the account that the service runs as, made if missing: without home and login shell."""
    if find(name) is None:
        run.say("account", name)
        made = programs.run(
            *("useradd", "--system", "--user-group", "--no-create-home"),
            *("--home-dir", HOME, "--shell", SHELL, name),
        )
        if not made:
            raise Refused(f"useradd did not make the account {name}")
    account = find(name)
    if account is None or account.uid not in SYSTEM_UIDS:
        raise Refused(f"the account {name} is a person's: give the service another name")
    return account


def become(account: Account) -> None:
    """Give up root for good: this process keeps only the rights of the account, whose processes cannot trace it."""
    with leaving_no_core():
        os.setgroups(os.getgrouplist(account.name, account.gid))
        os.setgid(account.gid)
        os.setuid(account.uid)
    os.chdir("/")


@cache
def libc() -> Any:
    """Return the C library. Call this before a fork: to load ctypes takes time."""
    return import_module("ctypes").CDLL(None)


@contextmanager
def leaving_no_core() -> Iterator[None]:
    """Let no core have the memory of this process, which is a copy of root's, once the block has given up root.

    The account can end this process by a signal. With fs.suid_dumpable=2 that makes a core, and the program which
    core_pattern names may let the account read it. A limit (RLIMIT_CORE) would not do: for 0 that program starts all
    the same. The kernel resets the flag at each change of the account, so until it is set again signals wait.
    """
    prctl = libc().prctl
    former = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        yield
        prctl(_SET_DUMPABLE, 0, 0, 0, 0)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)


def as_account(account: Account, work: Callable[[BinaryIO], None], seconds: float, limit: int) -> bytes:
    """Run `work` in a child process with only the rights of the account; return what it writes.

    Raise OSError if the child fails, runs longer than `seconds` or writes more than `limit` bytes: the child works in
    directories of the account, which may have put anything there.
    """
    return _in_child(account, work, seconds, limit)


def within(work: Callable[[BinaryIO], None], seconds: float, limit: int) -> bytes:
    """Run `work` in a child process with our own rights and the same limits; return what it writes.

    For a path that others choose: stat shows some files of the kernel's as regular ones, and reading them never ends.
    """
    return _in_child(None, work, seconds, limit)


def _in_child(account: Account | None, work: Callable[[BinaryIO], None], seconds: float, limit: int) -> bytes:
    if account:
        libc()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        leave_open(writing)
        _work_and_exit(account, work, writing, limit)
    os.close(writing)
    written, whose = b"", f"as {account.name}: " if account else ""
    try:
        written = _read(reading, whose, seconds, limit)
    finally:
        os.close(reading)
        status = killed(child)
    outcome, _, output = written.partition(b"\n")
    if outcome == b"ok %d" % len(output):
        return output
    reason = (
        output.decode("utf-8", "replace")
        if outcome == b"error"
        else f"the process {'with the rights of this account ' if account else ''}ended with status {status}"
    )
    raise OSError(0, f"{whose}{reason}")


def killed(child: int) -> int | None:
    """Kill a child process and return its status; None if it does not end.

    A process that waits for a file system of an account (FUSE) ends only when that account lets it.
    """
    os.kill(child, signal.SIGKILL)
    deadline = time.monotonic() + programs.DEATH
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status
        time.sleep(0.001)
    return None


def leave_open(*descriptors: int) -> None:
    """Close all but these. Runs in a child, which may outlive us: no lock and no connection may be left."""
    silence = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(silence, number)
    first = 3
    for descriptor in sorted(descriptors):
        os.closerange(first, descriptor)
        first = descriptor + 1
    os.closerange(first, _DESCRIPTORS)


class _Bounded(io.BytesIO):
    """A buffer that holds at most `limit` bytes; OSError for more."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._left = limit

    def write(self, data: Any) -> int:
        """Append the data; OSError if it exceeds the limit."""
        self._left -= len(memoryview(data))
        if self._left < 0:
            raise OSError(0, "there is too much to report")
        return super().write(data)


def _work_and_exit(account: Account | None, work: Callable[[BinaryIO], None], writing: int, limit: int) -> None:
    """Run `work` in the child; write its outcome and length in a first line, then its output.

    The length shows a truncated answer: the account can kill this process at any moment.
    """
    buffer = _Bounded(limit)
    try:
        if account:
            become(account)
        work(buffer)
        output = buffer.getvalue()
        answer = b"ok %d\n%b" % (len(output), output)
    except BaseException as error:
        answer = b"error\n" + str(error).encode("utf-8", "replace")
    try:
        while answer:
            answer = answer[os.write(writing, answer) :]
    finally:
        # The status does not matter: the parent judges by the first line, and kills this process anyway.
        os.close(writing)
        os._exit(0)


def _read(descriptor: int, whose: str, seconds: float, limit: int) -> bytes:
    received, deadline = b"", time.monotonic() + seconds
    while True:
        ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise OSError(0, f"{whose}the work took longer than {seconds:g} s")
        data = os.read(descriptor, 1 << 16)
        if not data:
            return received
        received += data
        if len(received) > limit:
            raise OSError(0, f"{whose}there are more than {limit} bytes to report")
