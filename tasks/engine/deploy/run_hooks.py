"""Run the operator's programs around a run, on the controller: `before_deploy`, then `after_deploy` or `on_failure`.

Each gets one JSON document of the run on standard input, so that it can tell a chat, a ticket or a monitor. Only
`before_deploy` can stop the run.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tasks.engine import local_program
from tasks.engine.config.sections import Hooks
from tasks.engine.deploy.prepared import Prepared, Progress
from tasks.engine.errors import LoopError, Unreachable
from tasks.engine.events import Notice
from tasks.engine.fleet.member import Member
from tasks.engine.parallel import Stop

_SECONDS = 60
_LONGEST = 1000
"""Characters of a line of output that are shown, and of an error in the document."""
_RESULTS = {
    Progress.STAGED: "not begun",
    Progress.ON_PROBATION: "on probation",
    Progress.COMMITTED: "done",
    Progress.UNDONE: "undone",
    Progress.UNCHANGED: "unchanged",
    Progress.FOUND_ON_PROBATION: "unchanged",
}


class RunHooks(NamedTuple):
    """The hooks of one run.

    folder: where they run, the root of the repository; about: what the document says of the run from its beginning
    """

    hooks: Hooks
    folder: Path
    about: Mapping[str, object]

    def before(self, members: Sequence[Member], stop: Stop) -> Iterator[Notice]:
        """Run before_deploy; raise LoopError if it fails. If a signal ends it, `stop` is set."""
        command = self.hooks.before_deploy
        if command is None:
            return
        hosts = [{"host": member.host.name} for member in members]
        yield Notice(f"before_deploy: {command}")
        reason, lines = self._perform(command, {"hook": "before_deploy", **self.about, "hosts": hosts}, stop)
        if reason and not stop:
            raise LoopError(
                f"before_deploy failed on this machine, and no host was contacted: {reason}",
                where=f"before_deploy: {command}",
                next="correct what it reports, or hooks.before_deploy in service/service.yaml",
                detail=lines,
                code="before_deploy",
            )
        yield from _shown(lines)

    def after(self, members: Sequence[Member], hosts: Mapping[str, Prepared], stop: Stop) -> Iterator[Notice]:
        """Run after_deploy, or on_failure for a run that failed or was interrupted; its failure changes nothing."""
        outcomes = [_outcome(member, hosts.get(member.host.name)) for member in members]
        failed = any(member.error for member in members)
        result = "interrupted" if stop.signal else "failed" if failed else "done"
        name = "after_deploy" if result == "done" else "on_failure"
        command = self.hooks.after_deploy if result == "done" else self.hooks.on_failure
        if command is None:
            return
        yield Notice(f"{name}: {command}")
        seconds = round(max(member.seconds for member in members), 1)
        document = {"hook": name, **self.about, "result": result, "seconds": seconds, "hosts": outcomes}
        # After a first signal `stop` is set, and would end the hook at once. A second one ends fab.
        reason, lines = self._perform(command, document, None if stop else stop)
        yield from _shown(lines)
        if reason:
            yield Notice(f"{name} failed on this machine, which changes nothing of the run: {reason}")

    def _perform(self, command: str, document: Mapping[str, object], stop: Stop | None) -> tuple[str, tuple[str, ...]]:
        """Run one; return why it failed, or nothing, and the last lines of its output."""
        data = f"{json.dumps({'schema': 1, **document})}\n".encode()
        try:
            ended = local_program.run(
                shlex.split(command),
                seconds=_SECONDS,
                folder=self.folder,
                data=data,
                stopped=stop.__bool__ if stop is not None else None,
            )
        except OSError as error:
            return f"it cannot be started: {error.strerror}", ()
        interrupted = ended.status is None and stop
        return "it was interrupted" if interrupted else ended.fault(f"{_SECONDS} s"), ended.lines


def _shown(lines: Sequence[str]) -> Iterator[Notice]:
    """Yield the lines of output; what writes them for a terminal escapes them."""
    yield from (Notice(f"  | {line[:_LONGEST]}") for line in lines)


def _outcome(member: Member, prepared: Prepared | None) -> dict[str, object]:
    """Return what the document says of a host. Of an error no log lines: a service may log what it should not."""
    error, progress = member.error, prepared.progress if prepared else Progress.STAGED
    result = _RESULTS.get(progress, "failed")
    if error and progress is not Progress.UNDONE:
        result = "unreachable" if isinstance(error, Unreachable) else "failed"
    activation = prepared.activation if prepared else None
    return {
        "host": member.host.name,
        "result": result,
        "release": activation.release if activation else None,
        "before": activation.served if activation else None,
        "error": {"code": error.code, "message": error.message[:_LONGEST]} if error else None,
    }
