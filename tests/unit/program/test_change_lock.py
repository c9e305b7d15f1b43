"""The task of a guard, its end, and the process group of a run that may be ended."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from templates.host import activity, change_lock, claims, folders, guard, locks, record, secret, setup_lock, trust
from templates.host.change_lock import ChangeLock, Until
from templates.host.folders import Folder
from templates.host.locks import Lock
from templates.host.record import Record
from templates.host.run import Refused, Run
from tests.support.program_run import run

__all__ = ["run"]


@pytest.fixture
def ends(run: Run, tmp_path: Path) -> Iterator[Callable[..., bool]]:
    """A guard that holds the lock until another asks whether it is at work: then it has just ended."""
    (tmp_path / "myapp/lock/activate").write_text('{"group": 7}\n')
    with Lock("myapp", "activate") as lock:
        assert lock.take_within(run, 0)

        def guarded(*_: str) -> bool:
            lock.free()
            return False

        yield guarded


def test_what_a_guard_is_to_do_is_one_word_and_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(change_lock, "now", lambda: 1000.0)
    with Folder.open(str(tmp_path)) as folder:
        until = Until(folder)
        assert (until.text, until.time) == ("", 0)
        until.begin("", 30)
        assert (until.text, until.time) == ("103000", 1030.0)
        until.begin("drain")
        assert (until.text, until.time) == ("drain 100000", 0)
        until.write("")
        assert until.text == ""
        until.finish()
        assert until.text == "done"


@pytest.mark.parametrize(
    ("line", "group"),
    [
        ('{"group": 7}', 7),
        ('{"group": 0}', 0),
        ('{"group": "7"}', 0),
        ('{"group": -1}', 0),
        ("", 0),
        ("[]", 0),
        ("{", 0),
        ('{"group": true}', 0),
        ("[" * 100_000, 0),
    ],
    ids=lambda value: str(value)[:20],
)
def test_the_group_of_a_run_is_a_number_or_nothing(line: str, group: int) -> None:
    assert activity.group_of(line) == group


def test_a_guard_frees_the_lock_of_changes_before_its_own(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once: a run that came while the guard's process ended was told that another run is at work."""
    path = tmp_path / "myapp/lock/activate"
    found = []

    class Watched(Lock):
        def close(self) -> None:
            found.append(activity.held(str(path)))
            super().close()

    activate = Lock("myapp", "activate")
    made = SimpleNamespace(change_lock=SimpleNamespace(activate=activate), perform=activate.take)
    monkeypatch.setattr(guard, "Lock", Watched)
    monkeypatch.setattr(guard, "Guard", lambda _: made)
    guard.perform(run)
    activate.close()
    assert found == [False]


