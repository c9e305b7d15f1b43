"""The live screen: forty hosts on a small terminal, and no byte of a host that steers it."""

from __future__ import annotations

import io
import sys

import pytest
from rich.console import Console

from tasks.engine.errors import LoopError
from tasks.engine.events import Failed, Finished, Line, Notice, Sent, Step
from tasks.engine.report import live
from tasks.engine.report.screen import Screen
from tasks.engine.report.summary import Tally

HOSTS = tuple(f"shire{number:02}" for number in range(1, 41))


def screen(hosts: tuple[str, ...] = HOSTS, width: int = 80, height: int = 24) -> tuple[Screen, io.StringIO]:
    """Return a screen on a terminal in memory; nothing is drawn by itself."""
    made = Screen(hosts, Console(file=io.StringIO(), width=width, height=height, force_terminal=True, no_color=True))
    written = made.console.file
    assert isinstance(written, io.StringIO)
    return made, written


def drawn(made: Screen) -> list[str]:
    """Return the live part as it would be drawn now."""
    plain = Console(file=io.StringIO(), width=made.console.width, height=made.console.height)
    plain.print(made.picture())
    assert isinstance(plain.file, io.StringIO)
    return plain.file.getvalue().splitlines()


@pytest.mark.parametrize(("width", "height"), [(80, 24), (40, 10), (200, 60)])
def test_forty_hosts_fit_and_those_under_way_are_shown(width: int, height: int) -> None:
    made, _ = screen(width=width, height=height)
    for host in HOSTS[:20]:
        made.show(Finished(host, "deployed", "x -> y", 2.0))
    for host in HOSTS[30:33]:
        made.show(Step(host, "activate", "check", "/readyz on slot green " * 10))
    lines = drawn(made)
    assert len(lines) < height
    assert all(len(line) <= width for line in lines)
    assert [line.split()[0] for line in lines if " check: " in line or "activate" in line] == list(HOSTS[30:33])
    assert "20 of 40 hosts" in lines[-1]
    made.close(Tally(HOSTS), None)


def test_a_failure_stays_above_the_live_lines_with_its_cause() -> None:
    made, written = screen()
    made.show(Failed("shire02", LoopError("it broke", next="fab logs", detail=("boom",)), "release x", 1.0))
    made.show(Notice("wave 2 of 3: shire02"))
    text = written.getvalue()
    assert "FAILED  it broke" in text
    assert "    | boom" in text
    assert "serves now: release x" in text
    assert "-- wave 2 of 3" in text
    made.close(Tally(HOSTS), None)


def test_what_a_host_says_cannot_steer_the_terminal() -> None:
    made, written = screen(("a",))
    made.show(Step("a", "stage", "send", "\x1b[2J\x1b]0;owned\x07\u202e"))
    made.show(Line("a", "\x1b[2Jgone\r", "warning"))
    shown = "\n".join(drawn(made)) + written.getvalue()
    assert "\x1b[2J" not in shown
    assert "\u202e" not in shown
    assert "\\x1b[2Jgone\\x0d" in shown
    made.close(Tally(("a",)), None)


def test_an_upload_shows_its_bytes_in_the_line_of_its_host() -> None:
    made, _ = screen(("shire01", "shire02"))
    made.show(Step("shire01", "stage", "receive"))
    made.show(Sent("shire01", "stage", 45_000_000, 200_000_000, 4.0))
    (line,) = (line for line in drawn(made) if line.startswith("shire01"))
    assert "stage" in line
    assert "sent: 45.0 of 200.0 MB, 11.2 MB/s" in line
    made.close(Tally(("shire01", "shire02")), None)


class Terminal(io.TextIOWrapper):
    """A terminal in memory, with an encoding of its own."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_that_lacks_a_character_shows_a_question_mark(
    encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once: the `…` of a line that was cut ended the run on such a terminal, and so did a host's own text."""
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", Terminal(raw, encoding=encoding))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "40")
    made = Screen(("a",))
    made.show(Step("a", "stage", "send", "漢 " * 40))
    made.show(Line("a", "→ there", "warning"))
    made.close(Tally(("a",)), None)
    shown = raw.getvalue().decode(encoding)
    assert "a  warning: ? there" in shown
    assert "send: ? ? " in shown


def test_the_cursor_stays_visible_for_an_exit_at_once() -> None:
    """Once: after a second Ctrl-C the terminal had no cursor."""
    made, written = screen()
    assert written.getvalue().rpartition("\x1b[?25")[2].startswith("h")
    made.close(Tally(HOSTS), None)


@pytest.mark.parametrize(("room", "chosen"), [(9, "dabca"), (5, "dabca"), (3, "aba"), (2, "aa"), (1, "a"), (0, "")])
def test_items_of_a_low_rank_come_first_and_keep_their_order(room: int, chosen: str) -> None:
    assert "".join(live.fitting("dabca", room, ord)) == chosen
