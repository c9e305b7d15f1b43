"""A host on its way through a run, and the progress of the run there."""

from __future__ import annotations

from enum import Enum, auto
from typing import NamedTuple

from tasks.engine.fleet.member import Member
from tasks.engine.host.steps import Activation


class Progress(Enum):
    """The progress of a run on a host. A host that fails keeps its progress; its member has the error.

    STAGED: the run has changed nothing live yet.
    ON_PROBATION, COMMITTED: the run has activated the release.
    RETURNED: the release failed its probation. UNDONE: the run has gone back to the release that was committed before.
    UNCHANGED, FOUND_ON_PROBATION: the release served already.
    """

    STAGED = auto()
    ON_PROBATION = auto()
    COMMITTED = auto()
    RETURNED = auto()
    UNDONE = auto()
    UNCHANGED = auto()
    FOUND_ON_PROBATION = auto()


class Prepared(NamedTuple):
    """A host that is prepared for its activation, or past it. warning: a reminder for the operator."""

    member: Member
    activation: Activation
    warning: str
    progress: Progress = Progress.STAGED
