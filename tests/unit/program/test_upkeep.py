"""How a host is kept, as the host's program finds it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from templates.host import programs, units, upkeep
from templates.host.fact_schema import Upkeep
from templates.host.programs import Completed


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Completed]:
    """Answers of programs by name; a program without one is not there. There is no apt, no kernel, no reboot due."""
    known: dict[str, Completed] = {}
    monkeypatch.setattr(programs, "ask", lambda name, *_, **__: known.get(name, Completed(127, f"there is no {name}")))
    monkeypatch.setattr(programs, "there", lambda name: name in known)
    monkeypatch.setattr(upkeep, "_REQUIRED", (str(tmp_path / "reboot-required"),))
    monkeypatch.setattr(upkeep, "_BOOT", str(tmp_path / "boot"))
    monkeypatch.setattr(upkeep, "_APT", str(tmp_path / "apt-config"))
    monkeypatch.setattr(upkeep, "_AUTOMATIC_CONF", (str(tmp_path / "automatic.conf"),))
    return known


def enable(monkeypatch: pytest.MonkeyPatch, *timers: str) -> None:
    shown = {"UnitFileState": "enabled", "ActiveState": "active"}
    monkeypatch.setattr(units, "show_all", lambda names, *_: {name: shown for name in names if name in timers})


@pytest.mark.parametrize(
    ("answer", "rating"),
    [
        (Completed(0, "x\n→ Overall exposure level for myapp@blue.service: 0.2 SAFE :-}\n"), 2),
        (Completed(0, "→ Overall exposure level for myapp@blue.service: 10.0 DANGEROUS\n"), 100),
        (Completed(1, "Failed to"), None),
        (Completed(127, "there is no systemd-analyze"), None),
    ],
)
def test_a_rating_is_read_or_unknown(answers: dict[str, Completed], answer: Completed, rating: int | None) -> None:
    answers["systemd-analyze"] = answer
    assert upkeep.look("/x", "", "myapp@blue.service").rating == rating


@pytest.mark.usefixtures("answers")
def test_without_a_release_nothing_is_measured_and_without_tools_nothing_is_known() -> None:
    assert upkeep.look("/x", "", "") == Upkeep()


def test_the_sizes_are_those_of_the_release_and_of_its_own_venv(tmp_path: Path) -> None:
    (tmp_path / "releases/aa").mkdir(parents=True)
    (tmp_path / "releases/aa/big").write_bytes(b"x" * 300_000)
    (tmp_path / "venvs/dd").mkdir(parents=True)
    (tmp_path / "venvs/dd/big").write_bytes(b"x" * 900_000)
    assert upkeep._sizes(str(tmp_path), "aa") == (0, 0)
    (tmp_path / "releases/aa/venv").symlink_to("../../../elsewhere/dd")
    release, venv = upkeep._sizes(str(tmp_path), "aa")
    assert 300_000 <= release < 400_000
    assert 900_000 <= venv < 1_000_000


@pytest.mark.parametrize(
    ("setting", "program", "timer", "found"),
    [("1", True, True, "on"), ("0", True, True, "off"), ("1", False, True, "off"), ("1", True, False, "off")],
)
def test_apt_upgrades_by_itself_only_with_setting_program_and_timer(
    answers: dict[str, Completed], monkeypatch: pytest.MonkeyPatch, setting: str, program: bool, timer: bool, found: str
) -> None:
    Path(upkeep._APT).touch()
    answers["apt-config"] = Completed(0, f'APT::Periodic::Unattended-Upgrade "{setting}";\n')
    answers.update({"unattended-upgrade": Completed(0, "")} if program else {})
    enable(monkeypatch, *(["apt-daily-upgrade.timer"] if timer else []))
    assert upkeep.look("/x", "", "").upgrades == found


@pytest.mark.parametrize(
    ("timer", "conf", "found"),
    [
        ("dnf-automatic-install.timer", "", "on"),
        ("dnf-automatic.timer", "[commands]\napply_updates = yes\n", "on"),
        ("dnf5-automatic.timer", "apply_updates=True\n", "on"),
        ("dnf-automatic.timer", "apply_updates = no\n", "off"),
        ("", "apply_updates = yes\n", "off"),
    ],
)
def test_dnf_upgrades_by_itself_only_if_it_applies_what_it_fetches(
    answers: dict[str, Completed], monkeypatch: pytest.MonkeyPatch, timer: str, conf: str, found: str
) -> None:
    answers["dnf"] = Completed(0, "")
    Path(upkeep._AUTOMATIC_CONF[0]).write_text(conf)
    enable(monkeypatch, timer)
    assert upkeep.look("/x", "", "").upgrades == found


def kernels(*names: str) -> None:
    Path(upkeep._BOOT).mkdir(exist_ok=True)
    for name in names:
        (Path(upkeep._BOOT) / f"vmlinuz-{name}").touch()


def test_a_reboot_is_due_by_a_file_by_a_tool_or_by_a_newer_kernel(
    answers: dict[str, Completed], monkeypatch: pytest.MonkeyPatch
) -> None:
    system = os.uname()
    running = os.uname_result((system.sysname, system.nodename, "6.1.0-9-amd64", system.version, system.machine))
    monkeypatch.setattr(os, "uname", lambda: running)
    kernels("6.1.0-10-amd64", "0-rescue-0123")
    # The kernel that runs is not among them: it is another system's, as in a container.
    assert upkeep._reboot() == ("", False)
    kernels("6.1.0-9-amd64")
    assert upkeep._reboot() == ("kernel 6.1.0-10-amd64 is installed, and 6.1.0-9-amd64 runs", True)
    (Path(upkeep._BOOT) / "vmlinuz-6.1.0-10-amd64").unlink()
    assert upkeep._reboot() == ("", True)
    answers["needs-restarting"] = Completed(1, "")
    assert upkeep._reboot() == ("needs-restarting -r says so", True)
    answers["needs-restarting"] = Completed(0, "")
    assert upkeep._reboot() == ("", True)
    Path(upkeep._REQUIRED[0]).touch()
    assert upkeep._reboot() == (f"{upkeep._REQUIRED[0]} is there", True)
