"""The questions of a plan and of its deploy: a plan that asks otherwise says otherwise."""

from __future__ import annotations

from tasks.engine.config.inventory import Host
from tasks.engine.config.nodes import Place
from tasks.engine.host import questions
from tests.support.small_service import SERVICE

HOST = Host("shire01", "192.0.2.11", None, None, (), None, None, None, None, Place("hosts.yaml", 1, 1, ""))


def test_a_plan_asks_all_that_its_deploy_asks() -> None:
    """Once: it asked for another release's digests, and announced a deploy of the release that is on probation."""
    planned, deployed = (ask(SERVICE, HOST, "deploy", "0123456789ab") for ask in (questions.plan, questions.deploy))
    assert planned.wants > deployed.wants
    assert planned._replace(wants=deployed.wants, followed=True) == deployed
