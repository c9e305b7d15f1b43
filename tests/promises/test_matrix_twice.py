"""What goes wrong while something else is put right: an undo that breaks, a recovery that is killed, torn records."""

from __future__ import annotations

import pytest

from tests.hosts import MakeHosts
from tests.promises import matrix
from tests.promises.matrix import HERE, YAML, Matrix
from tests.promises.words import AGAIN, WHOLE
from tests.site import ROOT

WORDS = ("deploy", *HERE)
UNDOING = [f"activate.{step}={action}" for step in ("undo", "undone", "failed") for action in ("die", "fail", "stall")]


@pytest.fixture(scope="module")
def made(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> Matrix:
    return matrix.served(module_hosts, tmp_path_factory.mktemp("twice"))


@pytest.mark.promise(WHOLE, "a release fails its check, and its undoing breaks at a step of it", part=1)
@pytest.mark.parametrize("point", UNDOING)
def test_an_undoing_breaks(made: Matrix, point: str) -> None:
    site, old = made.site, made.site.answering
    bad = site.read(YAML).replace("path: /readyz", "path: /nowhere").replace("timeout: 30 ", "timeout: 2 ")
    with site.changed(YAML, bad):
        site.edit()
        ended = matrix.broken(site, WORDS, point)
        assert ended.status != 0
        assert "Traceback" not in ended.both
        assert site.answering == old
        again = site.clone.fab(*WORDS)
        assert again.status == 1
        assert "the health check did not hold" in again.both
        matrix.serves(site, old)
    matrix.finished(site, WORDS, site.edit())


@pytest.mark.promise(AGAIN, "the run that puts a dead one right is killed too", part=1)
@pytest.mark.parametrize("first", ["start", "switch", "committed", "handover"])
@pytest.mark.parametrize("second", ["recover", "returned", "idle", "intent"])
def test_a_recovery_is_killed(made: Matrix, first: str, second: str) -> None:
    site, old = made.site, made.site.answering
    new = site.edit()
    matrix.broken(site, WORDS, f"activate.{first}=die")
    # Where the first one has committed, an edit makes sure that there is something to do.
    newer = site.edit()
    matrix.broken(site, WORDS, f"activate.{second}=die")
    matrix.serves(site, old, new)
    matrix.finished(site, WORDS, newer)


@pytest.mark.promise(AGAIN, "a dead run has left torn or empty records", part=1)
@pytest.mark.parametrize("torn", ['{"time":"2026', '{"a":1}\n{"time"', "", "\0\0\0"])
@pytest.mark.parametrize(
    "path", [f"{ROOT}/history.jsonl", *(f"/run/myapp/lock/{name}" for name in ("activate", "run", "stage"))]
)
def test_records_are_torn(made: Matrix, path: str, torn: str) -> None:
    site = made.site
    new = site.edit()
    matrix.broken(site, WORDS, "activate.switch=die")
    printed = torn.replace("\n", "\\n").replace("\0", "\\000")
    site.sh(f"printf '%b' '{printed}' >>{path}")
    matrix.finished(site, WORDS, new)
