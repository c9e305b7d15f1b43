"""Output of a host or a service: always data, bounded, and printable on a terminal."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.engine.diagnose import drift
from tasks.engine.errors import LoopError
from tasks.engine.events import Failed, Finished, Line, Step
from tasks.engine.fleet import step_errors
from tasks.engine.host import log_entries, log_text, maintenance_page
from tasks.engine.host.facts import Facts
from tasks.engine.host.protocol import Report, Transcript
from tasks.engine.host.steps import HostStep
from tasks.engine.report import lines, output
from templates.host.fact_schema import State
from tests.promises.words import NO_INJECTION
from tests.support.nasty_texts import ANY, harmless

pytestmark = pytest.mark.promise(NO_INJECTION, "a host or a service that says anything, parser by parser")

NUMBERS = st.one_of(
    st.integers(), st.floats(), st.sampled_from([10**4000, -1, 2**63, 1e308, float("nan"), float("inf")])
)
FOREIGN = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(ANY, inner, max_size=3)),
    max_leaves=8,
)
KEYS = {
    "journal": (
        "MESSAGE",
        "PRIORITY",
        "SYSLOG_IDENTIFIER",
        "_SYSTEMD_UNIT",
        "_PID",
        "_UID",
        "__REALTIME_TIMESTAMP",
        "__CURSOR",
    ),
    "line": ("level", "message", "time", "traceback", "exc_info", "path", "status"),
    "busy": ("who", "time", "action", "release"),
    "state": ("since", "message", "who"),
}


def document(kind: str) -> st.SearchStrategy[str]:
    """Objects with the keys that our readers use, and anything in them."""
    there: dict[str, st.SearchStrategy[object]] = {key: st.one_of(FOREIGN, ANY) for key in KEYS[kind]}
    if kind == "journal":
        there |= {"MESSAGE": st.one_of(document("line"), FOREIGN), "__CURSOR": st.just("c")}
        there["__REALTIME_TIMESTAMP"] = st.one_of(FOREIGN, st.just("1700000000000000"))
    if kind == "line":
        there["message"] = st.one_of(ANY, ANY, FOREIGN)
    objects = st.fixed_dictionaries({}, optional={**there, "v": FOREIGN})
    return st.one_of(objects.map(json.dumps), ANY, st.integers(0, 2000).map(nested))


def nested(depth: int) -> str:
    """Return an object with a message that contains this many nested lists."""
    inner = "[" * depth + "]" * depth
    return f'{{"message": "m", "level": {inner}, "MESSAGE": {inner}, "who": {{"git": {inner}}}, "v": {inner}}}'


def shown(*texts: str) -> None:
    """Write it as for a person."""
    stream = io.StringIO()
    writer = output.Writer(stream)
    for text in texts:
        writer.line(text)
    written = stream.getvalue().split("\n")
    assert written[-1] == ""
    assert all(harmless(line) for line in written), written


def encoded(value: dict[str, object]) -> None:
    """Write it as for a program: JSON for every parser, in printable ASCII."""
    for indent in (None, 2):
        text = output.encoded(value, indent)
        assert text.replace("\n", "").isascii()
        assert text.replace("\n", "").isprintable()
        json.loads(text, parse_constant=_refuse)


@pytest.mark.parametrize("depth", [*range(1, 940, 50), *range(940, 1000), 2000, 100_000])
def test_a_line_is_read_and_written_at_every_depth(depth: int) -> None:
    """Once: JSON nested a thousand deep, or a number of 5000 digits, in a journal or a history was a traceback."""
    # At some depth a reader still succeeds where a writer, further in, fails.
    entry = log_entries.parse("shire01", record(MESSAGE=nested(depth)))
    assert entry
    encoded(entry.as_dict())
    shown(*log_text.format_line(entry.text), *log_text.summarize([entry.text]))
    encoded({"state": maintenance_page.state(closed(nested(depth)))})
    shown(*output.error_lines(step_errors.busy("shire01", nested(depth))))


def closed(text: str) -> Facts:
    """Return a host with this reason for its closed front door."""
    return Facts(state=State(maintenance=text))


def record(**fields: object) -> bytes:
    """Return a line of journalctl."""
    return json.dumps({"__REALTIME_TIMESTAMP": "1700000000000000", "__CURSOR": "c", **fields}).encode()


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
def test_a_number_that_json_has_not_is_written_as_a_word(word: str) -> None:
    """Once: --json passed on NaN and Infinity, which JSON does not have."""
    line = f'{{"message": "m", "level": "info", "v": {word}, "w": [{word}]}}'
    encoded({"fields": log_text.fields(line)})
    assert log_text.format_line(line)[0].startswith(f"INFO m  v={word}")


@pytest.mark.parametrize("priority", [3, "9" * 5000, "٣", "-1", [], {}, None, "3\n", 1e308])
def test_a_priority_is_one_of_eight_or_none(priority: object) -> None:
    entry = log_entries.parse("shire01", record(MESSAGE="m", PRIORITY=priority))
    assert entry
    assert entry.level == "info"


def _refuse(word: str) -> None:
    raise AssertionError(f"{word} is no JSON")


@given(text=document("journal"))
@settings(deadline=None)
def test_a_line_of_a_journal_is_an_entry_or_none(text: str) -> None:
    entry = log_entries.parse("shire01", text.encode("utf-8", "surrogatepass"))
    if entry:
        encoded(entry.as_dict())
        shown(entry.source, entry.identifier, entry.moment, *log_text.format_line(entry.text))


@given(text=document("line"))
@settings(deadline=None)
def test_a_line_of_a_service_is_words(text: str) -> None:
    shown(*log_text.format_line(text), *log_text.summarize([text, text]))
    assert log_text.level(text) in {None, *log_entries.LEVELS}
    fields = log_text.fields(text)
    encoded({"fields": fields})


@given(texts=st.lists(document("line"), max_size=60))
@settings(deadline=None)
def test_what_a_service_said_last_is_twenty_short_lines(texts: list[str]) -> None:
    found = log_text.summarize(texts)
    assert len(found) <= 20
    assert all(len(line) <= 200 for line in found)


@given(text=document("busy"))
@settings(deadline=None)
def test_whoever_is_at_work_is_named_or_not(text: str) -> None:
    error = step_errors.busy("shire01", text)
    shown(*output.error_lines(error))
    encoded(error.as_dict())


@given(text=document("state"))
@settings(deadline=None)
def test_whoever_closed_a_service_is_named_or_not(text: str) -> None:
    found = maintenance_page.state(closed(text))
    if found is not None:
        shown(maintenance_page.describe(found, "127.0.0.1:8080"))
        encoded({"maintenance": found})


@given(words=st.lists(ANY, min_size=6, max_size=6))
def test_every_event_is_lines_and_an_object(words: list[str]) -> None:
    error = LoopError(words[0], where=words[1], next=words[2], detail=(words[3], words[4]))
    for event in (
        Step("h", words[0], words[1], words[2]),
        Line("h", words[0], "warning"),
        Finished("h", words[0], words[1], 1.0, {"before": words[2]}),
        Failed("h", error, words[5], 1.0),
    ):
        shown(*lines.lines(event, 10))
        encoded(lines.as_dict(event))


@given(rows=st.lists(st.tuples(ANY, ANY, ANY), min_size=1, max_size=4))
def test_a_table_is_lines(rows: list[tuple[str, str, str]]) -> None:
    found = list(output.table(rows))
    assert all(harmless(line) and "\n" not in line for line in found)
    assert all(len(line) < 20_000 for line in output.table([("x" * 10**6, "y" * 10**6, "z"), *rows]))


@given(text=document("state"))
@settings(deadline=None)
def test_a_failure_is_told_whatever_the_host_said(text: str) -> None:
    for word in ("busy", "moved", "edited", "failed", "refused", "journal"):
        transcript = Transcript()
        transcript.add(Report(word, text))
        error = step_errors.explain(HostStep("activate", "", 1), transcript, "shire01", "deploy")
        shown(*output.error_lines(error))
        encoded(error.as_dict())


@given(lines=st.lists(st.tuples(st.sampled_from(["unit", "edited", "extra", "points", "link", "missing"]), ANY)))
@settings(deadline=None)
def test_whatever_is_said_to_have_drifted_is_findings(lines: list[tuple[str, str]]) -> None:
    contents = {path: text.encode("utf-8", "replace") for _, path in lines for text in ("x", path)}
    found = drift.examine((), Facts(contents=contents, drift=tuple(f"{kind} {path}" for kind, path in lines)), _same)
    for one in found:
        shown(one.path, one.text, *one.diff)
        encoded(one.as_dict())


def _same(release: str, path: str) -> bytes:
    return f"{release} {path}".encode("utf-8", "replace")
