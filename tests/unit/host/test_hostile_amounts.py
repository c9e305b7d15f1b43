"""Output of a host in any amount and depth: the controller keeps a bounded part, in bounded time."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.engine import parallel, untrusted_json
from tasks.engine.diagnose import drift
from tasks.engine.errors import UsageError
from tasks.engine.events import Line
from tasks.engine.fleet import remote_command
from tasks.engine.host import log_entries, log_text, protocol
from tasks.engine.host.facts import Facts
from tasks.engine.host.protocol import KEPT, Reader, Report, TooMuch, Transcript
from tasks.engine.logs import lines, merge
from tasks.engine.release.python_target import Target
from tasks.engine.report import output
from tests.promises.words import CALM
from tests.support.nasty_texts import TEXTS
from tests.support.stand_ins import reported

pytestmark = pytest.mark.promise(CALM, "a host that answers at any length and depth")


def test_what_drifted_by_the_hundred_thousand_is_not_all_compared() -> None:
    asked: list[str] = []

    def source(release: str, path: str) -> None:
        asked.append(release + path)

    facts = Facts(drift=tuple(f"edited /opt/apps/myapp/releases/a/code/{number}" for number in range(100_000)))
    assert len(drift.examine((), facts, source)) == 100_000
    assert len(asked) <= 100


@pytest.mark.parametrize("depth", [untrusted_json.DEPTH, untrusted_json.DEPTH + 1, 900, 1000, 100_000, 1_000_000])
@pytest.mark.parametrize("sign", ["[]", "{}"])
def test_what_is_nested_too_deeply_is_no_value(depth: int, sign: str) -> None:
    opening = "[" if sign == "[]" else '{"":'
    text = opening * (depth - 1) + sign + sign[1] * (depth - 1)
    if depth <= untrusted_json.DEPTH:
        json.loads(output.encoded({"value": untrusted_json.load(text)}, 2))
    else:
        with pytest.raises(ValueError, match=r"nested too deeply|too long"):
            untrusted_json.load(text)


def test_what_json_does_not_have_comes_as_words() -> None:
    assert untrusted_json.load("[NaN, Infinity, -Infinity, 1e999, 1e9]") == [
        "NaN",
        "Infinity",
        "-Infinity",
        "1e999",
        1e9,
    ]


def test_an_answer_without_an_end_is_given_up() -> None:
    """Once: a host that answered forever filled the controller's memory."""
    with pytest.raises(TooMuch, match="64 MiB"):
        answer(reported("nonce", "fact", "x" * 65_000), 2 * KEPT)


def test_many_short_answers_count_as_what_they_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "KEPT", 1024**2)
    with pytest.raises(TooMuch):
        answer(reported("nonce", "x", ""), 1024**2 // 3 * 2)


SMILE = "\U0001f600"
"""A character of 4 bytes, in UTF-8 and in memory, as is every other one of a text that has it."""


def test_an_answer_counts_as_the_memory_that_its_characters_take(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once: one emoji in each line made the controller keep four times the limit."""
    monkeypatch.setattr(protocol, "KEPT", 1024**2)
    answer(reported("nonce", "fact", "x" * 5000), 1024**2 // 2)
    with pytest.raises(TooMuch):
        answer(reported("nonce", "fact", SMILE + "x" * 5000), 1024**2 // 2)


def test_lines_count_as_the_memory_that_they_take() -> None:
    text = SMILE + "x" * 50_000
    entry = log_entries.Entry(0, "h", "-", "info", text, "c")
    assert entry.size > 200_000
    kept = remote_command.Answer()
    for _ in range(20):
        kept.keep(text)
    assert (len(kept.lines), kept.dropped) == (5, 15)
    assert parallel._size(Line("h", text, "log")) > 200_000
    (found,) = Reader("nonce").feed(reported("nonce", "output", SMILE * 50_000))
    assert len(found.text.encode()) <= protocol.LINE_LIMIT + 4
    # A cursor is as long as its line allows.
    line = json.dumps({"MESSAGE": "m", "__CURSOR": "c" * 10**6, "__REALTIME_TIMESTAMP": "1"})
    assert log_entries.parse("h", line.encode()) is None


def answer(piece: bytes, size: int) -> None:
    """Return a transcript of this many bytes."""
    reader, transcript = Reader("nonce"), Transcript()
    for _ in range(size // len(piece)):
        for item in reader.feed(piece):
            transcript.add(item)


def test_a_nul_of_a_host_reaches_no_further_script() -> None:
    (found,) = Reader("nonce").feed(reported("nonce", "fact", "current_release a\0b"))
    assert found == Report("fact", "current_release a\ufffdb")


def _refusal(**values: object) -> str | None:
    """Return the refusal of a Python with these values; None if it is accepted."""
    named = {"python": "3.11.2", "abi": "cp311", "machine": "x86_64", "libc": ("glibc", 2, 36), **values}
    try:
        Target(**named)  # type: ignore[arg-type]  # a table of wrong ones
    except UsageError as error:
        return error.message
    return None


@pytest.mark.parametrize("field", ["python", "abi", "machine", "implementation"])
def test_a_python_that_cannot_be_asks_no_index_for_wheels(field: str) -> None:
    for text in TEXTS:
        plain = re.fullmatch("[A-Za-z0-9_][A-Za-z0-9_.+-]{0,60}", text) is not None
        said = _refusal(**{field: text})
        assert plain or said is not None
        assert len(said or "") < 400


@pytest.mark.parametrize("libc", [("glibc", 2, 10**9), ("glibc", 10**4000, 2), ("musl", 1, -1), ("other", 1, 1)])
def test_a_libc_that_cannot_be_makes_no_million_tags(libc: tuple[str, int, int]) -> None:
    """Once: a host's report of its libc made pip consider a billion platforms."""
    assert _refusal(libc=libc) is not None


@given(pieces=st.lists(st.binary(max_size=50), max_size=20), limit=st.integers(1, 40))
def test_cut_lines_are_no_longer_than_they_may_be(pieces: list[bytes], limit: int) -> None:
    found = list(lines.cut(pieces, limit))
    whole = b"".join(pieces).split(b"\n")
    assert [line for line in found if line is not None] == [
        line for number, line in enumerate(whole) if len(line) <= limit and (line or number < len(whole) - 1)
    ]


HUGE: dict[str, Callable[[], object]] = {
    "a level": lambda: log_text.format_line('{"message": "m", "level": "' + "x" * 10**6 + '"}'),
    "a time": lambda: log_entries.parse(
        "h", b'{"MESSAGE": "m", "__CURSOR": "c", "__REALTIME_TIMESTAMP": "%d"}' % 10**4000
    ),
    "a clock": lambda: merge.Merge[str](1, 10).push("h", 1e300, "x", 1, 0, 0),
}  # fmt: skip


@pytest.mark.parametrize("what", HUGE)
def test_what_is_huge_is_still_read(what: str) -> None:
    HUGE[what]()
