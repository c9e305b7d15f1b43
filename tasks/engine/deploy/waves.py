"""Split hosts into waves, and decide when a run stops. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from tasks.engine.errors import UsageError

_Item = TypeVar("_Item")


class Share(NamedTuple):
    """A number of hosts, or a share of them in percent."""

    number: int
    percent: bool = False

    def up(self, total: int) -> int:
        """Return the number out of `total` hosts, rounded up: a batch is never empty."""
        return -(-total * self.number // 100) if self.percent else self.number

    def down(self, total: int) -> int:
        """Return the number out of `total` hosts, rounded down: a limit never allows more than it states."""
        return total * self.number // 100 if self.percent else self.number

    def __str__(self) -> str:
        return f"{self.number}{'%' if self.percent else ''}"


class Policy(NamedTuple):
    """The policy of a run over a fleet. pause: seconds between two waves; undo: take a stopped run back.

    wait: wait for the probation of each wave, not only of the first.
    """

    canary: Share = Share(1)
    batch: Share = Share(25, percent=True)
    max_failures: Share = Share(0)
    pause: int = 0
    undo: bool = False
    wait: bool = False


def policy(canary: str, batch: str, max_failures: str, pause: str, on_failure: str, *, wait: bool = False) -> Policy:
    """Return the options as a policy; raise UsageError for an invalid one."""
    if on_failure not in {"stop", "undo"}:
        raise UsageError(f"--on-failure is stop or undo, not {on_failure!r}", where="--on-failure",
                         next="--on-failure undo")  # fmt: skip
    first = _share("--canary", canary, least=0)
    if first.percent:
        raise UsageError("--canary takes a number of hosts", where="--canary", next="--canary 1")
    return Policy(
        first,
        _share("--batch", batch, least=1),
        _share("--max-failures", max_failures, least=0),
        seconds("--pause", pause),
        on_failure == "undo",
        wait,
    )


def seconds(flag: str, text: str) -> int:
    """Parse the value of a flag that takes whole seconds, a day at most."""
    if not re.fullmatch(r"\d{1,5}", text, re.ASCII) or int(text) > 86400:
        raise UsageError(f"{flag} takes whole seconds, not {text!r}", where=flag, next=f"{flag} 10")
    return int(text)


def _share(flag: str, text: str, least: int) -> Share:
    match = re.fullmatch(r"(\d{1,5})(%?)", text, re.ASCII)
    if match is None or int(match[1]) < least or (match[2] and int(match[1]) > 100):
        raise UsageError(f"{flag} takes a number of hosts or a share of them, not {text!r}", where=flag,
                         next=f"{flag} 2, or {flag} 25%")  # fmt: skip
    return Share(int(match[1]), bool(match[2]))


def split(hosts: Sequence[_Item], policy: Policy, total: int) -> tuple[tuple[_Item, ...], ...]:
    """Return the waves: the canary, then batches of one size. total: all hosts of the run, to which a share refers."""
    size = max(1, policy.batch.up(total))
    first = min(policy.canary.number, len(hosts))
    waves = [tuple(hosts[:first])] if first else []
    waves += [tuple(hosts[start : start + size]) for start in range(first, len(hosts), size)]
    return tuple(waves)


def stops(failures: int, total: int, policy: Policy) -> bool:
    """Return True if more hosts failed than the limit of a run over `total` hosts allows.

    Each host counts once in the whole run: not reached, not staged, not activated, or gone back by itself.
    """
    return failures > policy.max_failures.down(total)
