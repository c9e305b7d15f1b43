"""Every verb, broken at each of its steps, then repeated; and every undo, broken, too."""

from __future__ import annotations

import random

import pytest

from tests.faults import matrix
from tests.faults.matrix import HERE, VERBS, YAML, Matrix, made
from tests.promises.words import AGAIN, WHOLE
from tests.support.site import ROOT
from tests.support.state_check import check, tidy

__all__ = ["made"]

CASES = [(verb, step) for verb in VERBS for step in VERBS[verb].steps]
OF_CONTROLLER = [case for case in CASES if case[1].startswith("controller.")]
OF_SCRIPTS = [case for case in CASES if not case[1].startswith("controller.")]
OF_RUNS = [case for case in OF_SCRIPTS if not case[1].startswith(("hold.", "probation."))]
THOROUGH = 0.1
"""The share of cases, chosen at random, that end with a check of every file and a reboot that changes nothing."""
WORDS = ("deploy", *HERE)
UNDOING = [f"activate.{step}={action}" for step in ("undo", "undone", "failed") for action in ("die", "fail", "stall")]


def tried(made: Matrix, verb: str, point: str, dice: random.Random) -> None:
    """Break the command there: old or new serves, whole; the same command again finishes the job."""
    site = made.site
    old = site.answering
    with matrix.with_probation(site, VERBS[verb].probation):
        words, new = VERBS[verb].begin(made)
        try:
            ended = matrix.run_broken(site, words, point)
            if point.endswith("=stall"):
                assert site.answering in {old, new}
            else:
                require_reason(ended.both, point)
                matrix.require_serving(site, old, new)
        finally:
            # Also after a failure: the next case needs a host in order.
            matrix.finish(site, words, new)
    if dice.random() < THOROUGH:
        check(site, new)
        slot = site.slot
        site.machine.reboot()
        assert (check(site, new), site.slot) == (new, slot), "the reboot changed what is committed"
        tidy(site)


def require_reason(said: str, point: str) -> None:
    """Assert that a failed step is named, without a traceback."""
    assert "Traceback" not in said
    if point.endswith("=fail") and not point.startswith("probation."):
        assert f"failpoint {point.removesuffix('=fail')}" in said


@pytest.mark.promise(WHOLE, "the controller is killed at a step of it", part=1)
@pytest.mark.parametrize(("verb", "step"), OF_CONTROLLER)
def test_the_controller_is_killed(made: Matrix, dice: random.Random, verb: str, step: str) -> None:
    tried(made, verb, f"{step}=die", dice)


@pytest.mark.promise(WHOLE, "a step of the controller ends with an error", part=1)
@pytest.mark.parametrize(("verb", "step"), OF_CONTROLLER)
def test_the_controller_fails(made: Matrix, dice: random.Random, verb: str, step: str) -> None:
    tried(made, verb, f"{step}=fail", dice)


@pytest.mark.promise(WHOLE, "the host's program is killed at a step of it", part=1)
@pytest.mark.parametrize(("verb", "step"), OF_SCRIPTS)
def test_the_program_is_killed(made: Matrix, dice: random.Random, verb: str, step: str) -> None:
    """Once: a release that was being pruned when the script was killed stayed on the disk under another name."""
    tried(made, verb, f"{step}=die", dice)


@pytest.mark.promise(WHOLE, "a step of the host's program ends with an error", part=1)
@pytest.mark.parametrize(("verb", "step"), OF_SCRIPTS)
def test_the_program_fails(made: Matrix, dice: random.Random, verb: str, step: str) -> None:
    """Once: the run did not report why it could not take the lock of a run."""
    tried(made, verb, f"{step}=fail", dice)


@pytest.mark.promise(AGAIN, "the host's program hangs at a step of it, and its controller is killed", part=1)
@pytest.mark.parametrize(("verb", "step"), OF_RUNS)
def test_the_program_hangs_and_the_controller_is_killed(
    made: Matrix, dice: random.Random, verb: str, step: str
) -> None:
    """Once: a run that hung just after it had begun a probation blocked its guard: nothing checked the release."""
    tried(made, verb, f"{step}=stall", dice)


@pytest.mark.promise(WHOLE, "a release fails its check, and its undoing breaks at a step of it", part=1)
@pytest.mark.parametrize("point", UNDOING)
def test_an_undoing_breaks(made: Matrix, point: str) -> None:
    site, old = made.site, made.site.answering
    bad = site.read(YAML).replace("path: /readyz", "path: /nowhere").replace("timeout: 30 ", "timeout: 2 ")
    with site.changed(YAML, bad):
        site.edit()
        ended = matrix.run_broken(site, WORDS, point)
        assert ended.status != 0
        assert "Traceback" not in ended.both
        assert site.answering == old
        again = site.clone.fab(*WORDS)
        assert again.status == 1
        assert "the health check did not hold" in again.both
        matrix.require_serving(site, old)
    matrix.finish(site, WORDS, site.edit())


@pytest.mark.promise(AGAIN, "the run that puts a dead one right is killed too", part=1)
@pytest.mark.parametrize("first", ["start", "switch", "committed", "handover"])
@pytest.mark.parametrize("second", ["recover", "returned", "idle", "intent"])
def test_a_recovery_is_killed(made: Matrix, first: str, second: str) -> None:
    site, old = made.site, made.site.answering
    new = site.edit()
    matrix.run_broken(site, WORDS, f"activate.{first}=die")
    # If the first run has committed, an edit gives the next one something to do.
    newer = site.edit()
    matrix.run_broken(site, WORDS, f"activate.{second}=die")
    matrix.require_serving(site, old, new)
    matrix.finish(site, WORDS, newer)


@pytest.mark.promise(AGAIN, "a dead run has left torn or empty records", part=1)
@pytest.mark.parametrize("torn", ['{"time":"2026', '{"a":1}\n{"time"', "", "\0\0\0"])
@pytest.mark.parametrize(
    "path", [f"{ROOT}/history.jsonl", *(f"/run/myapp/lock/{name}" for name in ("activate", "run", "stage"))]
)
def test_records_are_torn(made: Matrix, path: str, torn: str) -> None:
    site = made.site
    new = site.edit()
    matrix.run_broken(site, WORDS, "activate.switch=die")
    printed = torn.replace("\n", "\\n").replace("\0", "\\000")
    site.sh(f"printf '%b' '{printed}' >>{path}")
    matrix.finish(site, WORDS, new)
