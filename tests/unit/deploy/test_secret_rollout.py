"""The change of a secret: which releases it concerns."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from tasks.engine.deploy import secret_rollout
from tasks.engine.errors import LoopError
from tasks.engine.fleet.member import Member
from tests.support.host_facts import COMMITTED, NEW, OLD, TRIED, serving, vary
from tests.support.small_service import SERVICE


@pytest.mark.parametrize("user", [OLD, NEW])
def test_a_secret_in_use_is_not_removed_and_the_release_that_uses_it_is_named(user: str) -> None:
    """Once: the release on probation was named for a secret that only the committed one uses."""
    releases = tuple({"id": release, "secrets": ["API_TOKEN"] if release == user else []} for release in (OLD, NEW))
    facts = vary(serving(), {"state live": "green", COMMITTED: OLD, TRIED: NEW})._replace(releases=releases)
    member: Any = SimpleNamespace(
        ask=lambda _: facts, accept=lambda _: None, host=SimpleNamespace(name="shire01"), service=SERVICE
    )
    with pytest.raises(LoopError, match=f"^release {user}, which serves or would after a boot, uses the secret"):
        secret_rollout.unset("API_TOKEN", "", cast(Member, member), lambda _: None)
