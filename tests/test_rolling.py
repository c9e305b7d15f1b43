"""A rolling restart behind a client that uses four hosts in turn: none of its requests is lost."""

from __future__ import annotations

import http.client
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.clone import Clone, quicken
from tests.front import NAME
from tests.hosts import MakeHosts

THREADS, RATE = 10, 200


def _connect(address: str) -> http.client.HTTPSConnection:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return http.client.HTTPSConnection(address, 443, timeout=10, context=context)


@contextmanager
def in_turn(addresses: list[str]) -> Iterator[list[tuple[str, int | str]]]:
    """RATE requests a second over kept connections, each to the next host, whether or not earlier ones are answered."""
    log: list[tuple[str, int | str]] = []
    over, start = threading.Event(), time.monotonic()

    def client(number: int) -> None:
        connections = {address: _connect(address) for address in addresses}
        turn = number
        while not over.wait(max(0.0, start + turn / RATE - time.monotonic())):
            address = addresses[(turn + turn // THREADS) % len(addresses)]
            connection = connections[address]
            try:
                connection.request("GET", "/healthz", headers={"Host": NAME})
                answer = connection.getresponse()
                answer.read()
                log.append((address, answer.status))
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                log.append((address, repr(error)))
            turn += THREADS
        for connection in connections.values():
            connection.close()

    threads = [threading.Thread(target=client, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    try:
        yield log
    finally:
        over.set()
        for thread in threads:
            thread.join()


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
    with in_turn([machine.address for machine in four]) as requests:
        clone.done("restart", "-H", "all", "--canary", "1", "--batch", "2", "--pause", "1")
    assert [request for request in requests if request[1] != 200] == []
    assert len(requests) > 1000
    assert {address for address, _ in requests} == {machine.address for machine in four}
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
