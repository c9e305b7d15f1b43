"""A link in the place of a release or of a venv: no step uses it, a deploy replaces it, and a prune removes it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tasks.engine.host import facts, steps
from tasks.engine.host.questions import WANTS, Question
from tasks.engine.host.steps import Activation
from tests.support.simulated_host import NEW, OLD, SERVICE, SimulatedHost, host, simulated_host
from tests.unit.simulated.test_stage import FILES, VENV, based, listed, payload, stage

__all__ = ["host", "simulated_host"]
DEPLOY = steps.activate(SERVICE, Activation("deploy", NEW, OLD))
PLACES = (f"releases/{NEW}", f"venvs/{VENV}")


def lead_away(host: SimulatedHost, place: str) -> Path:
    """Move a release or a venv, and put a link to it in its place."""
    path = host.root / place
    path.rename(path.parent / ".moved")
    path.symlink_to(".moved")
    return path


@pytest.mark.parametrize("place", [f"releases/{OLD}", f"venvs/{VENV}"])
def test_a_release_that_is_led_away_is_not_the_one_that_is_wanted(host: SimulatedHost, place: str) -> None:
    """Once: a deploy said that nothing had changed."""
    home = host.root / "releases" / OLD
    (home / "run").mkdir(exist_ok=True)
    (home / "run/web").write_text("exec true")
    (home / "LAUNCHERS").write_text(f"{hashlib.sha256(b'exec true').hexdigest()}  run/web\n")
    question = Question(frozenset(WANTS) - {"rights", "journal", "contents"})
    assert host.execute(steps.facts(SERVICE, question)) == 0
    assert facts.parse(host.transcript).state.lists
    lead_away(host, place)
    assert host.execute(steps.facts(SERVICE, question)) == 0
    assert not facts.parse(host.transcript).state.lists


@pytest.mark.parametrize("place", PLACES)
def test_a_release_that_is_led_away_is_never_started(host: SimulatedHost, place: str) -> None:
    lead_away(host, place)
    assert host.execute(DEPLOY) == 1
    told = {
        PLACES[0]: f"release {NEW} is no directory on this host",
        PLACES[1]: f"the venv of release {NEW} is damaged",
    }
    assert told[place] in (host.transcript.last("refused") or "")
    assert (host.history(), host.running()) == ([], {"blue"})


def test_a_venv_elsewhere_is_never_used(host: SimulatedHost) -> None:
    link = host.root / "releases" / NEW / "venv"
    link.unlink()
    (host.root / "venvs" / VENV).rename(host.folder / "elsewhere")
    link.symlink_to(host.folder / "elsewhere")
    assert host.execute(DEPLOY) == 1
    assert f"the venv of release {NEW} is damaged" in (host.transcript.last("refused") or "")


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("serves", [False, True])
def test_a_stage_puts_a_directory_in_the_place_of_the_link(
    simulated_host: SimulatedHost, place: str, serves: bool
) -> None:
    listed(simulated_host)
    assert simulated_host.execute(stage(), payload()) == simulated_host.execute(stage(present=True)) == 0
    if serves:
        (simulated_host.root / "slots/blue/release").symlink_to(f"../../releases/{NEW}")
    path = lead_away(simulated_host, place)
    assert simulated_host.execute(stage(present=True)) == 3
    assert simulated_host.execute(stage(), payload()) == 0
    assert (path.is_symlink(), path.is_dir(), simulated_host.leftovers()) == (False, True, [])
    assert simulated_host.execute(stage(present=True)) == 0


def test_no_file_is_linked_from_a_base_that_is_led_away(simulated_host: SimulatedHost) -> None:
    host = based(simulated_host)
    lead_away(host, f"releases/{OLD}")
    assert host.execute(stage(OLD), payload(same=FILES)) == 3
    assert host.transcript.last("edited") == OLD


def test_a_prune_removes_links_but_none_that_a_slot_runs_through(host: SimulatedHost) -> None:
    for name in (f"releases/{'d' * 12}", "releases/.x", "venvs/2", "venvs/.x"):
        (host.root / name).symlink_to("/nowhere")
    served = lead_away(host, f"releases/{OLD}")
    assert host.execute(DEPLOY) == 0
    both = (*(host.root / "releases").iterdir(), *(host.root / "venvs").iterdir())
    assert [path for path in both if path.is_symlink()] == [served]
