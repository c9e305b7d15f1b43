"""`fab logs` on real hosts: its selection and format, and no byte of a line reaches the terminal raw."""

from __future__ import annotations

import json
import os
import pty
import re

import pytest

from tests.support import clone as clones
from tests.support import front_door as front
from tests.support.clone import Clone
from tests.support.hosts import Hosts, MakeHosts
from tests.support.logs_fleet import Reader, act, acted, deployed, resident

Fleet = tuple[Clone, Hosts]


@pytest.fixture(scope="module")
def fleet(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    hosts = module_hosts(2)
    return deployed(clones.make(tmp_path_factory.mktemp("logs")), hosts), hosts


def test_lines_of_all_hosts_come_by_time_each_with_its_host_and_in_words(fleet: Fleet) -> None:
    clone, hosts = fleet
    for number, machine in enumerate([hosts[0], hosts[1], hosts[0]]):
        line = json.dumps(
            {"level": "info", "message": f"GET /{number} 200", "path": f"/{number}", "status": 200, "ms": 3}
        )
        acted(machine, f"say({line!r})", f"merge-end-{number}")
    lines = clone.done("logs", "--grep", "^.*GET /. 200", "-n", "5").out.splitlines()
    assert [line.split("  ", 1)[1] for line in lines] == [
        "shire01  myapp-actor@blue: INFO GET /0 200  ms=3",
        "shire02  myapp-actor@blue: INFO GET /1 200  ms=3",
        "shire01  myapp-actor@blue: INFO GET /2 200  ms=3",
    ]


def test_a_number_of_lines_is_per_host_and_the_newest(fleet: Fleet) -> None:
    clone, hosts = fleet
    for machine in hosts:
        acted(machine, "for number in range(9): say(f'count {number}')", "count-end")
    lines = clone.done("logs", "-n", "3", "--grep", "^count [0-9]").out.splitlines()
    assert sorted(line.split()[2] + line.split()[-1] for line in lines) == [
        f"shire0{h}{n}" for h in "12" for n in "678"
    ]


def test_a_level_is_that_of_a_structured_line_or_else_of_the_journal(fleet: Fleet) -> None:
    clone, hosts = fleet
    code = (
        """for level in ("debug", "info", "warning", "error", "critical"):\n"""
        """    say('{"level": "%s", "message": "weigh own %s"}' % (level, level))\n"""
        "for number in (7, 6, 4, 3): say(f'<{number}>weigh journal {number}')\n"
    )
    acted(hosts[0], code, "level-end")

    def shown(level: str) -> list[str]:
        found = clone.done("logs", "-H", "shire01", "--level", level, "--grep", "weigh", "--json").json()["lines"]
        return [line.get("fields", {}).get("message", line["text"]).removeprefix("weigh ") for line in found]

    assert shown("error") == ["own error", "own critical", "journal 3"]
    assert shown("warning") == ["own warning", "own error", "own critical", "journal 4", "journal 3"]
    assert len(shown("info")) == 7
    assert len(shown("debug")) == 9
    words = clone.done("logs", "-H", "shire01", "-n", "1", "--level", "error").out
    assert "myapp-actor@blue: ERROR weigh journal 3" in words


def test_since_and_until_are_utc_whatever_the_host_thinks_of_time(fleet: Fleet) -> None:
    clone, hosts = fleet
    hosts[0].sh("timedatectl set-timezone Asia/Tokyo || ln -sf /usr/share/zoneinfo/Asia/Tokyo /etc/localtime")
    acted(hosts[0], "say('clock 1')", "clock-1")
    (line,) = clone.done("logs", "-H", "shire01", "--grep", "^clock 1$").out.splitlines()
    moment = line[:19]
    assert clone.done("logs", "-H", "shire01", "--since", moment, "--grep", "^clock 1$").out.splitlines() == [line]
    assert clone.done("logs", "-H", "shire01", "--until", moment, "--grep", "^clock 1$").out == ""


def test_a_process_is_chosen_by_its_name_and_the_gateway_by_nginx(fleet: Fleet) -> None:
    clone, hosts = fleet
    acted(hosts[0], "say('chosen')", "process-end")
    front.ask(hosts[0].address, "/healthz?token=hidden")
    hosts[0].sh("curl -s -o /dev/null -H 'Host: myapp.example' -H 'Content-Length: 99999999' -X POST http://localhost/")
    hosts[0].sh("journalctl --sync")

    def sources(*words: str) -> set[str]:
        found = clone.done("logs", "-H", "shire01", "--json", *words).json()["lines"]
        return {line["source"] for line in found} - {"systemd"}

    assert "nginx" not in sources()
    assert sources("--process", "actor") == {"myapp-actor@blue"}
    assert "myapp-actor@blue" not in sources("--process", "web")
    assert "nginx" in sources("--process", "web", "--nginx")
    lines = clone.done("logs", "-H", "shire01", "--nginx", "--grep", "GET /healthz 200").out
    assert re.search(r"nginx: INFO GET /healthz 200  request_id=\w+ seconds=", lines)
    assert "hidden" not in clone.done("logs", "-H", "shire01", "--nginx").out
    assert "too large body" in clone.done("logs", "-H", "shire01", "--nginx", "--level", "error").out


def test_hostile_bytes_are_shown_and_never_obeyed(fleet: Fleet) -> None:
    clone, hosts = fleet
    code = (
        "say(b'evil \\x1b[2J\\x1b]0;title\\x07 \\r over \\xe2\\x80\\xae bidi \\xff\\xfe bad\\n')\n"
        """line = '{"level": "info", "message": "evil \\\\u001b[31m \\\\ud800\\\\nshire09  forged: line", '\n"""
        """say(line + '"k\\\\u000de": "\\\\u2028"}')\n"""
        "say('{' + '\"evil\":[' * 5000)\n"
    )
    acted(hosts[0], code, "evil-end")
    ended = clone.done("logs", "-H", "shire01", "--process", "actor", "-n", "4")
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u202e]", ended.out)
    assert r"\x1b[2J\x1b]0;title\x07 \x0d over \u202e bidi" in ended.out
    assert r"INFO evil \x1b[31m \ud800  k\x0de=" in ended.out
    assert all(re.match(r"\d{4}-\S+ \S+  shire01  myapp-actor@blue: ", line) for line in ended.out.splitlines())


