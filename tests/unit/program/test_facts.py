"""The facts that the host's program reports, part by part: runs at work, files, interpreters."""

from __future__ import annotations

import fcntl
import io
import json
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from templates.host import (
    activity,
    facts,
    interpreters,
    locks,
    machine,
    programs,
    record,
    small_file,
    stores,
    survey,
    this_interpreter,
    trust,
    units,
)
from templates.host.background import Background
from templates.host.fact_schema import HostFacts, Python, Slot, plain
from templates.host.folders import Folder
from templates.host.run import Run, now
from templates.host.service import Front, Health, Process, Service
from templates.host.state import Links, Look, ask_units, look_at

OLD, NEW = "a" * 12, "b" * 12
HEALTH = Health("/readyz", 200, 5, 60, 2, 1.0)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with /run, the locks of `myapp`, and the service's own directory `apps`."""
    (tmp_path / "myapp/lock").mkdir(parents=True)
    (tmp_path / "myapp/ctl/probation").mkdir(parents=True)
    for name in ("run", "activate", "guard"):
        (tmp_path / "myapp/lock" / name).touch()
    monkeypatch.setattr(locks, "RUN", str(tmp_path))
    (tmp_path / "apps/releases").mkdir(parents=True)
    return tmp_path


def service(here: Path, *timers: str) -> Service:
    return Service(
        "myapp", str(here / "apps"), 3, 2, HEALTH, Front("listen", "localhost", "127.0.0.1:1", ""), (), timers, ()
    )


