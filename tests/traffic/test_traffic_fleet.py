"""Traffic on two hosts, one of which cannot take the release: the undo of the other one loses no request."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.promises.words import NO_LOSS
from tests.support.clone import Clone
from tests.support.hosts import MakeHosts
from tests.traffic import service as traffic
from tests.traffic.load import Load, require_no_loss, sent


@pytest.mark.promise(NO_LOSS, "undo of a deploy that failed on another host")
def test_an_undo_loses_no_request(
    hosts: MakeHosts, clone: Clone, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    two = hosts(2)
    traffic.deployed(clone, two)
    good, ill = (machine.address for machine in two)
    old = clone.release()
    traffic.put(clone, env={"ILL": "shire02"}, health={"path": "/healthz", "passes": 1, "settle": 0, "timeout": 3})
    new = clone.release()
    with sent(Load([good, ill], kept=25), tmp_path / "load") as load:
        load.quiet(2)
        with load.during("undo", {good: (old, new, old), ill: (old,)}):
            ended = clone.fab("deploy", "-H", "all", "--on-failure", "undo")
        load.quiet(2)
    assert ended.status == 1
    assert "undone" in ended.out
    require_no_loss(load, request)
    assert {one.release for one in load.history.requests if one.host == good} == {old, new}
