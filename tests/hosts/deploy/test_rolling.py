"""A rolling restart behind a client that uses four hosts in turn: it loses no request."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.promises.words import NO_LOSS
from tests.support.clone import Clone, quicken
from tests.support.hosts import MakeHosts
from tests.traffic.load import STOCK, Load, sent

RATE = 200


@pytest.mark.promise(NO_LOSS, "a rolling restart")
def test_a_rolling_restart_of_four_hosts_loses_no_request_and_keeps_to_its_batch(
    hosts: MakeHosts, clone: Clone, tmp_path: Path
) -> None:
    four = hosts(4)
    clone.inventory = four.inventory
    quicken(clone)
    log = tmp_path / "balancer.log"
    script = tmp_path / "balancer"
    script.write_text(f'#!/bin/sh\necho "$1 $HOST" >>{log}\n')
    script.chmod(0o755)
    with (clone.root / "service" / "service.yaml").open("a") as yaml:
        yaml.write(f'hooks: {{drain: "{script} out", undrain: "{script} in"}}\n')
    clone.done("deploy", "-H", "all", "--canary", "4")
    log.unlink()
    with sent(Load([machine.address for machine in four], RATE, STOCK, streams=0), tmp_path / "load") as load:
        began = time.monotonic()
        clone.done("restart", "-H", "all", "--canary", "1", "--batch", "2", "--pause", "1")
        took = time.monotonic() - began
    assert load.history.faults() == []
    assert len(load.history.requests) >= 0.98 * RATE * took
    assert {one.host for one in load.history.requests} == {machine.address for machine in four}
    out: set[str] = set()
    order = []
    for word, host in (line.split() for line in log.read_text().splitlines()):
        if word == "out":
            out.add(host)
            order.append(host)
        else:
            out.remove(host)
        assert len(out) <= (1 if len(order) == 1 else 2)
    assert order[0] == "shire01"
    assert set(order[1:3]) == {"shire02", "shire03"}
    assert order[3:] == ["shire04"]
