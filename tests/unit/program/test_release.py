"""drift on a release; and a MANIFEST cannot direct its reader to another place."""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from tasks.engine.host import templates
from templates.host import kept_copies, release, venv
from templates.host import run as run_module
from templates.host.folders import Folder
from templates.host.run import Interrupted, Run

DIGEST = hashlib.sha256(b"code").hexdigest()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    home = tmp_path / "releases/abc"
    (home / "code/app").mkdir(parents=True)
    (home / "run").mkdir()
    (home / "code/app/a b.py").write_text("code")
    (home / "run/web").write_text("code")
    (home / "MANIFEST").write_text(f"{DIGEST}  app/a b.py\n")
    (home / "LAUNCHERS").write_text(f"{DIGEST}  run/web\n")
    (tmp_path / "venvs/1/bin").mkdir(parents=True)
    (tmp_path / "venvs/1/bin/python").symlink_to("/bin/sh")
    (home / "venv").symlink_to("../../venvs/1")
    return tmp_path


def told(root: Path, lists: Mapping[str, Mapping[str, str]] | None = None) -> set[str]:
    lines: list[str] = []
    release.examine(str(root), lambda word, text: lines.append(f"{word} {text}"), lists or {})
    return {line.replace(f"{root}/releases/abc/", "") for line in lines if line.startswith("drift")}


def test_a_release_as_it_was_staged_has_nothing_to_tell(root: Path) -> None:
    assert told(root) == set()


