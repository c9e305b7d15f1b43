"""Nasty texts on a real host: each arrives in its process, unit or site, and has no other effect."""

from __future__ import annotations

import contextlib
import json
import random
import re
import shlex
import shutil
from dataclasses import dataclass
from typing import Any

import pytest

from tasks.engine.config import formats
from tests.promises.words import NO_INJECTION
from tests.support import clone as clones
from tests.support.clone import Clone
from tests.support.front_door import ask
from tests.support.hosts import Hosts, MakeHosts
from tests.support.nasty_texts import PWNED, SYNTAX, TEXTS, UNICODE, YAML, in_yaml

# The longest possible name, so that units, tags and variables reach their limits.
NAME = "a-0--9-z-nginx-socket-at-blu-e"
APP = """
import json
import os

asked = []


def create_app():
    def app(environ, start):
        asked.append(environ["RAW_URI"])
        start("200 OK", [("Content-Type", "application/json")])
        told = {"release": os.environ["RELEASE"]}
        if environ["RAW_URI"] == "/told":
            told["asked"] = asked
            told["environ"] = {name.decode(): value.hex() for name, value in os.environb.items()}
        return [json.dumps(told).encode()]

    return app
"""
# Writes a process's arguments to a file; a worker keeps running.
SHOW = """
import os
import signal
import sys

with open(f"/var/lib/{os.environ['SERVICE']}/{sys.argv[1]}", "wb") as file:
    file.write(b"\\0".join(map(os.fsencode, sys.argv[2:])))
if sys.argv[1] == "worker":
    signal.pause()
"""
SCHEDULES = (
    *("daily", "*-*-* 03:00:00", "Mon..Fri *-*-1..7 4:00", "*:0/15", "Mon,Tue *-*~1 00:00:00 UTC", "2030-1-1"),
    *("*-2-30", "Sat", "*-*-* 4,5:*:0/7.5", "hourly", "*-*-01/2 0:0:0 Europe/Berlin"),
)
DOORS = (
    ("/readyz/a/../b/./c//d", "a.example", "127.0.0.77:8099"),
    ("/$(touch%20pwned)/;touch+pwned;&&/*/~root/!x/@h:1/=", "0-0.xn--p1ai", "[::1]:8099"),
    ("/?a=%n%i&b=?", "a" * 42 + ".b-c", "0.0.0.0:65535"),
    ("/%0d%0aX:%20y/%5c%22%27", "localhost", "127.0.0.1:1"),
)


@dataclass
class Place:
    """A clone with a service of our own, and its host."""

    clone: Clone
    hosts: Hosts

    def sh(self, command: str) -> str:
        """Run a command as root on the host, which must succeed; return its output."""
        ended = self.hosts[0].sh(command)
        assert ended.returncode == 0, f"{command}: {(ended.stdout + ended.stderr).decode(errors='replace')}"
        return ended.stdout.decode()

    def told(self, process: str) -> list[str]:
        """Return the arguments of a process."""
        return self.sh(f"cat /var/lib/{NAME}/{process}").split("\0")

    def show(self, unit: str, name: str) -> str:
        """Return a property of a unit."""
        return self.sh(f"systemctl show -p {name} --value {unit}").strip()


