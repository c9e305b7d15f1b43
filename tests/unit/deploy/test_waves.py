"""Waves and the failure limit: the README's rules, as tables."""

from __future__ import annotations

import pytest

from tasks.engine.deploy.waves import Policy, Share, policy, seconds, split, stops
from tasks.engine.errors import UsageError


@pytest.mark.parametrize(
    ("total", "canary", "batch", "sizes"),
    [
        (1, "1", "25%", [1]),
        (2, "1", "25%", [1, 1]),
        (5, "1", "25%", [1, 2, 2]),
        (10, "1", "25%", [1, 3, 3, 3]),
        (10, "0", "25%", [3, 3, 3, 1]),
        (10, "2", "100%", [2, 8]),
        (10, "0", "100%", [10]),
        (10, "1", "1", [1] * 10),
        (10, "1", "1%", [1] * 10),
        (3, "5", "2", [3]),
        (7, "1", "2", [1, 2, 2, 2]),
        (0, "1", "25%", []),
    ],
)
def test_waves_are_the_canary_and_then_batches_rounded_up(
    total: int, canary: str, batch: str, sizes: list[int]
) -> None:
    hosts = list(range(total))
    waves = split(hosts, policy(canary, batch, "0", "0", "stop"), total)
    assert [len(wave) for wave in waves] == sizes
    assert [host for wave in waves for host in wave] == hosts


def test_a_share_is_one_of_the_whole_run_also_when_hosts_have_dropped_out() -> None:
    assert [len(wave) for wave in split(range(6), Policy(), 12)] == [1, 3, 2]


@pytest.mark.parametrize(
    ("limit", "total", "failures", "ends"),
    [
        ("0", 5, 0, False),
        ("0", 5, 1, True),
        ("1", 5, 1, False),
        ("1", 5, 2, True),
        ("20%", 5, 1, False),
        ("20%", 5, 2, True),
        ("19%", 5, 1, True),  # 0.95 hosts, rounded down: none
        ("99%", 1, 1, True),
        ("100%", 1, 1, False),
        ("100%", 40, 40, False),
        ("50%", 3, 1, False),
        ("50%", 3, 2, True),
    ],
)
def test_more_failures_than_the_limit_end_a_run_and_exactly_the_limit_does_not(
    limit: str, total: int, failures: int, ends: bool
) -> None:
    assert stops(failures, total, policy("1", "25%", limit, "0", "stop")) is ends


@pytest.mark.parametrize(
    ("flag", "values"),
    [
        ("--canary", ("x", "1", "0", "0", "stop")),
        ("--canary", ("10%", "1", "0", "0", "stop")),
        ("--canary", ("-1", "1", "0", "0", "stop")),
        ("--batch", ("1", "0", "0", "0", "stop")),
        ("--batch", ("1", "0%", "0", "0", "stop")),
        ("--batch", ("1", "101%", "0", "0", "stop")),
        ("--batch", ("1", "1.5", "0", "0", "stop")),
        ("--batch", ("1", "٣", "0", "0", "stop")),
        ("--max-failures", ("1", "1", "", "0", "stop")),
        ("--max-failures", ("1", "1", "5 %", "0", "stop")),
        ("--pause", ("1", "1", "0", "soon", "stop")),
        ("--on-failure", ("1", "1", "0", "0", "retry")),
    ],
)
def test_a_flag_that_is_not_what_it_says_is_refused_by_name(flag: str, values: tuple[str, ...]) -> None:
    with pytest.raises(UsageError) as refused:
        policy(*values)
    assert refused.value.where == flag


def test_seconds_are_whole_and_a_day_at_most() -> None:
    assert seconds("--pause", "86400") == 86400
    for text in ("86401", "1.5", "", "-1", "1e3"):
        with pytest.raises(UsageError):
            seconds("--pause", text)


def test_a_share_reads_as_it_was_typed() -> None:
    assert str(Share(25, percent=True)) == "25%"
    assert str(Share(3)) == "3"
