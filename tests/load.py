"""An open-loop client in a process of its own: so many requests a second, whatever becomes of them, and a log of all.

All figures come from that log: for each request its start and end (seconds, monotonic), how it was made, the host, the
status (0 without an answer) and the release that answered, or the error.
"""

from __future__ import annotations

import http.client
import json
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

NAME = "myapp.example"
_THREADS = 12
_BODY = b"x" * 65536


@dataclass(frozen=True)
class Request:
    """One line of the log. how: kept or fresh (connection), GET or POST."""

    start: float
    end: float
    how: str
    host: str
    status: int
    told: str


@dataclass
class Load:
    """The log, whole when the client has ended."""

    requests: list[Request] = field(default_factory=list)

    @property
    def lost(self) -> list[Request]:
        """GETs that were not answered with 200, and POSTs that the service itself did not answer."""
        return [one for one in self.requests if one.status != (405 if "POST" in one.how else 200)]

    @property
    def releases(self) -> set[str]:
        """The releases that answered."""
        return {one.told for one in self.requests if one.status == 200}

    def percentile(self, share: float, since: float = 0.0, until: float = float("inf")) -> float:
        """Seconds that this share of the requests begun in a window stayed under."""
        times = sorted(one.end - one.start for one in self.requests if since <= one.start < until)
        return times[min(len(times) - 1, int(share * len(times)))]


@contextmanager
def under_load(addresses: Sequence[str], rate: int) -> Iterator[Load]:
    """Load for as long as the block lasts; the log is filled in at its end."""
    load = Load()
    command = [sys.executable, str(Path(__file__)), str(rate), *addresses]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        assert client.stdin is not None
        assert client.stdout.readline() == "begun\n"
        try:
            yield load
        finally:
            client.stdin.close()
            load.requests = [Request(**json.loads(line)) for line in client.stdout]


def _connect(address: str) -> http.client.HTTPSConnection:
    context = ssl.create_default_context()
    # The tests of TLS look at the certificate; here it is the answers that count.
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return http.client.HTTPSConnection(address, 443, timeout=30, context=context)


def _ask(connection: http.client.HTTPSConnection, post: bool) -> tuple[int, str]:
    connection.request("POST" if post else "GET", "/healthz", body=_BODY if post else None, headers={"Host": NAME})
    answer = connection.getresponse()
    body = answer.read()
    return answer.status, json.loads(body)["release"] if answer.status == 200 else body[:200].decode("latin-1")


def _client(number: int, rate: int, addresses: Sequence[str], over: threading.Event, log: list[Request]) -> None:
    start, turn = time.monotonic(), number
    kept = {address: _connect(address) for address in addresses}
    while not over.wait(max(0.0, start + turn / rate - time.monotonic())):
        address = addresses[(turn + turn // _THREADS) % len(addresses)]
        # One in ten on a connection of its own, one in ten with a body.
        fresh, post = turn % 10 == 3, turn % 10 == 7
        connection = _connect(address) if fresh else kept[address]
        began = time.monotonic()
        try:
            status, told = _ask(connection, post)
        except (OSError, http.client.HTTPException, ValueError) as error:
            status, told = 0, repr(error)
            connection.close()
        how = f"{'fresh' if fresh else 'kept'} {'POST' if post else 'GET'}"
        log.append(Request(began, time.monotonic(), how, address, status, told))
        if fresh:
            connection.close()
        turn += _THREADS
    for connection in kept.values():
        connection.close()


def main(rate: int, addresses: Sequence[str]) -> None:
    """Send until standard input ends, then print the log."""
    over, log = threading.Event(), list[Request]()
    threads = [
        threading.Thread(target=_client, args=(number, rate, addresses, over, log)) for number in range(_THREADS)
    ]
    for thread in threads:
        thread.start()
    print("begun", flush=True)  # noqa: T201 - how the test hears of it
    sys.stdin.read()
    over.set()
    for thread in threads:
        thread.join()
    for one in log:
        print(json.dumps(asdict(one)))  # noqa: T201


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
