"""The levels and tracebacks in the lines of an application that knows nothing of us."""

from __future__ import annotations

import io
import logging
import random
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.engine.config.service import Service
from tasks.engine.host import log_entries, log_text, plain_lines
from tasks.engine.host.log_entries import Entry
from tasks.engine.logs import tracebacks

PROGRAM = """
import logging, sys
logging.basicConfig(format=sys.argv[1] or logging.BASIC_FORMAT)
try:
    try:
        try:
            {}["a"]
        except KeyError as error:
            raise LookupError("second") from error
    except LookupError:
        class Own(Exception): pass
        def raises(): raise Own
        raises()
except Exception:
    logging.exception("it %s", "failed")
"""
FORMATS = (
    "", "%(asctime)s - %(name)s - %(levelname)s - %(message)s",
    "[%(asctime)s] %(levelname)s in %(module)s: %(message)s",
    "%(asctime)s %(levelname)-8s %(message)s", "[%(levelname)s] %(message)s", "%(levelname)s: %(message)s",
    "%(levelname)s %(asctime)s %(module)s %(process)d %(message)s",
    "[%(asctime)s: %(levelname)s/MainProcess] %(message)s",
    "%(name)s - %(levelname)s - %(message)s", "%(asctime)s | %(levelname)-8s | %(message)s",
    "%(asctime)s %(process)d %(name)s %(levelname)s %(message)s",
)  # fmt: skip


@pytest.mark.parametrize("name", ["CRITICAL", "ERROR", "WARNING", "INFO", "DEBUG"])
@pytest.mark.parametrize("form", FORMATS)
def test_a_level_is_found_in_every_usual_form_of_logging(form: str, name: str) -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter(form or logging.BASIC_FORMAT))
    handler.handle(logging.makeLogRecord({"levelname": name, "msg": "a message", "name": "my.app"}))
    assert plain_lines.level(stream.getvalue().rstrip()) == plain_lines.LEVELS[name.lower()]


@pytest.mark.parametrize(
    ("line", "level"),
    [
        ("[2026-01-31 12:00:00 +0000] [123] [ERROR] Exception in worker process", "error"),
        ("[2026-01-31 12:00:00 +0000] [123] [INFO] Booting worker: ERROR", "info"),
        ("[31/Jan/2026 12:00:00] WARNING [django.request:241] Not Found: /", "warning"),
        ("2026-01-31T12:00:00.123456Z [WARNING] x", "warning"),
        ("WARN 2026-01-31 x", "warning"),
        ("INFO:     Started server process [7]", "info"),
        ("ERRORS: 0", None),
        ("Error: no such file", None),
        ("error in the pump", None),
        ("the ERROR is here", None),
        ("2026-01-31 12:00:00 a line that only speaks of an ERROR", None),
        ('192.0.2.7 - - [31/Jan/2026:12:00:00 +0000] "GET /ERROR HTTP/1.1" 200', None),
        ("", None),
        ("[" * 300, None),
    ],
)
def test_other_lines_have_the_level_that_they_name_as_a_level(line: str, level: str | None) -> None:
    assert plain_lines.level(line) == level


def lines(texts: list[str], stream: str = "web 7", began: float = 100.0, pause: float = 0.0) -> list[Entry]:
    """Return lines as the journal has them, without the empty ones."""
    texts = [text for text in texts if text]
    return [
        Entry(began + pause * place, "h", stream.split()[0], plain_lines.level(text) or "info", text, "c", "x", stream)
        for place, text in enumerate(texts)
    ]


def said(form: str = "") -> list[str]:
    """Return what a program that logs a chained exception prints."""
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, form], capture_output=True, text=True, check=True
    ).stderr.splitlines()


def both(entries: list[Entry]) -> list[Entry]:
    """Join past lines; it is the same from either end."""
    found = list(tracebacks.oldest_first(entries))
    assert list(tracebacks.newest_first(reversed(entries)))[::-1] == found
    return found


def followed(entries: list[Entry], now: float = 0.0) -> list[Entry]:
    """Join lines that arrive at once."""
    joiner = tracebacks.Joiner()
    return [*(entry for line in entries for entry in joiner.push(line, now)), *joiner.rest()]


