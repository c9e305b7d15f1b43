"""The source of a line is journald's finding, not the sender's claim: forged lines keep their real sender."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tasks.engine.sandbox import Machine
from tests.support import clone as clones
from tests.support import front_door as front
from tests.support.clone import Clone
from tests.support.hosts import Hosts, MakeHosts
from tests.support.logs_fleet import Reader, act, acted, deployed

Fleet = tuple[Clone, Hosts]

# All claims that an unprivileged program can make about itself, through each of journald's three sockets.
FORGE = r"""
import socket

NAMES = ("systemd", "kernel", "nginx", "myapp", "myapp_nginx", "myapp-probation", "myapp-hook", "systemd-coredump")
UNITS = ("myapp@blue.service", "myapp-probation@blue.service", "nginx.service", "init.scope")


def to(path, data):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(data.encode(), path)


def syslog(name, text):
    to("/dev/log", f"<30>{name}[1]: forged {text}")


def native(name, unit, text):
    fields = {"MESSAGE": f"forged {text}", "SYSLOG_IDENTIFIER": name, "SYSLOG_PID": "1", "PRIORITY": "3"}
    fields.update(dict.fromkeys(("UNIT", "_SYSTEMD_UNIT", "OBJECT_SYSTEMD_UNIT", "COREDUMP_UNIT"), unit))
    fields.update({"_PID": "1", "_UID": "0", "OBJECT_PID": "1", "_TRANSPORT": "kernel", "_COMM": "systemd"})
    fields["MESSAGE_ID"] = "fc2e22bc6ee647b6b90729ab34a250b1"
    to("/run/systemd/journal/socket", "".join(f"{key}={value}\n" for key, value in fields.items()))


def stream(name, unit, text):
    sender = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sender.connect("/run/systemd/journal/stdout")
    sender.sendall(f"{name}\n{unit}\n6\n1\n0\n0\n0\nforged {text}\n".encode())
    return sender


kept = []
for name in NAMES:
    syslog(name, f"{WORD} syslog {name}")
    for unit in UNITS:
        native(name, unit, f"{WORD} native {name} {unit}")
        kept.append(stream(name, unit, f"{WORD} stream {name} {unit}"))
native("systemd", "myapp@blue.service\n_PID=1\nUNIT=myapp@green.service", f"{WORD} twice")
"""
FORGED = 8 * (1 + 4 + 4) + 1


@pytest.fixture(scope="module")
def fleet(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    hosts = module_hosts(1)
    return deployed(clones.make(tmp_path_factory.mktemp("sources")), hosts), hosts


def lines(clone: Clone, *words: str) -> list[dict[str, Any]]:
    """Return the lines of `fab logs` since today."""
    found: list[dict[str, Any]] = clone.done("logs", "--since", "today", "--json", *words).json()["lines"]
    return found


def elsewhere(machine: Machine, word: str, *properties: str) -> None:
    """Forge from a unit that is not the service's."""
    code = f"WORD = {word!r}\n{FORGE}\nimport time\ntime.sleep(0.5)\n"
    machine.sh("cat >/tmp/forge.py", code.encode())
    ended = machine.sh(f"systemd-run -q --wait {' '.join(properties)} /usr/bin/python3 /tmp/forge.py")
    assert ended.returncode == 0, ended.stderr.decode()
    machine.sh("journalctl --sync")


def test_what_the_service_forges_is_shown_as_the_services_own(fleet: Fleet) -> None:
    clone, hosts = fleet
    acted(hosts[0], f"WORD = 'own'\n{FORGE}", "own-end")
    found = lines(clone, "--grep", "^forged own")
    assert len(found) == FORGED
    assert {line["source"] for line in found} == {"myapp-actor@blue"}
    assert {"systemd", "myapp_nginx", "kernel", "myapp-probation"} < {line["identifier"] for line in found}
    told = clone.done("logs", "--since", "today", "--grep", "^forged own").out.splitlines()
    assert len(told) == FORGED
    assert all(re.match(r"\S+ \S+  shire01  myapp-actor@blue: (ERROR )?forged own", line) for line in told)


@pytest.mark.parametrize("words", [("--process", "web"), ("--process", "web", "--nginx")])
def test_what_a_process_forges_is_not_among_the_lines_of_another_or_of_the_gateway(
    fleet: Fleet, words: tuple[str, ...]
) -> None:
    clone, hosts = fleet
    acted(hosts[0], f"WORD = 'aside'\n{FORGE}", "aside-end")
    assert lines(clone, "--grep", "^forged", *words) == []


