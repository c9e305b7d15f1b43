"""`fab logs` of an application that only uses Python's logging: its levels are known, and a traceback is one entry."""

from __future__ import annotations

import json

import pytest

from tasks.engine.sandbox import Machine
from tests.support import clone as clones
from tests.support import front_door as front
from tests.support.clone import Clone
from tests.support.hosts import Hosts, MakeHosts
from tests.support.logs_fleet import Reader, act, acted, deployed

Fleet = tuple[Clone, Hosts]

# A bare WSGI application: gunicorn itself logs what it raises.
PLAIN = """
import logging

logging.basicConfig(format="%(asctime)s - %(name)s - %(levelname)s - %(message)s", level="DEBUG")


def app(environ, start_response):
    if environ["PATH_INFO"] == "/raise":
        raise LookupError("raised by a request")
    if environ["PATH_INFO"] == "/log":
        for level in ("debug", "info", "warning", "error", "critical"):
            getattr(logging.getLogger("shop"), level)("counted %s", level)
        try:
            try:
                {}["a"]
            except KeyError as error:
                raise ValueError("of two") from error
        except ValueError:
            logging.getLogger("shop").exception("chained")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ok"]
"""
TRACEBACK = (
    "say('Traceback (most recent call last):')\n"
    "for number in range(20):\n"
    "    say(f'  File \"x.py\", line {number}, in y')\n"
    "    say('    z()')\n"
    "say('KeyError: 7')\n"
)
# It does not end before the test has seen enough.
SLOW_TRACEBACK = (
    "import os\n"
    "say('Traceback (most recent call last):')\n"
    "number = 0\n"
    "while not os.path.exists(os.environ['STATE_DIRECTORY'] + '/enough'):\n"
    "    say(f'  slowly {number}')\n"
    "    number += 1\n"
    "    time.sleep(0.1)\n"
    "say(f'slow-end {number}')\n"
)


