"""The secret of the host's own checks: which account has it, and that root opens no file of that account."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from templates.host import check_secret, files
from templates.host.accounts import Account
from templates.host.check_secret import WAYS, Check

OURS = Account("deploy", os.getuid(), os.getgid())


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    real = files.read
    monkeypatch.setattr(check_secret, "read", lambda path: real(path.replace("/etc/shop/check", str(tmp_path))))
    return tmp_path


def check(place: Path, account: Account = OURS) -> Check:
    made = Check("shop", account)
    made._folder = str(place)
    return made


def secret(place: Path) -> str:
    found = re.match('"([0-9a-f]{32}) blue" blue;', (place / "map").read_text())
    assert found
    return found[1]


def made(place: Path) -> tuple[bool, str]:
    """Return whether the next setup makes a new secret, and the one that it leaves."""
    one = check(place)
    one.make("run2")
    one.hand_out("run2")
    assert all((place / way).read_text() == f"X-Loop-Check: {secret(place)} {way}\n" for way in WAYS)
    assert sorted(path.name for path in place.iterdir()) == sorted([*WAYS, "map"])
    return one.renewed, secret(place)


def test_an_account_keeps_its_secret(place: Path) -> None:
    assert made(place)[0]
    there = secret(place), (place / "live").stat().st_ino
    assert made(place) == (False, there[0])
    assert (place / "live").stat().st_ino == there[1]
    (place / "blue").unlink()
    assert made(place) == (False, there[0])


def test_a_setup_that_was_killed_before_it_handed_the_secret_out_is_followed_by_another_secret(place: Path) -> None:
    made(place)
    (place / "map").unlink()
    killed = check(place)
    killed.make("run1")
    assert made(place)[0]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_another_account_gets_another_secret(place: Path) -> None:
    former = made(place)[1]
    os.chown(place / "live", 50_000, -1)
    renewed, other = made(place)
    assert renewed
    assert other != former
    assert (place / "live").stat().st_uid == OURS.uid


def test_root_opens_no_file_of_the_account(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once: by leases on its files an account, also a former one, ended each setup for two minutes."""
    made(place)
    real = os.open

    def leased(path: Any, flags: int, *arguments: Any, **named: Any) -> int:
        if Path(path).name in WAYS:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return real(path, flags, *arguments, **named)

    monkeypatch.setattr(os, "open", leased)
    again = check(place)
    again.make("run3")
    again.hand_out("run3")
    assert not again.renewed
    again.renewed = True
    again.hand_out("run4")
