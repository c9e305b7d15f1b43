"""A TCP relay between the controller and a host, which can cut, stall, slow or narrow the link at any moment.

It runs in a thread of the test, and treats both directions alike.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from tasks.engine.sandbox import Machine

_PIECE = 16384
_RESET = struct.pack("ii", 1, 0)


class Link:
    """A relay to an address. port: its port on 127.0.0.1."""

    def __init__(self, address: str, port: int = 22) -> None:
        self._target = address, port
        self._seconds = 0.0
        self._rate = float("inf")
        self._passed = 0
        self._due: list[tuple[int, Callable[[], None]]] = []
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._passing = asyncio.Event()
        self._passing.set()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = self._do(asyncio.start_server(self._relay, "127.0.0.1", 0))
        self.port: int = self._server.sockets[0].getsockname()[1]

    def entry(self, machine: Machine, identity: str, **more: object) -> dict[str, object]:
        """Return the machine's entry below `hosts:`, through this link."""
        place = {"address": "127.0.0.1", "port": self.port, "host_key": machine.host_key}
        return {**place, "user": "deploy", "identity": identity, **more}

    def reset(self) -> None:
        """Reset every connection, on both sides at once; accept new ones."""
        self._soon(self._reset)

    def stall(self) -> None:
        """Pass nothing in either direction, silently: connections stay open, and new ones are accepted."""
        self._soon(self._passing.clear)

    def heal(self) -> None:
        """Pass everything again, without delay or limit, first the bytes held back."""
        self.slow()
        self._soon(self._passing.set)

    def slow(self, seconds: float = 0.0, rate: float = float("inf")) -> None:
        """Delay by this many seconds each way from now on, at this many bytes a second each way."""

        def slow() -> None:
            self._seconds, self._rate = seconds, rate

        self._soon(slow)

    def after(self, count: int, action: Callable[[], None]) -> None:
        """Call `action` (such as reset) once this many more bytes have passed, both ways together."""
        self._soon(lambda: self._due.append((self._passed + count, action)))

    def close(self) -> None:
        """Reset open connections, and accept no more."""
        self.reset()
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, doing: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(doing, self._loop).result(30)

    def _soon(self, action: Callable[[], None]) -> None:
        """Run it in the relay's thread; wait for it unless called from there."""

        async def doing() -> None:
            action()

        if threading.current_thread() is self._thread:
            action()
        else:
            self._do(doing())

    def _reset(self) -> None:
        for writer in self._writers:
            # A connection that has just ended by itself accepts no option any more.
            with suppress(OSError):
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()
        self._writers.clear()

    async def _end(self) -> None:
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        with suppress(OSError):
            await self._passing.wait()
            there, back = await asyncio.open_connection(*self._target)
            self._writers.add(back)
            await asyncio.gather(self._carry(reader, back), self._carry(there, writer))
            back.close()
            self._writers.discard(back)
        writer.close()
        self._writers.discard(writer)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One direction: read while the link passes, and forward each piece when it is due."""
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(256)
        sending = asyncio.ensure_future(self._send(under_way, writer))
        data = b"-"
        while data and not sending.done():
            await self._passing.wait()
            with suppress(ConnectionError):
                data = b""
                data = await reader.read(_PIECE)
            await under_way.put((self._loop.time() + self._seconds, data))
        await sending

    async def _send(self, under_way: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
        while True:
            due, data = await under_way.get()
            await asyncio.sleep(max(0.0, due - self._loop.time()))
            await asyncio.sleep(len(data) / self._rate)
            await self._passing.wait()
            if not data:
                writer.write_eof()
                return
            writer.write(data)
            await writer.drain()
            self._count(len(data))

    def _count(self, passed: int) -> None:
        self._passed += passed
        for due in [due for due in self._due if due[0] <= self._passed]:
            self._due.remove(due)
            due[1]()


@contextmanager
def link_to(address: str, port: int = 22) -> Iterator[Link]:
    """Open a link for the block."""
    link = Link(address, port)
    try:
        yield link
    finally:
        link.close()
