"""A restore that cannot save what is there now: the failure names the way around, unless the user stopped it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, cast

import pytest

from tasks.engine.backup import archive, recovery, transfer
from tasks.engine.deploy.run_lock import Claim
from tasks.engine.errors import LoopError
from tasks.engine.fleet.member import Member
from tasks.engine.parallel import Emit, Stop
from tests.support.small_service import SERVICE


class Closed(Member):
    """A member whose every step succeeds."""

    def act_for_service(self) -> Any:
        state = type("State", (), {"maintenance": None})
        return type("Facts", (), {"committed_release": "0123456789ab", "state": state})()

    def perform(self, *_: object) -> Any:
        return None


@pytest.mark.parametrize(("limit", "hours"), [(1 << 20, 1), (20 << 30, 24), (200 << 30, 239)])
def test_an_archive_may_take_as_long_as_its_limit_at_two_megabits_a_second(limit: int, hours: int) -> None:
    """Once: a host that sent a byte from time to time kept a backup at work for ever."""
    assert round(transfer.Terms(limit).seconds / 3600) == hours


@dataclass
class Locks:
    """Run locks that note what is done with them, or that another run has. done: what was done, in order."""

    done: list[str]
    taken: bool = False

    def take(self, _member: Member, claim: Claim, _wait: int, _emit: Emit) -> bool:
        if self.taken:
            raise LoopError("ann is at work here", code="busy")
        self.done.append(f"take for {claim.action}")
        return True

    def release(self) -> None:
        self.done.append("release")


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is done with the run lock, and with the data."""
    made: list[str] = []
    monkeypatch.setattr(recovery, "RunLocks", lambda: Locks(made))
    monkeypatch.setattr(transfer, "put_back", lambda *_: made.append("replace"))
    monkeypatch.setattr(transfer, "migrate", lambda *_: None)
    return made


def restored() -> None:
    """Restore without saving what was there."""
    host = cast(Any, type("Host", (), {"name": "shire01"}))
    member = Closed(host, SERVICE._replace(nginx=None), cast(Any, None), cast(Any, None))
    terms = transfer.Terms(1 << 20)
    recovery.restore(member, lambda _: None, recovery.Order(Path("a"), "a", None, datetime.now(timezone.utc), terms))


def test_no_other_run_changes_the_host_while_its_data_is_replaced(done: list[str]) -> None:
    """Once: a restart from another controller started a release whose data was then put away."""
    restored()
    assert done == ["take for restore", "replace", "release"]


def test_nothing_is_replaced_while_another_run_is_at_work(done: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "RunLocks", lambda: Locks(done, taken=True))
    with pytest.raises(LoopError, match="ann is at work here"):
        restored()
    assert done == ["release"]


@pytest.mark.usefixtures("done")
@pytest.mark.parametrize("stopped", [False, True])
def test_a_failure_to_save_names_the_way_around(stopped: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise LoopError("pg_dump ended with 1", where="shire01", next="mend that on the host")

    monkeypatch.setattr(transfer, "fetch", fails)
    stop = Stop()
    if stopped:
        stop.now()
    host = cast(Any, type("Host", (), {"name": "shire01"}))
    member = Closed(host, SERVICE._replace(nginx=None), cast(Any, None), cast(Any, None))
    terms = transfer.Terms(1 << 20, stop=stop)
    order = recovery.Order(Path("plain"), "a.age --key k", Path("saved"), datetime.now(timezone.utc), terms)
    with pytest.raises(LoopError) as failed:
        recovery.restore(member, lambda _: None, order)
    way = "; or, without saving what is there now: fab restore a.age --key k -H shire01 --without-save"
    assert failed.value.next == "mend that on the host" + ("" if stopped else way)


def test_what_was_there_is_saved_beside_the_archive_that_is_put_back(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Once: if both were of one second, it took the place of that archive, and was put back itself."""
    moment = datetime(2026, 1, 1, tzinfo=timezone.utc)
    given = tmp_path / f"{SERVICE.name}-20260101T000000Z.tar.gz"
    given.write_bytes(b"given")
    about = archive.About(SERVICE.name, "", "one", "", 1, 1)
    monkeypatch.setattr(transfer, "_run", lambda _member, _mode, _request, streams: streams.take(b"there") or ())
    monkeypatch.setattr(archive, "read", lambda *_: about)
    member = Closed(cast(Any, type("Host", (), {"name": "one"})()), SERVICE, cast(Any, None), cast(Any, None))
    saved, _ = transfer.fetch(member, tmp_path, moment, transfer.Terms(100))
    assert (given.read_bytes(), saved.read_bytes()) == (b"given", b"there")
    assert sorted(tmp_path.iterdir()) == sorted([given, saved])
