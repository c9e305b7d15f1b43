"""How a host is kept: a slot's rating, sizes on the disk, upgrades that install themselves, a reboot that is due."""

from __future__ import annotations

import os
import re
from contextlib import suppress

from . import programs, small_file, units
from .fact_schema import Upkeep

_SECONDS = 20
_RATING = re.compile(r"exposure level for \S+: ([0-9]{1,2})\.([0-9])")
_BOOT, _REQUIRED, _APT = "/boot", ("/run/reboot-required", "/var/run/reboot-required"), "/usr/bin/apt-config"
_AUTOMATIC_CONF = ("/etc/dnf/automatic.conf", "/etc/dnf/dnf5-plugins/automatic.conf")
_INSTALLS, _BY_CONF = ("dnf-automatic-install.timer",), ("dnf-automatic.timer", "dnf5-automatic.timer")
_MOST = 1000
"""Kernels to compare."""


def look(root: str, release: str, unit: str) -> Upkeep:
    """Return the facts. release: the live one, unit: its slot; both empty if there is none."""
    sizes = _sizes(root, release) if release else (0, 0)
    return Upkeep(_rating(unit) if unit else None, *sizes, _upgrades(), *_reboot())


def _rating(unit: str) -> int | None:
    """Return systemd's rating in tenths; None if it cannot say."""
    answer = programs.ask("systemd-analyze", "security", "--no-pager", unit, seconds=_SECONDS)
    found = _RATING.search(answer.output)
    return int(found[1]) * 10 + int(found[2]) if found else None


def _sizes(root: str, release: str) -> tuple[int, int]:
    """Return the bytes of a release and of its venv on the disk; 0 for unknown."""
    place = f"{root}/releases/{release}"
    try:
        venv = f"{root}/venvs/{os.path.basename(os.readlink(f'{place}/venv'))}"
    except OSError:
        return 0, 0
    # `du` follows no link; each is asked alone, since hard links between them would count once.
    return _size(place), _size(venv)


def _size(path: str) -> int:
    answer = programs.ask("du", "-skx", "--", path, seconds=_SECONDS)
    kilobytes = answer.output.split("\t")[0]
    return int(kilobytes) * 1024 if answer.well and kilobytes.isascii() and kilobytes.isdigit() else 0


def _upgrades() -> str:
    """Return whether security updates install themselves: on, off, or empty for unknown."""
    if os.path.exists(_APT):
        asked = programs.ask("apt-config", "dump", "APT::Periodic::Unattended-Upgrade", seconds=_SECONDS)
        wanted = re.search(r'Unattended-Upgrade "([0-9a-z]+)"', asked.output)
        timer = _enabled("apt-daily-upgrade.timer")
        on = programs.there("unattended-upgrade") and wanted and wanted[1] not in {"0", "false", "no"} and timer
        return "on" if on else "off"
    if programs.there("dnf") or programs.there("dnf5"):
        applies = any(re.search(r"^\s*apply_updates\s*=\s*(yes|true|1)\s*$", text, re.MULTILINE | re.IGNORECASE)
                      for text in map(small_file.read, _AUTOMATIC_CONF))  # fmt: skip
        return "on" if _enabled(*_INSTALLS) or (applies and _enabled(*_BY_CONF)) else "off"
    return ""


def _enabled(*timers: str) -> bool:
    shown = units.show_all(timers, "UnitFileState", "ActiveState")
    return any((one.get("UnitFileState"), one.get("ActiveState")) == ("enabled", "active") for one in shown.values())


def _reboot() -> tuple[str, bool]:
    """Return why the host needs a reboot, empty if it needs none; and whether there was anything to tell it by."""
    for path in _REQUIRED:
        if os.path.exists(path):
            return f"{path} is there", True
    if programs.there("needs-restarting"):
        answer = programs.ask("needs-restarting", "-r", seconds=_SECONDS)
        if answer.status in {0, 1}:
            return "needs-restarting -r says so" if answer.status else "", True
    running, installed = os.uname().release, _kernels()
    newer = [name for name in installed if _order(name) > _order(running)]
    if running in installed:
        return (f"kernel {max(newer, key=_order)[:100]} is installed, and {running[:100]} runs" if newer else ""), True
    return "", False


def _kernels() -> list[str]:
    with suppress(OSError):
        names = [name.partition("-")[2] for name in os.listdir(_BOOT) if name.startswith("vmlinuz-")]
        return [name for name in names if "rescue" not in name][:_MOST]
    return []


def _order(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall("[0-9]{1,9}", version))
