"""Each verb, the steps that it passes on its way, and how a run of it is broken at one of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import distributions
from tests.clone import Ended, make, quicken
from tests.hosts import MakeHosts
from tests.promises.moments import Process, meet
from tests.promises.state import TEMPORARY, answers
from tests.site import ROOT, Site

_GLANCE = f"""
releases() {{
  main=$(systemctl show -p MainPID --value "$1")
  for pid in $main $(cat "/proc/$main/task/$main/children"); do
    tr '\\0' '\\n' <"/proc/$pid/environ" | sed -n 's/^RELEASE=//p'
  done | sort -u | tr '\\n' ' '
}}
flock -w 90 /run/myapp/lock/activate true
slot=$(basename "$(readlink -f /run/myapp/live)")
live=$(readlink -f {ROOT}/slots/$slot/release)
echo "live ${{live##*/}}"
echo "committed $(basename "$(readlink -f {ROOT}/current/release)")"
echo "slot $(releases "myapp@$slot.service")"
echo "further $(releases myapp-clock.service)"
cd "$live/code" && sha256sum --quiet --strict -c ../MANIFEST >&2 && nginx -t -q && echo "whole yes"
"""
YAML = "service/service.yaml"
HERE = ("-H", "shire01", "--lock-wait", "45")
"""The very next command waits so long at most, and for nobody else."""

_CONTROLLER = ("connect", "facts", "lock", "send", "staged", "activate", "activated", "end")
_STAGE = ("receive", "received", "verify", "wheels", "venv", "finish", "renamed")
_RECOVER = ("recover", "returned", "idle")
CANDIDATE = (
    "begin",
    *_RECOVER,
    "trapped",
    "intent",
    "placed",
    "start",
    "posted",
    "started",
    "guarded",
    "held",
    "door",
    "checked",
)
SWITCH = ("switch", "front")
_FOLLOW = ("commit", "committed", "follow", "recorded", "facade", "processes")
_RETIRE = ("stopped", "drained")
COMMIT = (*_FOLLOW, "handover")


def steps(stage: str, *names: str) -> tuple[str, ...]:
    """The full names of a stage's steps."""
    return tuple(f"{stage}.{name}" for name in names)


# The end of the former slot is the host's own.
_ACTIVATE = (*steps("activate", *CANDIDATE, *SWITCH, *COMMIT), *steps("probation", *_RETIRE))
_DEPLOY = (*steps("controller", *_CONTROLLER), "hold.taken", *steps("stage", *(one for one in _STAGE if one != "venv")))
SWITCHED = (*steps("controller", "connect", "activate", "activated", "end"), "hold.taken", *_ACTIVATE)


@dataclass
class Matrix:
    """A site with a further process, which keeps three releases, and whose next edit or venv is always a new one."""

    site: Site
    links: Path
    editions: int = 0

    def dependency(self) -> str:
        """Ask for a wheel that never was there before; the id of the release that this makes."""
        self.editions += 1
        digest = distributions.wheel(self.links, "mithril", f"1.{self.editions}")
        lines = self.site.read("service/requirements.txt").partition("mithril")[0]
        lock = f"{lines}mithril==1.{self.editions} \\\n    --hash=sha256:{digest}\n"
        self.site.clone.write("service/requirements.txt", lock)
        return self.site.edit()

    def earlier(self) -> str:
        """A release that is on the host and does not serve."""
        there = self.site.sh(f"ls -t {ROOT}/releases").split()
        return next(release for release in there if release != self.site.answering)


@dataclass(frozen=True)
class Verb:
    """begin: makes ready, and gives the command with the release that it leads to; setting: lines of service.yaml."""

    steps: tuple[str, ...]
    begin: Callable[[Matrix], tuple[tuple[str, ...], str]]
    probation: int = 0


def _edited(matrix: Matrix) -> tuple[tuple[str, ...], str]:
    return ("deploy", *HERE), matrix.site.edit()


def _other_venv(matrix: Matrix) -> tuple[tuple[str, ...], str]:
    return ("deploy", *HERE), matrix.dependency()


def _back(matrix: Matrix) -> tuple[tuple[str, ...], str]:
    target = matrix.earlier()
    return ("rollback", "--to", target, *HERE), target


def _again(matrix: Matrix) -> tuple[tuple[str, ...], str]:
    return ("restart", *HERE), matrix.site.answering


