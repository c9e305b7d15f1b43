"""The status of the fleet and its history, from real hosts."""

from __future__ import annotations

import json
import re
import signal

import pytest

from tests.support import terminal
from tests.support.clone import Clone, make
from tests.support.hosts import Hosts, MakeHosts

HISTORY = "/opt/apps/myapp/history.jsonl"


@pytest.fixture(scope="module")
def fleet(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> tuple[Clone, Hosts, str, str]:
    """Two hosts, the second a release ahead, and both releases."""
    hosts = module_hosts(2)
    clone = make(tmp_path_factory.mktemp("glance"), hosts.inventory)
    clone.replace("service/service.yaml", "settle: 2", "settle: 0.5")
    clone.done("deploy", "-H", "all")
    before = clone.release()
    clone.write("service/note.txt", "newer\n")
    clone.done("deploy", "-H", "shire02")
    return clone, hosts, before, clone.release()


Fleet = tuple[Clone, Hosts, str, str]


def test_status_tells_of_each_host_what_its_operator_asks_first(fleet: Fleet) -> None:
    clone, hosts, before, after = fleet
    one, two = clone.done("status", "--json").json()["hosts"]
    assert [(host["release"], host["differs"]) for host in (one, two)] == [(before, False), (after, True)]
    assert (one["state"], one["workers"], one["workers_wanted"]) == ("healthy", 4, 4)
    assert 0 <= one["age_seconds"] < 3600
    assert one["last_action"]["action"] == "deploy"
    assert one["certificate_days"] > 3000
    main = "systemctl show -p MainPID --value myapp@blue.service"
    pids = hosts[0].sh(f"m=$({main}); cat /proc/$m/task/$m/children; echo $m").stdout.decode().split()
    sizes = [hosts[0].sh(f"awk '/^VmRSS:/ {{ print $2 }}' /proc/{pid}/status").stdout for pid in pids]
    rss = 1024 * sum(map(int, sizes))
    assert one["memory_counted"] in {"systemd", "pss", "rss"}
    assert 0.3 * rss < one["memory_bytes"] < 1.7 * rss
    shown = clone.done("status").out
    assert re.search(rf"^shire02 .*{after} !", shown, re.MULTILINE)
    assert "the hosts do not all serve the same release" in shown


def test_without_a_terminal_watch_prints_one_document_for_each_look(fleet: Fleet) -> None:
    clone = fleet[0]
    with clone.start("status", "--watch", "--every", "0.1", "--json") as process:
        assert process.stdout is not None
        looks = [json.loads(process.stdout.readline()) for _ in range(2)]
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)
    assert [[host["host"] for host in look["hosts"]] for look in looks] == [["shire01", "shire02"]] * 2
    assert process.returncode == 130
    assert "Traceback" not in told


def test_on_a_terminal_watch_stays_in_its_place_and_its_width(fleet: Fleet) -> None:
    for look in terminal.looks(fleet[0]):
        lines = re.sub(r"\x1b\[\??\d*[A-Za-z]", "", look).replace("\r", "").split("\n")
        assert lines[0].startswith("host ")
        assert max(map(len, lines)) <= 80
        assert [line.split()[0] for line in lines[1:3]] == ["shire01", "shire02"]
        assert any("the hosts do not all serve the same release" in line for line in lines)


@pytest.mark.parametrize("every", ["0", "-1", "soon", "nan", "0.01"])
def test_an_interval_that_is_none_is_refused(fleet: Fleet, every: str) -> None:
    ended = fleet[0].fab("status", "--watch", f"--every={every}")
    assert ended.status == 2
    assert "--every takes seconds" in ended.err


def test_releases_carry_their_marks(fleet: Fleet) -> None:
    clone, _, before, after = fleet
    document = clone.done("releases", "-H", "shire02", "--json").json()
    assert {one["id"]: one["marks"] for one in document["hosts"][0]["releases"]} == {
        after: ["live", "good", "dirty"],
        before: ["rollback", "good", "dirty"],
    }


def test_history_and_host_agree_until_somebody_meddles_or_a_run_is_cut(fleet: Fleet) -> None:
    clone, hosts, _, after = fleet
    assert "the history and the host agree" in clone.done("history", "--verify").out
    assert len(clone.done("history", "-H", "shire02", "--last", "1", "--json").json()["hosts"][0]["actions"]) == 1
    hosts[1].sh(f"cp -p {HISTORY} /root/kept")
    try:
        moment = hosts[1].sh("date -u +%FT%TZ").stdout.decode().strip()
        cut = f'{{"time":"{moment}","run":"x","action":"deploy","release":"feedfacecafe","state":"started"'
        hosts[1].sh(f"printf '%s\\n' '{cut},\"who\":{{}}}}' >>{HISTORY}; printf '%s' '{cut}' >>{HISTORY}")
        ended = clone.fab("history", "--verify", "-H", "shire02")
        assert ended.status == 1
        assert "1 line is not whole" in ended.out
        assert f"was cut off before the commit: {after} is committed, as before" in ended.out
        clone.done("restart", "-H", "shire02")
        # The host lets the former slot drain by itself, and is busy until then.
        hosts[1].sh("flock /run/myapp/lock/activate true; flock /run/myapp/lock/guard true")
        ended = clone.fab("history", "--verify", "-H", "shire02")
        assert (ended.status, "a later run has put that right" in ended.out) == (0, True)
        hosts[1].sh(f"grep -v feedfacecafe {HISTORY} >/root/kept")
        hosts[1].sh(f"head -n -6 {HISTORY} >/root/less; cat /root/less >{HISTORY}")
        assert clone.fab("history", "--verify", "-H", "shire02").status == 1
    finally:
        hosts[1].sh(f"cat /root/kept >{HISTORY}")


