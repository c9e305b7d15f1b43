"""The arguments of journalctl, and the results of its lines, without a host."""

from __future__ import annotations

import json
import subprocess
import tracemalloc
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tasks.engine.config.gateway import Nginx
from tasks.engine.config.sections import WEB, Listen, Process
from tasks.engine.config.service import Service
from tasks.engine.errors import UsageError
from tasks.engine.host import layout, log_entries, log_text
from tasks.engine.host.log_entries import Entry, Wanted

_SERVICE = Service("my-app", "app:app", processes=(WEB, Process("worker", "run"), Process("tidy", "run", "daily")))
_OPEN = _SERVICE._replace(listen=Listen("127.0.0.1", 8080))
_BARE = {"n": "", "since": "", "until": "", "grep": "", "level": "", "process": "", "nginx": False, "follow": False,
         "checks": False, "release": ""}  # fmt: skip


def _line(**fields: object) -> bytes:
    base = {"__REALTIME_TIMESTAMP": "1700000000123456", "__CURSOR": "s=1", "PRIORITY": "6", "SYSLOG_IDENTIFIER": "x"}
    return json.dumps({**base, **fields}).encode()


@pytest.mark.parametrize(
    ("flags", "where"),
    [
        ({"n": "-1"}, "-n"),
        ({"n": "ten"}, "-n"),
        ({"level": "loud"}, "--level"),
        ({"follow": True, "until": "now"}, "--until"),
        ({"release": "../x"}, "--release"),
        ({"release": "0123456789ab", "follow": True}, "--release"),
        ({"release": "0123456789ab", "nginx": True}, "--release"),
    ],
)
def test_flags_that_cannot_be_are_refused(flags: dict[str, object], where: str) -> None:
    with pytest.raises(UsageError) as caught:
        log_entries.wanted(**{**_BARE, **flags})  # type: ignore[arg-type]  # a table of flags
    assert caught.value.where == where


def test_a_process_that_the_service_has_not_is_refused_with_the_one_that_was_meant() -> None:
    with pytest.raises(UsageError) as caught:
        log_entries.check(Wanted(processes=("worke",)), [_SERVICE])
    assert caught.value.next == "fab logs --process worker"


def test_the_gateway_of_a_service_without_one_is_refused() -> None:
    with pytest.raises(UsageError, match="no nginx"):
        log_entries.check(Wanted(nginx=True), [_SERVICE])


@pytest.mark.parametrize(
    ("processes", "named", "unnamed"),
    [
        ((), ["my-app@blue.service", "my-app@green.service", "my-app-worker.service", "my-app-tidy.timer"], []),
        (("web",), ["my-app@blue.service", "my-app.service"], ["my-app-worker.service"]),
        (("worker", "tidy"), ["my-app-worker.service", "my-app-tidy.service"], ["my-app@blue.service"]),
    ],
)
def test_units_are_named_whether_or_not_they_have_spoken_yet(
    processes: tuple[str, ...], named: list[str], unnamed: list[str]
) -> None:
    script = log_entries.last_script(_SERVICE, Wanted(processes=processes))
    assert all(f"_SYSTEMD_UNIT={unit} " in script and f" UNIT={unit}" in script for unit in named)
    assert not any(unit in script for unit in unnamed)
    assert "@*" not in script


def test_no_value_becomes_shell_or_an_option_of_its_own() -> None:
    script = log_entries.last_script(_SERVICE, Wanted(grep="'; rm -rf / #", since="--vacuum-size=1"))
    assert "'--grep='\"'\"'; rm -rf / #'" in script
    assert " --since=--vacuum-size=1 " in script


def test_the_gateways_name_in_the_journal_fits_nginx_and_is_each_services_own() -> None:
    names = ["a", "my-app", "x" * 26, "x" * 27, "x" * 28, "x" * 29 + "-", "x" * 30]
    tags = [layout.nginx_tag(Service(name, "a:a", nginx=Nginx(("a.example",)))) for name in names]
    assert len(set(tags)) == len(names)
    assert all(len(tag) <= 32 and tag.replace("_", "").isalnum() for tag in tags)


