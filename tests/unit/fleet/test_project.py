"""The clone as a whole: valid before any contact, and a run that names its operator."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from tasks.engine.errors import UsageError
from tasks.engine.fleet import project
from tests.support import git_repository as repository

SERVICE = 'name: myapp\napp: "app:create_app()"\nlisten: 127.0.0.1:8080\n'


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone with two hosts, one of which overrides the service."""
    repository.create(tmp_path, monkeypatch)
    (tmp_path / "service").mkdir()
    (tmp_path / "service/service.yaml").write_text(SERVICE)
    (tmp_path / "hosts.yaml").write_text("hosts:\n  one: {}\n  two: {service: {drain: 5}}\n")
    return tmp_path


def test_each_host_has_the_service_with_its_own_overrides(root: Path) -> None:
    found = project.load(root, {})
    assert [found.service_of(host).drain for host in found.select(None).hosts] == [30, 5]
    assert [host.name for host in found.select("two").hosts] == ["two"]


@pytest.mark.parametrize(
    ("hosts", "service", "told"),
    [
        ("hosts:\n  one: {prot: 1}\n", SERVICE, "prot"),
        ("hosts:\n  one: {service: {drain: never}}\n", SERVICE, "with the overrides of one"),
        ("hosts:\n  one: {}\n", SERVICE + "drian: 5\n", "drian"),
    ],
)
def test_a_fault_anywhere_is_found_before_any_contact(root: Path, hosts: str, service: str, told: str) -> None:
    (root / "hosts.yaml").write_text(hosts)
    (root / "service/service.yaml").write_text(service)
    with pytest.raises(UsageError, match=told):
        project.load(root, {})


def test_git_is_asked_each_question_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "service/requirements.txt").write_text(f"gunicorn==23.0.0 --hash=sha256:{'0' * 64}\n")
    repository.git(root, "remote", "add", "origin", "https://git.example/clone")
    repository.commit(root)
    own, asked = shutil.which("git"), root / "asked"
    (root / "bin").mkdir()
    (root / "bin/git").write_text(f'#!/bin/sh\necho "$1" >>{asked}\nexec {own} "$@"\n')
    (root / "bin/git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{root}/bin:{os.environ['PATH']}")
    found = project.load(root, {})
    assert len(found.release().commit or "") == 40
    assert [found.origin for _ in found.services] == ["https://git.example/clone"] * 2
    assert sorted(asked.read_text().split()) == ["config", "diff", "ls-files", "ls-files", "rev-parse"]


def test_a_run_has_an_id_of_its_own_and_says_who_began_it(root: Path) -> None:
    repository.git(root, "config", "user.email", "me@example")
    one, two = project.begin(root), project.begin(root)
    assert one.id != two.id
    assert re.fullmatch(r"\d{8}T\d{6}-[0-9a-f]{6}", one.id)
    who = json.loads(one.who)
    assert who["git"] == "me@example"
    assert set(who) <= {"user", "host", "git"}


@pytest.mark.parametrize("email", ["a\x1b[31m", "line\u2028separator", '"quoted"', "'; id #", "x" * 5000, "ümläut"])
def test_who_is_one_plain_line_whatever_git_is_told(root: Path, email: str) -> None:
    repository.git(root, "config", "user.email", email)
    who = project.begin(root).who
    assert who.isascii()
    assert who.isprintable()
    assert len(who) < 4000
    assert all(value.isprintable() for value in json.loads(who).values())


def test_an_identity_that_is_not_utf8_is_no_traceback(root: Path) -> None:
    config = root / ".git/config"
    config.write_bytes(config.read_bytes() + b"[user]\n\temail = m\xfcller@example\n")
    assert "example" in json.loads(project.begin(root).who)["git"]


def test_a_clone_without_git_has_a_user_at_least(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.devnull)
    monkeypatch.setenv("LOGNAME", "somebody")
    assert json.loads(project.begin(tmp_path).who)["user"] == "somebody"
