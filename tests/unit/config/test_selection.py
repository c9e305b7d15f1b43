"""The meaning of -H."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.engine.config.inventory import Host, Inventory
from tasks.engine.config.nodes import Place
from tasks.engine.config.selection import select
from tasks.engine.errors import UsageError
from tests.support.refusals import refusal, require_error


def host(name: str, *groups: str) -> Host:
    return Host(name, name, None, None, groups, None, None, None, None, Place("f", 1, 1, ""))


FLEET = Inventory(
    Path("hosts.yaml"),
    (host("shire03", "web"), host("shire01", "web", "eu"), host("bree", "eu"), host("shire02")),
    sandbox=(host("local01", "web"), host("shire-local")),
)


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        (None, "shire03 shire01 bree shire02"),
        ("all", "shire03 shire01 bree shire02"),
        ("shire01", "shire01"),
        ("shire01,shire03", "shire03 shire01"),
        (" shire01 , shire01 ", "shire01"),
        ("web", "shire03 shire01"),
        ("web,bree", "shire03 shire01 bree"),
        ("web,-shire03", "shire01"),
        ("-shire03,web", "shire01"),
        ("web,-eu", "shire03"),
        ("all,-shire*", "bree"),
        ("-bree", "shire03 shire01 shire02"),
        ("-web,-bree", "shire02"),
        ("shire0[12]", "shire01 shire02"),
        ("shire0?", "shire03 shire01 shire02"),
        ("*", "shire03 shire01 bree shire02"),
        ("local01", "local01"),
        ("local01,web", "shire03 shire01 local01"),
        ("local01,-web,-local01,all", "bree shire02"),
    ],
)
def test_an_expression_means_hosts_in_the_order_of_the_inventory(expression: str | None, names: str) -> None:
    selection = select(FLEET, expression)
    assert [chosen.name for chosen in selection.hosts] == names.split()
    assert selection.expression == expression


@pytest.mark.parametrize(
    ("expression", "message", "fix"),
    [
        ("shrie01", '"shrie01" is no host or group of hosts.yaml', "did you mean 'shire01'?"),
        ("web,-shrie03", '"shrie03" is no host or group', "did you mean 'shire03'?"),
        ("locl01", '"locl01" is no host or group', "did you mean 'local01'?"),
        ("alll", '"alll" is no host or group', "did you mean 'all'?"),
        ("zzz", '"zzz" is no host or group', "fab hosts"),
        ("mordor*", '"mordor*" is no host or group', "fab hosts"),
        ("all,-mordor*", '"mordor*" is no host or group', "fab hosts"),
        ("local*", '"local*" is no host or group', "did you mean 'local01'?"),
        ("\x1b[2J", '"\\u001b[2J" is no host or group', "fab hosts"),
        ("", '-H "" has an empty name in it', "fab hosts"),
        ("web,", '-H "web," has an empty name in it', "fab hosts"),
        ("-", '-H "-" has an empty name in it', "fab hosts"),
        ("web,-web", '-H "web,-web" leaves no host', "fab hosts"),
        ("-all", '-H "-all" leaves no host', "fab hosts"),
    ],
)
def test_a_word_that_means_nothing_is_refused(expression: str, message: str, fix: str) -> None:
    require_error(refusal(select, FLEET, expression), message, fix=fix)


def test_an_inventory_without_hosts_says_how_to_get_some() -> None:
    error = refusal(select, Inventory(Path("hosts.yaml"), ()), None)
    assert error.message == "there is no host in hosts.yaml"
    require_error(error, fix="fab sandbox.up")


WORDS = st.sampled_from(
    ["all", "web", "eu", "bree", "shire*", "local01", "-web", "-bree", "-shire0[12]", "-all", "x", "", "-"]
)


@given(st.one_of(st.lists(WORDS, max_size=5).map(",".join), st.text()))
def test_any_expression_is_some_hosts_or_a_usage_error(expression: str) -> None:
    try:
        hosts = select(FLEET, expression).hosts
    except UsageError:
        return
    assert hosts == tuple(dict.fromkeys(hosts))
    assert hosts
