"""A run over two hosts: the second fails, so the first is taken back, and that undo breaks at each of its steps."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.faults import matrix
from tests.faults.matrix import CANDIDATE, COMMIT, HERE, SWITCH, Matrix, steps
from tests.promises.words import AGAIN, WHOLE
from tests.support.hosts import Hosts, MakeHosts

STEPS = steps("undo", *CANDIDATE, *SWITCH, *COMMIT)
POINTS = [f"{step}={action}" for step in STEPS for action in ("die", "fail")]
POINTS += [f"controller.undo={action}" for action in ("die", "fail")]

LOCK = "/run/myapp/lock/activate"


@pytest.fixture(scope="module")
def pair(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> tuple[Matrix, Hosts]:
    """Two hosts that serve."""
    hosts = module_hosts(2)
    made = matrix.served(lambda: hosts, tmp_path_factory.mktemp("undo"), "all")
    return made, hosts


@pytest.mark.promise(WHOLE, "the way back of a run is broken at a step of it", part=1)
@pytest.mark.parametrize("point", POINTS)
def test_an_undo_breaks(pair: tuple[Matrix, Hosts], point: str) -> None:
    tried(pair, point)


@pytest.mark.further("test_an_undo_breaks")
@pytest.mark.promise(AGAIN, "the way back of a run hangs at a step of it, and its controller is killed", part=1)
@pytest.mark.parametrize("step", STEPS)
def test_an_undo_hangs(pair: tuple[Matrix, Hosts], step: str) -> None:
    tried(pair, f"{step}=stall")


def tried(pair: tuple[Matrix, Hosts], point: str) -> None:
    """Break the undo there: old or new serves, and a deploy to both without a fault finishes the job."""
    made, hosts = pair
    site, other = made.site, replace(made.site, machine=hosts[1])
    old = site.answering
    new = site.edit()
    # Another run is at work there for a long time.
    other.sh(f": >{LOCK}; systemd-run -q --unit=holder flock {LOCK} sleep 600; while flock -n {LOCK} true; do :; done")
    try:
        words = ("deploy", "-H", "all", "--on-failure", "undo")
        ended = matrix.run_broken(site, words, f"{point}@shire01")
        assert ended.status != 0
        assert "Traceback" not in ended.both
        assert "undo: 1 hosts go back" in ended.both or point.endswith("=die"), ended.both
        if point.endswith("=stall"):
            assert site.answering in {old, new}
        else:
            matrix.require_serving(site, old, new)
    finally:
        other.sh("systemctl stop holder")
        matrix.finish(site, ("deploy", "-H", "all", *HERE[2:]), new)
    matrix.require_serving(other, new)
    other.settled()