@pytest.fixture(scope="module")
def place(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> Place:
    hosts = module_hosts()
    clone = clones.make(tmp_path_factory.mktemp("nasty"), hosts.inventory)
    shutil.rmtree(clone.root / "service/app")
    (clone.root / "service/gunicorn.conf.py").unlink()
    clone.write("service/app/__init__.py", APP)
    clone.write("service/show.py", SHOW)
    return Place(clone, hosts)


def words(dice: random.Random | None) -> list[str]:
    """Return texts for fields: all nasty ones known, or random ones made of their pieces."""
    texts: list[str] = [*TEXTS]
    if dice:
        texts = ["".join(dice.choices([*SYNTAX, *UNICODE, *YAML], k=dice.randint(1, 6))) for _ in range(300)]
    return [text for text in texts if text.isprintable() and len(text) <= 8192]


def parts(texts: list[str], count: int) -> list[list[str]]:
    """Distribute the texts that may be arguments of a command over this many lists."""
    fit = [text for text in texts if formats.COMMAND.fits(shlex.join(["x", text])) and len(shlex.quote(text)) < 4000]
    return [fit[number::count] for number in range(count)]


def description(texts: list[str], door: tuple[str, str, str]) -> str:
    """Return a service.yaml with the texts in every possible place."""
    path, server, listen = door
    names = ["hook", "worker", *(f"t{number}" for number in range(len(SCHEDULES)))]
    commands = {
        name: {"command": shlex.join(["python", "show.py", name, *some])}
        for name, some in zip(names, parts(texts, len(names)), strict=True)
    }
    for number, schedule in enumerate(SCHEDULES):
        commands[f"t{number}"]["schedule"] = schedule
    return written({
        "name": NAME, "app": "app:create_app()", "listen": listen, "drain": 1, "probation": 0,
        "health": {"path": path, "passes": 1, "settle": 0}, "nginx": {"server_name": server, "tls": "off"},
        "env": {f"V{number}": text for number, text in enumerate(texts)},
        "hooks": {"before_activate": commands.pop("hook")["command"]}, "processes": {"web": {"workers": 1}, **commands},
    })  # fmt: skip


def written(values: dict[str, Any], indent: str = "") -> str:
    """Return YAML with each text in double quotes."""
    found = ""
    for key, value in values.items():
        inner = isinstance(value, dict)
        below = (
            f"\n{written(value, indent + '  ')}"
            if inner
            else f" {in_yaml(value) if isinstance(value, str) else value}\n"
        )
        found += f"{indent}{key}:{below}"
    return found


@pytest.mark.promise(NO_INJECTION, "nasty texts deployed to a real host, and read back from its processes")
def test_every_nasty_text_arrives_on_the_host_and_does_nothing_there(place: Place) -> None:
    """Once: a name of 26 to 30 letters made a file that nginx refuses."""
    _arrives(place, words(None), DOORS[0])


@pytest.mark.further("test_every_nasty_text_arrives_on_the_host_and_does_nothing_there")
@pytest.mark.promise(NO_INJECTION, "made-up texts deployed to a real host, and read back from its processes", part=1)
@pytest.mark.parametrize("number", range(12))
def test_any_text_arrives_on_the_host_and_does_nothing_there(place: Place, number: int, dice: random.Random) -> None:
    _arrives(place, words(dice), DOORS[number % len(DOORS)])


def _arrives(place: Place, texts: list[str], door: tuple[str, str, str]) -> None:
    place.clone.write("service/service.yaml", description(texts, door))
    place.clone.done("deploy")
    _units_are_read_as_written(place)
    _answers(place, texts, door)
    dealt = parts(texts, 2 + len(SCHEDULES))
    place.sh("".join(f"systemctl start {NAME}-t{number}.service;" for number in range(len(SCHEDULES))))
    for name, some in zip(["hook", "worker", *(f"t{number}" for number in range(len(SCHEDULES)))], dealt, strict=True):
        assert place.told(name) == some, name
    assert place.sh(f"find / -xdev -name '*{PWNED}*' ! -path '/proc/*'") == ""


def _units_are_read_as_written(place: Place) -> None:
    """The host's own programs accept root's files, and read the intended values."""
    place.sh("nginx -t -q; visudo -c -q")
    found = place.sh(f"ls /etc/systemd/system | grep '^{NAME}' | grep -v wants").split()
    units = " ".join(name.replace("@.", "@blue.") for name in found)
    assert place.sh(f"systemd-analyze verify --man=no {units} 2>&1 | grep -F {NAME} || :") == ""
    rules = place.sh("sudo -l -U deploy").replace("\n        ", " ")
    # A slice has _ in place of - in its name.
    named = f"(?:{NAME}|{NAME.replace('-', '_')})"
    assert sorted(re.findall(rf"NOPASSWD: (/usr/bin/systemctl .*{named}.*)", rules)) == sorted(
        re.findall("NOPASSWD: (.*)", place.sh(f"cat /etc/sudoers.d/{NAME}"))
    )
    for number, schedule in enumerate(SCHEDULES):
        wanted = place.sh(f"systemd-analyze calendar {shlex.quote(schedule)}").split("Normalized form: ")
        calendar = wanted[1].splitlines()[0] if len(wanted) > 1 else schedule
        assert f"OnCalendar={calendar} ;" in place.show(f"{NAME}-t{number}.timer", "TimersCalendar")


def _answers(place: Place, texts: list[str], door: tuple[str, str, str]) -> None:
    """The front door answers to its name only, and the health check arrives as written."""
    path, server, listen = door
    answer = ask(place.hosts[0].address, "/told", server, 80).json()
    environ = {name: bytes.fromhex(value).decode() for name, value in answer["environ"].items()}
    assert {f"V{number}": text for number, text in enumerate(texts)}.items() <= environ.items()
    assert path in answer["asked"]
    assert set(answer["asked"]) <= {path, "/told", "/"}
    with contextlib.suppress(ConnectionError):
        assert answer["release"].encode() not in ask(place.hosts[0].address, "/", "other.example", 80).body
    by_listen = json.loads(place.sh(f"curl -sg http://{listen.replace('0.0.0.0:', '127.0.0.1:')}/"))
    assert by_listen["release"] == answer["release"] == place.clone.release()


@pytest.mark.promise(NO_INJECTION, "a value that the host's own programs refuse", part=1)
@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ('schedule: "daily"', 'schedule: "mondays at tea"', "t0.timer"),
        ('schedule: "daily"', 'schedule: "25:00"', "t0.timer"),
        ('listen: "127.0.0.77:8099"', 'listen: "203.0.113.77:8099"', "203.0.113.77:8099"),
        ('server_name: "a.example"', f'server_name: "{"a" * 63}.{"b" * 63}"', "hash_bucket_size"),
    ],
)
def test_what_the_host_refuses_changes_nothing_there(place: Place, before: str, after: str, told: str) -> None:
    place.clone.write("service/service.yaml", description(["x"], DOORS[0]))
    place.clone.done("deploy")
    look = (
        f"cd /etc && sha256sum nginx/conf.d/* sudoers.d/* systemd/system/{NAME}*; systemctl list-unit-files '{NAME}*'"
    )
    there, release = place.sh(look), place.clone.release()
    place.clone.replace("service/service.yaml", before, after)
    ended = place.clone.fab("setup")
    assert ended.status == 1, ended.both
    assert told in ended.both
    assert "Traceback" not in ended.both
    assert place.sh(look) == there
    assert ask(place.hosts[0].address, "/", "a.example", 80).json()["release"] == release
