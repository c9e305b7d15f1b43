"""The reader of what scripts print: the same lines however they arrive, and never more memory than it promises."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.engine.host.marks import LINE_LIMIT, MARK_LIMIT, Mark, Output, Reader, Transcript

NONCE = "0123456789abcdef"


def read(data: bytes, sizes: list[int]) -> list[Mark | Output]:
    """What comes of the data in pieces of these sizes, again and again."""
    found: list[Mark | Output] = []
    reader, start = Reader(NONCE), 0
    while start < len(data):
        size = sizes[len(found) % len(sizes)]
        found += list(reader.feed(data[start : start + size]))
        start += size
    return [*found, *reader.close()]


LINES = st.lists(
    st.one_of(
        st.binary(max_size=30),
        st.sampled_from(
            [b"@" + NONCE.encode() + b" step x", b"@" + NONCE.encode(), b" @" + NONCE.encode() + b" step x"]
        ),
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


@pytest.mark.parametrize("size", [LINE_LIMIT - 1, LINE_LIMIT, LINE_LIMIT + 1, 3 * LINE_LIMIT])
def test_a_long_line_is_the_same_in_one_piece_and_in_many(size: int) -> None:
    data = b"x" * size + b"\nafter\n"
    found = read(data, [len(data)])
    assert read(data, [4096]) == read(data, [65536]) == read(data, [1000, 7]) == found
    kept = "x" * size if size <= LINE_LIMIT else "x" * LINE_LIMIT + " ..."
    assert found == [Output(kept), Output("after")]


def test_a_mark_of_megabytes_arrives_whole() -> None:
    data = b"@" + NONCE.encode() + b" data /etc/x " + b"A" * (4 * 1024 * 1024) + b"\n"
    (mark,) = read(data, [65536])
    assert mark == Mark("data", "/etc/x " + "A" * (4 * 1024 * 1024))


def test_a_mark_beyond_its_limit_is_no_mark() -> None:
    data = b"@" + NONCE.encode() + b" data " + b"A" * (MARK_LIMIT + 1) + b"\nnext\n"
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


def test_a_line_that_was_dropped_ends_where_a_mark_begins() -> None:
    mark = b"@" + NONCE.encode() + b" step real\n"
    for noise in (LINE_LIMIT, LINE_LIMIT + 1, 3 * LINE_LIMIT + 5):
        data = b"x" * noise + mark + b"y\n" + b"z" * noise + b"\n" + mark
        whole = read(data, [len(data)])
        assert read(data, [4096]) == read(data, [1000, 7]) == read(data, [noise, 5]) == whole
        assert [type(one) for one in whole] == [Output, Mark, Output, Output, Mark]


def test_what_follows_a_mark_beyond_its_limit_is_still_that_mark() -> None:
    mark = b"@" + NONCE.encode() + b" data " + b"A" * (MARK_LIMIT + 100)
    for sizes in ([65536], [len(mark), 9], [MARK_LIMIT + 7 + len(NONCE)]):
        found = read(mark + b"@" + NONCE.encode() + b" step inside\n", sizes)
        assert [type(one) for one in found] == [Output], sizes


@pytest.mark.parametrize(
    "line",
    [
        b"@ step x",
        b"@fedcba9876543210 step x",
        b"@" + NONCE.upper().encode() + b" step x",
        b"@" + NONCE.encode() + b"\tstep x",
        b"@" + NONCE.encode() + b"0 step x",
    ],
)
def test_nothing_but_the_nonce_makes_a_mark(line: bytes) -> None:
    (found,) = read(line + b"\n", [len(line) + 1])
    assert isinstance(found, Output)


@pytest.mark.parametrize("before", [b"x", b"\r", b"\0", b"\xff", b"@", b"@" + NONCE.encode(), b"\xc3"])
def test_a_mark_ends_the_line_that_it_stands_in(before: bytes) -> None:
    for size in (1, 3, 100):
        first, second = read(before + b"@" + NONCE.encode() + b" step x\n", [size])
        assert isinstance(first, Output)
        assert second == Mark("step", "x")


def test_a_mark_that_was_cut_off_is_never_believed() -> None:
    assert read(b"@" + NONCE.encode() + b" end o", [100]) == [Output(f"@{NONCE} end o")]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (b"progress\r", Output("progress")),
        (b"a\0b", Output("a\0b")),
        (b"\xff\xfe", Output("\ufffd\ufffd")),
        (b"", Output("")),
        (b"@" + NONCE.encode() + b" step", Mark("step", "")),
        (b"@" + NONCE.encode() + b" step  two  blanks ", Mark("step", " two  blanks ")),
    ],
)
def test_bytes_become_text(line: bytes, found: Mark | Output) -> None:
    assert read(line + b"\n", [3]) == [found]


def test_a_transcript_keeps_marks_by_word_and_the_last_of_the_rest() -> None:
    transcript = Transcript()
    for number in range(100):
        transcript.add(Output(f"line {number}"))
        transcript.add(Output(" " * (number % 4)))
    for rest in ("one", "two"):
        transcript.add(Mark("step", rest))
    assert list(transcript.tail) == [f"line {number}" for number in range(80, 100)]
    assert (transcript.all("step"), transcript.last("step"), transcript.last("failed")) == (("one", "two"), "two", None)
    assert not transcript.ended
    transcript.add(Mark("end", "ok"))
    assert transcript.ended