VERBS = {
    "code": Verb((*_DEPLOY, *_ACTIVATE, *steps("probation", "prune", "pruned")), _edited),
    "venv": Verb((*_DEPLOY, *steps("stage", "coming", "wheel", "venv", "built", "venvs"), *_ACTIVATE), _other_venv),
    "rollback": Verb(SWITCHED, _back),
    "restart": Verb(SWITCHED, _again),
    "probation": Verb(
        steps("activate", *SWITCH, "probation", "watching") + steps("probation", "watch", *_FOLLOW, *_RETIRE),
        _edited,
        2,
    ),
}


def undeployed(hosts: MakeHosts, folder: Path) -> Site:
    """A pristine host, and a clone with a further process whose check and drain are quick."""
    made = hosts()
    site = Site(make(folder, made.inventory), made[0])
    quicken(site.clone)
    site.clone.replace(YAML, "threads: 1}", "threads: 1}\n  clock: {command: sleep 1d}")
    site.clone.replace(YAML, "drain: 30", "drain: 2")
    site.clone.replace(YAML, "keep: 5", "keep: 3")
    return site


def served(hosts: MakeHosts, folder: Path, where: str = "shire01") -> Matrix:
    """The same, serving, with three releases on it."""
    site = undeployed(hosts, folder)
    links = folder / "links"
    links.mkdir()
    site.clone.environment["PIP_FIND_LINKS"] = f"{os.environ.get('PIP_FIND_LINKS', '')} {links}".strip()
    matrix = Matrix(site, links)
    for _ in range(3):
        site.edit()
        site.clone.done("deploy", "-H", where)
    return matrix


@contextmanager
def with_probation(site: Site, seconds: int) -> Iterator[None]:
    """For a while, a service.yaml with this probation."""
    with site.changed(YAML, site.read(YAML).replace("probation: 0", f"probation: {seconds}")):
        yield


@contextmanager
def failing(site: Site, point: str) -> Iterator[None]:
    """Runs of the clone break at a step meanwhile."""
    site.clone.environment["FAILPOINT"] = point
    try:
        yield
    finally:
        del site.clone.environment["FAILPOINT"]


def broken(site: Site, words: tuple[str, ...], point: str) -> Ended:
    """The command with this failpoint; one that hangs is killed (SIGKILL) as soon as it says that it does."""
    if "=stall" in point:
        ended = stalled(site, words, point, killed)
        # It was held by a controller that is gone: for half a minute at most.
        site.sh("[ ! -e /run/myapp/lock/run ] || flock -w 45 /run/myapp/lock/run true")
        return ended
    with failing(site, point):
        return site.clone.fab(*words)


def killed(process: Process | None) -> None:
    """By SIGKILL; nothing is left to do where the command has ended already."""
    if process:
        process.kill()


def stalled(site: Site, words: tuple[str, ...], point: str, act: Callable[[Process | None], object]) -> Ended:
    """The command hangs at this step; as soon as that is told, act on it, which has to bring its end.

    A probation hangs on the host alone, which tells it in its journal; the command has come to its end before.
    """
    with failing(site, point):
        if not point.startswith("probation."):
            return meet(site.clone, words, "  stall: ", act)
        began = site.sh("date +%s")
        ended = site.clone.fab(*words)
        told = f"step stall {point.partition('=')[0]}"
        site.sh(f"journalctl -q -f -n all -o cat -t myapp-probation --since @{began} | grep -qm 1 '{told}'")
        act(None)
        return ended


def serves(site: Site, *allowed: str) -> None:
    """One of these releases serves, whole and alone, and is committed; in one look, since there are hundreds of cases.

    Where the script died, the guard of its run is at work, and waited for.
    """
    at_rest(site)
    told = site.sh(f"{{ {_GLANCE} }} 2>&1")
    look = {key: value.strip() for key, _, value in (line.partition(" ") for line in told.splitlines())}
    live = look["live"]
    assert live in allowed, told
    assert (look["slot"], look.get("whole")) == (live, "yes"), told
    assert look["committed"] == look["further"] == live, told
    assert answers(site) == {live}


def at_rest(site: Site) -> None:
    """Wait until the host's own watch has come to its end."""
    site.sh("while systemctl is-active 'myapp-probation@*' | grep -qE '^(de)?activ'; do sleep 0.1; done")


def finished(site: Site, words: tuple[str, ...], new: str) -> Ended:
    """The same command once more, at once: it works, it is the new release that serves, and nothing is left."""
    ended = site.clone.done(*words)
    at_rest(site)
    serves(site, new)
    assert site.sh(TEMPORARY) == ""
    site.settled()
    return ended


@pytest.fixture(scope="module")
def made(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> Matrix:
    """That of a module."""
    return served(module_hosts, tmp_path_factory.mktemp("matrix"))