def test_ten_megabytes_without_an_end_of_line_cost_no_memory(fleet: Fleet) -> None:
    clone, hosts = fleet
    acted(hosts[0], "", "long-begin")
    with clone.start("logs", "-f", "-n", "1", "-H", "shire01", "--process", "actor") as process:
        reader = Reader(process)
        reader.until(reader.saw("long-begin"))
        before = resident(process.pid)
        act(hosts[0], "for _ in range(160): say(b'\\xff\\x1b' + b'z' * 65534)\nsay('')\nsay('long-end')")
        reader.until(reader.saw("long-end"))
        assert resident(process.pid) < before + 32 * 2**20
        reader.stop()
    assert sum(line.count("z") for line in reader.out) == 160 * 65534


def test_more_than_a_mebibyte_of_a_host_is_left_out_and_counted(fleet: Fleet) -> None:
    clone, hosts = fleet
    acted(hosts[1], "for number in range(9000): say(f'heap {number} ' + 'h' * 300)", "heap-end")
    ended = clone.done("logs", "-H", "shire02", "--since", "today", "--grep", "^heap [0-9]", "--json").json()
    kept = [int(line["text"].split()[1]) for line in ended["lines"]]
    assert kept == list(range(9000 - len(kept), 9000))
    assert ended["dropped"] == {"shire02": 9000 - len(kept)}
    told = clone.done("logs", "-H", "shire02", "--since", "today", "--grep", "^heap [0-9]")
    assert f"shire02: {9000 - len(kept)} older lines are left out" in told.err


def test_each_host_has_a_colour_of_its_own_on_a_terminal_and_none_with_no_color(fleet: Fleet) -> None:
    clone, _ = fleet
    environment = {"TERM": "xterm", **clone.environment}
    for no_color, expected in (("", {"\x1b[36mshire01\x1b[0m", "\x1b[33mshire02\x1b[0m"}), ("1", set())):
        parent, child = pty.openpty()
        painted = clones.Clone(clone.root, clone.inventory, {**environment, "NO_COLOR": no_color})
        with painted.start("logs", "-n", "1", "--process", "actor", stdout=child) as process:
            os.close(child)
            said = b""
            while data := _terminal(parent):
                said += data
            process.wait(30)
        os.close(parent)
        assert set(re.findall(r"\x1b\[\d+m\w+\x1b\[0m", said.decode())) == expected
        assert b"shire01" in said


def _terminal(handle: int) -> bytes:
    try:
        return os.read(handle, 65536)
    except OSError:  # the last writer has gone
        return b""


def test_ctrl_c_is_quiet_and_a_reader_that_has_gone_ends_it_without_another_line(fleet: Fleet) -> None:
    clone, hosts = fleet
    acted(hosts[0], "", "quiet-begin")
    words = ("logs", "-f", "-n", "1", "-H", "shire01", "--process", "actor")
    with clone.start(*words) as process:
        reader = Reader(process)
        reader.until(reader.saw("quiet-begin"))
        reader.stop()
        assert (process.returncode, reader.err) == (130, [])
    with clone.start(*words) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(60) == 0
        assert process.stderr.read() == ""


def test_json_is_a_document_and_one_object_a_line_when_it_follows(fleet: Fleet) -> None:
    clone, hosts = fleet
    acted(hosts[0], """say('{"level": "info", "message": "objects", "rows": 5}')""", "json-end")
    document = clone.done("logs", "-H", "shire01", "--grep", "objects", "-n", "1", "--json").json()
    assert document["schema"] == 1
    with clone.start("logs", "-f", "-n", "1", "-H", "shire01", "--grep", "objects", "--json") as process:
        reader = Reader(process)
        reader.until(lambda: bool(reader.out))
        reader.stop()
    line = json.loads(reader.out[0])
    assert {"schema": 1, "event": "line", **document["lines"][0]} == line
    assert line["fields"] == {"level": "info", "message": "objects", "rows": 5}


def test_an_account_that_may_not_read_the_journal_is_told_and_a_greeting_is_no_complaint(fleet: Fleet) -> None:
    clone, hosts = fleet
    hosts[1].sh("echo 'echo Welcome, traveller' >/home/deploy/.bashrc")
    assert clone.done("logs", "-H", "shire02", "--grep", "nothing has this").both == ""
    # With the mask go the rights of every account that a list names.
    hosts[1].sh("chmod g= /run/log/journal/*/* /var/log/journal/*/*")
    ended = clone.fab("logs")
    assert ended.status == 1
    assert "may not read the journal" in ended.err
    assert "shire01" in ended.out
    ended = clone.fab("logs", "-f", "-H", "shire02")
    assert (ended.status, ended.err.count("may not read the journal")) == (1, 2)