@pytest.mark.parametrize("account", ["nobody", "www-data", "root"])
def test_what_others_on_the_host_forge_is_not_shown(fleet: Fleet, account: str) -> None:
    clone, hosts = fleet
    elsewhere(hosts[0], f"stranger {account}", f"-p User={account}")
    assert hosts[0].sh(f"journalctl -q -o cat --grep '^forged stranger {account}' | grep -c .").stdout != b"0\n"
    assert lines(clone, "--grep", "^forged stranger", "--nginx") == []


@contextmanager
def following(clone: Clone, *words: str) -> Iterator[Reader]:
    """Run `fab logs -f` for the block."""
    with clone.start("logs", "-f", *words) as process:
        try:
            yield Reader(process)
        finally:
            process.kill()


def test_what_is_followed_is_told_apart_likewise(fleet: Fleet) -> None:
    clone, hosts = fleet
    acted(hosts[0], "", "live-begin")
    with following(clone, "-n", "1", "--nginx", "--grep", "live") as reader:
        reader.until(reader.saw("live-begin"))
        act(hosts[0], f"WORD = 'live'\n{FORGE}\ntime.sleep(0.5)\nsay('live-end')\n")
        reader.until(reader.saw("live-end"))
    told = [line for line in reader.out if "forged live" in line]
    assert len(told) == FORGED
    assert all("  shire01  myapp-actor@blue: " in line for line in told)


def test_systemd_the_gateway_and_each_unit_are_named(fleet: Fleet) -> None:
    clone, hosts = fleet
    front.ask(hosts[0].address, "/healthz")
    hosts[0].sh("journalctl --sync")
    found = lines(clone, "--nginx")
    by = {source: [line for line in found if line["source"] == source] for source in {line["source"] for line in found}}
    assert set(by) >= {"systemd", "nginx", "myapp", "myapp-actor@blue"}
    assert any(source in by for source in ("myapp@blue", "myapp@green"))
    assert any(line["text"].startswith("Started ") for line in by["systemd"])
    assert any("GET /healthz" in line["text"] for line in by["nginx"])
    assert all(line["text"].startswith("committed slot: ") for line in by["myapp"])


def test_a_line_that_is_too_long_is_nobodys(fleet: Fleet) -> None:
    clone, hosts = fleet
    code = (
        "import os, socket\n"
        "sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
        "memory = os.memfd_create('line', os.MFD_ALLOW_SEALING)\n"
        "os.write(memory, b'MESSAGE=' + b'l' * 2_000_000 + b'\\nUNIT=myapp@blue.service\\n')\n"
        "import fcntl\n"
        "fcntl.fcntl(memory, 1033, 0xF)\n"
        "sender.connect('/run/systemd/journal/socket')\n"
        "socket.send_fds(sender, [b''], [memory])\n"
    )
    acted(hosts[0], code, "too-long-end")
    found = [line for line in lines(clone, "--process", "actor") if "more than 1 MiB" in line["text"]]
    assert [line["source"] for line in found] == ["-"]


def test_following_without_a_line_of_the_past_shows_none(fleet: Fleet) -> None:
    clone, hosts = fleet
    acted(hosts[0], "", "past-end")
    act(hosts[0], "for number in range(100):\n    say(f'beat {number}')\n    time.sleep(0.1)\n")
    with following(clone, "-n", "0") as reader:
        reader.until(reader.saw("beat"))
    assert not any("past-end" in line for line in reader.out)


LIAR = """
import pathlib
import sys

for word in ("systemd", "s\\u200bystemd", "\\u0455ystemd", "  systemd"):
    print(f"{word}: myapp@green.service: Failed with result 'oom-kill'.", file=sys.stderr)
print('{"level": "systemd", "message": "a lie in JSON"}', file=sys.stderr, flush=True)
WORD = "candidate"
exec(pathlib.Path(__file__).with_name("forge.txt").read_text())
raise SystemExit(7)
"""


def test_a_release_that_fails_cannot_say_why_in_the_name_of_systemd(fleet: Fleet) -> None:
    """Once: a line that the service wrote was shown as systemd's, nginx's or the guard's."""
    clone, _ = fleet
    clone.write("service/liar.py", LIAR)
    clone.write("service/forge.txt", FORGE)
    clone.replace("service/service.yaml", "echo:app", "liar:app")
    ended = clone.fab("deploy", "-H", "all")
    assert ended.status == 1, ended.both
    told = [line.removeprefix("    | ") for line in ended.out.splitlines() if line.startswith("    | ")]
    assert any("oom-kill" in line for line in told), ended.both
    assert any(line.startswith("systemd: ") for line in told), ended.both
    assert all(line.startswith(("app: ", "systemd: ", "... ")) for line in told), ended.both
    assert "\u200b" not in ended.both
    for line in told:
        if any(word in line for word in ("oom-kill", "a lie in JSON", "forged")):
            assert not line.startswith("systemd"), line
