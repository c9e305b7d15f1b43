"""`fab exec` on real hosts: in parallel, each line with its host, and every exit status reported."""

from __future__ import annotations

import re
import signal
import time
from pathlib import Path

import pytest

from tasks.engine.fleet.remote_command import wrap
from tests.support import clone as clones
from tests.support.clone import Clone
from tests.support.hosts import Hosts, MakeHosts

Fleet = tuple[Clone, Hosts]
LINK_SECONDS = 4
"""Seconds that a host may take here to send what it owes at once."""


@pytest.fixture(scope="module")
def fleet(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    hosts = module_hosts(3)
    clone = clones.make(tmp_path_factory.mktemp("exec"), hosts.inventory)
    clone.replace("tasks/engine/ssh/byte_stream.py", "LINK_SECONDS = 15", f"LINK_SECONDS = {LINK_SECONDS}")
    return clone, hosts


def test_it_runs_on_all_and_ends_with_a_table_of_exit_codes(fleet: Fleet) -> None:
    clone, _ = fleet
    ended = clone.fab("exec", "-H", "all", "--", "hostname; test $(hostname) != shire02")
    lines = ended.out.splitlines()
    assert sorted(lines[:3]) == ["shire01  shire01", "shire02  shire02", "shire03  shire03"]
    assert [line.split()[:2] for line in lines[3:]] == [
        ["host", "exit"], ["shire01", "0"], ["shire02", "1"], ["shire03", "0"],
    ]  # fmt: skip
    assert ended.status == 1


def test_hosts_run_it_at_the_same_time(fleet: Fleet) -> None:
    clone, hosts = fleet
    # The first command ends when the last one has begun.
    for machine in hosts:
        machine.sh("rm -f /tmp/go")
    with clone.start("exec", "-H", "all", "--", "echo begun; until test -e /tmp/go; do sleep 0.1; done") as process:
        assert process.stdout is not None
        begun = {process.stdout.readline().split()[0] for _ in hosts}
        for machine in hosts:
            machine.sh("touch /tmp/go")
        process.stdout.read()
    assert begun == {machine.name for machine in hosts}


def test_one_word_is_shell_text_and_several_are_taken_as_they_were_typed(fleet: Fleet) -> None:
    clone, _ = fleet
    assert clone.done("exec", "-H", "shire01", "--", "echo a  b | wc -c").out == "shire01  4\n"
    assert clone.done("exec", "-H", "shire01", "--", "echo", "a  b", "|", "$HOME", "'\\").out == (
        "shire01  a  b | $HOME '\\\n"
    )


def test_the_status_of_one_host_is_that_of_fab_and_a_signal_has_a_number(fleet: Fleet) -> None:
    clone, _ = fleet
    assert clone.fab("exec", "-H", "shire01", "--", "exit 42").status == 42
    ended = clone.fab("exec", "-H", "shire01", "--", "kill -9 $$")
    assert ended.status == 137
    assert "lost" not in ended.both


def test_a_command_past_its_time_is_ended_on_the_host_too(fleet: Fleet) -> None:
    clone, hosts = fleet
    ended = clone.fab("-T", "1", "exec", "-H", "shire01,shire02", "--", "while :; do echo chatter; sleep 0.2; done")
    assert ended.status == 1
    assert re.findall(r"(shire\d\d)  124 .*ended by -T 1", ended.out) == ["shire01", "shire02"]
    assert hosts[0].sh("pgrep -f 'echo [c]hatter'").returncode == 1
    document = clone.fab("-T", "1", "exec", "--json", "-H", "shire01", "--", "echo before; sleep 60").json()
    (answer,) = document["hosts"]
    assert (answer["exit"], answer["timed_out"], answer["output"]) == (124, True, ["before"])


def test_a_command_that_closes_its_output_and_goes_on_is_waited_for(fleet: Fleet) -> None:
    clone, _ = fleet
    began = time.monotonic()
    line = f"exec >&- 2>&-; sleep {LINK_SECONDS + 1}; exit 3"
    assert clone.fab("exec", "-H", "shire01", "--", line).status == 3
    assert time.monotonic() - began > LINK_SECONDS


def test_what_a_command_leaves_running_is_waited_for_only_while_it_may_print(fleet: Fleet) -> None:
    clone, hosts = fleet
    began = time.monotonic()
    clone.done("exec", "-H", "shire01", "--", "sleep 1000 >/dev/null 2>&1 & echo left")
    assert time.monotonic() - began < 500
    hosts[0].sh("pkill -f '[s]leep 1000'")
    assert clone.done("exec", "-H", "shire01", "--", "(sleep 1; echo late) & echo left").out == (
        "shire01  left\nshire01  late\n"
    )


def test_a_command_that_ends_its_own_session_is_an_error_with_the_way_on(fleet: Fleet) -> None:
    clone, _ = fleet
    ended = clone.fab("exec", "-H", "shire01", "--", "kill -9 $PPID")
    assert ended.status == 1
    assert "the command may go on there" in ended.err
    assert "next: see what runs there: fab shell -H shire01" in ended.err


def test_a_host_that_is_not_reached_stands_in_the_table_and_stops_nobody(fleet: Fleet, tmp_path: Path) -> None:
    clone, hosts = fleet
    inventory = tmp_path / "hosts.yaml"
    elsewhere = "address: 127.0.0.1\n    port: 9"
    inventory.write_text(hosts.inventory.read_text().replace(f"address: {hosts[1].address}", elsewhere))
    ended = clones.Clone(clone.root, inventory).fab("exec", "-H", "all", "--", "echo here")
    assert ended.status == 3
    table = [line.split() for line in ended.out.splitlines()[-3:]]
    assert [(row[0], row[1]) for row in table] == [("shire01", "0"), ("shire02", "-"), ("shire03", "0")]
    assert table[1][-1] == "unreachable"
    document = clones.Clone(clone.root, inventory).fab("exec", "--json", "-H", "all", "--", "echo here").json()
    assert [answer["host"] for answer in document["hosts"]] == ["shire01", "shire03"]
    assert [error["host"] for error in document["errors"]] == ["shire02"]


def test_hostile_output_is_shown_and_never_obeyed(fleet: Fleet) -> None:
    clone, _ = fleet
    line = r"printf '\033[2J\r\342\200\256\377 over\n'; head -c 200000 /dev/zero"
    ended = clone.done("exec", "-H", "shire01", "--", line)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", ended.out)
    assert ended.out.startswith("shire01  \\x1b[2J\\x0d\\u202e\ufffd over\nshire01  \\x00")


def test_ctrl_c_ends_it_at_once_and_says_where_the_command_may_go_on(fleet: Fleet) -> None:
    clone, _ = fleet
    with clone.start("exec", "-H", "shire01,shire02", "--", "echo begun; sleep 100") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(50) == 130
        assert "may go on on shire01, shire02" in process.stderr.read()


def test_without_a_command_or_with_several_hosts_unnamed_nothing_is_contacted(fleet: Fleet) -> None:
    clone, _ = fleet
    assert clone.fab("exec", "-H", "shire01").status == 2
    ended = clone.fab("exec", "--", "true")
    assert (ended.status, "-H all" in ended.err) == (2, True)


def test_the_nonce_is_in_the_script_alone() -> None:
    """Any user of the host can read a command line."""
    command, script = wrap("uptime", "0123456789abcdef", 5)
    assert "0123456789abcdef" in script
    assert "0123456789abcdef" not in command
