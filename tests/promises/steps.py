"""A case of the matrix: a verb, broken at one step in one way; and then the same command once more."""

from __future__ import annotations

import random

from tests.promises import matrix
from tests.promises.matrix import VERBS, Matrix
from tests.promises.state import check, tidy

CASES = [(verb, step) for verb in VERBS for step in VERBS[verb].steps]
OF_CONTROLLER = [case for case in CASES if case[1].startswith("controller.")]
OF_SCRIPTS = [case for case in CASES if not case[1].startswith("controller.")]
THOROUGH = 0.1
"""The part of the cases, drawn by lot, that end with every file read and a reboot, which is to change nothing."""


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
