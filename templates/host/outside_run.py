"""The common beginning of `stop` and `start`: a committed release, and no run at work. Neither ends a run."""

from __future__ import annotations

from . import history, service
from .change_lock import ChangeLock
from .folders import Folder
from .run import Refused, Run
from .slots import Slots


class OutsideRun:
    """A verb that changes a host outside of any run. slot, release: the committed ones."""

    def __init__(self, run: Run, action: str, without: str) -> None:
        """Take the change lock; Refused if no release is committed. without: the advice for that case."""
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
        self._change_lock = ChangeLock(run, self.service)
        # Read again: another run may have committed while we waited.
        self._change_lock.take_alone(action, lambda: self.slots.committed)
        self.slot, self.release = self.slots.current, self.slots.committed

    def record(self, state: str) -> None:
        """Write a line into the history. On a full disk `stop` goes on: the service itself may have filled it."""
        write = history.try_record if self._action == "stop" else history.record
        write(self.run, self.root, self._action, self.release, state)
