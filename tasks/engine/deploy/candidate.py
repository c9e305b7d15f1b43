"""One host on its way through a run, and how far the run has come there."""

from __future__ import annotations

from enum import Enum, auto
from typing import NamedTuple

from tasks.engine.fleet.member import Member
from tasks.engine.host.steps import Activation


class Progress(Enum):
    """How far a run has come on a host. A host that fails keeps its progress; the error is its member's.

    STAGED: nothing of what serves was changed yet. ON_PROBATION, COMMITTED: this run has activated the release.
    RETURNED: the release did not hold its probation. UNDONE: this run has gone back to what was committed before.
    UNCHANGED, FOUND_ON_PROBATION: the release served already.
    """

    STAGED = auto()
    ON_PROBATION = auto()
    COMMITTED = auto()
    RETURNED = auto()
    UNDONE = auto()
    UNCHANGED = auto()
    FOUND_ON_PROBATION = auto()


class Candidate(NamedTuple):
    """A host that is ready for its activation, or is past it. warning: what its operator may have forgotten."""

    member: Member
    activation: Activation
    warning: str
    progress: Progress = Progress.STAGED
