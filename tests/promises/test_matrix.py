"""Every verb, broken at every step that it passes, in every way; and then the same command once more."""

from __future__ import annotations

import random

import pytest

from tests.hosts import MakeHosts
from tests.promises import matrix
from tests.promises.matrix import VERBS, Matrix
from tests.promises.state import check, tidy
from tests.promises.words import AGAIN, WHOLE

CASES = [(verb, step) for verb in VERBS for step in VERBS[verb].steps]
OF_CONTROLLER = [case for case in CASES if case[1].startswith("controller.")]
OF_SCRIPTS = [case for case in CASES if not case[1].startswith("controller.")]
THOROUGH = 0.1
"""The part of the cases, drawn by lot, that end with every file read and a reboot, which is to change nothing."""


@pytest.fixture(scope="module")
def made(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> Matrix:
    return matrix.served(module_hosts, tmp_path_factory.mktemp("matrix"))


def tried(made: Matrix, verb: str, point: str, dice: random.Random) -> None:
    """The command breaks there: old or new serves, whole; the same command again finishes the job."""
    site = made.site
    old = site.answering
    with matrix.with_probation(site, VERBS[verb].probation):
        words, new = VERBS[verb].begin(made)
        try:
            ended = matrix.broken(site, words, point)
            if point.endswith("=stall"):
                assert site.answering in {old, new}
            else:
                told_why(ended.both, point)
                matrix.serves(site, old, new)
        finally:
            # Also where it did not hold: the next case is to begin on a host in order.
            matrix.finished(site, words, new)
    if dice.random() < THOROUGH:
        check(site, new)
        slot = site.slot
        site.machine.reboot()
        assert (check(site, new), site.slot) == (new, slot), "the reboot changed what is committed"
        tidy(site)


def told_why(said: str, point: str) -> None:
    """A step that failed is named, and nobody sees a traceback."""
    assert "Traceback" not in said
    if point.endswith("=fail") and not point.startswith("probation."):
        assert f"failpoint {point.removesuffix('=fail')}" in said


@pytest.mark.promise(WHOLE, "the controller is killed at a step of it", part=2)
@pytest.mark.parametrize(("verb", "step"), OF_CONTROLLER)
def test_the_controller_is_killed(made: Matrix, dice: random.Random, verb: str, step: str) -> None:
    tried(made, verb, f"{step}=die", dice)


@pytest.mark.promise(WHOLE, "a step of the controller ends with an error", part=1)
@pytest.mark.parametrize(("verb", "step"), OF_CONTROLLER)
def test_the_controller_fails(made: Matrix, dice: random.Random, verb: str, step: str) -> None:
    tried(made, verb, f"{step}=fail", dice)


@pytest.mark.promise(WHOLE, "the host's script is killed at a step of it", part=2)
@pytest.mark.parametrize(("verb", "step"), OF_SCRIPTS)
def test_the_script_is_killed(made: Matrix, dice: random.Random, verb: str, step: str) -> None:
    tried(made, verb, f"{step}=die", dice)


@pytest.mark.promise(WHOLE, "a step of the host's script ends with an error", part=1)
@pytest.mark.parametrize(("verb", "step"), OF_SCRIPTS)
def test_the_script_fails(made: Matrix, dice: random.Random, verb: str, step: str) -> None:
    tried(made, verb, f"{step}=fail", dice)


@pytest.mark.promise(AGAIN, "the host's script hangs at a step of it, and its controller is killed", part=2)
@pytest.mark.parametrize(
    ("verb", "step"), [case for case in OF_SCRIPTS if not case[1].startswith(("hold.", "probation."))]
)
def test_the_script_hangs_and_the_controller_is_killed(made: Matrix, dice: random.Random, verb: str, step: str) -> None:
    tried(made, verb, f"{step}=stall", dice)
