"""Maintenance on a host: one rename closes the front door, one opens it, and neither leaves a file."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from pathlib import Path

import pytest

from tasks.engine.host import payload, steps
from templates.host import maintenance
from templates.host.folders import Folder
from templates.host.run import Run
from tests.support.simulated_host import OLD, SERVICE, SimulatedHost, serving

ON, OFF = steps.maintenance(SERVICE, "on"), steps.maintenance(SERVICE, "off")
PAGES = {"page.html": b"<p>soon", "page.json": b"{}\n", "state.json": b'{"message": "soon"}\n'}


@pytest.fixture
def host(tmp_path: Path) -> SimulatedHost:
    """A host that serves, with a front door that answers as nginx would if it is closed."""
    made = serving(SimulatedHost(tmp_path))
    (made.folder / "front").write_text("503")
    return made


def on(host: SimulatedHost, pages: dict[str, bytes] | None = None) -> int:
    return host.execute(ON, tuple(payload.maintenance(pages or PAGES)))


def left(host: SimulatedHost) -> list[str]:
    return sorted(path.name for path in host.root.iterdir() if "maintenance" in path.name)


def test_it_closes_and_opens(host: SimulatedHost) -> None:
    assert on(host) == 0
    door = host.root / "maintenance"
    assert {path.name: path.read_bytes() for path in door.iterdir()} == PAGES
    assert (door.stat().st_mode & 0o777, (door / "page.html").stat().st_mode & 0o777) == (0o755, 0o644)
    assert host.transcript.last("step") == "closed clients get 503"
    assert left(host) == ["maintenance"]
    assert host.execute(OFF) == 0
    assert host.transcript.last("step") == "open clients are served"
    assert left(host) == []
    turns = [(f"maintenance-{turn}", OLD, state) for turn in ("on", "off") for state in ("started", "done")]
    assert host.history() == turns


def test_opened_again_it_says_so_and_writes_nothing(host: SimulatedHost) -> None:
    assert host.execute(OFF) == 0
    assert host.transcript.last("step") == "open it was open already"
    assert (host.history(), left(host)) == ([], [])


def test_closed_already_only_its_pages_change(host: SimulatedHost) -> None:
    assert on(host) == 0
    inode = (host.root / "maintenance").stat().st_ino
    assert on(host, {**PAGES, "page.html": b"<p>later"}) == 0
    assert (host.root / "maintenance").stat().st_ino == inode
    assert (host.root / "maintenance/page.html").read_bytes() == b"<p>later"
    assert left(host) == ["maintenance"]


@pytest.mark.parametrize("code", ["200", "000"])
def test_a_door_that_does_not_close_is_opened_again(host: SimulatedHost, code: str) -> None:
    (host.folder / "front").write_text(code)
    assert on(host) == 1
    assert f"the front door answers {code} and not 503" in (host.transcript.last("refused") or "")
    assert (left(host), host.history()[-1]) == ([], ("maintenance-on", OLD, "failed"))


def test_one_that_was_closed_stays_so_whatever_it_answers(host: SimulatedHost) -> None:
    assert on(host) == 0
    (host.folder / "front").write_text("200")
    assert on(host, {**PAGES, "page.html": b"<p>later"}) == 1
    assert (host.root / "maintenance/page.html").read_bytes() == b"<p>later"


def test_a_signal_before_it_is_seen_to_be_closed_opens_it_again(host: SimulatedHost) -> None:
    assert on(host) == 0
    (call,) = (number for number, call in enumerate(host.calls, 1) if call.startswith("curl"))
    assert host.execute(OFF) == 0
    host.forget()
    host.cut(call, "TERM")
    assert on(host) == 129
    assert left(host) == []


def test_what_runs_that_died_have_left_is_swept(host: SimulatedHost) -> None:
    (host.root / ".maintenance-old/new").mkdir(parents=True)
    (host.root / ".maintenance-file").touch()
    (host.root / ".maintenance-link").symlink_to("releases")
    assert host.execute(OFF) == 0
    assert (left(host), (host.root / "releases").is_dir()) == ([], True)


@pytest.mark.parametrize("to", ["/etc", "releases", "nowhere"])
def test_a_link_in_its_place_is_taken_away_and_led_nowhere(host: SimulatedHost, to: str) -> None:
    before = sorted((host.root / "releases").iterdir())
    (host.root / "maintenance").symlink_to(to)
    assert on(host) == 0
    assert not (host.root / "maintenance").is_symlink()
    assert sorted((host.root / "releases").iterdir()) == before
    assert left(host) == ["maintenance"]


def test_what_cannot_be_cleared_away_is_told(host: SimulatedHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """The deploy account may rename root's own directory, but not empty it."""
    (host.root / "maintenance").mkdir()
    told: list[str] = []
    step = {"name": "myapp", "root": str(host.root)}
    run = Run(("n", "r", '{"user":"me"}', ""), step, io.BytesIO())
    monkeypatch.setattr(run, "report", lambda word, text="": told.append(f"{word} {text}"))
    monkeypatch.setattr(shutil, "rmtree", fails)
    with Folder.open(str(host.root)) as root:
        maintenance._Door(run, root)._take_away()
    assert told == [f"warning {host.root}/.maintenance-r-former is root's, and stays until root removes it"]


def fails(path: str) -> None:
    raise PermissionError(13, "Permission denied", path)


def packed(name: str, kind: bytes = tarfile.REGTYPE) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, "/etc/passwd" if kind == tarfile.SYMTYPE else ""
        archive.addfile(info)
    return target.getvalue()


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (packed("../page.html"), "sent ../page.html, which is no page"),
        (packed("page.html", tarfile.SYMTYPE), "which is no page"),
        (packed("page.html", tarfile.DIRTYPE), "which is no page"),
        (b"x" * 1024, "is no pages, or was cut off"),
        (b"".join(payload.maintenance(PAGES))[:700], "is no pages, or was cut off"),
    ],
)
def test_what_is_no_page_changes_nothing(host: SimulatedHost, sent: bytes, told: str) -> None:
    assert host.execute(ON, (sent,)) == 1
    assert told in (host.transcript.last("refused") or "")
    assert (left(host), host.history()) == ([], [])


def test_a_host_that_is_not_set_up_is_told(host: SimulatedHost) -> None:
    told = json.loads(OFF.text)
    off = OFF._replace(text=json.dumps({**told, "root": f"{host.folder}/none"}))
    assert host.execute(off) == 1
    assert host.transcript.last("refused") == "myapp is not set up on this host: fab setup"
