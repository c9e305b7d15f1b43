"""The outcome of a probation, read from a host's history and the journal of the slot that it left."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tasks.engine.deploy import probation
from tasks.engine.errors import LoopError
from tasks.engine.fleet.member import Member
from tasks.engine.host import history
from tasks.engine.host.facts import Facts
from tests.support.small_service import SERVICE

RELEASE = "0123456789ab"


def line(state: str, release: str = RELEASE, run: str = "r") -> str:
    return json.dumps({"action": "deploy", "release": release, "state": state, "run": run, "why": "a worker died"})


def failure(lines: list[str], needs: tuple[str, ...] = ()) -> LoopError:
    """Return the error for the release whose run has these lines in the history."""
    facts = Facts(actions=history.parse(lines), journal=("OSError: [Errno 101] Network is unreachable",))
    member: Any = SimpleNamespace(
        ask=lambda _: facts, host=SimpleNamespace(name="shire01"), service=SERVICE._replace(needs=needs)
    )
    with pytest.raises(LoopError) as raised:
        probation.require_committed(cast(Member, member), RELEASE)
    return raised.value


def returned(needs: tuple[str, ...]) -> LoopError:
    return failure([line("started"), line("probation"), line("returned")], needs)


@pytest.mark.parametrize(
    ("further", "cause"),
    [
        ([], "by a stop or a reboot; the host now serves nothing"),
        ([line("started", "ba9876543210", "s")], "deploy of ba9876543210 came, and the host now serves nothing"),
    ],
)
def test_a_probation_that_was_cut_short_is_told_with_its_cause(further: list[str], cause: str) -> None:
    """Once: after a reboot the deploy on probation itself was named as the cause."""
    error = failure([line("started"), line("probation"), line("ended"), *further])
    assert error.message.startswith(f"the probation of {RELEASE} was cut short: {cause}")


def test_a_release_that_did_not_hold_is_told_with_the_key_that_opens_its_sandbox() -> None:
    error = returned(())
    assert "did not hold its probation: a worker died. The host went back by itself" in error.message
    assert error.detail == ("app: OSError: [Errno 101] Network is unreachable",)
    assert (error.next or "").startswith("fab logs -H shire01 -n 100. The sandbox may forbid it")
    assert "`needs: [network]`" in (error.next or "")
    assert returned(("network",)).next == "fab logs -H shire01 -n 100"
