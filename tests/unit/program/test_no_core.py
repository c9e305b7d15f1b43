"""A child of root's with an account's rights has root's memory: no signal of that account makes a core of it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from types import SimpleNamespace
from typing import BinaryIO

import pytest

from templates.host import accounts, processes
from templates.host.accounts import Account

NOBODY = Account("nobody", 65534, 65534)
CALL = b"(4, 0, 0, 0, 0) True 65534\n"
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another account")


def waits() -> bool:
    """Return whether a signal that would make a core waits."""
    return signal.SIGSEGV in signal.pthread_sigmask(signal.SIG_BLOCK, [])


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Return a descriptor from which the calls of prctl can be read: words, whether signals wait, and the uid."""
    reading, writing = os.pipe()

    def prctl(*words: int) -> None:
        os.write(writing, f"{words} {waits()} {os.geteuid()}\n".encode())

    monkeypatch.setattr(accounts, "libc", lambda: SimpleNamespace(prctl=prctl))
    for module in (accounts, processes):
        monkeypatch.setattr(module, "leave_open", lambda *_: None)
    yield reading
    os.close(reading)
    os.close(writing)


def test_work_with_the_rights_of_an_account(told: int) -> None:
    """Once: the account ended the child by SIGSEGV, and its core had the key of the site."""

    def work(output: BinaryIO) -> None:
        output.write(b"later" if waits() else b"at once")

    assert accounts.as_account(NOBODY, work, 30, 100) == b"at once"
    assert os.read(told, 1000) == CALL


def test_a_child_that_ends_the_processes_of_an_account(told: int) -> None:
    unused = 50_000 + os.getpid() % 10_000
    assert processes._strike(unused)
    assert os.read(told, 1000) == CALL.replace(b"65534", str(unused).encode())


def test_the_kernel_takes_the_call() -> None:
    def work(output: BinaryIO) -> None:
        output.write(b"%d" % accounts.libc().prctl(3, 0, 0, 0, 0))

    assert accounts.as_account(NOBODY, work, 30, 100) == b"0"
