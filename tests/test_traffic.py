"""200 requests a second for a minute, across five deploys and five rollbacks: none is lost."""

from __future__ import annotations

import time

from tests.clone import Clone, quicken
from tests.front import release_of
from tests.hosts import Hosts
from tests.load import under_load

RATE, SECONDS, TIMES = 200, 60, 5


def test_five_deploys_and_five_rollbacks_lose_no_request(clone: Clone, one_host: Hosts) -> None:
    clone.inventory = one_host.inventory
    quicken(clone)
    clone.done("deploy", "-H", "shire01")
    served = [clone.release()]
    with under_load([one_host[0].address], RATE) as load:
        began = time.monotonic()
        for number in range(TIMES):
            clone.write("service/edit.txt", f"{number}\n")
            clone.done("deploy", "-H", "shire01")
            served.append(clone.release())
            assert release_of(one_host[0].address) == served[-1]
            clone.done("rollback", "-H", "shire01")
            assert release_of(one_host[0].address) == served[0]
        # The switches may be over sooner; the minute is part of the promise.
        while time.monotonic() - began < SECONDS:
            assert release_of(one_host[0].address) == served[0]
            time.sleep(1)
    assert load.lost == []
    assert len(load.requests) >= 0.9 * RATE * SECONDS
    assert load.releases == set(served)
