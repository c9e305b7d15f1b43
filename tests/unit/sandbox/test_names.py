"""The hosts of a sandbox: selection, names, and networks."""

from __future__ import annotations

import pytest

from tasks.engine.errors import UsageError
from tasks.engine.sandbox import network
from tasks.engine.sandbox.network import Network
from tasks.engine.sandbox.sandbox import default_names, validate_names
from tasks.sandbox import parse_count


@pytest.mark.parametrize("text", ["", "two", "-1", "1.5", "25%", "٢"])
def test_a_count_that_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="number of hosts"):
        parse_count(text)


@pytest.mark.parametrize("count", [0, 61])
def test_a_count_out_of_bounds_is_refused(count: int) -> None:
    with pytest.raises(UsageError, match="1 to 60"):
        default_names(count)


def test_hosts_are_numbered_in_order() -> None:
    assert default_names(3) == ("shire01", "shire02", "shire03")


@pytest.mark.parametrize("name", ["", "../etc", "A", "a b", "-x", "x" * 32, "a\n"])
def test_a_name_that_is_no_host_name_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="no name for a host"):
        validate_names([name])


@pytest.mark.parametrize(
    ("routes", "taken"),
    [
        (["default"], False),
        (["192.0.2.0/24", "198.18.4.0/24", "198.18.6.1"], False),
        (["198.18.5.0/24"], True),
        (["198.18.5.77"], True),
        (["198.18.0.0/16"], True),
    ],
)
def test_a_network_that_is_routed_already_is_left_alone(routes: list[str], taken: bool) -> None:
    assert network.overlapping(Network(5).subnet, routes) is taken


def test_all_networks_lie_in_the_test_range_and_have_short_names() -> None:
    first, last = Network(0), Network(network.SUBNETS - 1)
    assert (first.address(11), last.address(11)) == ("198.18.0.11", "198.19.255.11")
    assert max(len(first.bridge), len(last.bridge)) <= 15
