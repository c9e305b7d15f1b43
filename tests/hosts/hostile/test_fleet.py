"""A lying host beside an honest one: every query is answered for the honest one, and soon."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from tests.promises.words import CALM, OTHERS
from tests.support import stand_ins
from tests.support.clone import Ended
from tests.support.fleet import Fleet, deployed
from tests.support.hosts import MakeHosts

# The login shell of the lying host. It runs each command, and prints lies before the output; lies about the facts go
# into their JSON, at the path given. NONCE stands for the one of the step.
LIAR = r"""#!/usr/bin/python3
import json, os, subprocess, sys, threading

if "read -r length" not in sys.argv[-1]:
    os.execv("/bin/sh", ["sh", *sys.argv[1:]])
source, out = sys.stdin.buffer, sys.stdout.buffer

def framed():
    head = source.readline()
    return head + source.read(int(head))

script = framed()
journal = b"export TZ=UTC" in script[:40]
run = b""
if b"read -r place" in script[:60]:
    place = source.readline()
    script += place + (framed() if place == b"\n" else b"")
if not journal:
    run = b"".join(source.readline() for _ in range(4))
nonce = run.split(b"\n")[0]
shell = subprocess.Popen(["/bin/sh", "-c", sys.argv[-1]], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

def pump():
    shell.stdin.write(script + run)
    shell.stdin.flush()
    while data := source.read1(65536):
        shell.stdin.write(data)
        shell.stdin.flush()
    shell.stdin.close()

def twisted(line, lies):
    head, report = line.split(b" ", 1)
    report = json.loads(report)
    text = json.loads(report["text"])
    for way, value in lies:
        place = text
        for key in way[:-1]:
            place = place[key]
        place[way[-1]] = value
    report["text"] = json.dumps(text)
    return head + b" " + json.dumps(report).encode() + b"\n"

threading.Thread(target=pump, daemon=True).start()
lied = False
with open("/etc/lies", "rb") as lies:
    told = lies.readlines()
within = [json.loads(one[5:]) for one in told if one.startswith(b"FACT ")]
for line in shell.stdout:
    if not lied and line.startswith(b"@end" if journal else nonce + b" "):
        lied = True
        for lie in told:
            if not lie.startswith(b"FACT "):
                out.write(lie.replace(b"NONCE", nonce))
    out.write(twisted(line, within) if within and line.startswith(nonce + b' {"report": "facts"') else line)
    out.flush()
sys.exit(shell.wait())
"""
# A login shell that prints nothing, closes its streams, and lives on.
MUTE = """#!/bin/sh
exec </dev/null >/dev/null 2>&1 1>&- 2>&-
exec sleep 100000
"""
ID = "c" * 12


def report(word: str, rest: str) -> str:
    return f"NONCE {json.dumps({'report': word, 'text': rest})}"


def fact(way: str, value: object) -> str:
    """Return a lie in the facts themselves, at this path."""
    return f"FACT {json.dumps([way.split(), value])}"


@dataclass(frozen=True)
class Deploys:
    """A history, written when it is read: half deploys of a new release, half rollbacks."""

    count: int

    def __iter__(self) -> Iterator[str]:
        half = self.count // 2
        done = [("deploy", number) for number in range(half)] + [
            ("rollback", half - number) for number in range(2, half)
        ]
        for action, one in done:
            yield report("history", f'{{"action": "{action}", "state": "done", "release": "r{one}"}}')


LIES: dict[str, Iterable[str]] = {
    "a drop-in without a directory": [report("drift", "unit myapp@blue.service DropInPaths WORD")],
    "drop-ins by the thousand": [report("drift", "unit myapp@blue.service DropInPaths " + "/x/y/z " * 100_000)],
    "a history of 250,000 lines": Deploys(250_000),
    "a history of 100,000 lines": Deploys(100_000),
    "numbers that are none": [fact(way, -1) for way in ("machine time", "survey uptime", "state probation")],
    "numbers without a measure": [
        fact(way, 2**64 - 1) for way in ("machine time", "survey uptime", "state probation", "survey free_bytes")
    ],
    "interpreters": [fact("pythons", [{
        "path": f"/usr/bin/python{number}", "version": "3.99.0", "soabi": "cpython-399", "machine": "x86_64",
        "libc": "glibc 2." + "9" * 5000, "implementation": "cpython", "flaws": ""} for number in range(100)])],
    "another host's maintenance": [
        fact("state maintenance", '{"host": "shire02", "who": {"git": [[]]}, "since": {}}')],
    "what is no JSON": [report(word, text) for word in ("history", "release") for text in ("[" * 90_000, "null", "{}")],
    "names that cannot be": [fact("state current", "../../etc")],
    "a second word": [report("facts", "{}")],
    "reports that are none": [f"NONCE {text}" for text in (
        "", "{", "[]", "7", '{"report": 7}', '{"report": "facts", "text": {}}', '{"report": "end", "text": NaN}',
        '{"report": ' + "[" * 90_000, '{"report": ' + "9" * 90_000 + "}", '{"report": "end", "report": ["end"]}')],
    "letters that are none": ['NONCE {"report": "history", "text": "\\ud800\\n\\u0000"}'],
    "a journal of nonsense": [
        '{"MESSAGE": [999], "__REALTIME_TIMESTAMP": "1", "__CURSOR": "c"}', "[" * 200_000, '{"MESSAGE": {}}',
        '{"MESSAGE": "m", "__REALTIME_TIMESTAMP": "%s", "__CURSOR": [[]]}' % ("9" * 4000),
    ],
}  # fmt: skip
SILENT = 10
"""Seconds that an index may say nothing here."""
VERBS = ("drift", "status", "history", "history --verify", "releases", "health", "doctor", "plan", "logs",
         "maintenance status", "--dry rollback -H all", "rollback -H all")  # fmt: skip


@pytest.fixture(scope="module")
def fleet(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    """shire01, which lies, and shire02, which does not; both serve the second release of two."""
    made = deployed(module_hosts, tmp_path_factory.mktemp("liar"), 2)
    made.clone.replace("tasks/engine/release/pip.py", "_SILENT = 60.0", f"_SILENT = {SILENT}.0")
    made.clone.replace("tasks/engine/ssh/byte_stream.py", "LINK_SECONDS = 15", "LINK_SECONDS = 5")
    made.edit()
    made.clone.done("deploy", "-H", "all")
    made.clone.done("deploy", "-H", "all")
    for name, text in (("/usr/local/bin/liar", LIAR), ("/usr/local/bin/mute", MUTE), ("/etc/lies", "")):
        ended = made.hosts[0].sh(f"cat >{name} && chmod 0755 {name}", text.encode())
        assert ended.returncode == 0
    made.sh(0, "usermod -s /usr/local/bin/liar deploy")
    return made


def ask_beside_liar(fleet: Fleet, kind: str, verb: str) -> Ended:
    """Run `fab VERB` while the first host tells these lies; return the result."""
    text = "".join(f"{line}\n" for line in LIES[kind])
    assert fleet.hosts[0].sh("cat >/etc/lies", text.encode()).returncode == 0
    began = time.monotonic()
    ended = fleet.clone.fab(*verb.split(), timeout=240)
    assert "Traceback" not in ended.both
    assert ended.status in {0, 1}, ended.both
    assert "fault of fab itself" not in ended.both
    # Generous: other tests share the machine.
    assert time.monotonic() - began < 60
    return ended


@pytest.mark.promise(OTHERS, "a host that lies beside one that does not, verb by verb", part=2)
@pytest.mark.parametrize("verb", [one for one in VERBS if "rollback" not in one])
@pytest.mark.parametrize("kind", LIES)
def test_what_the_honest_host_says_is_there(fleet: Fleet, kind: str, verb: str) -> None:
    ended = ask_beside_liar(fleet, kind, f"{verb} --json")
    found = ended.json()
    if verb == "logs":
        assert "shire02" in {one["host"] for one in found["lines"]}
    else:
        (honest,) = (one for one in found["hosts"] if one["host"] == "shire02")
        assert honest.get("reachable", True)
    assert "shire02" not in {one["host"] for one in found["errors"]}
    told = ask_beside_liar(fleet, kind, verb)
    assert "shire02" in told.both
    assert ended.status == told.status


@pytest.mark.promise(OTHERS, "a host that lies as another is rolled back", part=1)
@pytest.mark.parametrize("verb", [one for one in VERBS if "rollback" in one])
@pytest.mark.parametrize("kind", LIES)
def test_the_honest_host_is_rolled_back_beside_a_liar(fleet: Fleet, kind: str, verb: str) -> None:
    before = fleet.answering[1]
    ended = ask_beside_liar(fleet, kind, f"{verb} --max-failures 1")
    assert "shire02" in ended.out
    if not verb.startswith("--dry"):
        assert fleet.answering[1] != before
        fleet.sh(0, ":>/etc/lies")
        fleet.clone.done("deploy", "-H", "shire02")


@pytest.mark.promise(CALM, "a real host that answers with lies", part=3)
@pytest.mark.parametrize(
    ("kind", "verb", "told"),
    [
        ("a history of 250,000 lines", "rollback", "more than 200000 lines"),
        ("a history of 250,000 lines", "status", "more than 200000 lines"),
        ("drop-ins by the thousand", "drift", "more than 1000 files"),
        ("names that cannot be", "doctor", "which is impossible"),
        ("numbers that are none", "status", "impossible facts: machine.time is -1"),
        ("a second word", "rollback", "impossible facts"),
    ],
)
def test_a_lie_is_its_hosts_error(fleet: Fleet, kind: str, verb: str, told: str) -> None:
    ended = ask_beside_liar(fleet, kind, f"{verb} -H shire01")
    assert (ended.status, told in ended.both, "next: " in ended.both) == (1, True, True), ended.both


def test_a_drop_in_without_a_directory_is_drift(fleet: Fleet) -> None:
    ended = ask_beside_liar(fleet, "a drop-in without a directory", "drift")
    assert ended.status == 1
    assert "shire01  DROP-IN  WORD: it adds to myapp@blue.service" in ended.out
    assert "shire02  no drift" in ended.out


@contextmanager
def mute(fleet: Fleet) -> Iterator[None]:
    """Let the first host print nothing and end nothing for the block, though it is reachable."""
    fleet.sh(0, "usermod -s /usr/local/bin/mute deploy")
    try:
        yield
    finally:
        fleet.sh(0, "usermod -s /usr/local/bin/liar deploy; pkill -u deploy -x sleep || :")


@pytest.mark.promise(OTHERS, "a host that says nothing and does not end", part=1)
@pytest.mark.parametrize("verb", [*(one for one in VERBS if "rollback" not in one), "exec -H all -- echo shire02",
                                  "restart -H all --max-failures 1"])  # fmt: skip
def test_a_host_that_closes_its_output_and_lives_on_keeps_nobody_waiting(fleet: Fleet, verb: str) -> None:
    """Once: a host that closed its output and lived on hung the controller, and the answers of all others, for good."""
    with mute(fleet):
        began = time.monotonic()
        ended = fleet.clone.fab(*verb.split(), timeout=240)
        assert time.monotonic() - began < 60
    assert "Traceback" not in ended.both
    assert ended.status in {0, 1, 3}, ended.both
    assert "shire01" in ended.both
    assert "shire02" in ended.out


@pytest.mark.promise(CALM, "SIGTERM while a host says nothing and does not end")
def test_a_signal_ends_a_run_while_a_host_is_mute(fleet: Fleet) -> None:
    with mute(fleet), fleet.clone.start("restart", "-H", "all") as process:
        time.sleep(3)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    assert process.returncode in {143, -signal.SIGTERM}, out + err
    assert "Traceback" not in out + err


@pytest.mark.promise(OTHERS, "a host that lies about its processor, and a package index that says nothing")
def test_a_lie_about_the_processor_stalls_no_other_host(fleet: Fleet) -> None:
    """Keep this test last: it deploys a further release, to the honest host alone."""
    python = {"path": "/usr/bin/python3", "version": "3.11.2", "soabi": "cpython-311-x86_64-linux-gnu",
              "machine": "riscv64", "libc": "glibc 2.36", "implementation": "cpython", "flaws": ""}  # fmt: skip
    lie = fact("pythons", [python])
    assert fleet.hosts[0].sh("cat >/etc/lies", f"{lie}\n".encode()).returncode == 0
    new = fleet.edit()
    with stand_ins.mute() as index:
        environment = dict(fleet.clone.environment)
        fleet.clone.environment |= {
            "PIP_INDEX_URL": f"http://127.0.0.1:{index.port}/simple",
            "PIP_CONFIG_FILE": os.devnull,
        }
        try:
            began = time.monotonic()
            ended = fleet.clone.fab("deploy", "-H", "all", "--max-failures", "1", "--canary", "0", timeout=240)
        finally:
            fleet.clone.environment.clear()
            fleet.clone.environment.update(environment)
            fleet.hosts[0].sh(": >/etc/lies")
    assert ended.status == 1, ended.both
    assert "riscv64" in ended.out
    assert f"nothing came for {SILENT} s" in ended.out
    assert "trying to build" not in ended.out
    assert fleet.answering[1] == new
    # One silence of the index; the machine is shared.
    assert time.monotonic() - began < SILENT + 70