@pytest.fixture(scope="module")
def fleet(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    hosts = module_hosts(1)
    clone = deployed(clones.make(tmp_path_factory.mktemp("plain")), hosts)
    clone.write("service/plain.py", PLAIN)
    # Without this, gunicorn's log has its own form.
    (clone.root / "service/gunicorn.conf.py").unlink()
    clone.replace("service/service.yaml", "echo:app", "plain:app")
    clone.done("deploy", "-H", "all")
    return clone, hosts


def asked(machine: Machine, path: str) -> None:
    """Send a request, and wait until its lines are in the journal."""
    front.ask(machine.address, path)
    machine.sh("journalctl --sync")


def found(clone: Clone, *words: str) -> list[tuple[str, str, list[str]]]:
    """Return source, level and lines of each entry."""
    said = clone.done("logs", "--json", *words).json()["lines"]
    return [(line["source"].split("@")[0], line["level"], line["text"].split("\n")) for line in said]


def test_levels_and_tracebacks_of_logging_and_gunicorn_are_found(fleet: Fleet) -> None:
    clone, hosts = fleet
    since = hosts[0].sh("date -u '+%Y-%m-%d %H:%M:%S.%6N'").stdout.decode().strip()
    asked(hosts[0], "/log")
    asked(hosts[0], "/raise")
    errors = found(clone, "--since", since, "--level", "error")
    assert errors == found(clone, "-n", "4", "--level", "error")
    assert [(source, level) for source, level, _ in errors] == [("myapp", "error")] * 4
    assert [lines[0].split("] ")[-1].split(" - ")[-1] for _, _, lines in errors] == [
        "counted error", "counted critical", "chained", "Error handling request GET /raise",
    ]  # fmt: skip
    assert [lines[-1] for _, _, lines in errors[2:]] == ["ValueError: of two", "LookupError: raised by a request"]
    assert sum(line.startswith("Traceback ") for line in errors[2][2]) == 2
    assert len(found(clone, "--since", since, "--level", "warning", "--process", "web")) == 5
    told = clone.done("logs", "-n", "1", "--level", "error").out.splitlines()
    assert "[ERROR] Error handling request GET /raise" in told[0]
    assert told[1].endswith(":   Traceback (most recent call last):")


def test_a_number_counts_a_traceback_as_one_and_its_beginning_is_not_cut_off(fleet: Fleet) -> None:
    clone, hosts = fleet
    code = f"say('first')\nsay('second')\n{TRACEBACK}time.sleep(0.3)\nsay('ERROR:root:third')\n{TRACEBACK}"
    acted(hosts[0], code, "counted-end")
    entries = found(clone, "-n", "4", "--process", "actor")
    assert [(level, lines[0], len(lines)) for _, level, lines in entries] == [
        ("info", "second", 1), ("error", "Traceback (most recent call last):", 42), ("error", "ERROR:root:third", 43),
        ("info", "counted-end", 1),
    ]  # fmt: skip
    assert found(clone, "-n", "4", "--process", "actor", "--checks") == entries
    assert found(clone, "-n", "2", "--process", "actor", "--level", "error") == entries[1:3]


def test_a_traceback_is_followed_as_one_entry_and_holds_up_no_other_process(fleet: Fleet) -> None:
    clone, hosts = fleet
    acted(hosts[0], "", "follow-begin")
    with clone.start("logs", "-f", "-n", "1", "--json") as process:
        reader = Reader(process)
        reader.until(reader.saw("follow-begin"))
        act(hosts[0], "say('ERROR:root:whole')\n" + TRACEBACK)
        reader.until(reader.saw("KeyError: 7"))
        act(hosts[0], SLOW_TRACEBACK)
        reader.until(reader.saw("slowly 2"))
        front.ask(hosts[0].address, "/raise")
        reader.until(reader.saw("raised by a request"))
        hosts[0].sh("touch /var/lib/myapp/enough")
        reader.until(reader.saw("slow-end"))
        process.kill()
    entries = [json.loads(line) for line in reader.out]
    (whole,) = (entry for entry in entries if "whole" in entry["text"])
    assert (whole["level"], len(whole["text"].split("\n"))) == ("error", 43)
    (raised,) = (entry for entry in entries if "raised by" in entry["text"])
    assert raised["text"].split("\n")[0].endswith("[ERROR] Error handling request GET /raise")
    slow = [entry for entry in entries if "slowly" in entry["text"]]
    assert {(entry["source"].split("@")[0], entry["level"]) for entry in slow} == {("myapp-actor", "error")}
    (end,) = (entry["text"] for entry in entries if "slow-end" in entry["text"])
    assert sum(entry["text"].count("slowly") for entry in slow) == int(end.split()[-1])


def test_the_lines_of_one_release_are_those_of_all_starts_of_its_processes(fleet: Fleet) -> None:
    clone, hosts = fleet
    told = hosts[0].sh("journalctl -q -o cat -u 'myapp@*' -g '^release '").stdout.decode().split()
    old, new = told[1], told[-1]
    assert old != new
    acted(hosts[0], f"say('release {old}')\nsay('before')\nsay('ERROR:root:own')\n{TRACEBACK}", "release-end")
    hosts[0].sh("systemctl kill -s KILL 'myapp-actor@*'")
    acted(hosts[0], "", "restarted-end")
    texts = [lines[0] for _, _, lines in found(clone, "--release", new, "--process", "actor", "-n", "6")]
    assert texts == [f"release {old}", "before", "ERROR:root:own", "release-end", f"release {new}", "restarted-end"]
    assert found(clone, "--release", new, "-n", "1", "--level", "error")[0][2][0] == "ERROR:root:own"
    whole = found(clone, "--release", new, "--since", "today")
    assert {source for source, _, _ in whole} == {"myapp", "myapp-actor"}
    others = found(clone, "--release", old, "--since", "today")
    assert {source for source, _, _ in others} == {"myapp", "myapp-actor"}
    assert not any("before" in lines for _, _, lines in others)
    assert found(clone, "--release", "0" * 12) == []
