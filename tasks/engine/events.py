"""What happens, as data. The engine yields these; `report` decides how they look."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from tasks.engine.errors import LoopError


class Step(NamedTuple):
    """A host does something now. phase: the script, such as stage; step: a word of it; text: more, in words."""

    host: str
    phase: str
    step: str
    text: str = ""


class Sent(NamedTuple):
    """So much of what a host is sent has gone. phase: the script; sent, total: bytes; seconds: since the first."""

    host: str
    phase: str
    sent: int
    total: int
    seconds: float


class Line(NamedTuple):
    """A line of output that is nobody's step. kind: warning, hook, or log, which the log of the run alone keeps."""

    host: str
    text: str
    kind: str = "output"


@dataclass(frozen=True)
class Finished:
    """A host is done. outcome: one word, such as deployed or unchanged; text: the sentence of it; seconds: how long."""

    host: str
    outcome: str
    text: str
    seconds: float
    facts: dict[str, object] = field(default_factory=dict)


class Failed(NamedTuple):
    """A host failed and was left safe; serves: what it serves now, in words."""

    host: str
    error: LoopError
    serves: str
    seconds: float


class Notice(NamedTuple):
    """A word about the whole run. next: the command that goes on from here; it is shown last."""

    text: str
    next: str | None = None


Event = Step | Sent | Line | Finished | Failed | Notice