@pytest.mark.parametrize(
    ("fields", "level"),
    [
        ({"MESSAGE": "plain"}, "info"),
        ({"MESSAGE": "plain", "PRIORITY": "3"}, "error"),
        ({"MESSAGE": "plain", "PRIORITY": "4"}, "warning"),
        ({"MESSAGE": "plain", "PRIORITY": "7"}, "debug"),
        ({"MESSAGE": "plain", "PRIORITY": ["3", "4"]}, "info"),
        ({"MESSAGE": '{"level": "CRITICAL", "message": "m"}'}, "error"),
        ({"MESSAGE": '{"level": "warn", "message": "m"}', "PRIORITY": "3"}, "warning"),
        ({"MESSAGE": '{"level": ["odd"], "message": "m"}'}, "info"),
        ({"MESSAGE": "ERROR:root:m", "_SYSTEMD_UNIT": "my-app@blue.service"}, "error"),
        ({"MESSAGE": "DEBUG:root:m", "_SYSTEMD_UNIT": "my-app@blue.service", "PRIORITY": "3"}, "debug"),
        ({"MESSAGE": "ERROR:root:m", "_SYSTEMD_UNIT": "nginx.service"}, "info"),
        ({"MESSAGE": "ERROR:root:m", "_PID": "1", "_UID": "0"}, "info"),
        ({"MESSAGE": "ERROR:root:m"}, "info"),
    ],
)
def test_the_level_is_the_lines_own_or_the_journals(fields: dict[str, object], level: str) -> None:
    entry = log_entries.parse("a", _line(**fields))
    assert entry is not None
    assert entry.level == level


@pytest.mark.parametrize(
    ("fields", "source"),
    [
        ({"_SYSTEMD_UNIT": "my-app@blue.service", "_PID": "7", "_UID": "990"}, "my-app@blue"),
        ({"_SYSTEMD_UNIT": "my-app-listen.socket", "_PID": "7", "_UID": "0"}, "my-app-listen.socket"),
        ({"_SYSTEMD_UNIT": "init.scope", "_PID": "1", "_UID": "0", "UNIT": "my-app@blue.service"}, "systemd"),
        ({"_SYSTEMD_UNIT": "init.scope", "_PID": "1", "_UID": "990"}, "init.scope"),
        ({"_SYSTEMD_UNIT": "init.scope", "_PID": ["1", "7"], "_UID": "0"}, "init.scope"),
        ({"_SYSTEMD_UNIT": "a.service", "_PID": "7", "_UID": "0", "UNIT": "b", "SYSLOG_IDENTIFIER": "systemd"}, "a"),
        ({"_PID": "7", "_UID": "0", "SYSLOG_IDENTIFIER": "systemd"}, "-"),
        ({"_SYSTEMD_UNIT": ["a.service", "b.service"]}, "-"),
        ({"_SYSTEMD_UNIT": "u" * 5000}, "u" * 128),
    ],
)
def test_the_source_is_journalds_word_and_never_the_senders(fields: dict[str, object], source: str) -> None:
    entry = log_entries.parse("a", _line(MESSAGE="m", **fields))
    assert entry is not None
    assert entry.source == source


def test_a_start_belongs_to_the_release_that_its_first_line_names() -> None:
    told = [("1" * 32, "release aa"), ("2" * 32, "release bb"), ("2" * 32, "release aa"), ("x", "release aa")]
    lines = [_line(MESSAGE=text, _SYSTEMD_INVOCATION_ID=start) for start, text in told]
    entries = [entry for line in lines if (entry := log_entries.parse("a", line))]
    assert log_entries.invocations("aa", entries) == ("1" * 32,)
    script = log_entries.last_script(_SERVICE, Wanted(), ["1" * 32])
    assert f"_SYSTEMD_INVOCATION_ID={'1' * 32}" in script
    assert "_SYSTEMD_UNIT=" not in script