@pytest.mark.usefixtures("run")
def test_setup_takes_the_lock_of_a_guard_that_has_just_ended(
    ends: Callable[..., bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activity, "guarded", ends)
    descriptor = os.open(tmp_path / "myapp/lock/activate", os.O_RDWR)
    try:
        assert setup_lock._lock(descriptor, "guard", "until", "mine", 1)
        assert locks.read(descriptor) == "mine"
    finally:
        os.close(descriptor)


def test_a_former_account_that_stops_the_process_at_its_answer_holds_no_setup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once: root read that process' answer to its end, and the account can stop it before."""

    def stopped(*arguments: Any) -> None:
        os.write(arguments[-2], b"held ")
        time.sleep(60)
        os._exit(0)

    fork, children = os.fork, list[int]()

    def noted() -> int:
        children.append(fork())
        return children[0]

    monkeypatch.setattr(os, "fork", noted)
    monkeypatch.setattr(setup_lock, "_hold_and_exit", stopped)
    (tmp_path / ".activating").touch()
    began = time.monotonic()
    try:
        setup_lock._hold_former(str(tmp_path), "myapp", "mine", 1)
        assert time.monotonic() - began < 30
    finally:
        os.kill(children[0], signal.SIGKILL)
        os.waitpid(children[0], 0)


def test_the_process_that_holds_a_former_lock_has_no_other_lock_and_no_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once: stopped by its account, it kept the connection of a setup that had ended."""
    told = tmp_path / "told"

    def tell(_: object) -> None:
        told.write_text("".join(f"{path.readlink()}\n" for path in Path("/proc/self/fd").iterdir() if path.exists()))
        os._exit(0)

    monkeypatch.setattr(setup_lock, "become", tell)
    (tmp_path / ".activating").touch()
    with (tmp_path / "lock").open("w"), pytest.raises(Refused):
        setup_lock._hold_former(str(tmp_path), "myapp", "mine", 1)
    names = [name.partition(":")[0] for name in told.read_text().split("\n")]
    assert names.count("pipe") == 2
    assert not any(name.endswith("/lock") for name in names)


def test_setup_waits_for_the_end_of_a_lease_on_the_lock(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel ends it; a former account may have given it to a process of the service."""
    opened, there = os.open, iter([False, True])

    def leased(path: str, *arguments: Any, **named: Any) -> int:
        if path == "/run/leased/lock/activate":
            if not next(there):
                raise BlockingIOError
            path = str(tmp_path / "myapp/lock/activate")
        return opened(path, *arguments, **named)

    monkeypatch.setattr(os, "open", leased)
    known = Record("leased")
    known.layout = "3"
    setup_lock.hold(run, str(tmp_path), known, 0, verb="secrets")
    assert activity.held(str(tmp_path / "myapp/lock/activate"))
    assert '"action":"secrets"' in activity.last_line(str(tmp_path / "myapp/lock/activate"))


def test_an_account_that_keeps_a_lease_on_the_lock_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once: setup failed without naming the lock or its owner."""

    def leased(*_: Any, **__: Any) -> int:
        raise BlockingIOError

    monkeypatch.setattr(os, "open", leased)
    monkeypatch.setattr(os, "lstat", lambda _: SimpleNamespace(st_uid=0))
    monkeypatch.setattr(folders, "LEASE", 0)
    known = Record("leased")
    known.layout = "3"
    named = "^/run/leased/lock/activate cannot be opened: root, whose file it is, keeps a lease on it"
    with pytest.raises(Refused, match=named):
        setup_lock.hold(run, "/opt/apps/leased", known, 0, verb="setup")


def test_a_verb_outside_of_runs_takes_it_too(
    run: Run, ends: Callable[..., bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ChangeLock, "guarded", property(ends))
    change = object.__new__(ChangeLock)
    change._run = run
    change.until = SimpleNamespace(text="done")  # type: ignore[assignment]
    with Lock("myapp", "activate") as change.activate:
        assert change._wait_for_guard()


@pytest.mark.usefixtures("run")
def test_no_run_is_seen_where_a_guard_has_just_ended(
    ends: Callable[..., bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activity, "guarded", ends)
    assert activity.look("myapp") == activity.Activity()


def test_the_end_of_a_secrets_change_does_not_wait_for_ever_for_a_guard(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The deploy account can hold the lock of a guard as long as it likes."""
    monkeypatch.setattr(run, "step", {"name": "myapp", "wait": 0.1})
    with Lock("myapp", "guard") as guard:
        assert guard.take()
        with pytest.raises(Refused, match="has not ended in time"):
            secret._await_probation(run)
    secret._await_probation(run)
    (tmp_path / "myapp/lock/guard").unlink()
    secret._await_probation(run)


def test_a_change_of_secrets_is_not_called_setup(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once: a run that was refused meanwhile said that a setup was at work."""
    known, verbs = Record("myapp"), list[str]()
    known.there = True
    monkeypatch.setattr(run, "step", {"name": "myapp", "root": "/opt/apps/myapp", "wait": 1})
    monkeypatch.setattr(record, "read", lambda _: known)
    monkeypatch.setattr(claims, "check", lambda *_: None)
    monkeypatch.setattr(setup_lock, "hold", lambda *_, verb, **__: verbs.append(verb))
    assert secret._begin(run) is known
    assert verbs == ["secrets"]


def test_secrets_are_changed_only_where_root_alone_leads_to_them(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once: not where another account had /opt/apps, whose link says whether a former value comes back."""
    asked: list[str] = []

    def require(*paths: str) -> None:
        asked.extend(paths)
        if "/opt/apps" in paths:
            raise Refused("/opt/apps is not root's alone")

    monkeypatch.setattr(trust, "require_roots_own", require)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(secret, "_begin", lambda _: pytest.fail("it began"))
    for action in ("unset", "swap", "settle"):
        monkeypatch.setattr(run, "step", {"name": "myapp", "action": action, "committed": True})
        with pytest.raises(Refused, match="/opt/apps is not root's alone"):
            secret.perform(run)
    assert set(asked) == {"/etc/myapp", "/opt/apps"}
