"""The table of `fab status`, in as many columns as fit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tasks.engine.config import service
from tasks.engine.config.service import Listen, Process
from tasks.engine.diagnose import status
from tasks.engine.errors import LoopError, Unreachable, UsageError
from tasks.engine.host import maintenance_page
from tasks.engine.host.facts import Facts
from tasks.engine.host.history import Action
from tasks.engine.report import output
from templates.host.fact_schema import Answers, Job, Machine, Slot, State, Survey
from tests.support.host_facts import vary

SERVICE = service.describe(service.load(Path(__file__).resolve().parents[3] / "service" / "service.yaml"))
NOW = 1_767_225_600  # 2026-01-01T00:00:00Z
WHO = {"user": "ann", "git": "ann@shire.example"}
HERE = Facts(
    Machine(time=NOW),
    state=State(
        "blue",
        slots={"blue": Slot("active", "0123456789ab", 9000 - 7300, 0, 84_000_000, 4), "green": Slot("inactive")},
        health=Answers("ok", "ok"),
    ),
    survey=Survey(9000, free_bytes=5_000_000_000, certificate_end="Jan 31 00:00:00 2026 GMT"),
)
LIVE = {"state live": "green", "state slots green": Slot("active", "b")}
DONE = Action("2025-12-31T20:00:00Z", "r", "deploy", "0123456789ab", "done", WHO)


def facts(
    changes: Mapping[str, object] | None = None, *actions: Action, releases: tuple[Mapping[str, object], ...] = ()
) -> Facts:
    return vary(HERE, changes or {})._replace(releases=releases, actions=actions or (DONE,))


def line(name: str = "shire01", found: Facts | None = None) -> dict[str, Any]:
    made = status.describe(name, SERVICE, found or facts())
    status.mark_differing([made])
    return made


def test_a_host_at_a_glance() -> None:
    assert dict(zip(status.HEADINGS, status.row(line()), strict=True)) == {
        "host": "shire01",
        "state": "healthy",
        "release": "0123456789ab",
        "age": "4 h",
        "slot": "blue",
        "up": "2 h",
        "workers": "4/4",
        "processes": "-",
        "jobs": "-",
        "memory": "84 MB",
        "free": "5.0 GB",
        "cert": "30 d",
        "last action": "deploy 4 h ago, ann@shire.example",
    }


@pytest.mark.parametrize(
    ("word", "state"), [("inactive", "stopped"), ("failed", "failed"), ("", "unknown"), ("unknown", "unknown")]
)
def test_a_slot_is_stopped_only_where_systemd_says_so(word: str, state: str) -> None:
    assert line(found=facts({"state slots blue state": word}))["state"] == state


@pytest.mark.parametrize(
    ("changes", "memory", "counted"),
    [
        ({"state slots blue memory": None, "state slots blue pss": 61_000_000}, "~61 MB", "pss"),
        ({"state slots blue memory": 2**64 - 1, "state slots blue rss": 99_000_000}, "~99 MB", "rss"),
        ({"state slots blue memory": None}, "-", None),
        ({"state slots blue rss": 99_000_000}, "84 MB", "systemd"),
    ],
)
def test_memory_says_who_counted_it(changes: dict[str, Any], memory: str, counted: str | None) -> None:
    found = line(found=facts(changes))
    assert status.row(found)[status.HEADINGS.index("memory")] == memory
    assert found["memory_counted"] == counted
    assert any(note.startswith("~") for note in status.notes([found])) is (counted in {"pss", "rss"})


@pytest.mark.parametrize(
    ("exit_status", "ended", "told", "result", "cell", "why"),
    [
        (0, None, "success", None, "ok", None),
        (0, 8940, "success", "success", "ok", None),
        (3, 8940, "exit-code", "exit-code", "1 FAILED", "exit-code, 3"),
        (0, None, "resources", "resources", "1 FAILED", "resources"),
        (None, None, "", None, "ok", None),
    ],
)
def test_a_job_is_shown_by_how_it_ended(
    exit_status: int | None, ended: int | None, told: str, result: str | None, cell: str, why: str | None
) -> None:
    described = SERVICE._replace(processes=(*SERVICE.processes, Process("nightly", "true", "daily")))
    unit = f"{SERVICE.name}-nightly.service"
    host = facts({"survey jobs": {unit: Job("inactive", told, exit_status, ended)}})
    found = status.describe("shire01", described, host)
    status.mark_differing([found])
    assert found["jobs"][unit]["result"] == result
    headings, row = status.table([found], None)
    assert row[headings.index("jobs")] == cell
    notes = [note for note in status.notes([found]) if unit in note]
    assert bool(notes) == bool(why)
    assert not why or f"({why}): fab logs -H shire01 --process nightly" in notes[0]


def fleet(*releases: str | None) -> list[dict[str, Any]]:
    lines = [
        status.describe(
            f"shire{number:02}", SERVICE, facts({"state slots blue release": release}) if release is not None else None
        )
        for number, release in enumerate(releases, start=1)
    ]
    status.mark_differing(lines)
    return lines


@pytest.mark.parametrize(
    ("releases", "differ"),
    [
        (("a", "a", "a"), []),
        (("a", "b", "a"), ["shire02"]),
        (("b", "a", "a"), ["shire01"]),
        (("a", "b"), ["shire02"]),
        (("a", None, "a"), []),
        (("", "a", "a"), ["shire01"]),
        ((None, None), []),
    ],
)
def test_hosts_that_differ_from_most_are_marked(releases: tuple[str | None, ...], differ: list[str]) -> None:
    lines = fleet(*releases)
    assert [one["host"] for one in lines if one["differs"]] == differ
    assert any("do not all serve" in note for note in status.notes(lines)) is bool(differ)


@pytest.mark.parametrize(
    ("error", "cell", "reachable"),
    [
        (Unreachable("gone"), "UNREACHABLE", False),
        (None, "UNREACHABLE", False),
        (UsageError("no such user"), "UNREACHABLE", False),
        (LoopError("it needs Python", code="no-python"), "NO PYTHON", True),
        (LoopError("it says nothing", code="login"), "UNKNOWN", True),
    ],
)
def test_a_host_that_was_reached_and_tells_nothing_is_not_called_unreachable(
    error: LoopError | None, cell: str, reachable: bool
) -> None:
    told, silent = line(), status.describe("shire02", SERVICE, None, error)
    status.mark_differing([told, silent])
    assert status.row(silent)[:3] == ("shire02", cell, "-")
    assert (silent["reachable"], silent["differs"], silent["healthy"]) == (reachable, False, False)
    assert status.notes([told, silent]) == status.notes([told])


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120])
def test_forty_hosts_fit_into_the_width_and_keep_what_matters_most(width: int) -> None:
    lines = fleet(*["0123456789ab"] * 38, "feedfacecafe", None)
    shown = list(output.table(status.table(lines, width)))
    assert len(shown) == 41
    assert max(map(len, shown)) <= width
    for heading in ("host", "state", "release"):
        assert heading in shown[0]
    assert shown[40].split()[:2] == ["shire40", "UNREACHABLE"]
    assert "feedfacecafe !" in shown[39]


@pytest.mark.parametrize("width", [60, 80, 100, 120])
def test_the_name_of_an_author_is_cut_before_a_column_is_dropped(width: int) -> None:
    """Once: one long address left host, state, release and age of a terminal of eighty columns."""
    lines = fleet(*["0123456789ab"] * 2)
    short = status.table(lines, width)
    lines[0]["last_action"] = {**lines[0]["last_action"], "who": {"git": f"maintainers@{'long.' * 20}example"}}
    long = status.table(lines, width)
    assert len(long[0]) >= len(short[0]) - 1
    assert long[0][-1] == "last action"
    assert long[1][-1].endswith("...")
    assert long[2][-1] == short[2][-1]
    assert max(map(len, output.table(long))) <= width


def test_a_wider_terminal_never_shows_less_and_without_a_bound_all_is_there() -> None:
    lines = fleet(*["0123456789ab"] * 3)
    shown = [len(status.table(lines, width)[0]) for width in range(20, 160)]
    assert shown == sorted(shown)
    # No host has a job, so there is no column for jobs.
    assert status.table(lines, None)[0] == tuple(name for name in status.HEADINGS if name not in {"jobs", "processes"})
    assert "last action" in status.table(lines, 80)[0]


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (facts({"survey certificate_end": "Jan 11 00:00:00 2026 GMT"}), "shire01: the certificate ends in 10 days"),
        (facts({"survey certificate_end": "Dec 30 00:00:00 2025 GMT"}), "shire01: the certificate has ended"),
        (facts({"survey certificate_fault": "x"}), "shire01: nginx does not get the new certificate: x"),
        (facts({"survey certificate_differs": True}),
         "shire01: nginx shows another certificate than its file has: fab doctor -H shire01"),
        (facts({"survey free_bytes": 400_000_000}), "shire01: only 400 MB are free"),
        (facts({"state processes": {"myapp_worker": "failed"}}), "shire01: myapp_worker is failed"),
        (facts({"state maintenance": '{"since": "now", "message": "Soon.", "who": {"user": "ann"}}'}),
         "shire01: maintenance is on since now, by ann: Soon."),
        (facts(None, DONE, Action("2025-12-31T23:00:00Z", "s", "deploy", "b", "started", WHO)),
         "shire01: deploy has no outcome: fab history -H shire01 --verify"),
        (facts(None, DONE, Action("2025-12-31T23:00:00Z", "s", "deploy", "b", "ended", WHO)),
         "shire01: the probation of b was ended before its time; 0123456789ab serves"),
        (facts(None, DONE, Action("2025-12-31T23:00:00Z", "s", "deploy", "b", "returned", WHO, "a worker died")),
         "shire01: b did not hold its probation: a worker died. The host went back to 0123456789ab by itself"),
        (facts({**LIVE, "state probation": 7}),
         "shire01: b is on probation, 7 s more; if the release fails, the host goes back to 0123456789ab"),
        (facts(LIVE),
         "shire01: b serves, but no guard watches it; a boot starts 0123456789ab. "
         "To go on: fab deploy -H shire01; to go back: fab rollback -H shire01"),
    ],
)  # fmt: skip
def test_what_an_operator_should_not_miss_is_told_below_the_table(found: Facts, told: str) -> None:
    assert status.notes([line(found=found)]) == [told]


@pytest.mark.parametrize(("listen", "told"), [
    (None, ""), (Listen("127.0.0.1", 8080), "; `listen: 127.0.0.1:8080` stays open to clients that reach it"),
    (Listen("::", 80), "; `listen: [::]:80` stays open to clients that reach it"),
])  # fmt: skip
def test_a_maintenance_that_leaves_an_address_open_says_so(listen: Listen | None, told: str) -> None:
    """Once: with `nginx:` and `listen:` fab said that clients get 503, and those of `listen:` were served."""
    one, found = SERVICE._replace(listen=listen), facts({"state maintenance": '{"since": "now", "message": "Soon."}'})
    assert status.notes([status.describe("shire01", one, found)]) == [
        f"shire01: maintenance is on since now, by hand: Soon.{told}"
    ]
    assert maintenance_page.warn(found, one) == f"maintenance is on: clients get 503 until `fab maintenance off`{told}"
    assert maintenance_page.warn(facts(), one) == ""


def test_maintenance_stands_in_the_place_of_the_state() -> None:
    assert status.row(line(found=facts({"state maintenance": "{}"})))[1] == "MAINTENANCE"
    assert status.row(line(found=facts({"state maintenance": "{}", "state health slot": "no"})))[1] == "UNHEALTHY"


def test_releases_carry_their_marks_and_who_brought_them() -> None:
    def act(number: int, action: str, release: str, state: str) -> Action:
        return Action(f"2025-12-0{number}T00:00:00Z", str(number), action, release, state, WHO)

    records: tuple[Mapping[str, object], ...] = (
        {"id": "old", "commit": "c1", "dirty": 0},
        {"id": "now", "commit": "c2", "dirty": 2},
        {"id": "sad", "commit": "c3", "dirty": 0},
        {"id": "new", "commit": None, "dirty": 0},
    )
    actions = (act(1, "deploy", "old", "done"), act(2, "deploy", "sad", "failed"), act(3, "deploy", "now", "done"))
    found = status.releases(facts({"state slots blue release": "now"}, *actions, releases=records))
    assert {one["id"]: one["marks"] for one in found} == {
        "now": ["live", "good", "dirty"],
        "old": ["rollback", "good"],
        "sad": ["bad"],
        "new": [],
    }
    assert (found[0]["id"], found[0]["by"], found[0]["commit"]) == ("now", "ann@shire.example", "c2")


def test_processes_that_were_killed_for_want_of_memory_are_told() -> None:
    found = line(found=facts({"survey oom_kills": {"myapp@blue.service": 2}}))
    assert found["oom_kills"] == {"myapp@blue.service": 2}
    (note,) = status.notes([found])
    assert note.startswith(
        "shire01: processes of myapp@blue.service were killed for want of memory (OOM), 2 in the last 24 h: raise "
    )
