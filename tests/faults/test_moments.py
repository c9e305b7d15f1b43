"""Random moments: the controller killed, the power cut, or two runs begun."""

from __future__ import annotations

import random
import subprocess
import time

import pytest

from tests.faults import matrix
from tests.faults.matrix import HERE, Matrix, made
from tests.faults.moments import SIGNALS
from tests.promises.words import AGAIN, TWO_RUNS, WHOLE
from tests.support.clone import Clone, hurried, make
from tests.support.state_check import check, tidy

__all__ = ["made"]

OVERTAKEN = ("is at work here since", "another run changed this host")
"""The messages of the run that does not get the host."""


@pytest.fixture(scope="module")
def length(made: Matrix) -> float:
    """The seconds that a deploy takes on this machine now."""
    began = time.monotonic()
    made.site.deploy()
    return time.monotonic() - began


@pytest.fixture(scope="module")
def other(made: Matrix, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """Another operator's clone of the same service, for the same host."""
    clone = hurried(make(tmp_path_factory.mktemp("other"), made.site.clone.inventory))
    clone.write(matrix.YAML, made.site.read(matrix.YAML))
    clone.environment.update(made.site.clone.environment)
    return clone


@pytest.mark.further("tests/faults/test_matrix.py::test_the_controller_is_killed")
@pytest.mark.promise(WHOLE, "the controller is killed at a random moment of a deploy", part=1)
@pytest.mark.parametrize("number", range(200))
def test_the_controller_is_killed_at_any_moment(made: Matrix, length: float, dice: random.Random, number: int) -> None:
    site, old = made.site, made.site.answering
    new = site.edit()
    with site.clone.start("deploy", *HERE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        time.sleep(dice.uniform(0, length))
        process.kill()
    matrix.require_serving(site, old, new)
    # In one of ten cases the next case's deploy, of another edit, finds what this run left.
    if number % 10:
        matrix.finish(site, ("deploy", *HERE), new)


@pytest.mark.further("tests/faults/test_matrix_stalled.py::test_a_signal_at_a_line")
@pytest.mark.promise(WHOLE, "SIGINT, SIGTERM or SIGHUP, once or twice, at a random moment", part=1)
@pytest.mark.parametrize("name", SIGNALS)
@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("number", range(10))
def test_a_signal_at_any_moment(
    made: Matrix, length: float, dice: random.Random, name: str, times: int, number: int
) -> None:
    site, old = made.site, made.site.answering
    new = site.edit()
    with site.clone.start("deploy", *HERE, stderr=subprocess.STDOUT) as process:
        # Before its first output, a signal ends Python itself.
        assert process.stdout is not None
        said = process.stdout.readline()
        time.sleep(dice.uniform(number, number + 1) / 10 * length)
        for _ in range(times):
            process.send_signal(SIGNALS[name][0])
            time.sleep(dice.uniform(0, 0.5))
        said += process.communicate(timeout=120)[0]
    assert process.returncode in {0, SIGNALS[name][1], -SIGNALS[name][0]}, said
    assert "Traceback" not in said
    matrix.require_serving(site, old, new)
    matrix.finish(site, ("deploy", *HERE), new)


@pytest.mark.further("tests/faults/test_matrix_stalled.py::test_the_power_is_cut_at_a_step")
@pytest.mark.promise(WHOLE, "the power is cut at a random moment of a deploy, or of its probation", part=1)
@pytest.mark.parametrize("probation", [0, 3])
@pytest.mark.parametrize("number", range(20))
def test_the_power_is_cut_at_any_moment(
    made: Matrix, length: float, dice: random.Random, number: int, probation: int
) -> None:
    site, old = made.site, made.site.answering
    with matrix.with_probation(site, probation):
        new = site.edit()
        with site.clone.start("-t", "5", "deploy", *HERE, stderr=subprocess.STDOUT) as process:
            time.sleep(dice.uniform(number + 8, number + 9) / 28 * (length + probation))
            site.machine.power_cut()
            # The tests of links check its message about the lost host.
            process.kill()
            process.communicate()
        site.machine.boot()
        check(site, old, new)
        matrix.finish(site, ("deploy", *HERE), new)


@pytest.mark.further("tests/faults/test_matrix_stalled.py::test_the_host_reboots_at_a_step")
@pytest.mark.promise(WHOLE, "a clean reboot at a random moment of a deploy with a probation", part=1)
@pytest.mark.parametrize("number", range(8))
def test_the_host_reboots_at_any_moment(made: Matrix, length: float, dice: random.Random, number: int) -> None:
    site, old = made.site, made.site.answering
    with matrix.with_probation(site, 3):
        new = site.edit()
        with site.clone.start("-t", "5", "deploy", *HERE, stderr=subprocess.STDOUT) as process:
            time.sleep(dice.uniform(number, number + 1) / 8 * (length + 3))
            site.machine.reboot()
            process.kill()
            process.communicate()
        check(site, old, new)
        matrix.finish(site, ("deploy", *HERE), new)


@pytest.mark.further(
    "tests/hosts/deploy/test_two_at_once.py::test_of_two_deploys_started_together_one_works_and_one_is_told"
)
@pytest.mark.promise(TWO_RUNS, "another deploy, rollback, restart, stop or setup begins at a random moment", part=1)
@pytest.mark.parametrize("verb", ["deploy", "rollback", "restart", "stop", "setup", "the same"])
@pytest.mark.parametrize("number", range(8))
def test_two_runs_at_once(
    made: Matrix, other: Clone, length: float, dice: random.Random, verb: str, number: int
) -> None:
    site, old = made.site, made.site.answering
    new = site.edit()
    other.write("service/edition.txt", f"other {verb} {number}\n")
    allowed = {old, new, other.release(), *site.releases}
    words = ("deploy",) if verb == "the same" else (verb,)
    with site.clone.start("deploy", "-H", "shire01", stderr=subprocess.STDOUT) as first:
        time.sleep(dice.uniform(0, 1) * length)
        second = (site.clone if verb == "the same" else other).fab(*words, "-H", "shire01")
        said, _ = first.communicate(timeout=120)
    for status, told in ((first.returncode, said), (second.status, second.both)):
        assert "Traceback" not in told
        assert status == 0 or (status == 1 and any(words in told for words in OVERTAKEN)), told
    if verb == "stop":
        site.done("start")
    matrix.require_serving(site, *allowed)
    matrix.finish(site, ("deploy", *HERE), new)


@pytest.mark.further(
    "tests/hosts/deploy/test_two_at_once.py::test_who_waits_for_the_lock_gets_it_when_the_other_has_ended"
)
@pytest.mark.promise(AGAIN, "the run before was killed while another waited for it", part=1)
@pytest.mark.parametrize("number", range(4))
def test_who_waits_goes_on_when_the_other_is_killed(
    made: Matrix, other: Clone, length: float, dice: random.Random, number: int
) -> None:
    site = made.site
    site.edit()
    other.write("service/edition.txt", f"waits {number}\n")
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with site.clone.start("deploy", "-H", "shire01", **quiet) as first, other.start("deploy", *HERE) as second:
        time.sleep(dice.uniform(0.3, 1) * length)
        first.kill()
        said, _ = second.communicate(timeout=120)
    assert second.returncode == 0 or any(words in said for words in OVERTAKEN), said
    matrix.finish(site, ("deploy", *HERE), site.clone.release())
    tidy(site)
