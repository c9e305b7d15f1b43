"""200 requests a second for a minute, across five deploys and five rollbacks of the template's own service."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.promises.words import NO_LOSS
from tests.support.clone import Clone, quicken
from tests.support.front_door import release_of
from tests.support.hosts import Hosts
from tests.traffic.load import STOCK, Load, sent

RATE, SECONDS, TIMES = 200, 60, 5


@pytest.mark.promise(NO_LOSS, "five deploys and five rollbacks in a minute")
def test_five_deploys_and_five_rollbacks_lose_no_request(clone: Clone, one_host: Hosts, tmp_path: Path) -> None:
    clone.inventory, address = one_host.inventory, one_host[0].address
    quicken(clone)
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
        while time.monotonic() - began < SECONDS:
            assert release_of(address) == first
            time.sleep(1)
    assert load.history.faults() == []
    assert len(load.history.requests) >= 0.98 * RATE * SECONDS
    assert len({one.release for one in load.history.requests}) == 1 + TIMES
