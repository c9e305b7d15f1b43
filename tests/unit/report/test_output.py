"""Output for a person or a program."""

from __future__ import annotations

import io
import json
import os

import pytest

from tasks.engine.errors import LoopError, Unreachable, UsageError
from tasks.engine.report import output

PROBLEM = LoopError("it failed", where="shire01", next="fab doctor", code="busy", detail=("one", "\x1b[31mtwo"))


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_line_is_written_whatever_the_terminal_can_show(encoding: str) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding)
    output.Writer(stream).line("café → 漢 \ud800")
    shown = raw.getvalue().decode(encoding)
    assert shown.startswith("caf")
    assert shown.endswith("\\ud800\n")
    if encoding == "utf-8":
        assert shown == "café → 漢 \\ud800\n"


def test_a_line_never_steers_the_terminal() -> None:
    stream = io.StringIO()
    output.Writer(stream).line("a\x1b[2Jb\nforged: line")
    assert stream.getvalue() == "a\\x1b[2Jb\\x0aforged: line\n"


def test_a_reader_that_has_gone_makes_it_silent_and_ends_nothing() -> None:
    read, write = os.pipe()
    stream = os.fdopen(write, "w")
    writer = output.Writer(stream)
    os.close(read)
    writer.line("nobody hears this")
    assert writer.closed
    writer.line("nor this")
    stream.close()


def test_an_error_says_what_where_why_and_what_next() -> None:
    assert list(output.error_lines(PROBLEM)) == [
        "error: it failed",
        "   at: shire01",
        "    | one",
        "    | \x1b[31mtwo",
        " next: fab doctor",
    ]
    assert list(output.error_lines(LoopError("bare"))) == ["error: bare"]


def test_an_error_is_one_document_for_a_program(capsys: pytest.CaptureFixture[str]) -> None:
    output.error(PROBLEM, as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert told == {
        "schema": 1,
        "error": {"code": "busy", "message": "it failed", "path": "shire01", "next": "fab doctor",
                  "detail": ["one", "\x1b[31mtwo"]},
    }  # fmt: skip


def test_an_error_for_a_person_goes_to_standard_error_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    output.error(PROBLEM, as_json=False)
    out, err = capsys.readouterr()
    assert out == ""
    assert "\x1b" not in err
    assert "\\x1b[31mtwo" in err


@pytest.mark.parametrize(("kind", "status"), [(LoopError, 1), (UsageError, 2), (Unreachable, 3)])
def test_each_kind_of_error_has_its_exit_status(kind: type[LoopError], status: int) -> None:
    assert kind("x").exit_status == status


def test_columns_are_as_wide_as_what_they_show() -> None:
    rows = [("host", "state"), ("shire01\x1b", "ok"), ("s", "a long last cell")]
    assert list(output.table(rows)) == ["host         state", "shire01\\x1b  ok", "s            a long last cell"]
    assert list(output.table([])) == []
