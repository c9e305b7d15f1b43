"""Clients that ask the front doors all the time, and the log of their answers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.support.front_door import NAME, ask


@dataclass
class Log:
    """Every request as (address, status, release or error); status 0 without an answer."""

    requests: list[tuple[str, int, str]] = field(default_factory=list)

    @property
    def lost(self) -> list[tuple[str, int, str]]:
        """Return the requests not answered with 200."""
        return [request for request in self.requests if request[1] != 200]

    def releases(self) -> list[str]:
        """Return the releases that answered, in order of their first answer."""
        return list(dict.fromkeys(release for _, status, release in self.requests if status == 200))


@contextmanager
def watched(*addresses: str, path: str = "/healthz", name: str = NAME) -> Iterator[Log]:
    """Run one client for each address, a new connection for each request, twenty a second, for the block."""
    log, over = Log(), threading.Event()

    def client(address: str) -> None:
        while not over.is_set():
            try:
                answer = ask(address, path, name)
                told = (
                    str(answer.json().get("release", ""))
                    if answer.status == 200
                    else answer.body[:200].decode("latin-1")
                )
                log.requests.append((address, answer.status, told))
            except (OSError, ValueError) as error:
                log.requests.append((address, 0, f"{type(error).__name__}: {error}"))
            over.wait(0.05)

    threads = [threading.Thread(target=client, args=(address,)) for address in addresses]
    for thread in threads:
        thread.start()
    try:
        yield log
    finally:
        over.set()
        for thread in threads:
            thread.join()
