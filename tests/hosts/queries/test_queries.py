"""Queries of a fleet, as text and as JSON; no output of a host steers the terminal."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.support import advisories
from tests.support.advisories import record
from tests.support.fleet import Fleet, undeployed
from tests.support.hosts import MakeHosts

# Colours and titles, an overwritten line, C1, reversed text, invalid UTF-8, line and paragraph separators.
HOSTILE = r"evil \033]0;owned\007\033[2J \302\233 31m \342\200\256 \377 \rover \342\200\250 \342\201\246 end"
STEERS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")


@pytest.fixture(scope="module")
def fleet(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    """Two hosts whose service prints hostile text at its start, and whose os-release is hostile, too."""
    made = undeployed(module_hosts, tmp_path_factory.mktemp("queries"), 2)
    path = made.clone.root / "service/app/__init__.py"
    path.write_text(f"{path.read_text()}\nimport os\nos.write(1, b'{HOSTILE}\\n')\n")
    for number in (0, 1):
        made.sh(number, f"printf 'PRETTY_NAME=\"{HOSTILE}\"\\n' >/etc/os-release")
    made.clone.done("deploy", "-H", "all")
    return made


def harmless(text: str) -> None:
    found = STEERS.search(text)
    assert not found, repr(text[max(0, found.start() - 80) : found.end() + 20])


QUERIES = ["hosts", "status", "health", "releases", "history", "doctor", "logs", "plan"]


@pytest.mark.parametrize("verb", QUERIES)
def test_a_query_names_every_host_in_words_and_as_one_document(fleet: Fleet, verb: str) -> None:
    shown = fleet.clone.done(verb)
    assert "shire01" in shown.out
    assert "shire02" in shown.out
    harmless(shown.both)
    document = fleet.clone.done(verb, "--json")
    harmless(document.both)
    found = document.json()
    assert found["schema"] == 1
    key = "lines" if verb == "logs" else "hosts"
    assert {one["host"] for one in found[key]} == {"shire01", "shire02"}


def test_status_says_what_serves_and_how_it_is(fleet: Fleet) -> None:
    release = fleet.clone.release()
    hosts = fleet.clone.done("status", "--json").json()["hosts"]
    for host in hosts:
        assert (host["reachable"], host["service"], host["release"]) == (True, "myapp", release)
        assert (host["healthy"], host["state"], host["slot"]) == (True, "healthy", "blue")
        assert host["last_action"]["action"] == "deploy"
    assert [host["host"] for host in hosts] == ["shire01", "shire02"]
    assert fleet.clone.done("status").out.count(release) == 2


def test_an_audit_names_the_hosts_on_which_a_package_runs(fleet: Fleet, tmp_path: Path) -> None:
    path = advisories.export(tmp_path / "all.jsonl", record("GHSA-1", "Gunicorn", {"introduced": "0"}))
    ended = fleet.clone.fab("audit", f"--db={path}", "--json")
    assert ended.status == 1, ended.both
    document, release = ended.json(), fleet.clone.release()
    assert document["remarks"] == document["errors"] == []
    # The lock has another version for older Pythons.
    (found,) = [one for one in document["findings"] if len(one["places"]) > 1]
    lock, *hosts = found["places"]
    assert lock.startswith("service/requirements.txt:")
    assert hosts == [f"shire01 (release {release})", f"shire02 (release {release})"]
    bill = json.loads(fleet.sh(0, "cat /opt/apps/myapp/current/release/sbom.json"))
    assert f"pkg:pypi/gunicorn@{found['version']}" in {one["purl"] for one in bill["components"]}


def test_what_is_wrong_is_told_by_the_exit_status(fleet: Fleet) -> None:
    fleet.clone.done("stop", "-H", "shire02")
    try:
        status = fleet.clone.fab("status", "--json")
        assert status.status == 1
        assert [host["state"] for host in status.json()["hosts"]] == ["healthy", "stopped"]
        assert "STOPPED" in fleet.clone.fab("status").out
        health = fleet.clone.fab("health", "--json")
        assert health.status == 1
        assert [host["healthy"] for host in health.json()["hosts"]] == [True, False]
    finally:
        fleet.clone.done("start", "-H", "shire02")
    assert fleet.clone.done("health").status == 0


def test_history_tells_what_was_done_by_whom_and_never_forges_a_line(fleet: Fleet) -> None:
    actions = fleet.history("shire01")
    assert [(action["action"], action["state"]) for action in actions[:2]] == [
        ("deploy", "started"),
        ("deploy", "done"),
    ]
    assert actions[0]["who"]["user"]
    forged = json.dumps(
        {"time": "t", "run": "r", "action": "\x1b[2Jdeploy", "release": "\u202e", "state": "done\n", "who": {}}
    )
    path = "/opt/apps/myapp/history.jsonl"
    fleet.sh(0, f"cp -p {path} {path}.kept && cat >>{path} <<'END'\n{forged}\nnot json\n[1]\nEND")
    try:
        shown = fleet.clone.done("history", "-H", "shire01")
        harmless(shown.out)
        harmless(fleet.clone.done("status", "-H", "shire01").out)
        assert "\\x1b[2Jdeploy" in shown.out
    finally:
        fleet.sh(0, f"mv {path}.kept {path}")


def test_exec_takes_one_word_as_shell_text_and_quotes_several(fleet: Fleet) -> None:
    text = fleet.clone.done("exec", "-H", "shire01", "--", "echo $((6 * 7)); id -un | tr a-z A-Z")
    assert text.out == "shire01  42\nshire01  DEPLOY\n"
    words = ["a b", "it's", '"q"', "$HOME", "*", "\\n", "", "x\ny", "-H", ";reboot"]
    printed = fleet.clone.done("exec", "-H", "shire01", "--json", "--", "printf", "[%s]", *words).json()
    (host,) = printed["hosts"]
    assert "\n".join(host["output"]) == "".join(f"[{word}]" for word in words)


def test_what_a_command_prints_is_escaped(fleet: Fleet) -> None:
    for flags in ([], ["--json"]):
        ended = fleet.clone.done("exec", "-H", "all", *flags, "--", f"printf '{HOSTILE}\\n'; printf '{HOSTILE}' >&2")
        harmless(ended.both)
        assert ended.out.count("owned") == 4
        assert "\\x1b[2J" in ended.out or "\\u001b[2J" in ended.out
