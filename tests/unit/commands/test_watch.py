"""`fab status --watch` on terminals of several kinds, with twelve hosts that refuse the connection."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from tests.support import terminal
from tests.support.clone import Clone, make
from tests.support.stand_ins import closed_port, write_inventory


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    folder = tmp_path_factory.mktemp("watch")
    entry: dict[str, object] = {"address": "127.0.0.1", "port": closed_port(), "user": "deploy"}
    inventory = write_inventory(folder / "hosts.yaml", {f"shire{number:02}": dict(entry) for number in range(1, 13)})
    return replace(make(folder, inventory), environment={"TERM": "xterm"})


@pytest.mark.parametrize(("rows", "columns"), [(9, 80), (6, 40), (20, 120)])
def test_a_look_fits_the_terminal_and_replaces_the_one_before(clone: Clone, rows: int, columns: int) -> None:
    """Once: a look with more lines than the terminal scrolled, and stayed above the next one."""
    first, second = terminal.looks(clone, rows, columns)
    for look in (first, second):
        lines = re.sub(r"\x1b\[\??\d*[A-Za-z]", "", look).replace("\r", "").rstrip("\n").split("\n")
        assert lines[0].startswith("host ")
        assert len(lines) < rows
        assert max(map(len, lines)) <= columns
        assert [line[:7] for line in lines[1:-1]] == [f"shire{number:02}" for number in range(1, len(lines) - 1)]
        assert lines[-1].endswith("" if rows > 14 else f"  {14 - len(lines)} of 12 hosts not shown")
        assert look.count("\x1b[1A") == len(lines)


def test_another_size_of_the_terminal_clears_what_it_has_wrapped(clone: Clone) -> None:
    with terminal.watched(clone, rows=9) as screen:
        screen.until("hosts not shown")
        assert "\x1b[2J" not in screen.shown
        screen.resize(7, 60)
        screen.until(r"\x1b\[2J\x1b\[H[^h]*host ")
        screen.until(r"\n\d\d:\d\d:\d\d  8 of 12 hosts not shown")


@pytest.mark.parametrize("kind", ["dumb", "unknown"])
def test_a_terminal_whose_cursor_cannot_move_gets_one_look_after_the_other(clone: Clone, kind: str) -> None:
    """Once: a dumb terminal got the codes that move the cursor."""
    dumb = replace(clone, environment={"TERM": kind})
    first, second = terminal.looks(dumb, last="shire12.*")
    assert first == second
    assert "\x1b" not in first
    assert first.count("\n") == 14
