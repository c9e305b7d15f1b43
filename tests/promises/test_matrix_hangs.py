"""Every verb, hanging at every step that its scripts pass; and then the same command once more."""

from __future__ import annotations

import random

import pytest

from tests.hosts import MakeHosts
from tests.promises import matrix
from tests.promises.matrix import Matrix
from tests.promises.steps import OF_SCRIPTS, tried
from tests.promises.words import AGAIN


@pytest.fixture(scope="module")
def made(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> Matrix:
    return matrix.served(module_hosts, tmp_path_factory.mktemp("hangs"))


@pytest.mark.promise(AGAIN, "the host's script hangs at a step of it, and its controller is killed", part=2)
@pytest.mark.parametrize(
    ("verb", "step"), [case for case in OF_SCRIPTS if not case[1].startswith(("hold.", "probation."))]
)
def test_the_script_hangs_and_the_controller_is_killed(made: Matrix, dice: random.Random, verb: str, step: str) -> None:
    """Once: a script that hung just after it had begun a probation kept the watch waiting, so that nobody watched."""
    tried(made, verb, f"{step}=stall", dice)