@pytest.mark.parametrize("at", ["opening", "reading"])
def test_a_release_that_a_guard_prunes_meanwhile_is_no_drift(
    root: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    """Once: its files were called missing, or the release itself edited."""
    home, real = root / "releases/abc", Folder.below

    def prune(*_: object) -> None:
        home.rename(home.with_name(".part-old-abc"))
        (home.with_name(".part-old-abc") / "code/app/a b.py").unlink()

    def below(self: Folder, path: str) -> Folder:
        if path == "abc" and at == "opening":
            prune()
        opened = real(self, path)
        if path == "abc":
            prune()
        return opened

    monkeypatch.setattr(Folder, "below", below)
    assert told(root) == set()


def test_a_venv_that_a_guard_prunes_meanwhile_is_no_drift(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "venvs/gone").mkdir(parents=True)

    def differences(path: str) -> list[tuple[str, str]]:
        if path.endswith("/gone"):
            Path(path).rename(root / "venvs/.part-old-gone")
            return [("missing", "bin/gunicorn")]
        return []

    monkeypatch.setattr(venv, "differences", differences)
    assert told(root) == set()


def test_a_file_that_was_edited_together_with_its_line_is_told_by_the_controllers_digest(root: Path) -> None:
    home = root / "releases/abc"
    known = {"abc": {"MANIFEST": hashlib.sha256((home / "MANIFEST").read_bytes()).hexdigest()}}
    assert told(root, known) == set()
    (home / "code/app/a b.py").write_text("edited")
    (home / "MANIFEST").write_text(f"{hashlib.sha256(b'edited').hexdigest()}  app/a b.py\n")
    assert told(root, known) == {"drift edited MANIFEST"}


@pytest.mark.parametrize(
    ("bill", "said"), [("edited", {"drift edited sbom.json"}), (None, {"drift missing sbom.json"})]
)
def test_the_list_of_packages_is_compared_with_the_record(root: Path, bill: str | None, said: set[str]) -> None:
    home = root / "releases/abc"
    (home / "sbom.json").write_text("code")
    (home / "release.json").write_text(json.dumps({"id": "abc", "sbom.json": DIGEST}))
    assert told(root) == set()
    (home / "sbom.json").unlink() if bill is None else (home / "sbom.json").write_text(bill)
    assert told(root) == said


@pytest.mark.parametrize("record", ["[" * 10**5, "[]", "{}", '{"sbom.json": 7}', '{"sbom.json": ["a"]}'])
def test_a_record_without_a_digest_says_nothing_of_the_list_of_packages(root: Path, record: str) -> None:
    (root / "releases/abc/sbom.json").write_text("edited")
    (root / "releases/abc/release.json").write_text(record)
    assert told(root) == set()


@pytest.mark.parametrize("edit", ["edit", "remove", "link"])
def test_the_controller_hears_of_another_list_of_packages(root: Path, edit: str) -> None:
    place = root / "releases/abc/sbom.json"
    place.write_text("code")
    with Folder.open(str(place.parent)) as folder:
        assert release.list_digests(folder)["sbom.json"] == DIGEST
        place.unlink()
        if edit == "edit":
            place.write_text("edited")
        elif edit == "link":
            place.symlink_to("MANIFEST")
        assert release.list_digests(folder).get("sbom.json") != DIGEST


def test_the_site_is_compared_like_the_code(root: Path) -> None:
    home = root / "releases/abc"
    (home / "site/shop").mkdir(parents=True)
    (home / "site/shop/a.py").write_text("code")
    (home / "SITE").write_text(f"{DIGEST}  shop/a.py\n")
    known = {"abc": {"SITE": hashlib.sha256((home / "SITE").read_bytes()).hexdigest()}}
    (home / "site/shop/a.pyc").touch()
    assert told(root, known) == set()
    (home / "site/shop/a.py").write_text("edited")
    (home / "site/sitecustomize.py").touch()
    assert told(root, known) == {"drift edited site/shop/a.py", "drift extra site/sitecustomize.py"}
    (home / "SITE").unlink()
    assert told(root, known) >= {"drift missing SITE", "drift extra site/shop/a.py"}


def keep_copy(root: Path) -> Path:
    """Keep a copy of the program, like a run that is sent the program."""
    sources = {name: templates.text(f"host/{name}.py") for name in templates.modules("host")}
    return Path(kept_copies.keep(Run(("n", "run", "{}", ""), {}, io.BytesIO()), str(root), sources))


@pytest.mark.parametrize(
    ("line", "edited"),
    [
        (None, False),
        (f"{os.path.realpath(sys.executable)}\n", False),
        ("/usr/bin/python3.99\n", False),
        ("/usr/local/bin/python3.9\n", False),
        ("/home/deploy/python3.11\n", True),
        ("/usr/bin/env\n", True),
        ("/usr/bin/../../tmp/python3.11\n", True),
        ("/usr/bin/python3.11\n/tmp/x\n", True),
        ("/usr/bin/python3.11", True),
        ("", True),
    ],
)
def test_the_interpreter_that_a_copy_of_the_program_names_is_one_of_the_system(
    root: Path, line: str | None, edited: bool
) -> None:
    place = keep_copy(root)
    (place / "python").unlink()
    if line is not None:
        (place / "python").write_text(line)
    assert told(root) == ({f"drift edited {place}/python"} if edited else set())
    # A run that is sent the program makes the copy anew.
    assert keep_copy(root) == place
    assert told(root) == set()


@pytest.mark.parametrize("plant", ["pipe", "link", "folder"])
def test_what_stands_in_the_place_of_that_name_is_told(root: Path, plant: str) -> None:
    path = keep_copy(root) / "python"
    path.unlink()
    if plant == "pipe":
        os.mkfifo(path)
    elif plant == "link":
        path.symlink_to("/etc/shadow")
    else:
        path.mkdir()
    assert told(root) == {f"drift edited {path}"}


def test_what_was_edited_removed_added_or_led_elsewhere_is_told(root: Path) -> None:
    home = root / "releases/abc"
    (home / "code/app/a b.py").write_text("edited")
    (home / "code/new.py").write_text("")
    (home / "code/app/a b.pyc").write_text("")
    (home / "run/web").unlink()
    (home / "venv").unlink()
    (home / "venv").symlink_to("/srv")
    assert told(root) == {"drift edited code/app/a b.py", "drift extra code/new.py", "drift missing run/web",
                          "drift points venv /srv"}  # fmt: skip


@pytest.mark.parametrize("name", ["releases/abc", "releases/.x", "venvs/1", "venvs/.x"])
def test_a_link_in_the_place_of_a_release_or_a_venv_is_told(root: Path, name: str) -> None:
    """Once: a release, or a venv, that was moved and replaced by a link to it was no drift."""
    place = root / name
    if place.exists():
        place.rename(place.parent / ".moved")
    place.symlink_to(".moved")
    assert told(root) == {f"drift points {place} .moved"}


def test_a_file_beside_the_releases_is_told(root: Path) -> None:
    (root / "releases/notes").touch()
    (root / "venvs/notes").touch()
    assert told(root) == {f"drift extra {root}/releases/notes", f"drift extra {root}/venvs/notes"}


def test_a_manifest_leads_nowhere_else(root: Path) -> None:
    home = root / "releases/abc"
    (root / "secret").write_text("code")
    (home / "code/link").symlink_to(root)
    os.mkfifo(home / "code/pipe")
    paths = ("../../../secret", "link/secret", "/etc/passwd", "pipe", "app//x", "./app/a b.py")
    (home / "MANIFEST").write_text("".join(f"{DIGEST}  {path}\n" for path in paths))
    lines: list[str] = []
    began = time.monotonic()
    release.examine(str(root), lambda word, text: lines.append(f"{word} {text}"), {})
    assert time.monotonic() - began < 20
    assert {line for line in lines if line.startswith("data")} == {f"data {home}/code/app/a b.py Y29kZQ=="}
    assert {f"drift edited {home}/code/{path}" for path in paths} <= set(lines)


@pytest.mark.parametrize("plant", ["pipe", "link", "folder"])
def test_a_manifest_that_is_no_file_is_none(root: Path, plant: str) -> None:
    path = root / "releases/abc/MANIFEST"
    path.unlink()
    if plant == "pipe":
        os.mkfifo(path)
    elif plant == "link":
        path.symlink_to("/etc/shadow")
    else:
        path.mkdir()
    assert told(root) == {"drift missing MANIFEST"}


def test_a_list_has_only_lines_of_its_form(tmp_path: Path) -> None:
    (tmp_path / "LIST").write_text(f"{DIGEST}  a\nnonsense\n{DIGEST} b\n")
    assert release.listed(Folder.open(str(tmp_path)), "LIST") == {"a": DIGEST}
    assert release.listed(Folder.open(str(tmp_path)), "NONE") is None


def share(root: Path, *places: str) -> Path:
    """Let the release have these directories of the service's data; return it."""
    home = root / "opt/apps/myapp/releases/abc"
    home.parent.mkdir(parents=True)
    (root / "venvs").rename(home.parents[1] / "venvs")
    (root / "releases/abc").rename(home)
    text = "".join(f"{place}\n" for place in places)
    (home / "run/shared.list").write_text(text)
    digest = hashlib.sha256(text.encode()).hexdigest()
    (home / "LAUNCHERS").write_text(f"{DIGEST}  run/web\n{digest}  run/shared.list\n")
    return home


def drift(home: Path) -> set[str]:
    lines: list[str] = []
    release.examine(str(home.parents[1]), lambda word, text: lines.append(f"{word} {text}"), {})
    return {line.replace(f"{home}/", "") for line in lines if line.startswith("drift")}


def whole(home: Path) -> bool:
    with Folder.open(str(home)) as folder:
        return release.list_digests(folder) != {}


def test_a_link_to_the_services_data_is_part_of_a_release_that_lists_it(root: Path) -> None:
    home = share(root, "media", "app/uploads")
    assert (drift(home), whole(home)) == ({"drift points code/media", "drift points code/app/uploads"}, False)
    for place in ("media", "app/uploads"):
        (home / "code" / place).symlink_to(f"/var/lib/myapp/{place}")
    assert (drift(home), whole(home)) == (set(), True)


@pytest.mark.parametrize("target", ["/etc", "/var/lib/other/media", "/var/lib/myapp/x", "/var/lib/myapp/media/", "."])
def test_a_link_that_leads_elsewhere_is_told(root: Path, target: str) -> None:
    home = share(root, "media")
    (home / "code/media").symlink_to(target)
    assert (drift(home), whole(home)) == ({f"drift points code/media {target}"}, False)


@pytest.mark.parametrize("place", ["../x", "/etc", "a/../../b", ".", "-x", ""])
def test_no_list_lets_a_link_lie_or_lead_elsewhere(root: Path, place: str) -> None:
    home = share(root, place)
    (home / "code/x").symlink_to("/var/lib/myapp/x")
    assert (drift(home), whole(home)) == ({"drift extra code/x"}, False)


def test_a_list_that_the_launchers_do_not_name_lets_no_link_be(root: Path) -> None:
    home = share(root, "media")
    (home / "code/media").symlink_to("/var/lib/myapp/media")
    (home / "LAUNCHERS").write_text(f"{DIGEST}  run/web\n")
    assert (drift(home), whole(home)) == ({"drift extra code/media", "drift extra run/shared.list"}, False)
    (home / "run/shared.list").unlink()
    os.mkfifo(home / "run/shared.list")
    assert not whole(home)


def test_what_stands_in_the_place_of_the_link_is_told(root: Path) -> None:
    home = share(root, "media")
    (home / "code/media").mkdir()
    (home / "code/media/one").write_text("x")
    assert (drift(home), whole(home)) == ({"drift points code/media", "drift extra code/media/one"}, False)


def test_a_sparse_file_is_edited_unread(root: Path) -> None:
    home = root / "releases/abc"
    (home / "code/extra.bin").touch()
    for path in ("code/app/a b.py", "code/extra.bin"):
        os.truncate(home / path, 2 << 40)
    assert told(root) == {"drift edited code/app/a b.py", "drift extra code/extra.bin"}
    with Folder.open(str(home)) as folder:
        assert release.list_digests(folder) == {}
        assert not release.all_match(folder, "MANIFEST", "code/")


def test_the_reading_of_a_file_heeds_a_signal(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(("n", "run", "{}", ""), {}, io.BytesIO())
    monkeypatch.setattr(release, "heed", run.heed_aloud)
    assert told(root) == set()
    run._note()
    with pytest.raises(Interrupted):
        told(root)


def test_a_long_reading_ends_when_the_controller_is_gone(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(("n", "run", "{}", ""), {}, io.BytesIO())
    reading, writing = os.pipe()
    os.close(reading)
    monkeypatch.setattr(os, "write", lambda _, data, write=os.write: write(writing, data))
    monkeypatch.setattr(run_module, "now", lambda: run._aloud + 2)
    monkeypatch.setattr(release, "heed", run.heed_aloud)
    with pytest.raises(Interrupted):
        told(root)
