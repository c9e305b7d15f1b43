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


def returned(needs: tuple[str, ...]) -> LoopError:
    lines = [
        json.dumps({"action": "deploy", "release": RELEASE, "state": state, "run": "r", "why": "a worker died"})
        for state in ("started", "probation", "returned")
    ]
    facts = Facts(actions=history.parse(lines), journal=("OSError: [Errno 101] Network is unreachable",))
    member: Any = SimpleNamespace(
        ask=lambda _: facts, host=SimpleNamespace(name="shire01"), service=SERVICE._replace(needs=needs)
    )
    with pytest.raises(LoopError) as raised:
        probation.require_committed(cast(Member, member), RELEASE)
    return raised.value


def test_a_release_that_did_not_hold_is_told_with_the_key_that_opens_its_sandbox() -> None:
    error = returned(())
    assert "did not hold its probation: a worker died. The host went back by itself" in error.message
    assert error.detail == ("app: OSError: [Errno 101] Network is unreachable",)
    assert (error.next or "").startswith("fab logs -H shire01 -n 100. The sandbox may forbid it")
    assert "`needs: [network]`" in (error.next or "")
    assert returned(("network",)).next == "fab logs -H shire01 -n 100"
