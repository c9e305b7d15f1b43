"""The programs of a sandbox: apt installs missing ones; otherwise a message names them."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import pytest

from tasks.engine.errors import LoopError, UsageError
from tasks.engine.sandbox import programs

STUB = """#!/bin/sh
echo "$*" >>"{log}"
case $1 in
update) touch "{fresh}" ;;
install) [ -e "{fresh}" ] || [ -e "{easy}" ] || {{ echo "E: no such package"; exit 100; }} ;;
esac
"""
INSTALL = "install --yes --no-install-recommends iproute2 mmdebstrap"
PACKAGES = ("iproute2", "mmdebstrap")


@pytest.fixture
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with an apt-get first on PATH: it finds a package after an update, or at once if `easy`."""
    stub = tmp_path / "apt-get"
    stub.write_text(STUB.format(log=tmp_path / "log", fresh=tmp_path / "fresh", easy=tmp_path / "easy"))
    stub.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


def test_what_is_not_on_path_is_missing_once() -> None:
    wanted = {"sh": "dash", "no-such-program": "b", "no-such-other": "b", "no-such-third": "a"}
    assert programs.missing(wanted) == ("a", "b")


@pytest.mark.parametrize(("easy", "calls"), [(True, [INSTALL]), (False, [INSTALL, "update", INSTALL])])
def test_packages_are_installed_and_lists_refreshed_only_when_needed(apt: Path, easy: bool, calls: list[str]) -> None:
    if easy:
        (apt / "easy").touch()
    programs.install(PACKAGES, lambda _: None)
    assert (apt / "log").read_text().splitlines() == calls


def test_nothing_missing_calls_nothing(apt: Path) -> None:
    programs.install((), lambda _: None)
    assert not (apt / "log").exists()


def test_an_install_that_fails_says_the_command_and_apts_own_words(apt: Path) -> None:
    (apt / "apt-get").write_text("#!/bin/sh\necho E: locked\nexit 100\n")
    with pytest.raises(LoopError) as caught:
        programs.install(PACKAGES, lambda _: None)
    assert caught.value.next == f"apt-get {INSTALL}"
    assert caught.value.detail == ("E: locked",)


def test_without_apt_the_packages_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="needs iproute2, mmdebstrap"):
        programs.install(PACKAGES, lambda _: None)


@pytest.mark.parametrize(("system", "uid", "words"), [("Darwin", 0, "on Darwin"), ("Linux", 1000, "takes root")])
def test_where_it_cannot_run_it_says_so(monkeypatch: pytest.MonkeyPatch, system: str, uid: int, words: str) -> None:
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    with pytest.raises(UsageError, match=words) as caught:
        programs.require_root()
    assert caught.value.exit_status == 2
