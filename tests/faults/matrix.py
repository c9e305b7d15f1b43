"""Each verb, the steps that it passes, and ways to break a run at one of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.moments import meet
from tests.support import distributions
from tests.support.clone import Ended, Process, hurried, make, quicken
from tests.support.hosts import MakeHosts
from tests.support.site import ROOT, Site
from tests.support.state_check import TEMPORARY, answers

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
# systemd counts a process as started when its launcher begins, which only then reads its release.
until further=$(releases "myapp-clock@$slot.service"); [ "$further" ]; do sleep 0.1; done
echo "further $further"
cd "$live/code" && sha256sum --quiet --strict -c ../MANIFEST >&2 && nginx -t -q && echo "whole yes"
"""
YAML = "service/service.yaml"
HERE = ("-H", "shire01", "--lock-wait", "45")
"""Options for the next command: the longest wait for the lock."""

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
    "held",
    "door",
    "guarded",
    "checked",
)
SWITCH = ("switch", "front")
_FOLLOW = ("commit", "committed", "follow", "recorded", "main_unit", "processes")
_RETIRE = ("stopped", "drained")
COMMIT = (*_FOLLOW, "handover")


def steps(stage: str, *names: str) -> tuple[str, ...]:
    """Return the full names of a stage's steps."""
    return tuple(f"{stage}.{name}" for name in names)


# The host itself ends the former slot.
_ACTIVATE = (*steps("activate", *CANDIDATE, *SWITCH, *COMMIT), *steps("probation", *_RETIRE))
_DEPLOY = (*steps("controller", *_CONTROLLER), "hold.taken", *steps("stage", *(one for one in _STAGE if one != "venv")))
SWITCHED = (*steps("controller", "connect", "activate", "activated", "end"), "hold.taken", *_ACTIVATE)


@dataclass
class Matrix:
    """A site with a further process, which keeps three releases; each edit or venv is new."""

    site: Site
    links: Path
    editions: int = 0

    def dependency(self) -> str:
        """Depend on a wheel that never existed before; return the id of the release with it."""
        self.editions += 1
        digest = distributions.wheel(self.links, "mithril", f"1.{self.editions}")
        lines = self.site.read("service/requirements.txt").partition("mithril")[0]
        lock = f"{lines}mithril==1.{self.editions} \\\n    --hash=sha256:{digest}\n"
        self.site.clone.write("service/requirements.txt", lock)
        return self.site.edit()

    def earlier(self) -> str:
        """Return a release on the host that does not serve."""
        there = self.site.sh(f"ls -t {ROOT}/releases").split()
        return next(release for release in there if release != self.site.answering)


@dataclass(frozen=True)
class Verb:
    """A verb to break. begin: prepares; returns the command and the release that it leads to; probation: seconds."""

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
    """Boot a pristine host, and make a clone with a further process and a quick check and drain."""
    made = hosts()
    site = Site(hurried(make(folder, made.inventory)), made[0])
    quicken(site.clone)
    site.clone.replace(YAML, "threads: 1}", "threads: 1}\n  clock: {command: sleep 1d}")
    site.clone.replace(YAML, "drain: 30", "drain: 2")
    site.clone.replace(YAML, "keep: 5", "keep: 3")
    return site


def served(hosts: MakeHosts, folder: Path, where: str = "shire01") -> Matrix:
    """Boot a host as `undeployed` does, deploy, and keep three releases on it."""
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
    """Use a service.yaml with this probation for the block."""
    with site.changed(YAML, site.read(YAML).replace("probation: 0", f"probation: {seconds}")):
        yield


@contextmanager
def failing(site: Site, point: str) -> Iterator[None]:
    """Break the clone's runs at a step for the block."""
    site.clone.environment["FAILPOINT"] = point
    try:
        yield
    finally:
        del site.clone.environment["FAILPOINT"]


def run_broken(site: Site, words: tuple[str, ...], point: str) -> Ended:
    """Run the command with this failpoint; kill it (SIGKILL) as soon as it reports that it hangs."""
    if "=stall" in point:
        ended = run_stalled(site, words, point, kill)
        # The host frees the run lock of a dead controller after half a minute.
        site.sh("[ ! -e /run/myapp/lock/run ] || flock -w 45 /run/myapp/lock/run true")
        return ended
    with failing(site, point):
        return site.clone.fab(*words)


def kill(process: Process | None) -> None:
    """Send SIGKILL, unless the command has ended already."""
    if process:
        process.kill()


def run_stalled(site: Site, words: tuple[str, ...], point: str, act: Callable[[Process | None], object]) -> Ended:
    """Run the command, which hangs at this step; then call `act`, which must end it.

    A probation hangs on the host alone and reports it in the journal; the command has ended before.
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


def require_serving(site: Site, *allowed: str) -> None:
    """Assert that one of these releases serves, whole, alone and committed; in one look, for hundreds of cases.

    If the host's program died, wait first for the guard of its run.
    """
    wait_for_rest(site)
    told = site.sh(f"{{ {_GLANCE} }} 2>&1")
    look = {key: value.strip() for key, _, value in (line.partition(" ") for line in told.splitlines())}
    live = look["live"]
    assert live in allowed, told
    assert (look["slot"], look.get("whole")) == (live, "yes"), told
    assert look["committed"] == look["further"] == live, told
    assert answers(site) == {live}


def wait_for_rest(site: Site) -> None:
    """Wait for the end of the host's guards."""
    site.sh("while systemctl is-active 'myapp-probation@*' | grep -qE '^(de)?activ'; do sleep 0.1; done")


def finish(site: Site, words: tuple[str, ...], new: str) -> Ended:
    """Repeat the command at once: it works, the new release serves, and nothing is left."""
    ended = site.clone.done(*words)
    wait_for_rest(site)
    require_serving(site, new)
    assert site.sh(TEMPORARY) == ""
    site.settled()
    return ended


@pytest.fixture(scope="module")
def made(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> Matrix:
    """The matrix of a module."""
    return served(module_hosts, tmp_path_factory.mktemp("matrix"))
