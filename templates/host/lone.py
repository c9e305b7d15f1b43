"""What a stop and a start begin with: a committed release, and nobody else at work. They end no other run."""

from __future__ import annotations

from . import history, service
from .folders import Folder
from .run import Refused, Run
from .slots import Slots
from .turns import Turns


class Lone:
    """One verb that changes a host and belongs to no run. slot, release: what is committed."""

    def __init__(self, run: Run, action: str, without: str) -> None:
        """Take the host's turn; Refused where no release is committed. without: what that means for this verb."""
        self.run, self._action = run, action
        self.service = service.of(run.step)
        none = Refused(f"no release is committed on this host: {without}")
        try:
            self.root = Folder.open(self.service.root)
        except FileNotFoundError:
            raise none from None
        self.slots = Slots(run, self.service, self.root)
        if not self.slots.current:
            raise none
        self._turns = Turns(run, self.service)
        # It may have been another until it was our turn.
        self._turns.take_alone(action, lambda: self.slots.committed)
        self.slot, self.release = self.slots.current, self.slots.committed

    def record(self, state: str) -> None:
        """Write a line into the history. A service can be stopped whatever fills the disk: it may be that service."""
        write = history.try_record if self._action == "stop" else history.record
        write(self.run, self.root, self._action, self.release, state)
