"""HTTP/1.1 for the load's client: cheap, and exact about which bytes came back."""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_RELEASE = re.compile(rb'"release": ?"([^"]*)"')
_CHUNK = 1 << 18


class Closed(Exception):
    """The peer ended the connection. untouched: before any byte of an answer."""

    def __init__(self, told: str, untouched: bool) -> None:
        super().__init__(told)
        self.untouched = untouched


@dataclass(frozen=True)
class Target:
    """A host: its address and port, the name in the request, and tls."""

    address: str
    port: int
    name: str
    tls: bool


@dataclass(frozen=True)
class Answer:
    """A whole answer. release: the one its body names, or empty."""

    status: int
    body: bytes
    release: str


def release_in(text: bytes) -> str:
    """Return the release that a body names."""
    found = _RELEASE.search(text)
    return found[1].decode() if found else ""


def _trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    # The tests of TLS look at the certificate; here only the answers count.
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


_TRUSTING = _trusting()


class Connection:
    """A connection for one request at a time. opened: time of its opening, monotonic; number: its own."""

    def __init__(self, number: int, target: Target) -> None:
        self.number, self.opened, self.used = number, time.monotonic(), 0
        self._target = target
        self._ends = False
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    @classmethod
    async def open(cls, number: int, target: Target) -> Connection:
        """Connect; OSError if refused."""
        made = cls(number, target)
        tls, name = (_TRUSTING, target.name) if target.tls else (None, None)
        made._reader, made._writer = await asyncio.open_connection(
            target.address, target.port, ssl=tls, server_hostname=name
        )
        return made

    @property
    def usable(self) -> bool:
        """Return true if a client would send another request on it: neither side has ended it so far."""
        return not (self._ends or self._reader.at_eof() or self._writer.is_closing())

    def close(self) -> None:
        """Abort it."""
        self._writer.transport.abort()

    async def ask(self, path: str, body: bytes) -> Answer:
        """Send one request, a POST if it has a body, and return its answer; Closed if the answer is incomplete."""
        await self._send(path, body)
        head = await self._head()
        found = _LENGTH.search(head)
        if found is None:
            raise Closed(f"an answer of no certain length: {head[:200]!r}", untouched=False)
        try:
            answer = await self._reader.readexactly(int(found[1]))
        except (asyncio.IncompleteReadError, OSError) as error:
            raise Closed(f"in the middle of an answer: {type(error).__name__}", untouched=False) from error
        self.used += 1
        self._ends = b"\r\nconnection: close" in head.lower()
        return Answer(int(head[9:12]), answer, release_in(answer))

    async def events(self, path: str) -> AsyncIterator[Answer]:
        """Yield the answer's head, then each event of its stream as it arrives, until the peer ends it."""
        await self._send(path, b"")
        head = await self._head()
        yield Answer(int(head[9:12]), b"", "")
        while True:
            try:
                event = await self._reader.readuntil(b"\n\n")
            except (asyncio.IncompleteReadError, OSError):
                return
            yield Answer(200, event, release_in(event))

    async def _send(self, path: str, body: bytes) -> None:
        head = f"{'POST' if body else 'GET'} {path} HTTP/1.1\r\nHost: {self._target.name}\r\n"
        head += f"Content-Length: {len(body)}\r\n\r\n" if body else "\r\n"
        try:
            if len(body) <= _CHUNK:
                self._writer.write(head.encode() + body)
                return
            self._writer.write(head.encode())
            for at in range(0, len(body), _CHUNK):
                self._writer.write(body[at : at + _CHUNK])
                await self._writer.drain()
        except OSError as error:
            raise Closed(f"while it was asked: {type(error).__name__}", untouched=True) from error

    async def _head(self) -> bytes:
        try:
            return await self._reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            raise Closed("without an answer" if not error.partial else "in a head", not error.partial) from error
        except OSError as error:
            raise Closed(f"without an answer: {type(error).__name__}", untouched=True) from error
