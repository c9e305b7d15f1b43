"""Every verb, killed at every step that it passes, or failing in the controller; then the same command once more."""

from __future__ import annotations

import random

import pytest

from tests.hosts import MakeHosts
from tests.promises import matrix
from tests.promises.matrix import Matrix
from tests.promises.steps import OF_CONTROLLER, OF_SCRIPTS, tried
from tests.promises.words import WHOLE


@pytest.fixture(scope="module")
def made(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> Matrix:
    return matrix.served(module_hosts, tmp_path_factory.mktemp("matrix"))


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
    """Once: a release that was being pruned when the script was killed stayed on the disk under another name."""
    tried(made, verb, f"{step}=die", dice)
