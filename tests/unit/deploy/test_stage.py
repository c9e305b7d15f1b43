"""A deploy on one host before its activation: root's part, and the work done beside its end."""

from __future__ import annotations

import threading
from typing import Any, cast

import pytest

from tasks.engine.deploy import stage
from tasks.engine.errors import LoopError, Unreachable


class Host:
    """A member whose root's part runs until `going` is set."""

    def __init__(self) -> None:
        self.reached = ""
        self.going = threading.Event()

    def reach(self, step: str) -> None:
        self.reached = step


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The results of root's part."""
    found: list[str] = []

    def install(project: object, host: Any, setup: object, emit: object, heard: Any) -> None:  # noqa: ARG001 - theirs
        heard("directories")
        assert host.going.wait(60)
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
        assert ended == []
        host.going.set()
    assert (ended, host.reached) == (["installed"], "controller.setup")


def test_it_is_not_cut_off_where_the_host_opens_no_further_channel(ended: list[str]) -> None:
    host = Host()

    def release() -> None:
        with beside(host):
            threading.Timer(0.2, host.going.set).start()
            raise Unreachable("it hangs up", where="shire01")

    with pytest.raises(Unreachable, match="hangs up"):
        release()
    assert ended == ["installed"]


def test_it_is_not_cut_off_by_a_release_that_fails_and_its_own_failure_comes_first(ended: list[str]) -> None:
    host = Host()

    def release() -> None:
        with beside(host, fails=True):
            host.going.set()
            raise LoopError("the disk is full", where="shire01")

    with pytest.raises(LoopError, match="nginx refuses"):
        release()
    assert (ended, host.reached) == (["installed"], "")
