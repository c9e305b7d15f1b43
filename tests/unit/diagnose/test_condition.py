"""What doctor says of each host, also where all is well, and its findings on the same subjects."""

from __future__ import annotations

import pytest

from tasks.engine.config.gateway import Nginx
from tasks.engine.diagnose import condition, doctor
from tasks.engine.host.facts import Facts
from templates.host.fact_schema import Isolation, Machine, Slot, State, Survey, Upkeep
from tests.support.host_facts import vary
from tests.support.small_service import SERVICE

GB = 10**9
KEPT = Facts(
    Machine(1767225600, tools={"apt-get": "/usr/bin/apt-get"}, memory=4 * GB, available=2 * GB),
    state=State("blue", "blue", {"blue": Slot("active", "a" * 12, memory=GB // 2)}),
    survey=Survey(
        free_bytes=9 * GB,
        certificate_end="Mar  1 00:00:00 2026 GMT",
        isolation=Isolation(seen=True),
        upkeep=Upkeep(2, GB // 10, 2 * GB, "on", "", True),
    ),
)
HTTPS = SERVICE._replace(nginx=Nginx(("myapp.example",)))


def said(changes: dict[str, object], needs: tuple[str, ...] = (), skew: float = 0.4) -> list[tuple[str, str]]:
    """Return what is said in these circumstances: states and texts, findings last, as `note`."""
    facts, service = vary(KEPT, changes), HTTPS._replace(needs=needs)
    found = [(one.state, one.text) for one in condition.conditions(service, facts, skew)]
    findings = list(doctor._upkeep(service, facts))
    assert all(one.mend and not one.stops for one in findings)
    return [*found, *(("note", one.text) for one in findings)]


def test_a_host_that_is_kept_well_is_told_so_in_eight_lines() -> None:
    found = said({})
    assert {state for state, _ in found} == {"fine"}
    subjects = ["security", "network", "memory", "clock", "disk", "certificate", "upgrades", "reboot"]
    assert [text.partition(":")[0] for _, text in found] == subjects
    texts = " | ".join(text for _, text in found)
    for part in ("0.2", "isolation is in force", "may take 500 MB, and 2.0 GB are", "within 1 s",
                 "takes 100 MB, a venv 2.0 GB, and 9.0 GB are free", "valid for 59 days"):  # fmt: skip
        assert part in texts


@pytest.mark.parametrize(
    ("changes", "needs", "told"),
    [
        ({"survey upkeep rating": 11}, (), "systemd rates the slot 1.1"),
        ({"survey upkeep rating": 16}, ("jit",), "systemd rates the slot 1.6"),
        (
            {"machine available": GB // 3},
            (),
            "may take 500 MB of memory, and 334 MB of 4.0 GB are available",
        ),
        ({"survey free_bytes": 6 * GB}, (), "each with a venv of its own, take 6.3 GB, and 6.0 GB are free"),
        ({"survey upkeep reboot": "kernel 6.2 is installed"}, (), "needs a reboot: kernel 6.2 is installed"),
    ],
)
def test_what_is_wrong_is_a_finding_and_is_not_called_fine(
    changes: dict[str, object], needs: tuple[str, ...], told: str
) -> None:
    found = said(changes, needs)
    assert [told in text for state, text in found if state == "note"] == [True]
    assert len(found) == 8


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"survey upkeep rating": None}, "security: systemd-analyze has not rated"),
        ({"survey isolation": Isolation()}, "network: isolation can be seen only while"),
        ({"state slots": {}}, "memory: no limit is set and no use is measured"),
        ({"machine memory": 0}, "memory: no limit is set"),
        ({"survey upkeep release_bytes": 0}, "disk: the size of a release is known only"),
        ({"survey certificate_end": ""}, "certificate: it cannot be read"),
        ({"survey upkeep upgrades": "perhaps"}, "upgrades: neither apt nor dnf"),
        ({"survey upkeep reboot_known": False}, "reboot: nothing here tells"),
    ],
)
def test_what_is_unknown_is_called_so(changes: dict[str, object], told: str) -> None:
    found = said(changes)
    assert [text.startswith(told) for state, text in found if state == "unknown"] == [True]
    assert len(found) == 8


def test_updates_are_left_to_the_operator_with_the_package_to_install() -> None:
    for tool, package in (("apt-get", "unattended-upgrades"), ("dnf", "dnf-automatic")):
        facts = vary(KEPT, {"survey upkeep upgrades": "off", "machine tools": {tool: "x"}})
        (found,) = (one for one in condition.conditions(HTTPS, facts, 0) if one.state == "open")
        assert package in found.mend


@pytest.mark.parametrize(
    ("needs", "isolation", "told"),
    [
        (("network",), Isolation(True, seen=True), "open, as `needs: [network]` asks"),
        (("host",), Isolation(True, True, seen=True), "no address but the host's own"),
        (("host",), Isolation(True, False, seen=True), ""),
        ((), Isolation(True, seen=True), ""),
    ],
)
def test_isolation_is_called_in_force_only_where_the_kernel_shows_it(
    needs: tuple[str, ...], isolation: Isolation, told: str
) -> None:
    network = [text for _, text in said({"survey isolation": isolation}, needs) if text.startswith("network")]
    assert [told in text for text in network] == [True] * bool(told)


def test_a_clock_that_is_wrong_is_not_called_fine() -> None:
    assert not any(text.startswith("clock") for _, text in said({}, skew=31))
    assert any("within 7 s" in text for _, text in said({}, skew=-7))


def test_limits_are_compared_with_the_whole_memory_too() -> None:
    service = HTTPS._replace(limits=HTTPS.limits._replace(memory="1500M"), processes=HTTPS.processes[:1])
    facts = vary(KEPT, {"machine memory": 2 * GB, "machine available": 2 * GB})
    assert condition.short_of_memory(service, facts)
    assert not condition.short_of_memory(service, KEPT)
