"""`fab logs -f` on four real hosts: every line once, in order, whatever the hosts, the lines or the reader do."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

import pytest

from tasks.engine.sandbox import Machine
from tests.support import clone as clones
from tests.support.clone import Clone
from tests.support.hosts import Hosts, MakeHosts
from tests.support.logs_fleet import Reader, act, acted, deployed, resident

_LINE = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3})  (\S+) +myapp-actor@blue: (.*)")


@pytest.fixture(scope="module")
def fleet(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> tuple[Clone, Hosts]:
    hosts = module_hosts(4)
    return deployed(clones.make(tmp_path_factory.mktemp("follow")), hosts), hosts


@contextmanager
def following(clone: Clone, machines: Sequence[Machine], word: str) -> Iterator[Reader]:
    """Follow with `fab logs -f` for the block, once every machine's last line (this word) has been shown."""
    for machine in machines:
        acted(machine, "", word)
    with clone.start("logs", "-f", "-n", "1", "--process", "actor") as process:
        reader = Reader(process)
        try:
            reader.until(lambda: all(any(m.name in line and word in line for line in reader.out) for m in machines))
            yield reader
        finally:
            process.kill()


def _numbers(reader: Reader, word: str) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for line in reader.out:
        match = _LINE.fullmatch(line)
        if match and match[3].startswith(f"{word} "):
            found.setdefault(match[2], []).append(int(match[3].split()[1]))
    return found


def test_every_line_of_four_hosts_at_500_a_second_arrives_once_in_order_and_memory_stays_flat(
    fleet: tuple[Clone, Hosts],
) -> None:
    clone, hosts = fleet
    code = (
        "at = time.monotonic()\n"
        "for number in range(6000):\n"
        "    say(f'tick {number} ' + 'x' * 100)\n"
        "    time.sleep(max(0, at + number / 500 - time.monotonic()))\n"
        "say('tick-end')\n"
    )
    with following(clone, hosts.machines, "first") as reader:
        for machine in hosts:
            act(machine, code)
        reader.until(lambda: sum(line.endswith("tick-end") for line in reader.out) == 4, seconds=90)
        reader.stop()
    assert _numbers(reader, "tick") == {machine.name: list(range(6000)) for machine in hosts}
    latest = datetime.min
    for match in filter(None, map(_LINE.fullmatch, reader.out)):
        moment = datetime.strptime(match[1], "%Y-%m-%d %H:%M:%S.%f")
        assert (latest - moment).total_seconds() < 1, match[0]
        latest = max(latest, moment)
    began = reader.sizes[0][0]
    settled = max(size for at, size in reader.sizes if at < began + 8)
    assert max(size for _, size in reader.sizes) < settled + 16 * 2**20


def test_a_host_that_drops_out_is_said_and_picked_up_again_without_a_line_lost_or_repeated(
    fleet: tuple[Clone, Hosts],
) -> None:
    clone, hosts = fleet
    with following(clone, hosts.machines, "second") as reader:
        for machine in hosts:
            act(machine, "for number in range(400):\n    say(f'drop {number}')\n    time.sleep(0.02)\n")
        reader.until(reader.saw("drop 20"))
        hosts[2].sh("systemctl stop ssh.socket ssh.service; pkill sshd; true")
        reader.until(reader.saw("shire03: lost, trying again"))
        hosts[2].sh("systemctl start ssh.service")
        reader.until(reader.saw("shire03: back"))
        reader.until(lambda: sum("drop 399" in line for line in reader.out) == 4)
        reader.stop()
    assert _numbers(reader, "drop") == {machine.name: list(range(400)) for machine in hosts}
    assert reader.err == ["shire03: lost, trying again", "shire03: back"]


def test_a_host_that_cannot_be_reached_at_first_is_said_while_the_others_go_on_and_joins_later(
    fleet: tuple[Clone, Hosts],
) -> None:
    clone, hosts = fleet
    hosts[3].sh("systemctl stop ssh.socket ssh.service; pkill sshd; true")
    acted(hosts[3], "", "absent")
    with following(clone, hosts.machines[:3], "third") as reader:
        reader.until(reader.saw("shire04: no connection"))
        assert reader.err[0].endswith("trying again")
        hosts[3].sh("systemctl start ssh.service")
        reader.until(reader.saw("absent"))
        act(hosts[3], "say('present')")
        reader.until(reader.saw("present"))
        reader.stop()
    assert reader.err[1:] == ["shire04: back"]


def test_a_reader_that_stops_reading_costs_no_memory_and_no_line(fleet: tuple[Clone, Hosts]) -> None:
    clone, hosts = fleet
    acted(hosts[0], "", "begin")
    with clone.start("logs", "-f", "-n", "1", "-H", "shire01", "--process", "actor") as process:
        assert process.stdout is not None
        assert "begin" in process.stdout.readline()
        before = resident(process.pid)
        acted(hosts[0], "for number in range(40000):\n    say(f'flood {number} ' + 'y' * 400)\n", "flood-end")
        assert resident(process.pid) < before + 32 * 2**20
        seen = list(itertools.takewhile(lambda line: "flood-end" not in line, process.stdout))
        process.kill()
    assert [int(line.split(" flood ")[1].split()[0]) for line in seen] == list(range(40000))
