"""200 requests a second for a minute, across five deploys and five rollbacks of the template's own service."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.promises.words import NO_LOSS
from tests.support.clone import Clone
from tests.support.front_door import release_of
from tests.support.hosts import Hosts
from tests.traffic.load import STOCK, Load, sent

RATE, SECONDS, TIMES = 200, 60, 5


@pytest.mark.further("tests/traffic/test_traffic_verbs.py::test_a_switch_loses_no_request_and_slows_none")
@pytest.mark.promise(NO_LOSS, "five deploys and five rollbacks in a minute")
def test_five_deploys_and_five_rollbacks_lose_no_request(
    clone: Clone, one_host: Hosts, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    clone.inventory, address = one_host.inventory, one_host[0].address
    clone.replace("service/service.yaml", "settle: 2", "settle: 0")
    # In a short run the minute ends with the last rollback.
    seconds = SECONDS if request.config.getoption("promises") == "all" else 0
    clone.done("deploy", "-H", "shire01")
    first = clone.release()
    with sent(Load([address], RATE, STOCK, streams=0), tmp_path / "load") as load:
        began = time.monotonic()
        for number in range(TIMES):
            clone.write("service/edit.txt", f"{number}\n")
            with load.during("deploy", {address: (first, clone.release())}):
                clone.done("deploy", "-H", "shire01")
            with load.during("rollback", {address: (clone.release(), first)}):
                clone.done("rollback", "-H", "shire01")
        # The switches may end sooner; the promise covers a minute.
        while time.monotonic() - began < seconds:
            assert release_of(address) == first
            time.sleep(1)
        took = time.monotonic() - began
    assert load.history.faults() == []
    assert len(load.history.requests) >= 0.98 * RATE * took
    assert len({one.release for one in load.history.requests}) == 1 + TIMES
