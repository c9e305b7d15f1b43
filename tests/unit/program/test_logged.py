"""What the host's program reads of PID 1's lines in the journal, from a journalctl of this test's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from templates.host import logged, programs
from templates.host.fact_schema import Boot, Event
from templates.host.service import Front, Health, Service

BOOT, OTHER, START = "b" * 32, "c" * 32, "1" * 32
STARTED, ENDED = "39f53479d3a045ac8e11786248231fbf", "7ad2d189f7e94e70a38c781354912448"
SERVICE = Service(
    "myapp", "/", 3, 2, Health("/", 200, 5, 60, 2, 1.0), Front("https", "myapp.example", "", ""), (), (), ()
)  # fmt: skip


def entry(unit: str, message: str, word: str = STARTED, time: int = 5, boot: str = BOOT, **more: object) -> str:
    return json.dumps({
        "UNIT": unit, "MESSAGE": message, "MESSAGE_ID": word, "_BOOT_ID": boot, "INVOCATION_ID": START,
        "__REALTIME_TIMESTAMP": str(time), "__MONOTONIC_TIMESTAMP": "2", **more})  # fmt: skip


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A journalctl: the file `all` has PID 1's lines; questions about a boot or a start get `first`."""
    stub = tmp_path / "journalctl"
    stub.write_text(
        '#!/bin/sh\ncd "$(dirname "$0")"\necho "$*" >>asked\ncase "$*" in\n*UNIT=myapp*_SYSTEMD*|*_SYSTEMD_INV*) '
        "cat said; exec sleep 60 ;;\n*_BOOT_ID=*) cat first; exec sleep 60 ;;\n*) cat all ;;\nesac\n"
    )
    stub.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(logged, "_this_boot", lambda: BOOT)
    (tmp_path / "first").write_text(json.dumps({"__REALTIME_TIMESTAMP": "3"}) + "\n")
    (tmp_path / "said").write_text(json.dumps({"MESSAGE": "release 0123abcdef45"}) + "\n")
    return tmp_path


def test_starts_switches_and_ends_are_read_and_a_start_names_its_release(journal: Path) -> None:
    (journal / "all").write_text("\n".join([
        entry("myapp-probation@blue.service", "Started myapp-probation@blue.service.", time=4),
        entry("myapp@blue.service", "Started myapp@blue.service."),
        entry("myapp-live@blue.service", "Finished myapp-live@blue.service.", time=6),
        entry("myapp-probation@blue.service", "Deactivated successfully.", ENDED, time=7),
        entry("myapp@green.service", "Condition check resulted in myapp@green.service being skipped."),
        entry("other@blue.service", "Started other@blue.service."),
        entry("myapp@blue.service", "Started it.", time=8, boot="; reboot"),
        entry("myapp@blue.service", "Started it.", "f" * 32),
        "no JSON", "[]", json.dumps({"UNIT": ["myapp@blue.service"], "MESSAGE_ID": None})]))  # fmt: skip
    found, events = logged.look(SERVICE)
    assert events == [
        Event(4, 2, BOOT, "guard", "blue", "started"),
        Event(5, 2, BOOT, "slot", "blue", "started", "0123abcdef45"),
        Event(6, 2, BOOT, "live", "blue", "started"),
        Event(7, 2, BOOT, "guard", "blue", "ended"),
    ]
    assert (found.boots, found.cut) == ({BOOT: Boot(3, 3)}, False)
    asked = (journal / "asked").read_text().splitlines()
    # What another account says in a line of its own does not count.
    assert all("_PID=1 _UID=0" in one or "_SYSTEMD_UNIT=myapp@blue.service" in one for one in asked)


def test_a_first_line_that_names_no_release_is_none(journal: Path) -> None:
    (journal / "said").write_text(json.dumps({"MESSAGE": [114, 101]}) + "\n")
    (journal / "all").write_text(entry("myapp@blue.service", "Started myapp@blue.service."))
    assert [one.release for one in logged.look(SERVICE)[1]] == [""]


def test_more_than_is_read_is_told(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logged, "_ENTRIES", 2)
    lines = [entry("myapp-live@blue.service", "Finished it.", time=time) for time in (5, 6)]
    (journal / "all").write_text("\n".join(lines))
    assert logged.look(SERVICE)[0].cut
    monkeypatch.setattr(logged, "_ENTRIES", 3)
    assert not logged.look(SERVICE)[0].cut
    monkeypatch.setattr(logged, "_BOOTS", 1)
    (journal / "all").write_text("\n".join([entry("myapp-live@blue.service", "Finished it.", boot=OTHER), *lines]))
    found, events = logged.look(SERVICE)
    assert (found.cut, len(events), list(found.boots)) == (True, 2, [BOOT])


def test_a_journal_that_does_not_answer_is_told_and_ends_in_time(
    journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (journal / "journalctl").write_text("#!/bin/sh\nexec sleep 60\n")
    for name in ("_ALL", "_EACH", "_TOGETHER"):
        monkeypatch.setattr(logged, name, 0.1)
    found, events = logged.look(SERVICE)
    assert (found.cut, events, found.boots) == (True, [], {BOOT: Boot(0, 0)})
    (journal / "journalctl").unlink()
    monkeypatch.setenv("PATH", str(journal))
    assert logged.look(SERVICE)[1] == []


def test_a_first_line_ends_its_program_and_is_bounded() -> None:
    assert programs.first_line("sh", "-c", "echo one; exec sleep 60", seconds=20, longest=99) == "one"
    assert programs.first_line("sh", "-c", "exec yes | tr -d '\\n'", seconds=20, longest=9) == "y" * 9
    assert programs.first_line("sh", "-c", "exec sleep 60", seconds=0.1, longest=9) == ""
    assert programs.first_line("there-is-no-such-program", seconds=1, longest=9) == ""
