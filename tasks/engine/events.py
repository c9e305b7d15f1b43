"""The events of a run, as data. The engine yields them; `report` decides how they look."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from tasks.engine.errors import LoopError


class Step(NamedTuple):
    """An action that begins within a step on a host. The names are those of the JSON.

    phase: the host's step, such as stage; step: the action, one word; text: detail for a person.
    """

    host: str
    phase: str
    step: str
    text: str = ""


class Sent(NamedTuple):
    """The progress of an upload to a host.

    phase: the host's step; sent, total: bytes; seconds: since the first byte.
    """

    host: str
    phase: str
    sent: int
    total: int
    seconds: float


class Line(NamedTuple):
    """Output that belongs to no step. kind: `warning` or `hook` (shown), `log` (written to the run log only)."""

    host: str
    text: str
    kind: str


@dataclass(frozen=True)
class Finished:
    """A host is done. outcome: one word, such as deployed or unchanged; text: one sentence; seconds: duration."""

    host: str
    outcome: str
    text: str
    seconds: float
    facts: dict[str, object] = field(default_factory=dict)


class Failed(NamedTuple):
    """A host failed and was left safe. serves: the release that it serves now, for a person."""

    host: str
    error: LoopError
    serves: str
    seconds: float


class Notice(NamedTuple):
    """A message about the whole run. next: the command to run next, shown last."""

    text: str
    next: str | None = None


Event = Step | Sent | Line | Finished | Failed | Notice
