"""The count of an upload, and the lines about it."""

from __future__ import annotations

from tasks.engine.deploy.upload_progress import counted
from tasks.engine.events import Sent, Step
from tasks.engine.report.lines import Pace, as_dict, lines


def progress(pieces: int, seconds: float) -> list[tuple[int, float]]:
    """Return the reports for pieces of ten bytes, of this many seconds each; two of the bytes belong to no file."""
    now, found = [0.0], list[tuple[int, float]]()
    sent = counted(
        [b"x" * 10] * pieces, 10 * pieces - 2, lambda gone, after: found.append((gone, after)), lambda: now[0]
    )
    for piece in sent:
        assert piece == b"x" * 10
        now[0] += seconds
    return found


def test_what_is_quick_is_not_told_and_what_takes_time_is_told_each_second() -> None:
    assert progress(100, 0.001) == []
    assert progress(1, 0.5) == []
    assert progress(8, 0.5) == [(20, 1.0), (40, 2.0), (60, 3.0), (78, 4.0)]


def test_a_line_comes_after_three_seconds_then_every_ten_and_at_the_end() -> None:
    pace = Pace()
    events = [Sent("shire01", "stage", second, 26, float(second)) for second in range(1, 27)]
    assert [event.sent for event in events if pace.due(event)] == [3, 13, 23, 26]
    # The next upload to this host, and one to another beside it.
    assert [event.sent for event in events[:5] if pace.due(event)] == [3]
    assert [event.sent for event in events[:5] if pace.due(event._replace(host="shire02"))] == [3]
    assert pace.due(Step("shire01", "stage", "verify"))


def test_an_upload_that_ends_before_its_first_line_gets_none() -> None:
    assert not Pace().due(Sent("shire01", "stage", 5, 5, 2.0))


def test_an_upload_in_words_and_in_json() -> None:
    event = Sent("shire01", "stage", 45_000_000, 200_000_000, 4.0)
    assert list(lines(event, 8)) == ["shire01   stage     sent: 45.0 of 200.0 MB, 11.2 MB/s"]
    assert as_dict(event) == {"event": "sent", "host": "shire01", "phase": "stage", "sent": 45_000_000,
                              "total": 200_000_000, "seconds": 4.0}  # fmt: skip