def test_the_starts_of_one_release_are_no_more_than_a_command_takes() -> None:
    entries = [entry for number in range(9000) if (entry := log_entries.parse("a", _line(MESSAGE="release aa",
               _SYSTEMD_INVOCATION_ID=f"{number:032x}")))]  # fmt: skip
    found = log_entries.invocations("aa", entries)
    assert (len(found), found[-1]) == (500, f"{8999:032x}")
    assert len(log_entries.last_script(_SERVICE, Wanted(), found)) < 100_000


def test_no_text_of_a_start_stays_in_memory_and_the_oldest_starts_are_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def said() -> Iterator[Entry]:
        for number in range(200):
            text = "release aa" if number in {0, 199} else "x" * 1_000_000
            yield Entry(1.0, "a", "u", "info", text, "", invocation=f"{number:032x}")

    tracemalloc.start()
    try:
        assert log_entries.invocations("aa", said()) == (f"{0:032x}", f"{199:032x}")
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()
    monkeypatch.setattr(log_entries, "_KNOWN", 199)
    assert log_entries.invocations("aa", said()) == (f"{199:032x}",)


_SLOT, _NGINX = "my-app@blue.service", "nginx.service"


@pytest.mark.parametrize(
    ("unit", "text", "service", "hidden"),
    [
        (_SLOT, '{"message": "m", "logger": "access", "check": "live"}', _SERVICE, True),
        (_SLOT, '{"message": "m", "logger": "access", "check": ""}', _SERVICE, False),
        (_SLOT, '{"message": "m", "logger": "access"}', _SERVICE, False),
        (_SLOT, '{"message": "m", "logger": "shop", "check": "live"}', _SERVICE, False),
        (_SLOT, '{"message": "\\"check\\": \\"live\\"", "logger": "access"}', _SERVICE, False),
        (_SLOT, '"logger": "access", "check": "live"', _SERVICE, False),
        ("my-app-worker.service", '{"message": "m", "logger": "access", "check": "live"}', _SERVICE, False),
        (_SLOT, '{"message": "m", "logger": "access", "check": "live"}', _OPEN, False),
        (_NGINX, '{"message": "m", "check": "green"}', _OPEN, True),
        (_NGINX, '{"message": "m", "check": ""}', _SERVICE, False),
        ("init.scope", '{"message": "m", "check": "green"}', _SERVICE, False),
    ],
)
def test_a_request_of_our_own_check_is_hidden_and_no_other(
    unit: str, text: str, service: Service, hidden: bool
) -> None:
    entry = log_entries.parse("a", _line(MESSAGE=text, _SYSTEMD_UNIT=unit))
    assert entry is not None
    assert Wanted().has(entry, service) is not hidden
    assert Wanted(checks=True).has(entry, service)


@pytest.mark.parametrize(("status", "last"), [(0, 2), (0, 4), (1, 9)])
def test_a_host_sends_so_many_lines_beside_those_of_checks_and_ends_as_journalctl_did(
    tmp_path: Path, status: int, last: int
) -> None:
    texts = [
        '{"check":""}',
        '{"logger": "access", "check": "live"}',
        "c",
        '"check":"live',
        '{"check":"green"}',
        "f",
        "g",
    ]
    lines = [json.dumps({"MESSAGE": text}) for text in texts]
    said = printed(tmp_path, log_entries.last_script(_SERVICE, Wanted(lines=last)), lines, status)
    surely = [line for line in lines if "live" not in line and "green" not in line]
    # One more, so that the controller can tell that the entry before it is whole.
    end = lines.index(surely[last]) + 1 if last < len(surely) else len(lines)
    assert said == ["@begin", *lines[:end], f"@end {status}"]


