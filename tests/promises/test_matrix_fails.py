"""Every verb, with an error at every step that its scripts pass; and then the same command once more."""

from __future__ import annotations

import random

import pytest

from tests.hosts import MakeHosts
from tests.promises import matrix
from tests.promises.matrix import Matrix
from tests.promises.steps import OF_SCRIPTS, tried
from tests.promises.words import WHOLE


@pytest.fixture(scope="module")
def made(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> Matrix:
    return matrix.served(module_hosts, tmp_path_factory.mktemp("fails"))


@pytest.mark.promise(WHOLE, "a step of the host's script ends with an error", part=1)
@pytest.mark.parametrize(("verb", "step"), OF_SCRIPTS)
def test_the_script_fails(made: Matrix, dice: random.Random, verb: str, step: str) -> None:
    """Once: why the lock of a run could not be taken was not told."""
    tried(made, verb, f"{step}=fail", dice)