FORGE = """
import datetime, json, sys
path, how = sys.argv[1:]
lines = [json.loads(line) for line in open(path)]
last = max(place for place, line in enumerate(lines) if line["state"] == "started")
found = [line for line in lines if line["run"] == lines[last]["run"]]
if how == "removed":
    lines = [line for line in lines if line not in found]
elif how == "added":
    lines += [{**line, "run": "x"} for line in found]
elif how == "time":
    moment = datetime.datetime.strptime(lines[last]["time"], "%Y-%m-%dT%H:%M:%SZ") - datetime.timedelta(hours=1)
    lines[last]["time"] = moment.strftime("%Y-%m-%dT%H:%M:%SZ")
else:
    for line in found:
        line["release"] = "feedfacecafe"
open(path, "w").writelines(json.dumps(line) + chr(10) for line in lines)
"""


def test_a_history_that_was_forged_does_not_fit_what_systemd_logged(fleet: Fleet) -> None:
    """The deploy account can write the history, and not the journal."""
    clone, hosts, _, _ = fleet
    clone.done("restart", "-H", "shire02")
    hosts[1].sh("flock /run/myapp/lock/guard true")
    clone.done("stop", "-H", "shire02")
    clone.done("start", "-H", "shire02")
    clone.done("restart", "-H", "shire02")
    clone.done("rollback", "-H", "shire02")
    clone.done("deploy", "-H", "shire02", "--wait")
    hosts[1].sh("flock /run/myapp/lock/guard true; systemctl restart myapp")
    # Of the second in which the host goes down the journal may have nothing: let the forged lines be of another.
    hosts[1].sh("now=$(date +%s); until [ $(date +%s) -gt $((now + 1)) ]; do sleep 0.1; done; logger later")
    hosts[1].reboot()
    told = clone.done("history", "--verify", "-H", "shire02").out
    assert told == "shire02  the history and the host agree\n"
    hosts[1].sh(f"cp -p {HISTORY} /root/kept")
    named = {"removed": "no line tells of it", "added": "the lines were added", "time": "a time was changed",
             "release": "the release was changed"}  # fmt: skip
    try:
        for how, words in named.items():
            hosts[1].sh(f"cat >/root/forge.py && python3 /root/forge.py {HISTORY} {how}", FORGE.encode())
            ended = clone.fab("history", "--verify", "-H", "shire02")
            assert (ended.status, words in ended.out) == (1, True), ended.both
            hosts[1].sh(f"cat /root/kept >{HISTORY}")
    finally:
        hosts[1].sh(f"cat /root/kept >{HISTORY}")


def test_a_rollback_finds_its_way_behind_hundreds_of_restarts(fleet: Fleet) -> None:
    clone, hosts, before, after = fleet
    line = f'{{"time":"2026-01-01T00:00:00Z","run":"x","action":"restart","release":"{after}","state":"done"}}'
    hosts[1].sh(f"for n in $(seq 400); do echo '{line}'; done >>{HISTORY}")
    marks = {one["id"]: one["marks"]
             for one in clone.done("releases", "-H", "shire02", "--json").json()["hosts"][0]["releases"]}  # fmt: skip
    assert "rollback" in marks[before]


def test_a_run_that_is_at_work_is_no_fault_of_the_history(fleet: Fleet) -> None:
    clone, hosts, _, _ = fleet
    moment = hosts[0].sh("date -u +%FT%TZ").stdout.decode().strip()
    line = f'{{"time":"{moment}","run":"y","action":"deploy","release":"feedfacecafe","state":"started"}}'
    hosts[0].sh(f"cp -p {HISTORY} /root/kept; echo '{line}' >>{HISTORY}")
    hosts[0].sh("setsid flock /run/myapp/lock/activate sleep 600 >/dev/null 2>&1 & until flock -n "
                "/run/myapp/lock/activate true; [ $? != 0 ]; do sleep 0.05; done")  # fmt: skip
    try:
        ended = clone.fab("history", "--verify", "-H", "shire01")
        assert (ended.status, "is under way" in ended.out) == (0, True)
        assert "deploy has no outcome" in clone.fab("status", "-H", "shire01").out
    finally:
        hosts[0].sh(f"pkill -x sleep; cat /root/kept >{HISTORY}")
