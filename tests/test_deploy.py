"""The loop on a real host: from a clone to an answer over HTTPS, and every day after it."""

from __future__ import annotations

from tests.clone import Clone
from tests.front import release_of
from tests.hosts import Hosts


def test_a_pristine_host_serves_after_one_deploy(clone: Clone, one_host: Hosts) -> None:
    clone.inventory = one_host.inventory
    ended = clone.done("deploy", "-H", "shire01")
    assert release_of(one_host[0].address) == clone.release()
    assert clone.release() in ended.out
