"""Lines of many hosts that are followed: one host that sends without an end fills no memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from tasks.engine.host.log_entries import Entry, Wanted
from tasks.engine.logs import follow
from tests.support.small_service import SERVICE


def test_what_has_no_room_leaves_while_another_host_has_not_sent_its_past_lines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(follow, "_ROOM", 10_000)
    sent = [0]

    def items() -> Iterator[follow._Item]:
        yield follow._CaughtUp("shire01")
        for _ in range(100):
            sent[0] += 1
            yield Entry(1.0, "shire01", "-", "info", "x" * 1000, "")

    streams = follow._Streams(Wanted(), {"shire01": SERVICE, "shire02": SERVICE})
    shown = follow._merged(items(), streams, threading.Event(), lambda: False)
    next(shown)
    assert sent[0] < 20
    assert len(list(shown)) == 99
