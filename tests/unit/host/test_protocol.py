"""The reader of the steps' output: the same lines in pieces of any size, and bounded memory."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.engine.host.protocol import DATA_LIMIT, LINE_LIMIT, TEXT_LIMIT, Output, Reader, Report, Transcript
from tests.support.stand_ins import reported

NONCE = "0123456789abcdef"


def read(data: bytes, sizes: list[int]) -> list[Report | Output]:
    """Return the reports from data in pieces of these sizes, in turn."""
    found: list[Report | Output] = []
    reader, start = Reader(NONCE), 0
    while start < len(data):
        size = sizes[len(found) % len(sizes)]
        found += list(reader.feed(data[start : start + size]))
        start += size
    return [*found, *reader.close()]


HEAD = f"{NONCE} ".encode()
STEP = reported(NONCE, "step", "x")
DATA = HEAD + b'{"report": "data", "text": "'


LINES = st.lists(
    st.one_of(
        st.binary(max_size=30),
        st.sampled_from([STEP[:-1], HEAD, b" " + STEP[:-1], b"x" + STEP[:-1], STEP[:-3], b""]),
        st.sampled_from(["ü".encode(), "ü".encode()[:1], b"\r", b"\0", b"a\r"]),
    ),
    max_size=12,
)


@given(lines=LINES, sizes=st.lists(st.integers(1, 40), min_size=1, max_size=5))
@settings(deadline=None)
def test_the_pieces_in_which_it_arrives_change_nothing(lines: list[bytes], sizes: list[int]) -> None:
    data = b"\n".join(lines)
    whole = read(data, [len(data) + 1])
    assert read(data, [1]) == whole
    assert read(data, sizes) == whole


@pytest.mark.parametrize("letter", ["x", "ü"])
@pytest.mark.parametrize("size", [LINE_LIMIT - 1, LINE_LIMIT, LINE_LIMIT + 1, 3 * LINE_LIMIT])
def test_a_long_line_is_the_same_in_one_piece_and_in_many(size: int, letter: str) -> None:
    data = (letter * size).encode()[:size] + b"\nafter\n"
    found = read(data, [len(data)])
    assert read(data, [4096]) == read(data, [65536]) == read(data, [1000, 7]) == found
    kept = data[: min(size, LINE_LIMIT)].decode("utf-8", "replace")
    assert found == [Output(kept if size <= LINE_LIMIT else f"{kept} ..."), Output("after")]


def test_a_report_of_megabytes_arrives_whole() -> None:
    data = reported(NONCE, "data", "/etc/x " + "A" * (4 * 1024 * 1024))
    (found,) = read(data, [65536])
    assert found == Report("data", "/etc/x " + "A" * (4 * 1024 * 1024))


@pytest.mark.parametrize(("word", "limit"), [("data", DATA_LIMIT), ("same", TEXT_LIMIT)])
def test_a_report_beyond_its_limit_is_no_report(word: str, limit: int) -> None:
    data = reported(NONCE, word, "A" * (limit + 1)) + b"next\n"
    for sizes in ([len(data)], [65536]):
        first, second = read(data, sizes)
        assert isinstance(first, Output)
        assert len(first.text) < LINE_LIMIT + 10
        assert second == Output("next")


def test_ten_megabytes_without_a_line_keep_memory_flat() -> None:
    reader, piece, found = Reader(NONCE), b"x" * 65536, 0
    tracemalloc.start()
    try:
        for _ in range(160):
            found += len(list(reader.feed(piece)))
        found += len(list(reader.close()))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found == 1
    assert peak < 1024 * 1024


@pytest.mark.parametrize("value", ["[],", '{"":0},', "0,", '"",', "[" * 50_000 + "]" * 50_000 + ","])
def test_eight_megabytes_of_values_are_not_made(value: str) -> None:
    data = HEAD + b'{"report": "data", "x": [' + value.encode() * (7 * 1024 * 1024 // len(value)) + b"0]}\n"
    tracemalloc.start()
    try:
        (found,) = read(data, [len(data)])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert isinstance(found, Output)
    assert peak < 6 * len(data)


def test_a_line_that_was_dropped_ends_where_it_ends() -> None:
    for noise in (LINE_LIMIT, LINE_LIMIT + 1, 3 * LINE_LIMIT + 5):
        data = b"x" * noise + b"\n" + STEP + b"y\n" + b"z" * noise + STEP + STEP
        whole = read(data, [len(data)])
        assert read(data, [4096]) == read(data, [1000, 7]) == read(data, [noise, 5]) == whole
        assert [type(one) for one in whole] == [Output, Report, Output, Output, Report]


def test_what_follows_a_report_beyond_its_limit_is_still_that_report() -> None:
    line = DATA + b"A" * (DATA_LIMIT + 100)
    for sizes in ([65536], [len(line), 9], [DATA_LIMIT + 7 + len(NONCE)]):
        found = read(line + STEP, sizes)
        assert [type(one) for one in found] == [Output], sizes


@pytest.mark.parametrize(
    "line",
    [
        STEP.removeprefix(NONCE.encode()),
        STEP.removeprefix(HEAD),
        STEP.replace(NONCE.encode(), b"fedcba9876543210"),
        STEP.replace(NONCE.encode(), NONCE.upper().encode()),
        STEP.replace(b" ", b"\t", 1),
        STEP.replace(b" ", b"0 ", 1),
        b"@" + STEP,
    ],
)
def test_nothing_but_the_nonce_makes_a_report(line: bytes) -> None:
    (found,) = read(line, [len(line)])
    assert isinstance(found, Output)


@pytest.mark.parametrize("before", [b"x", b"\r", b"\0", b"\xff", b"@", HEAD, b"\xc3", b"{"])
def test_a_report_begins_at_the_begin_of_a_line(before: bytes) -> None:
    for size in (1, 3, 100):
        (first,) = read(before + STEP, [size])
        assert isinstance(first, Output)
        first, second = read(before + b"\n" + STEP, [size])
        assert isinstance(first, Output)
        assert second == Report("step", "x")


def test_a_report_that_was_cut_off_is_never_believed() -> None:
    for end in range(1, len(STEP)):
        assert read(STEP[:end], [100]) == [Output(STEP[:end].decode())]


@pytest.mark.parametrize(
    "text",
    [
        "", "x", "{", "{}", "[]", "7", "null", '"step"', '["step"]', '{"report": "step"', '{"report": "step"} x',
        '{"report": 7}', '{"report": null, "text": "x"}', '{"report": ["step"], "text": "x"}', '{"text": "x"}',
        '{"report": "step", "text": 7}', '{"report": "step", "text": ["x"]}', '{"report": "step", "text": null}',
        "{'report': 'step'}", '{"report": "step", "text": "\\x"}',
        '{"report": "step", "report": 7}', '{"report": "step", "text": "a\0b"}', '\ufeff{"report": "step"}',
        '{"report": "step", "x": ' + "[" * 100_000, '{"report": "step", "x": ' + "[" * 900 + "]" * 900 + "}",
        '{"report": "step", "x": ' + '{"":' * 50_000 + "0" + "}" * 50_001,
        '{"report": "step", "x": ' + "9" * 5000 + "}",
    ],
)  # fmt: skip
def test_what_is_no_report_is_output(text: str) -> None:
    line = f"{NONCE} {text}"
    found = read(f"{line}\n".encode(), [65536])
    assert found == [Output(line if len(line) <= LINE_LIMIT else found[0][0])]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"report": "step"}', Report("step", "")),
        ('{"text": "x", "report": "step", "more": [1, {}]}', Report("step", "x")),
        ('{"report": "no", "report": "step", "text": "x", "text": "y"}', Report("step", "y")),
        ('  {"report":"step","text":"x"}  \r', Report("step", "x")),
        (r'{"report": "st\u0065p", "text": "a\ud800b\udcffc"}', Report("step", "a?b?c")),
        (r'{"report": "step\u0000\n", "text": "a\u0000b\nc"}', Report("step\ufffd ", "a\ufffdb c")),
        (r'{"report": "step", "text": "\ud83d\ude00 \u001b[2J"}', Report("step", "\U0001f600 \x1b[2J")),
        ('{"report": "step", "text": NaN}', Report("step", "NaN")),
        ('{"report": "output", "text": "of a program"}', Output("of a program")),
        ('{"report": "output", "text": "' + "x" * 70_000 + '"}', Output("x" * LINE_LIMIT + " ...")),
    ],
)
def test_a_report_is_one_line_of_letters_that_can_be_written(text: str, found: Report | Output) -> None:
    assert read(HEAD + text.encode() + b"\n", [65536]) == [found]


def test_bytes_that_are_no_text_come_as_what_stands_for_them() -> None:
    assert read(HEAD + b'{"report": "same", "text": "a\xff\xfe b"}\n', [65536]) == [Report("same", "a\ufffd\ufffd b")]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (b"progress\r", Output("progress")),
        (b"a\0b", Output("a\0b")),
        (b"\xff\xfe", Output("\ufffd\ufffd")),
        (b"", Output("")),
        (reported(NONCE, "step", "")[:-1], Report("step", "")),
        (reported(NONCE, "step", " two  blanks ")[:-1], Report("step", " two  blanks ")),
    ],
)
def test_bytes_become_text(line: bytes, found: Report | Output) -> None:
    assert read(line + b"\n", [3]) == [found]


def test_a_transcript_keeps_reports_by_word_and_the_last_of_the_rest() -> None:
    transcript = Transcript()
    for number in range(100):
        transcript.add(Output(f"line {number}"))
        transcript.add(Output(" " * (number % 4)))
    for rest in ("one", "two"):
        transcript.add(Report("step", rest))
    assert list(transcript.tail) == [f"line {number}" for number in range(80, 100)]
    assert (transcript.all("step"), transcript.last("step"), transcript.last("failed")) == (("one", "two"), "two", None)
    assert not transcript.ended
    transcript.add(Report("end", "ok"))
    assert transcript.ended