@pytest.mark.parametrize("asked", [Wanted(lines=3), Wanted(since="-1h"), Wanted(level="error"), Wanted(level="debug")])
def test_a_host_sends_a_mark_in_place_of_a_line_that_is_too_long(tmp_path: Path, asked: Wanted) -> None:
    empty = json.dumps({"MESSAGE": ""})
    fits, longer = (json.dumps({"MESSAGE": "a " + "x" * (log_entries.LINE + more - 2 - len(empty))}) for more in (0, 1))
    lines = [json.dumps({"MESSAGE": "an error"}), longer, json.dumps({"MESSAGE": ["y" * 5_000_000]}), fits]
    said = printed(tmp_path, log_entries.last_script(_SERVICE, asked), lines, 0)
    assert said == ["@begin", lines[0], "@long", "@long", *([fits] if asked.level != "error" else []), "@end 0"]


def printed(folder: Path, script: str, lines: Sequence[str], status: int) -> list[str]:
    """Return what the script prints if journalctl prints these lines and ends with this status."""
    (folder / "lines").write_text("".join(f"{line}\n" for line in lines))
    journalctl = folder / "journalctl"
    journalctl.write_text(f"#!/bin/sh\ncat {folder}/lines\nexit {status}\n")
    journalctl.chmod(0o755)
    environment = {"PATH": f"{folder}:/usr/bin:/bin"}
    return subprocess.run(
        ["sh", "-c", script], env=environment, capture_output=True, text=True, check=True
    ).stdout.splitlines()


def test_what_the_sender_calls_itself_stands_beside_it() -> None:
    entry = log_entries.parse("a", _line(MESSAGE="m", _SYSTEMD_UNIT="my-app@blue.service"))
    assert entry is not None
    assert (entry.as_dict()["source"], entry.as_dict()["identifier"]) == ("my-app@blue", "x")


def test_the_newest_place_is_read_from_a_line_without_its_message() -> None:
    entry = log_entries.parse("a", b'{"__CURSOR": "s=9", "__REALTIME_TIMESTAMP": "1700000000123456", "PRIORITY": "6"}')
    assert entry is not None
    assert (entry.cursor, entry.text) == ("s=9", "")


@pytest.mark.parametrize(
    ("message", "text"),
    [("text", "text"), ([255, 65], "\ufffdA"), (["one", "two"], "one two"), (None, ""), ([1, 999], None)],
)
def test_a_message_is_text_bytes_or_several(message: object, text: str | None) -> None:
    entry = log_entries.parse("a", _line(MESSAGE=message))
    assert (entry.text if entry else None) == text


@pytest.mark.parametrize(
    "line",
    [b"", b"-- No entries --", b"[]", b"1" * 5000, b"[" * 100_000, b'{"MESSAGE": "m"}', b"\xff{",
     _line(MESSAGE="m", __REALTIME_TIMESTAMP="9" * 400), _line(MESSAGE="m", __REALTIME_TIMESTAMP="-1")],
)  # fmt: skip
def test_what_is_no_entry_is_none(line: bytes) -> None:
    assert log_entries.parse("a", line) is None


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("plain", ["plain"]),
        ("[" * 100_000, ["[" * 100_000]),
        ('{"a": 1}', ['{"a": 1}']),
        ('{"level": "info", "message": "GET /a 200", "method": "GET", "path": "/a", "status": 200, "ms": 1.5}',
         ["INFO GET /a 200  ms=1.5"]),
        ('{"level": "info", "message": "done", "status": 200, "name": "a b", "list": [1]}',
         ['INFO done  status=200 name="a b" list=[1]']),
        ('{"level": "error", "message": "bad", "traceback": "Trace\\n  File\\nKeyError"}',
         ["ERROR bad", "  Trace", "    File", "  KeyError"]),
        ('{"level": "info", "message": "two\\nlines\\n"}', ["INFO two", "  lines"]),
    ],
)  # fmt: skip
def test_a_structured_line_is_told_in_words_and_nothing_twice(line: str, shown: list[str]) -> None:
    assert log_text.format_line(line) == shown
