"""The units in which code of a release runs for a time: commands of `fab run`, health commands, before_activate.

All of them are in one slice of systemd: stopping the slice ends them, and returns when they have ended.
"""

from __future__ import annotations

from collections.abc import Mapping

from . import programs, units
from .run import Run, now
from .slot_names import SLOTS

_MOST = 64
"""Units to name."""
_OVER = {"", "inactive", "failed"}


def slice_of(name: str, *, health: bool = False) -> str:
    """Return the slice of a service, as setup's units name it. health: the slice of the health commands, inside it."""
    return f"system-{name.replace('-', '_')}_run{'-health' if health else ''}.slice"


def at_work(name: str) -> dict[str, int]:
    """Return the units at work, each with the seconds from boot to its start."""
    hooks = [f"{name}-hook@{slot}.service" for slot in SLOTS]
    words = ("Id", "ActiveState", "InactiveExitTimestampMonotonic")
    options = [word for each in words for word in ("-p", each)]
    patterns = (f"{name}-run@*.service", f"{name}-run-health@*.service")
    text = programs.ask("systemctl", "show", "--no-pager", *options, *hooks, *patterns).output
    shown = [units.properties(block) for block in text.split("\n\n")]
    found = {one["Id"]: _began(one) for one in shown if one.get("Id") and one.get("ActiveState", "") not in _OVER}
    return dict(sorted(found.items(), key=lambda item: item[1])[:_MOST])


def _began(shown: Mapping[str, str]) -> int:
    text = shown.get("InactiveExitTimestampMonotonic", "")
    return int(text) // 1_000_000 if text.isascii() and text.isdigit() else 0


def named(name: str) -> str:
    """Return the units at work, each with its age, for a message; empty if there are none."""
    return ", ".join(f"{unit} (for {max(0, int(now()) - began)} s)" for unit, began in at_work(name).items())


def beside(name: str) -> str:
    """Return the end of a message about a process that a signal ended: what else runs under its account."""
    found = named(name)
    return f". At work beside it, under the same account: {found}; --stop-first ends them, too" if found else ""


def end(run: Run, name: str) -> bool:
    """End all of them; return False if systemd could not.

    Where sudo lacks the rule, on a host of an older setup, warn of those at work, and return True.
    """
    words = ("stop", slice_of(name))
    if units.allowed(*words):
        return units.systemctl(*words).wait()
    if found := named(name):
        why = "sudo does not allow to end it: fab setup writes the rule"
        run.report("warning", f"{found} may go on, under the service's account; {why}")
    return True


def end_health_commands(name: str) -> None:
    """End the health commands: they belong to a release that has failed. systemd ends them by itself, a bit later."""
    words = ("stop", slice_of(name, health=True))
    if units.allowed(*words):
        units.systemctl(*words).wait()
