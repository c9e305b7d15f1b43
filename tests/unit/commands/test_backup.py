"""`fab backup` and `fab restore`: what is refused before any host is contacted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support import clone as clones
from tests.support.clone import ROOT, Clone
from tests.support.stand_ins import mute, write_inventory
from tests.support.terminal import answer

ABOUT = {"format": 1, "service": "myapp", "host": "shire02", "time": "2026-01-31T12:00:00Z"}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone that stays as it is: each command is refused."""
    return clones.make(tmp_path_factory.mktemp("backup"))


@pytest.mark.parametrize(
    ("words", "where"),
    [
        (("backup", "--keep", "0"), "--keep"),
        (("backup", "--keep", "all"), "--keep"),
        (("backup", "--limit", "10%"), "--limit"),
        (("backup", "--limit", "0"), "--limit"),
        (("restore", "nowhere.tar.gz"), "nowhere.tar.gz"),
        (("restore", "hosts.yaml", "--yes"), "hosts.yaml"),
        (("restore", "service", "--yes"), "service"),
        (("restore", "hosts.yaml", "--drill"), "hosts.yaml"),
        (("restore", "hosts.yaml", "--limit", "-1"), "--limit"),
    ],
)
def test_what_is_wrong_is_refused_in_one_sentence(plain: Clone, words: tuple[str, ...], where: str) -> None:
    refused = plain.fab(*words)
    assert refused.status == 2, refused.both
    assert f"at: {where}" in refused.err
    assert "Traceback" not in refused.both
    assert not (plain.root / ".backups").exists()


def test_on_a_terminal_it_asks_before_a_host_is_contacted(plain: Clone, tmp_path: Path) -> None:
    request = json.dumps({"about": ABOUT, "command": [], "damaged": False})
    words = [sys.executable, "-I", "-S", f"{ROOT}/templates/state_archive.py", "write", request]
    (tmp_path / "state").mkdir()
    places = {"STATE_DIRECTORY": str(tmp_path / "state"), "CACHE_DIRECTORY": str(tmp_path), "RELEASE": "0123456789ab"}
    archive = tmp_path / "archive.tar.gz"
    with archive.open("wb") as file:
        subprocess.run(words, env={**os.environ, **places}, stdout=file, check=True)
    with mute() as host:
        inventory = write_inventory(tmp_path / "hosts.yaml", {"shire01": host.entry()})
        ended = answer(replace(plain, inventory=inventory), ["restore", str(archive), "-H", "shire01"], "? [y/N] ", "n")
        assert not host.called
    assert ended.status == 2, ended.out
    assert "replace the data of myapp on shire01 by that of shire02, 2026-01-31T12:00:00Z?" in ended.out