@pytest.mark.parametrize("form", FORMATS)
def test_a_logged_and_chained_traceback_is_one_error(form: str) -> None:
    texts = said(form)
    assert sum(line.startswith("Traceback ") for line in texts) == 3
    expected = "\n".join(filter(None, texts))
    entries = lines(["before", *texts, "after"])
    for found in (both(entries), followed(entries)):
        assert [(entry.level, entry.text) for entry in found] == [
            ("info", "before"), ("error", expected), ("info", "after"),
        ]  # fmt: skip
    shown = log_text.format_line(expected)
    assert shown[0] == texts[0]
    assert all(line.startswith("  ") for line in shown[1:])
    assert found[1].as_dict()["text"] == expected


def test_a_bare_traceback_is_one_error_and_does_not_join_a_line_that_is_no_logging_call() -> None:
    texts = said()[1:]
    found = both(lines(["plain", *texts, "ERROR:root:other"]))
    assert [(entry.level, entry.text.split("\n")[0]) for entry in found] == [
        ("info", "plain"), ("error", "Traceback (most recent call last):"), ("error", "ERROR:root:other"),
    ]  # fmt: skip
    assert [len(entry.text.split("\n")) for entry in found] == [1, len(list(filter(None, texts))), 1]


def test_a_group_of_exceptions_is_one_error() -> None:
    group = [
        "ERROR:root:x",
        "  + Exception Group Traceback (most recent call last):",
        '  |   File "a", line 1, in <module>',
        "  | ExceptionGroup: two (2 sub-exceptions)",
        "  +-+---------------- 1 ----------------",
        "    | Traceback (most recent call last):",
        "    | KeyError: 1",
        "    +------------------------------------",
    ]
    found = both(lines([*group, "done: 3"]))
    assert [(entry.level, entry.text) for entry in found] == [("error", "\n".join(group)), ("info", "done: 3")]


def test_processes_that_print_at_the_same_moment_do_not_mix() -> None:
    one, two = lines(said(), "web 1"), lines(said("[%(levelname)s] %(message)s"), "web 2")
    mixed = [entry for pair in zip(one, two, strict=True) for entry in pair]
    nginx = Entry(100.0, "h", "nginx", "info", "GET / 200", "c")
    for found in (both([*mixed[:5], nginx, *mixed[5:]]), followed([*mixed[:5], nginx, *mixed[5:]])):
        assert [entry.text for entry in found] == [
            "\n".join(entry.text for entry in one), "\n".join(entry.text for entry in two), "GET / 200",
        ]  # fmt: skip


def test_a_logging_call_takes_no_traceback_of_later() -> None:
    found = both([*lines(["ERROR:root:x"]), *lines(said()[1:], began=101.0)])
    assert [entry.text.split("\n")[0] for entry in found] == ["ERROR:root:x", "Traceback (most recent call last):"]


@pytest.mark.parametrize("start", range(2, 12))
def test_of_a_traceback_whose_beginning_is_not_there_the_frames_are_one_error(start: int) -> None:
    texts = list(filter(None, said()))[start:]
    found = both(lines(texts))
    whole = next((entry for entry in found if '  File "' in entry.text), found[-1])
    assert whole.level == "error"
    assert "\n".join(entry.text for entry in found) == "\n".join(texts)
    assert len(found) <= 3


def test_an_entry_waits_for_its_next_line_for_a_moment_and_what_follows_is_an_error_too() -> None:
    joiner = tracebacks.Joiner()
    first, second = lines(["ERROR:root:x", "Traceback (most recent call last):"])
    frame, end = lines(['  File "x", line 1, in y', "KeyError: 1"])
    other = Entry(100.0, "h", "nginx", "info", "GET / 200", "c")
    assert joiner.push(first, 0.0) == joiner.push(second, 0.15) == joiner.push(other, 0.2) == joiner.due(0.3) == []
    assert [entry.text.count("\n") for entry in joiner.due(0.36)] == [1, 0]
    assert joiner.push(frame, 1.0) == joiner.push(end, 1.1) == []
    assert [(entry.level, entry.text.count("\n")) for entry in joiner.due(1.4)] == [("error", 1)]


