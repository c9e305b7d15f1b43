"""Paths, units and the exact commands of a service."""

from __future__ import annotations

import pytest

from tasks.engine.config.sections import Limits
from tasks.engine.config.service import Process
from tasks.engine.host import layout
from templates.host import run_units
from templates.host.slot_names import SLOTS
from tests.support.small_service import SERVICE


def test_units_are_named_by_service_slot_and_process() -> None:
    assert layout.root(SERVICE) == "/opt/apps/myapp"
    both = ("myapp-worker@blue.service", "myapp-worker@green.service")
    assert (layout.processes(SERVICE), layout.timers(SERVICE)) == (both, ("myapp-nightly.timer",))
    assert layout.started_with_main(SERVICE) == ("myapp-listen.socket", *both, "myapp-nightly.timer")
    assert layout.jobs(SERVICE) == ("myapp-nightly.service",)
    assert layout.enabled(SERVICE) == (
        "myapp.service",
        "myapp@blue.socket",
        "myapp@green.socket",
        "myapp-nightly.timer",
    )


def test_a_slot_is_stopped_with_its_socket_in_one_command() -> None:
    for words in layout.commands(SERVICE):
        units = set(words[1:])
        if words[0] == "stop":
            for slot in SLOTS:
                assert (f"myapp@{slot}.service" in units) == (f"myapp@{slot}.socket" in units), words
    assert set(layout.slot_units(SERVICE)) <= set(layout.stopped(SERVICE))


def test_everything_that_runs_is_stopped_by_a_stop() -> None:
    commands = [words for words in layout.commands(SERVICE) if words[0] in {"start", "restart"}]
    started = {unit for words in commands for unit in words[1:]} - {"--no-block"}
    # Units started for a moment end by themselves.
    lasting = started - {unit for unit in started if "-hook@" in unit} - set(layout.switchers(SERVICE))
    assert lasting <= set(layout.stopped(SERVICE))


def test_a_service_without_listen_has_no_command_for_it() -> None:
    bare = SERVICE._replace(listen=None)
    assert not [words for words in layout.commands(bare) if "listen" in " ".join(words)]
    assert "myapp-listen.service" not in layout.stopped(bare)


def test_no_command_needs_more_than_a_verb_and_units_of_this_service() -> None:
    for verb, *units in layout.commands(SERVICE):
        assert verb in {"start", "stop", "restart", "reset-failed", "enable", "disable", "kill"}
        units = units[2:] if units[:2] == ["-s", "KILL"] else units
        units = units[1:] if units[:1] == ["--no-block"] else units
        ours = ("myapp.", "myapp@", "myapp-", "system-myapp_")
        assert all(unit.startswith(ours) for unit in units)
        assert units


def test_each_of_several_processes_is_a_unit_and_single_ones_have_commands_of_their_own() -> None:
    worker, beat = Process("worker", "x", copies=3), Process("beat", "x", single=True, stop=600)
    service = SERVICE._replace(processes=(SERVICE.processes[0], worker, beat))
    units = [f"myapp-{name}@blue.service" for name in ("worker", "worker-2", "worker-3")]
    commands = layout.commands(service)
    assert ("start", "--no-block", *units) in commands
    assert ("stop", "--no-block", *units) in commands
    assert ("start", "--no-block", "myapp-beat@blue.service") in commands
    assert ("stop", "myapp-beat@green.service") in commands
    assert (layout.longest_stop(service), layout.stop_timeout(service)) == (600, 40)


@pytest.mark.parametrize("name", ["myapp", "my-app"])
def test_both_sides_name_the_slices_of_a_service_alike_and_those_of_no_other(name: str) -> None:
    every, health = layout.run_slices(SERVICE._replace(name=name))
    assert (run_units.slice_of(name), run_units.slice_of(name, health=True)) == (every, health)
    assert health.startswith(f"{every.removesuffix('.slice')}-")
    # A slice is inside that whose name it begins with: no other service's may be.
    other = layout.run_slices(SERVICE._replace(name=f"{name}-run"))[0]
    assert not other.startswith(f"{every.removesuffix('.slice')}-")


def test_the_memory_of_two_releases_is_that_of_their_slots_and_processes_and_of_single_ones_once() -> None:
    worker, beat = Process("worker", "x", copies=3, limits=Limits("1G")), Process("beat", "x", single=True)
    service = SERVICE._replace(processes=(*SERVICE.processes[:1], SERVICE.processes[2], worker, beat))
    assert layout.memory(service, 2) == 6 << 30
    limited = service._replace(limits=Limits("512M"))
    assert (layout.memory(limited, 1), layout.memory(limited, 2)) == (4 << 30, (7 << 30) + (512 << 20))
