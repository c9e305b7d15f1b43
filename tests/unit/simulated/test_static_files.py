"""Static files on a simulated host: what a stage and an activation put where nginx reads."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from tasks.engine.host import steps
from tasks.engine.host.steps import Activation
from templates.host import release, static_files
from templates.host.folders import Folder
from tests.support.simulated_host import NEW, OLD, SERVICE, SimulatedHost, host, simulated_host

__all__ = ["host", "simulated_host"]

LIST = "/static/ app/static\n/more/files/ dist\n"
DEPLOY = steps.activate(SERVICE, Activation("deploy", NEW, OLD))


def write(host: SimulatedHost, release: str, files: dict[str, str], listed: str = LIST) -> Path:
    """Give a release these files, and the list of its static directories; return its directory."""
    home = host.root / "releases" / release
    for path, text in files.items():
        (home / "code" / path).parent.mkdir(parents=True, exist_ok=True)
        (home / "code" / path).write_text(text)
    lines = [f"{digest(path.read_bytes())}  {path.relative_to(home / 'code')}\n" for path in code(home)]
    (home / "MANIFEST").write_text("".join(lines))
    (home / "run/static.list").write_text(listed)
    launchers = [f"{digest((home / 'run' / name).read_bytes())}  run/{name}\n" for name in ("static.list", "worker")]
    (home / "LAUNCHERS").write_text("".join(launchers))
    return home


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def code(home: Path) -> list[Path]:
    return sorted(path for path in (home / "code").rglob("*") if path.is_file() and not path.is_symlink())


def served(host: SimulatedHost, tree: str) -> dict[str, str]:
    """Return the text of each file of a tree, by its path, and the kind of whatever else is there."""
    top = host.root / "static" / tree
    found = (path for path in top.rglob("*") if path.is_symlink() or not path.is_dir())
    return {str(path.relative_to(top)): path.read_text() if path.is_file() else "no file" for path in found}


@pytest.fixture
def static(host: SimulatedHost) -> SimulatedHost:
    """A host that setup has made ready for static files, with two releases that have some."""
    (host.root / "static").mkdir()
    write(host, OLD, {"app/static/a.css": "old", "app/static/a-0a1b2c3d.js": "old"})
    write(host, NEW, {"app/static/a.css": "new", "app/static/x/b-1a2b3c4d.js": "new", "dist/c": "c", "app/d": "d"})
    return host


def test_a_slot_gets_hard_links_to_its_static_files_and_hashed_ones_are_kept(static: SimulatedHost) -> None:
    assert static.execute(DEPLOY) == 0
    assert served(static, "green") == {"static/a.css": "new", "static/x/b-1a2b3c4d.js": "new", "more/files/c": "c"}
    assert served(static, "kept") == {"static/x/b-1a2b3c4d.js": "new"}
    assert (static.root / "static/green/static/a.css").samefile(static.root / f"releases/{NEW}/code/app/static/a.css")
    assert static.execute(steps.activate(SERVICE, Activation("rollback", OLD, NEW))) == 0
    assert served(static, "blue") == {"static/a.css": "old", "static/a-0a1b2c3d.js": "old"}
    assert served(static, "kept") == {"static/x/b-1a2b3c4d.js": "new", "static/a-0a1b2c3d.js": "old"}
    assert static.leftovers() == []


def test_a_kept_file_goes_with_the_last_release_that_has_it(static: SimulatedHost) -> None:
    assert static.execute(steps.activate(SERVICE, Activation("restart", OLD, OLD))) == 0
    assert served(static, "kept") == {"static/a-0a1b2c3d.js": "old"}
    os.utime(static.root / "releases" / OLD, (1, 1))
    for number, before in ((0, OLD), (1, NEW), (2, f"{0:012}")):
        name = NEW if number == 0 else f"{number - 1:012}"
        if number:
            static.release(name)
            write(static, name, {})
        assert static.execute(steps.activate(SERVICE, Activation("deploy", name, before))) == 0
    assert not (static.root / "releases" / OLD).exists()
    assert "static/a-0a1b2c3d.js" not in served(static, "kept")


@pytest.mark.parametrize(
    "listed",
    ["/static/ ../../../..\n", "/../ app/static\n", "/static/ /etc\n", "/static/ app/../..\n", "static app/static\n"],
)
def test_a_list_that_leads_out_of_the_code_is_not_followed(static: SimulatedHost, listed: str) -> None:
    write(static, NEW, {}, listed)
    assert static.execute(DEPLOY) == 0
    assert served(static, "green") == {}


def test_a_list_that_its_release_does_not_name_is_ignored(static: SimulatedHost) -> None:
    (static.root / f"releases/{NEW}/LAUNCHERS").unlink()
    assert static.execute(DEPLOY) == 0
    assert served(static, "green") == {}


def test_links_and_pipes_of_a_release_are_not_served(static: SimulatedHost) -> None:
    folder = static.root / f"releases/{NEW}/code/app/static"
    (folder / "link.css").symlink_to("/etc/hostname")
    (folder / "up").symlink_to("..")
    os.mkfifo(folder / "pipe-0a1b2c3d.css")
    (static.root / f"releases/{NEW}/code/dist").rename(static.folder / "dist")
    (static.root / f"releases/{NEW}/code/dist").symlink_to("/etc")
    write(static, NEW, {})
    assert static.execute(DEPLOY) == 0
    assert served(static, "green") == {"static/a.css": "new", "static/x/b-1a2b3c4d.js": "new"}
    assert served(static, "kept") == {"static/x/b-1a2b3c4d.js": "new"}


def test_what_a_release_does_not_list_is_not_served(static: SimulatedHost) -> None:
    """Once: a page that the former deploy account had put there stayed, since another release had one of its name."""
    folder = static.root / f"releases/{NEW}/code/app/static"
    (folder / "__pycache__").mkdir()
    for name in ("evil-3f2a9c1b.html", "odd\nname-3f2a9c1b.js", "__pycache__/x.cpython-311.pyc"):
        (folder / name).write_text("added")
    # As after a handover: its lists are gone.
    old = static.root / f"releases/{OLD}"
    (old / "MANIFEST").unlink()
    (old / "code/app/static/evil-3f2a9c1b.html").write_text("added")
    kept = static.root / "static/kept/static"
    kept.mkdir(parents=True)
    (kept / "evil-3f2a9c1b.html").write_text("added")
    assert static.execute(DEPLOY) == 0
    assert served(static, "green") == {"static/a.css": "new", "static/x/b-1a2b3c4d.js": "new", "more/files/c": "c"}
    assert served(static, "kept") == {"static/x/b-1a2b3c4d.js": "new"}


def test_a_release_of_a_former_account_is_served_until_the_next_deploy_and_not_kept(static: SimulatedHost) -> None:
    (static.root / f"releases/{OLD}/MANIFEST").unlink()
    assert static.execute(steps.activate(SERVICE, Activation("restart", OLD, OLD))) == 0
    assert served(static, str(static.slot("live"))) == {
        "static/a.css": "old", "static/a-0a1b2c3d.js": "old",
    }  # fmt: skip
    assert served(static, "kept") == {}


def test_what_is_in_a_slot_that_is_idle_is_replaced_whole(static: SimulatedHost) -> None:
    slot = static.root / "static/green"
    (slot / "static").mkdir(parents=True)
    (slot / "static/a.css").symlink_to("/etc/hostname")
    (slot / "more").symlink_to("/etc")
    (static.root / "static/.part-left").mkdir()
    assert static.execute(DEPLOY) == 0
    assert set(served(static, "green")) == {"static/a.css", "static/x/b-1a2b3c4d.js", "more/files/c"}
    assert sorted(path.name for path in (static.root / "static").iterdir()) == ["green", "kept"]


def test_a_file_in_the_way_of_one_to_keep_hinders_no_activation(static: SimulatedHost) -> None:
    kept = static.root / "static/kept/static"
    kept.mkdir(parents=True)
    (kept / "x").touch()
    assert static.execute(DEPLOY) == 0
    assert static.serves() == NEW


@pytest.mark.parametrize(("action", "status"), [("deploy", 1), ("rollback", 0)])
def test_only_a_rollback_goes_on_without_room_for_static_files(static: SimulatedHost, action: str, status: int) -> None:
    (static.root / "static/green/static").mkdir(parents=True)
    (static.root / "static/green/static/a.css").write_text("of another release")
    (static.folder / "full").touch()
    assert static.execute(steps.activate(SERVICE, Activation(action, NEW, OLD))) == status
    assert (static.serves() == NEW) == (action == "rollback")
    if action == "rollback":
        assert served(static, "green") == {}
        assert "nginx serves no static files of this release" in (static.transcript.last("warning") or "")


def test_a_rollback_to_the_release_of_the_idle_slot_needs_no_room(
    static: SimulatedHost,
) -> None:
    assert static.execute(DEPLOY) == 0
    assert static.execute(steps.activate(SERVICE, Activation("rollback", OLD, NEW))) == 0
    (static.folder / "full").touch()
    assert static.execute(steps.activate(SERVICE, Activation("rollback", NEW, OLD))) == 0
    assert served(static, "green")["static/a.css"] == "new"
    assert static.transcript.last("warning") is None


def test_a_host_without_the_tree_works_and_is_told_to_run_setup(static: SimulatedHost) -> None:
    (static.root / "static").rmdir()
    assert static.execute(DEPLOY) == 0
    assert static.serves() == NEW
    assert "this host needs fab setup" in (static.transcript.last("warning") or "")
    assert not (static.root / "static").exists()


def test_a_release_without_static_files_empties_its_slot(static: SimulatedHost) -> None:
    assert static.execute(DEPLOY) == 0
    (static.root / f"releases/{OLD}/run/static.list").unlink()
    (static.root / f"releases/{OLD}/LAUNCHERS").unlink()
    assert static.execute(steps.activate(SERVICE, Activation("rollback", OLD, NEW))) == 0
    assert served(static, "blue") == {}


def test_drift_is_what_nginx_could_serve_and_no_release_has(static: SimulatedHost) -> None:
    assert static.execute(DEPLOY) == 0
    # Half-made by a run that was killed: nginx does not look there.
    (static.root / "static/.part-killed").mkdir()
    (static.root / "static/.part-killed/x").touch()
    found: list[str] = []
    static_files.examine(str(static.root), lambda _, text: found.append(text))
    assert found == []
    top = static.root / "static"
    (top / "green/static/a.css").unlink()
    (top / "green/static/a.css").write_text("edited")
    (top / "green/more/files/c").unlink()
    (top / "blue/static").mkdir(parents=True)
    (top / "blue/static/a.css").write_text("old")
    (top / "blue/static/b.css").write_text("old")
    (top / "kept/link").symlink_to("/etc")
    (top / "other").touch()
    static_files.examine(str(static.root), lambda _, text: found.append(text.replace(f"{top}/", "")))
    assert sorted(found) == [
        *("edited green/static/a.css", "extra blue/static/b.css", "extra other"),
        *("missing green/more/files/c", "points kept/link /etc"),
    ]
    (static.root / "releases").rename(static.root / "elsewhere")
    found.clear()
    static_files.examine(str(static.root), lambda _, text: found.append(text))
    assert found == [f"edited {top}"]


def test_drift_reads_no_file_of_another_size(static: SimulatedHost, monkeypatch: pytest.MonkeyPatch) -> None:
    assert static.execute(DEPLOY) == 0
    top = static.root / "static"
    for path in ("kept/static/x.12345678.js", "kept/static/a-0a1b2c3d.js", "green/static/a.css", "green/other"):
        (top / path).unlink(missing_ok=True)
        (top / path).touch()
        os.truncate(top / path, 2 << 40)
    read: list[str] = []

    def digest_of(folder: Folder, name: str, real: Any = release.digest_of) -> str:
        read.append(name)
        return str(real(folder, name))

    monkeypatch.setattr(release, "digest_of", digest_of)
    found: list[str] = []
    static_files.examine(str(static.root), lambda _, text: found.append(text.replace(f"{top}/", "")))
    assert sorted(found) == [
        *("edited green/static/a.css", "extra green/other"),
        *("extra kept/static/a-0a1b2c3d.js", "extra kept/static/x.12345678.js"),
    ]
    assert not {"x.12345678.js", "other"}.intersection(read)