def test_a_process_that_prints_a_traceback_without_an_end_delays_others_for_less_than_half_a_second() -> None:
    joiner = tracebacks.Joiner()
    frame = lines(['  File "x", line 1, in y'])[0]
    joiner.push(frame, 0.0)
    joiner.push(Entry(100.0, "h", "nginx", "info", "GET / 200", "c"), 0.01)
    at = 0.0
    while not any(entry.source == "nginx" for entry in joiner.push(frame, at)):
        at += 0.05
    assert at < 0.5


def test_an_endless_traceback_is_entries_of_limited_size_all_of_them_errors() -> None:
    texts = ["Traceback (most recent call last):", *(f"  {number} {'x' * (number % 999)}" for number in range(20_000))]
    entries = lines([text[:400] for text in texts])
    found = followed(entries)
    assert "\n".join(entry.text for entry in found) == "\n".join(entry.text for entry in entries)
    assert {entry.level for entry in found} == {"error"}
    assert max(entry.size for entry in found) < 200_000
    assert [entry.text for entry in both(entries[:600])]


def test_many_processes_hold_little() -> None:
    joiner, held = tracebacks.Joiner(), 0
    for number in range(5000):
        (entry,) = lines(["ERROR:root:" + "x" * 2000], f"web {number}")
        held += 1 - len(joiner.push(entry, 0.0))
        assert held <= 65
    assert len(joiner._last) <= 64
    assert len(joiner.rest()) == held


WORDS = (
    "ERROR:root:m",
    "Traceback (most recent call last):",
    '  File "x", line 1, in y',
    "    code",
    "KeyError: 1",
    "During handling of the above exception, another exception occurred:",
    "plain",
    "  + Exception Group Traceback (most recent call last):",
)
STEP = st.tuples(st.sampled_from(WORDS), st.sampled_from(["", "web 1", "web 2"]), st.sampled_from([0, 0.15, 0.3]))


@given(st.lists(STEP))
def test_no_line_is_lost_or_repeated_and_those_of_others_stay_alone(steps: list[tuple[str, str, float]]) -> None:
    entries, at = [], 100.0
    for text, stream, pause in steps:
        at += pause
        entries.append(Entry(at, "h", "web", "info", text, "c", "x", stream))
    for found in (list(tracebacks.oldest_first(entries)), followed(entries)):
        assert [e.time for e in found] == sorted(e.time for e in found)
        assert sorted(line for entry in found for line in entry.text.split("\n")) == sorted(e.text for e in entries)
        others = [entry.text for entry in entries if not entry.stream]
        rest = [
            line for entry in found for line in entry.text.split("\n") if not entry.stream and "\n" not in entry.text
        ]
        assert all(line in rest for line in others)
    assert sorted(line for e in tracebacks.newest_first(reversed(entries)) for line in e.text.split("\n")) == sorted(
        e.text for e in entries
    )


def test_many_lines_of_many_processes_take_little_time() -> None:
    dice = random.Random(7)
    entries = [lines([dice.choice(WORDS)], f"web {dice.randrange(90)}", began=100 + n / 1e4)[0] for n in range(20_000)]
    began = time.process_time()
    assert len(list(tracebacks.oldest_first(entries))) > 4_000
    assert len(list(tracebacks.newest_first(reversed(entries)))) > 4_000
    assert time.process_time() - began < 8


def test_the_host_sends_every_line_of_a_traceback_whatever_the_level() -> None:
    script = log_entries.last_script(SERVICE, log_entries.Wanted(level="error"))
    kept = subprocess.run(
        ["sh", "-c", f"journalctl() {{ cat; }}; {script}"],
        input="".join(f'{{"MESSAGE":"{text}"}}\n' for text in [*PLAIN, *SENT]),
        capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    assert kept[1:-1] == [f'{{"MESSAGE":"{text}"}}' for text in SENT]


SERVICE = Service("my-app", "app:app")
PLAIN = ("plain text", "GET / 200", '{\\"level\\": \\"info\\", \\"message\\": \\"m\\"}')
SENT = ("Traceback (most recent call last):", '  File \\"x\\", line 1', "KeyboardInterrupt", "a.b.Own: m",
        "During handling of the above exception, another exception occurred:", "ERROR:root:x")  # fmt: skip