def take(here: Path, lock: str, line: object = "") -> int:
    """Hold a lock of the service with this line."""
    descriptor = os.open(here / "myapp/lock" / lock, os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    os.write(descriptor, f"{json.dumps(line)}\n".encode())
    return descriptor


# ---- runs at work


@pytest.mark.parametrize(
    ("line", "held", "until", "abandoned"),
    [
        ({"group": 7}, ("activate",), "", True),
        ({"group": 7}, ("activate", "run"), "", False),
        ({"group": 7}, ("activate", "guard"), "1000", False),
        ({"group": 7}, ("activate", "guard"), "", True),
        ({"group": 7}, ("activate",), "1000", True),
        ({"group": 0}, ("activate",), "", False),
        ({"group": True}, ("activate",), "", False),
        ({}, ("activate",), "", False),
        ("[" * 900, ("activate",), "", False),
    ],
)
def test_a_run_that_nobody_holds_any_more_is_adrift(
    here: Path, line: object, held: tuple[str, ...], until: str, abandoned: bool
) -> None:
    (here / "myapp/ctl/probation/until").write_text(until)
    taken = [take(here, name, line if name == "activate" else "") for name in held]
    assert activity.look("myapp") == activity.Activity(json.dumps(line), abandoned)
    for descriptor in taken:
        os.close(descriptor)
    # The line of the last holder stays, but no run is at work.
    assert activity.look("myapp") == activity.Activity(None, False)


@pytest.mark.parametrize("ends", [True, False])
def test_a_run_that_begins_while_we_look_is_not_adrift(here: Path, monkeypatch: pytest.MonkeyPatch, ends: bool) -> None:
    """Once: a run that took both locks after the first look at the run lock was called abandoned."""
    taken: list[int] = []
    held = activity.held

    def look(path: str) -> bool:
        found = held(path)
        if path.endswith("/run") and not found and not taken:
            taken.extend(take(here, name, {"group": 7}) for name in ("run", "activate"))
        elif ends and path.endswith("/activate") and found:
            # It ends before the next look.
            for descriptor in taken:
                fcntl.flock(descriptor, fcntl.LOCK_UN)
        return found

    monkeypatch.setattr(activity, "held", look)
    if ends:
        taken.extend(take(here, name, {"group": 7}) for name in ("run", "activate"))
    assert not activity.look("myapp").abandoned
    for descriptor in taken:
        os.close(descriptor)


def test_no_link_of_the_accounts_is_followed_to_the_task_of_a_guard(here: Path) -> None:
    """Once: root's setup followed it, to where an account let it wait."""
    theirs = here / "myapp/ctl/probation"
    theirs.rename(here / "elsewhere")
    (here / "elsewhere/until").write_text("1000")
    theirs.symlink_to(here / "elsewhere")
    descriptor = take(here, "guard")
    paths = str(here / "myapp/lock/guard"), str(theirs / "until")
    assert not activity.guarded(*paths)
    theirs.unlink()
    (here / "elsewhere").rename(theirs)
    assert activity.guarded(*paths)
    os.close(descriptor)


def test_a_pipe_in_the_place_of_a_lock_is_not_waited_for(here: Path) -> None:
    """Once: before a first setup, the account of a program that has /run/NAME held the facts for ever."""
    lock = here / "myapp/lock/activate"
    lock.unlink()
    os.mkfifo(lock)
    descriptor = os.open(lock, os.O_RDONLY | os.O_NONBLOCK)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    asked = Background(lambda: activity.look("myapp"))
    asked._thread.join(5)
    waits = asked._thread.is_alive()
    # A writer lets the process that waits go on.
    os.close(os.open(lock, os.O_RDWR))
    os.close(descriptor)
    assert not waits
    assert asked.result() == activity.Activity("")


def test_no_link_leads_to_the_slots_that_may_start(here: Path) -> None:
    (here / "elsewhere/blue").mkdir(parents=True)
    (here / "myapp/try").symlink_to(here / "elsewhere")
    assert Links(service(here)).tries == ()
    (here / "myapp/try").unlink()
    (here / "elsewhere").rename(here / "myapp/try")
    assert Links(service(here)).tries == ("blue",)


def test_a_lock_that_only_an_open_file_tells_of_is_held(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container, /proc/locks omits a lock whose owner ended, even if other processes inherited it."""
    found = (here / "myapp/lock/activate").stat()
    at = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino} 0 EOF"
    (here / "proc/12/fdinfo").mkdir(parents=True)
    (here / "proc/12/fdinfo/9").write_text(f"pos: 0\nlock:\t1: FLOCK  ADVISORY  WRITE 11 {at}\n")
    (here / "proc/12/status").write_text(f"Name:\tflock\nUid:\t{found.st_uid}\t{found.st_uid}\t0\t0\n")
    (here / "proc/locks").write_text(f"1: -> FLOCK  ADVISORY  WRITE 11 {at}\n2: POSIX  ADVISORY  WRITE 11 {at}\n")
    monkeypatch.setattr(locks, "PROC", str(here / "proc"))
    assert activity.held(str(here / "myapp/lock/activate"))
    (here / "proc/12/fdinfo/9").unlink()
    assert not activity.held(str(here / "myapp/lock/activate"))


@pytest.mark.parametrize("uids", ["4999\t4999", "4999\t0", "0\t4999"])
def test_root_looks_for_a_lock_at_no_file_that_another_account_has_open(
    here: Path, monkeypatch: pytest.MonkeyPatch, uids: str
) -> None:
    """Once: an account with millions of open files held each setup for hours. 0: of a setuid program, such as su."""
    found = (here / "myapp/lock/activate").stat()
    at = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino} 0 EOF"
    (here / "proc/12/fdinfo").mkdir(parents=True)
    (here / "proc/12/fdinfo/9").write_text(f"lock:\t1: FLOCK  ADVISORY  WRITE 11 {at}\n")
    (here / "proc/12/status").write_text(f"Name:\t\rUid:\t0\t0\t\nUid:\t{uids}\t0\t0\n", newline="\n")
    monkeypatch.setattr(locks, "PROC", str(here / "proc"))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert not activity.held(str(here / "myapp/lock/activate"))


def test_a_lock_is_found_behind_any_number_of_others_but_not_looked_for_without_end(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = (here / "myapp/lock/activate").stat()
    at = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino} 0 EOF"
    others = "".join(f"{number}: FLOCK  ADVISORY  WRITE 99 00:2a:{number} 0 EOF\n" for number in range(30_000))
    (here / "proc").mkdir()
    (here / "proc/locks").write_text(f"{others}30000: FLOCK  ADVISORY  WRITE 11 {at}\n")
    monkeypatch.setattr(locks, "PROC", str(here / "proc"))
    assert activity.held(str(here / "myapp/lock/activate"))
    monkeypatch.setattr(locks, "_LIST_SECONDS", -1)
    assert not activity.held(str(here / "myapp/lock/activate"))


def test_a_list_that_others_have_filled_hides_no_lock_of_a_process_that_we_see(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once: any account, and the service, hid every lock by 200,000 of its own, and made each look take 5 s."""
    monkeypatch.setattr(locks, "listed", lambda: iter(["1: POSIX  ADVISORY  WRITE 99 00:2a:7 0 0"]))
    descriptor = take(here, "activate")
    assert activity.held(str(here / "myapp/lock/activate"))
    os.close(descriptor)
    assert not activity.held(str(here / "myapp/lock/activate"))


def test_asking_takes_no_lock(here: Path) -> None:
    asked = take(here, "activate", {"group": 7})
    other = os.open(here / "myapp/lock/run", os.O_RDWR)
    activity.look("myapp")
    fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(asked)
    os.close(other)


# ---- the service's directory


def told(here: Path, last: int) -> list[str]:
    with Folder.open(str(here / "apps")) as root:
        return [text for _, text in stores.history(root, last)]


def test_the_last_lines_come_whole_and_before_them_the_switches_that_were_done(here: Path) -> None:
    actions = ("stop", "deploy", "stop", "rollback", "stop", "undo", "stop", "deploy", "stop")
    lines = [f'{{"action":"{action}","n":{number},"state":"done"}}' for number, action in enumerate(actions)]
    (here / "apps/history.jsonl").write_text("".join(f"{line}\n" for line in lines))
    assert told(here, 3) == [lines[1], lines[3], lines[5], *lines[6:]]
    assert told(here, 100) == lines
    with (here / "apps/history.jsonl").open("a") as file:
        file.write('{"torn')
    assert told(here, 1) == [lines[1], lines[3], lines[5], lines[7], '{"torn']
    (here / "apps/history.jsonl").write_text('{"action":"deploy","state":"done"}\n' * 500)
    assert len(told(here, 1)) == 201


@pytest.mark.parametrize("plant", ["nothing", "a pipe", "a link", "a directory"])
@pytest.mark.parametrize("place", ["history.jsonl", f"releases/{OLD}/MANIFEST", f"releases/{OLD}/release.json"])
def test_what_is_no_file_of_ours_is_not_read(here: Path, plant: str, place: str) -> None:
    path = here / "apps" / place
    path.parent.mkdir(exist_ok=True)
    if plant == "a pipe":
        os.mkfifo(path)
    elif plant == "a link":
        path.symlink_to("/etc/passwd")
    elif plant == "a directory":
        path.mkdir()
    with Folder.open(str(here / "apps")) as root:
        assert [*stores.history(root, 5), *stores.manifest(root, OLD), *stores.releases(root)] == []


def test_releases_by_a_link_are_none(here: Path) -> None:
    (here / "apps/releases").rmdir()
    (here / "apps/releases").symlink_to("/etc")
    with Folder.open(str(here / "apps")) as root:
        assert not stores.pruning(root)
        assert [*stores.manifest(root, OLD)] == []
        with pytest.raises(NotADirectoryError):
            list(stores.releases(root))


def test_venvs_are_directories_and_wheels_are_files(here: Path) -> None:
    for path in ("venvs/v", "wheels/d.whl"):
        (here / "apps" / path).mkdir(parents=True)
    for path in ("venvs/f", "wheels/w.whl", "wheels/.coming"):
        (here / "apps" / path).touch()
    (here / "apps/wheels/l.whl").symlink_to("w.whl")
    with Folder.open(str(here / "apps")) as root:
        assert (stores.stored(root, "venvs"), stores.stored(root, "wheels")) == (("v",), ("w.whl",))
        assert stores.stored(root, "none") == ()


def test_a_prune_that_was_cut_is_seen(here: Path) -> None:
    with Folder.open(str(here / "apps")) as root:
        assert not stores.pruning(root)
        (here / f"apps/releases/.part-old-{OLD}").mkdir()
        assert stores.pruning(root)


# ---- the state of the service


def look(here: Path, live: str, until: str = "", **states: str) -> Look:
    """Return a look at OLD, committed in slot blue, and NEW in slot green."""
    for slot, release in (("blue", OLD), ("green", NEW)):
        (here / f"apps/slots/{slot}").mkdir(parents=True)
        (here / f"apps/slots/{slot}/release").symlink_to(f"../../releases/{release}")
    (here / "apps/current").symlink_to("slots/blue")
    (here / "myapp/live").symlink_to(live)
    (here / "myapp/ctl/probation/until").write_text(until)
    units = {f"myapp-probation@{slot}.service": {"ActiveState": state} for slot, state in states.items()}
    return Look(service(here), Links(service(here)), units)


@pytest.mark.parametrize(
    ("live", "left", "word", "state", "probation", "finishing"),
    [
        ("green", 30, "", "active", 30, False),
        ("green", 30, "", "activating", 30, False),
        ("green", -5, "", "active", 0, False),
        ("green", 30, "", "inactive", None, False),
        ("green", -90, "", "active", None, False),
        ("green", 30, "taken ", "active", None, False),
        ("blue", 30, "", "active", None, True),
        ("blue", 30, "drain ", "active", None, True),
        ("blue", 30, "done ", "active", None, False),
        ("blue", 30, "", "failed", None, False),
    ],
)
def test_a_probation_is_what_somebody_watches(
    here: Path, live: str, left: int, word: str, state: str, probation: int | None, finishing: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("templates.host.state.now", lambda: 1000.0)
    found = look(here, live, f"{word}{(1000 + left) * 100}\n", **{live: state}).facts()
    assert (found.probation, found.finishing) == (probation, finishing)
    assert (found.current, found.live, found.slots["green"]) == ("blue", live, Slot("", NEW))


def test_a_guard_that_ends_while_the_units_are_asked_leaves_no_run_that_did_not_finish(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once: its task was read after the units, so a deploy that changed nothing now and then activated again."""
    look(here, "blue", f"drain {round((now() + 60) * 100)}\n")

    def ask(_: str, *__: str, **___: object) -> programs.Completed:
        (here / "myapp/ctl/probation/until").write_text("done\n")
        states = {"myapp@blue": "active", "myapp@green": "active", "myapp-probation@blue": "active"}
        return programs.Completed(0, "".join(f"{unit}.service loaded {state} x\n" for unit, state in states.items()))

    monkeypatch.setattr(programs, "ask", ask)
    links = Links(service(here))
    assert Look(service(here), links, ask_units(service(here), links, surveyed=False)).facts().finishing


@pytest.mark.parametrize("word", ["", "taken "])
def test_a_guard_that_has_moved_the_traffic_back_finishes_by_itself(here: Path, word: str) -> None:
    """Once: a deploy of the release that serves again activated it anew while its host stopped the one that failed."""
    found = look(here, "blue", f"{word}{round((now() + 60) * 100)}\n", green="active").facts()
    assert (found.probation, found.finishing) == (None, not word)


def test_a_release_that_is_committed_while_the_units_are_asked_is_not_called_unwatched(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once: links from before a commit stood beside units from after the end of its guard."""
    look(here, "green", f"{round((now() + 60) * 100)}\n")
    asked: list[str] = []

    def ask(_: str, *__: str, **___: object) -> programs.Completed:
        (here / "apps/current").unlink()
        (here / "apps/current").symlink_to("slots/green")
        (here / "myapp/ctl/probation/until").write_text("done\n")
        asked.append("")
        return programs.Completed(0, "myapp@green.service loaded active x\n")

    monkeypatch.setattr(programs, "ask", ask)
    found = look_at(service(here), surveyed=False).facts()
    assert (found.current, found.live, found.probation, found.finishing) == ("green", "green", None, False)
    assert len(asked) == 2


def test_links_that_change_at_each_look_are_asked_for_a_few_times_only(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look(here, "green")
    asked: list[str] = []

    def ask(_: str, *__: str, **___: object) -> programs.Completed:
        asked.append("")
        (here / "myapp/ctl/probation/until").write_text(f"drain {len(asked)}\n")
        return programs.Completed(0, "")

    monkeypatch.setattr(programs, "ask", ask)
    assert look_at(service(here), surveyed=False).links.task == "drain 2"
    assert len(asked) == 3


@pytest.mark.parametrize(("target", "live"), [("{apps}/current", "blue"), ("../x/green", "green"), ("", "")])
def test_a_host_of_an_older_version_has_its_link_elsewhere(here: Path, target: str, live: str) -> None:
    (here / "apps/current").symlink_to("slots/blue")
    if target:
        (here / "myapp/ctl/live").symlink_to(target.format(apps=here / "apps"))
    assert Links(service(here)).live == live


@pytest.mark.parametrize(("plant", "told"), [(None, None), ("", ""), ('{"since": "x"}', '{"since": "x"}')])
def test_a_door_that_is_closed_says_why(here: Path, plant: str | None, told: str | None) -> None:
    if plant is not None:
        (here / "apps/maintenance").mkdir()
        (here / "apps/maintenance/state.json").write_text(plant)
    assert look(here, "blue").facts().maintenance == told


def test_a_door_that_a_hand_has_closed_is_closed(here: Path) -> None:
    (here / "apps/maintenance").symlink_to("/nowhere")
    assert look(here, "blue").facts().maintenance == "{}"


@pytest.mark.parametrize("surveyed", [True, False])
@pytest.mark.parametrize("answer", ["", "\n", "nonsense", "\n\n\n", "A=B\n\nC"])
def test_a_systemd_that_does_not_answer_tells_nothing(
    here: Path, surveyed: bool, answer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs, "ask", lambda *_, **__: programs.Completed(1, answer))
    shown = ask_units(service(here, "myapp-nightly.timer"), Links(service(here)), surveyed=surveyed)
    found = Look(service(here), Links(service(here)), shown).facts()
    assert (found.main_unit in {"", "B", "A=B", "C"}, found.slots["blue"].state in {"", "nonsense"}) == (True, True)
    assert survey.slot(shown.get("myapp@blue.service", {}), Slot()).memory is None


@pytest.mark.parametrize("word", ["reloading", "refreshing"])
def test_a_unit_that_goes_on_running_counts_as_active(here: Path, word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(_: str, verb: str, *names: str, **__: object) -> programs.Completed:
        wanted = [name for name in names if "." in name]
        lines = [f"{name} loaded {word} x" if verb == "list-units" else f"ActiveState={word}\n" for name in wanted]
        return programs.Completed(0, "\n".join(lines))

    monkeypatch.setattr(programs, "ask", ask)
    for surveyed in (True, False):
        links = Links(service(here))
        found = Look(service(here), links, ask_units(service(here), links, surveyed=surveyed))
        assert (found.state("myapp@blue.service"), found.facts().main_unit) == ("active", "active")
    assert units.states("myapp@blue.service") == ["active"]
    assert units.show("myapp@blue.service", "ActiveState") == {"ActiveState": "active"}


def test_a_unit_that_systemd_has_not_loaded_is_inactive(monkeypatch: pytest.MonkeyPatch) -> None:
    said = "a.service loaded failed failed Of us\nb.service not-found inactive dead b.service\n"
    monkeypatch.setattr(programs, "ask", lambda *_, **__: programs.Completed(0, said))
    assert units.states("b.service", "c.service", "a.service") == ["inactive", "inactive", "failed"]
    monkeypatch.setattr(programs, "ask", lambda *_, **__: programs.Completed(1, said))
    assert units.states("b.service", "c.service") == ["unknown", "unknown"]


def test_a_structured_line_arrives_whole_because_its_end_has_the_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    line = json.dumps({"message": "x", "traceback": "frame\n" * 3000 + "OSError: the cause"})
    monkeypatch.setattr(programs, "last_lines", lambda *_, longest, **__: ([line[:longest]], True))
    assert units.journal_lines("myapp@blue.service")[0] == ("journal", line)


def test_a_journal_that_is_not_read_in_time_is_told_as_far_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journalctl = tmp_path / "journalctl"
    journalctl.write_text("#!/bin/sh\necho first\nexec sleep 600\n")
    journalctl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(units, "_SECONDS", 5)
    first, left_out = units.last_lines(["0" * 32], 10)
    assert (first, "did not end within 5 s" in left_out) == ("first", True)


def test_the_last_lines_are_those_of_the_units_last_starts(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, ...]] = []

    def said(*words: str, **_: object) -> tuple[list[str], bool]:
        asked.append(words)
        return ["one", "y" * 5000 + "x" * 1000], True

    monkeypatch.setattr(programs, "last_lines", said)
    (here / "apps/slots/blue/release/run").mkdir(parents=True)
    (here / "apps/slots/blue/release/run/worker").touch()
    (here / "myapp/live").symlink_to("blue")
    worker = Process("myapp-worker", "worker", False, 9, ())
    about = service(here, "myapp-nightly.timer")._replace(processes=(worker,))
    started = {"myapp@blue.service": "a" * 32, "myapp-nightly.service": "b" * 32, "myapp-nightly.timer": "--help"}
    started["myapp-worker@blue.service"] = "c" * 32
    shown = {unit: {"InvocationID": start} for unit, start in started.items()}
    assert survey._said(about, Links(about), shown) == ("one", "x" * 1000)
    (words,) = asked
    assert words[-3:] == tuple(f"_SYSTEMD_INVOCATION_ID={letter * 32}" for letter in "acb")
    assert "--help" not in words
    assert survey._said(about, Links(about), {}) == ()


@pytest.mark.parametrize("word", ["[not set]", "", "-1", "infinity", "9" * 30, "٣"])
def test_what_systemd_does_not_count_is_no_number(word: str) -> None:
    told = {"MemoryCurrent": word, "NRestarts": word, "ActiveEnterTimestampMonotonic": word, "MainPID": word}
    assert survey.slot(told, Slot("active")) == Slot("active")


def test_a_pipe_in_the_place_of_a_small_file_is_not_waited_for(tmp_path: Path) -> None:
    """Once: before a first setup, in a directory /etc/NAME of another account, root waited for ever."""
    os.mkfifo(tmp_path / "certificate.pem")
    assert small_file.read(str(tmp_path / "certificate.pem")) == ""
    # A writer that writes nothing.
    writer = os.open(tmp_path / "certificate.pem", os.O_RDWR)
    assert small_file.read(str(tmp_path / "certificate.pem")) == ""
    os.close(writer)
    (tmp_path / "whole").write_text("text")
    assert (small_file.read(str(tmp_path / "whole")), small_file.read(str(tmp_path / "none"))) == ("text", "")


def test_nothing_but_a_file_is_opened(tmp_path: Path) -> None:
    """Once: in /etc/NAME of another account, root opened what a link led to. To open a watchdog restarts the host."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    opened = threading.Event()

    def write() -> None:
        # Waits until the pipe is opened for reading.
        with pipe.open("wb"):
            opened.set()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert small_file.read(str(pipe)) == ""
        assert machine.contents([str(pipe)]) == {}
        assert not opened.wait(0.2)
    finally:
        os.close(os.open(pipe, os.O_RDONLY | os.O_NONBLOCK))
        writer.join()


@pytest.mark.parametrize(("uid", "own", "all_read"), [(0, False, False), (0, True, True), (1000, False, True)])
def test_root_reads_nothing_in_a_directory_that_is_not_roots_alone(
    uid: int, own: bool, all_read: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once: before the first setup of such a name a link there to /etc/shadow came to the controller."""
    known = record.Record("apt")
    known.there = True
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    monkeypatch.setattr(trust, "is_roots_own", lambda _: own)
    monkeypatch.setattr(record, "read", lambda _: known)
    paths = ["/etc/apt/run-server", "/etc/systemd/system/apt.service"]
    found, readable = facts._readable("apt", paths)
    assert (found is known, readable) == (all_read, paths if all_read else paths[1:])


# ---- interpreters


@pytest.fixture
def pythons(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The only directory with programs, which every account may read."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        monkeypatch.setenv("PATH", folder)
        yield Path(folder)


def script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_each_interpreter_is_asked_once_and_the_one_that_runs_this_not_at_all(
    pythons: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (pythons / "python3").symlink_to(os.path.realpath(sys.executable))
    (pythons / "python3.11").symlink_to("python3")
    monkeypatch.setattr(programs, "ask_without_rights", lambda *_, **__: pytest.fail("an interpreter is started"))
    (found,) = interpreters.ask("python3.11")
    assert found.path == str(pythons / "python3.11")


def test_another_process_says_the_same_of_it(pythons: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other interpreters run the text of the module."""
    # The Python of these tests may be one that only its owner can run.
    monkeypatch.setattr(programs, "_NO_RIGHTS", {})
    (pythons / "pyvenv.cfg").touch()
    (pythons / "python3").symlink_to(os.path.realpath(sys.executable))
    (asked,) = interpreters.ask("")
    assert asked._replace(path="") == Python(**this_interpreter.describe(""))
    assert asked.path == str(pythons / "python3")


@pytest.mark.parametrize(
    "text", ["exit 1", "echo path /x; exit 1", "echo nonsense", "echo version 3.11.2", "exit 0", "kill -9 $$"]
)
def test_what_does_not_describe_itself_is_none(pythons: Path, text: str) -> None:
    script(pythons / "python3.12", text)
    script(pythons / "python3.13", "echo path /y; echo version 3.13.1; echo other word")
    assert [one.path for one in interpreters.ask("")] == ["/y"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has rights to give up")
def test_root_runs_no_interpreter_with_its_own_rights(pythons: Path) -> None:
    """Once: another account's, named in hosts.yaml or by a link, ran as root before the first setup."""
    script(pythons / "python3.12", "echo path /y; echo version $(/usr/bin/id -u).$(/usr/bin/id -G)")
    assert [one.version for one in interpreters.ask("")] == ["65534.65534"]
    (pythons / "python3.12").chmod(0o700)
    assert interpreters.ask("") == ()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a directory of another account")
def test_an_interpreter_that_another_account_can_exchange_is_not_started(pythons: Path) -> None:
    """Once: it ran as the deploy account, and was chosen, since it said of itself that it had no flaw."""
    theirs = pythons / "theirs"
    theirs.mkdir()
    for name in ("python3.12", "python"):
        script(theirs / name, f"touch {pythons}/started; echo path /y; echo version 3.12.1")
    (theirs / "link").symlink_to(os.path.realpath(sys.executable))
    os.chown(theirs, 65534, -1)
    for name, target in (("python3.12", "python3.12"), ("python3.13", "python"), ("python3.14", "link")):
        (pythons / name).symlink_to(theirs / target)
    found = interpreters.ask("")
    assert {one.flaws for one in found} == {f"open {theirs}"}
    assert (len(found), found[0].version, (pythons / "started").exists()) == (3, "3.12", False)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a directory of another account")
def test_an_interpreter_to_which_another_account_leads_is_not_started(pythons: Path) -> None:
    """Once: of links only the last one was looked at, and not those to the directories before it."""
    ours, theirs = pythons / "ours/bin", pythons / "theirs"
    ours.mkdir(parents=True)
    theirs.mkdir()
    for name in ("python3.12", "python3.13"):
        script(ours / name, f"touch {pythons}/started; echo path /y; echo version 3.12.1")
    (theirs / "folder").symlink_to("../ours")
    os.chown(theirs, 65534, -1)
    (pythons / "python3.12").symlink_to(theirs / "folder/bin/python3.12")
    # Its standard library.
    (pythons / "python3.13").symlink_to(ours / "python3.13")
    library = pythons / "ours/lib/python3.13"
    library.mkdir(parents=True)
    os.chown(library, 65534, -1)
    # The same, where the name does not say which library it is.
    script(ours / "python", f"touch {pythons}/started; echo path /y; echo version 3.12.1")
    (pythons / "python3.14").symlink_to(ours / "python")
    found = interpreters.ask("")
    assert [one.flaws for one in found] == [f"open {theirs}", f"open {library}", f"open {library}"]
    assert not (pythons / "started").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a directory of another account")
def test_an_interpreter_that_others_can_exchange_hides_no_other_one(pythons: Path) -> None:
    theirs = pythons / "theirs"
    theirs.mkdir()
    (theirs / "python").symlink_to("../python3.12")
    os.chown(theirs, 65534, -1)
    (pythons / "python3").symlink_to(theirs / "python")
    script(pythons / "python3.12", "echo path /y; echo version 3.12.1")
    assert [(one.path, one.flaws) for one in interpreters.ask("")] == [
        (str(pythons / "python3"), f"open {theirs}"),
        ("/y", ""),
    ]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a directory of another account")
def test_an_interpreter_that_a_script_starts_must_be_no_other_accounts(pythons: Path) -> None:
    theirs = pythons / "theirs"
    theirs.mkdir()
    (theirs / "python").touch()
    os.chown(theirs, 65534, -1)
    script(pythons / "python3.12", f"echo path {theirs}/python; echo version 3.12.1; echo flaws")
    assert [one.flaws for one in interpreters.ask("")] == [f"open {theirs}"]


def test_an_interpreter_that_cannot_make_a_venv_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "isdir", lambda _: False)
    assert this_interpreter.describe("/x") == {}


# ---- root's part


def test_the_account_adds_nothing_to_roots_own_word(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Root adopts only the account's part from the process with the account's rights, whatever else that reports."""
    said: list[tuple[str, str]] = []
    step = {"name": "nothing", "root": str(tmp_path), "wants": ["state"], "files": [], "wait": 0, "watch": 0}
    run = Run(("n", "r", "{}", ""), step, io.BytesIO())
    monkeypatch.setattr(run, "reports", said.extend)
    answer = facts.Answer()
    answer.members = {"machine": {"tools": {"tar": "/home/deploy/tar"}}, "files": {"/x": "y"}, "pythons": [1]}
    monkeypatch.setattr(facts, "_look", lambda *_: answer)
    facts.perform(run)
    told: Mapping[str, Any] = json.loads(dict(said)["facts"])
    assert told["machine"]["tools"].get("tar") == shutil.which("tar")
    assert (told["files"], told["pythons"]) == ({}, [1])
    assert told.keys() == plain(HostFacts()).keys()


def test_root_looks_at_no_link_of_the_accounts_to_tell_early(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Once: before the change to the account's rights, root followed a directory that was a link."""
    (tmp_path / "slots").symlink_to(tmp_path / "of-root")
    (tmp_path / "of-root/blue").mkdir(parents=True)
    (tmp_path / "of-root/blue/release").symlink_to("a/secret")
    (tmp_path / "current").symlink_to("slots/blue")
    said: list[tuple[str, str]] = []
    step = {"name": "nothing", "root": str(tmp_path), "wants": [], "files": [], "wanted": OLD, "waits": True}
    monkeypatch.setattr("templates.host.service.of", lambda step: service(tmp_path)._replace(root=step["root"]))
    monkeypatch.setattr(facts, "_look", lambda *_: facts.Answer())
    for uid in (0, 1000):
        run = Run(("n", "r", "{}", ""), step, io.BytesIO())
        monkeypatch.setattr(run, "reports", said.extend)
        monkeypatch.setattr(os, "geteuid", lambda uid=uid: uid)
        facts.perform(run)
    assert [(word, text) for word, text in said if word != "facts"] == [("differs", "secret")]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another account")
@pytest.mark.parametrize("recorded", ["", "account gone-loop\n"], ids=["no record", "its account is gone"])
def test_root_reads_nothing_itself_below_the_directory_of_an_account_that_is_gone(
    monkeypatch: pytest.MonkeyPatch, recorded: str
) -> None:
    """Once: root read all of it with its own rights, for as long as that took."""
    monkeypatch.setattr(facts, "ask", lambda *_: asked_as(os.geteuid()))
    uid = 50_000 + os.getpid() % 10_000
    with tempfile.TemporaryDirectory() as root:
        os.chown(root, uid, -1)
        run = Run(("n", "r", "{}", ""), {"name": "nothing", "root": root, "wait": 0, "watch": 0}, io.BytesIO())
        assert facts._look(run, frozenset(), record.parse("nothing", recorded)).members == {"uid": uid}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another account")
def test_root_reads_nothing_itself_in_what_another_program_has_in_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once: for a service with the name of that program, root followed links which its account had put there."""
    uid = 50_000 + os.getpid() % 10_000
    with tempfile.TemporaryDirectory(dir="/run") as above:
        (Path(above) / "nothing").mkdir()
        monkeypatch.setattr(locks, "RUN", above)
        monkeypatch.setattr(facts, "ask", lambda *_: asked_as(os.geteuid()))
        step = {"name": "nothing", "root": f"{above}/none", "wait": 0, "watch": 0}
        run = Run(("n", "r", "{}", ""), step, io.BytesIO())
        assert facts._look(run, frozenset(), record.Record("nothing")).members == {"uid": 0}
        os.chown(f"{above}/nothing", uid, -1)
        assert facts._look(run, frozenset(), record.Record("nothing")).members == {"uid": uid}


def asked_as(uid: int) -> facts.Answer:
    answer = facts.Answer()
    answer.members["uid"] = uid
    return answer


def test_only_a_file_is_roots_file_and_only_to_a_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("text")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "large").write_text("x" * 100)
    monkeypatch.setattr(machine, "_LARGEST", 99)
    found = machine.contents(str(tmp_path / name) for name in ("file", "pipe", "link", "large", "none", ""))
    assert found == {str(tmp_path / "file"): b"text", str(tmp_path / "link"): b"text"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", ("1", "")),
        ("account deploy\n", ("1", "deploy")),
        ("layout 2\nuser deploy\naccount of layout 2, which\n", ("2", "deploy")),
        ("made user myapp\nlayout 2\n", ("2", "")),
    ],
)
def test_a_record_tells_its_layout_and_who_deploys(text: str, told: tuple[str, str]) -> None:
    found = machine.recorded(
        record.parse("myapp", text + f"file {'1' * 64} /x\ntls {'2' * 64} /y\n"), ["/x", "/y", "/z"]
    )
    assert (found.layout, found.account, found.files) == (*told, {"/x": "1" * 64, "/y": "2" * 64})
    assert machine.recorded(record.Record("myapp"), ["/x"]).layout == ""
