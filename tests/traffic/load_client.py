"""The client process: sends each request at its due time, whatever became of the others, and logs a line for each.

Run as a program. It reads one line of JSON with its orders from standard input (load.py writes them), and prints
`begun` once its connections are open. It ends after the end of standard input, when each request has its answer or
has waited LIMIT for it, and prints its cost: seconds of CPU and of wall time.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import json
import random
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TextIO

from tests.traffic.load_http import Answer, Closed, Connection, Target

LIMIT = 60.0
"""Seconds that a request may wait for its answer."""
_RETRY = 0.1
"""Seconds before an event stream reconnects, as the service requests by `retry:`."""
_EVENTS = "/events"
_LOOK = 0.1
"""Seconds between an idle client's checks for its end."""


@cache
def body(size: int) -> tuple[bytes, str]:
    """Return this many incompressible bytes, always the same, and their SHA-256."""
    made = random.Random(size).randbytes(size)
    return made, hashlib.sha256(made).hexdigest()


class Client:
    """Open loop. turn: request n is turn[n % len(turn)], each with its kind, path, body size, and fresh."""

    def __init__(self, targets: Sequence[Target], turn: Sequence[tuple[str, str, int, bool]], log: TextIO) -> None:
        self._targets, self._turn, self._log = targets, turn, log
        # The connection that has rested longest is next, so that all of them are used.
        self._idle: dict[Target, deque[Connection]] = {target: deque() for target in targets}
        self._opened = 0

    async def connect(self, kept: int) -> None:
        """Open the kept connections, this many per target; more are opened when all are in use."""
        for target in self._targets:
            for _ in range(kept):
                self._idle[target].append(await self._open(target))

    async def run(self, rate: float, streams: int, over: asyncio.Event) -> None:
        """Send until the end of the orders; return when every request has ended."""
        listening = [asyncio.create_task(self._stream(target)) for target in self._targets for _ in range(streams)]
        under_way: set[asyncio.Task[None]] = set()
        began, number = time.monotonic(), 0
        while not over.is_set():
            due = began + number / rate
            if (left := due - time.monotonic()) > 0:
                await asyncio.sleep(min(left, _LOOK))
                continue
            # Shifted by one each turn, so that each target gets every kind.
            target = self._targets[(number + number // len(self._turn)) % len(self._targets)]
            task = asyncio.create_task(self._request(due, target, *self._turn[number % len(self._turn)]))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
            number += 1
        await asyncio.gather(*under_way)
        for stream in listening:
            stream.cancel()
        await asyncio.gather(*listening, return_exceptions=True)

    async def _open(self, target: Target) -> Connection:
        self._opened += 1
        return await Connection.open(self._opened, target)

    async def _request(self, due: float, target: Target, kind: str, path: str, size: int, fresh: bool) -> None:
        line = {"due": due, "kind": kind, "host": target.address, "connection": "fresh" if fresh else "kept"}
        line |= {"start": time.monotonic(), "status": 0, "release": "", "error": ""}
        this = asyncio.current_task()
        assert this is not None
        timer = asyncio.get_running_loop().call_later(LIMIT, this.cancel)
        try:
            answer = await self._ask(line, target, path, body(size)[0] if size else b"", fresh)
            line |= {"status": answer.status, "release": answer.release, "error": _wrong(answer, size)}
        except asyncio.CancelledError:
            line["error"] = f"no answer in {LIMIT:.0f} s"
        except (OSError, Closed) as error:
            line["error"] = f"{type(error).__name__}: {error}"
        timer.cancel()
        self._write(line)

    async def _ask(self, line: dict[str, Any], target: Target, path: str, sent: bytes, fresh: bool) -> Answer:
        connection = await self._take(target, fresh)
        for again in (True, False):
            line |= {"number": connection.number, "opened": connection.opened}
            try:
                answer = await connection.ask(path, sent)
            except (Closed, asyncio.CancelledError) as error:
                connection.close()
                # As a browser does: a server may close an idle connection, and nothing is lost by asking again.
                idle = isinstance(error, Closed) and error.untouched and connection.used > 0
                if not (again and idle and not sent):
                    raise
                line["retried"] = str(error)
                connection = await self._open(target)
            else:
                break
        if fresh or not connection.usable:
            connection.close()
        else:
            self._idle[target].append(connection)
        return answer

    async def _take(self, target: Target, fresh: bool) -> Connection:
        idle = self._idle[target]
        while not fresh and idle:
            connection = idle.popleft()
            if connection.usable:
                return connection
            connection.close()
        return await self._open(target)

    async def _stream(self, target: Target) -> None:
        """Act as an EventSource: reconnect whenever the stream ends; stop at any status but 200."""
        status = 200
        while status == 200:
            start = time.monotonic()
            line = {"due": start, "start": start, "kind": "stream", "connection": "fresh", "host": target.address}
            line |= {"status": 0, "release": "", "error": "", "events": 0, "gap": 0.0}
            try:
                await self._listen(line, target)
            except (OSError, Closed) as error:
                line["error"] = f"{type(error).__name__}: {error}"
            finally:
                self._write(line)
            status = int(str(line["status"])) or 200
            await asyncio.sleep(_RETRY)

    async def _listen(self, line: dict[str, Any], target: Target) -> None:
        connection = await self._open(target)
        line |= {"number": connection.number, "opened": connection.opened}
        latest = time.monotonic()
        try:
            async for answer in connection.events(_EVENTS):
                now = time.monotonic()
                if not answer.release:
                    line |= {"status": answer.status, "answered": now}
                    continue
                line["gap"] = max(line["gap"], now - latest)
                line |= {"release": answer.release, "events": line["events"] + 1}
                latest = now
        finally:
            connection.close()

    def _write(self, line: Mapping[str, Any]) -> None:
        self._log.write(json.dumps({**line, "end": time.monotonic()}) + "\n")


def _wrong(answer: Answer, size: int) -> str:
    """Return the mismatch between an answer of 200 and the body sent, or the text of an error."""
    if answer.status != 200:
        return answer.body[:200].decode("latin-1")
    if not size:
        return ""
    sent, digest = body(size)
    right = f'"length":{len(sent)},'.encode() in answer.body and f'"sha256":"{digest}"'.encode() in answer.body
    return "" if right else f"{size} bytes were sent, and {answer.body[:200]!r} was answered"


def _end(over: asyncio.Event) -> None:
    over.set()
    asyncio.get_running_loop().remove_reader(sys.stdin)


async def _serve(orders: Mapping[str, Any], log: TextIO) -> None:
    over, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.add_reader(sys.stdin, _end, over)
    client = Client([Target(*target) for target in orders["targets"]], orders["turn"], log)
    for _, _, size, _ in orders["turn"]:
        body(size)
    await client.connect(orders["kept"])
    gc.freeze()
    print("begun", flush=True)  # noqa: T201 - how the test hears of it
    await client.run(orders["rate"], orders["streams"], over)


def main() -> None:
    """Follow the orders until standard input ends."""
    orders = json.loads(sys.stdin.readline())
    began, before = time.monotonic(), time.process_time()
    with Path(orders["log"]).open("w", encoding="utf-8") as log:
        asyncio.run(_serve(orders, log))
    cost = {"cpu": time.process_time() - before, "seconds": time.monotonic() - began}
    print(json.dumps(cost))  # noqa: T201


if __name__ == "__main__":
    main()
