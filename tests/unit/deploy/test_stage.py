"""A deploy on one host before its activation: root's part, and the work done beside its end."""

from __future__ import annotations

import threading
from typing import Any, cast

import pytest

from tasks.engine.deploy import stage
from tasks.engine.errors import LoopError, Unreachable


class Host:
    """A member whose root's part runs until `going` is set. refuses: it accepts no second connection."""

    def __init__(self, *, refuses: bool = False) -> None:
        self.refuses, self.closed, self.reached = refuses, False, ""
        self.going = threading.Event()

    def connect(self) -> Host:
        return self

    def renew(self) -> Host:
        if self.refuses:
            threading.Timer(0.2, self.going.set).start()
            raise Unreachable("it hangs up", where="shire01")
        return self

    def close(self) -> None:
        self.closed = True

    def reach(self, step: str) -> None:
        self.reached = step


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The results of root's part."""
    found: list[str] = []

    def install(project: object, host: Any, setup: object, emit: object, heard: Any) -> None:  # noqa: ARG001 - theirs
        heard("directories")
        assert host.going.wait(10)
        found.append("installed")
        if setup:
            raise LoopError("nginx refuses the configuration", where="shire01")

    monkeypatch.setattr(stage, "install", install)
    return found


def beside(host: Host, *, fails: bool = False) -> Any:
    return stage._installed(cast("Any", None), cast("Any", host), cast("Any", fails), lambda _: None)


def test_what_is_beside_it_begins_before_it_ends_and_its_end_is_waited_for(ended: list[str]) -> None:
    host = Host()
    with beside(host):
        assert (ended, host.closed) == ([], False)
        host.going.set()
    assert (ended, host.closed, host.reached) == (["installed"], True, "controller.setup")


def test_it_is_not_cut_off_where_the_host_takes_no_second_connection(ended: list[str]) -> None:
    with pytest.raises(Unreachable, match="hangs up"), beside(Host(refuses=True)):
        raise AssertionError("there is nothing to do it on")
    assert ended == ["installed"]


def test_it_is_not_cut_off_by_a_release_that_fails_and_its_own_failure_comes_first(ended: list[str]) -> None:
    host = Host()

    def release() -> None:
        with beside(host, fails=True):
            host.going.set()
            raise LoopError("the disk is full", where="shire01")

    with pytest.raises(LoopError, match="nginx refuses"):
        release()
    assert (ended, host.closed, host.reached) == (["installed"], True, "")
