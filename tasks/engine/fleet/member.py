"""Work on one host of a run: its session, its facts, and its steps, reported as events."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field

from tasks.engine import misread
from tasks.engine.config.inventory import Host
from tasks.engine.config.service import Service
from tasks.engine.errors import LoopError, Unreachable
from tasks.engine.events import Event, Failed, Finished, Line, Step
from tasks.engine.fleet import failpoints, step_errors
from tasks.engine.host import facts as reports
from tasks.engine.host import log_text, questions, steps
from tasks.engine.host.facts import Facts
from tasks.engine.host.protocol import Output, Report, Transcript
from tasks.engine.host.questions import Question
from tasks.engine.host.steps import HostStep
from tasks.engine.parallel import Emit
from tasks.engine.room import LOGGED, SHOWN, Room
from tasks.engine.ssh.session import Run, Sink
from tasks.engine.ssh.ssh_config import Options
from tasks.engine.ssh.ssh_session import SshSession

_SHOWN = 4096
"""Characters of a step or a warning that are shown."""
_LOG: dict[str, Callable[[str], str]] = {"journal": log_text.by_service, "systemd": log_text.by_systemd, "fault": str}
"""Reports that go into the run's log, with their format there."""


@dataclass
class Member:
    """A host while a command works on it.

    error: why the host failed; no further work is done there, except an undo
    opening: its session, if a thread opens it already
    """

    host: Host
    service: Service
    run: Run
    options: Options
    user: str | None = None
    session: SshSession | None = None
    error: LoopError | None = None
    began: float = field(default_factory=time.monotonic)
    opening: Future[SshSession] | None = None

    @property
    def seconds(self) -> float:
        """Return the seconds since the command began."""
        return time.monotonic() - self.began

    def connect(self) -> SshSession:
        """Return the session; the first call opens it."""
        if self.session is None:
            opening, self.opening = self.opening, None
            self.session = opening.result() if opening else self._open()
        return self.session

    def _open(self) -> SshSession:
        self.reach("controller.connect")
        return SshSession(self.host, self.options, self.user)

    def reach(self, point: str) -> None:
        """Pass a failpoint of the controller, at which a test may break the run."""
        failpoints.reach(self.run.failpoint, point, self.host.name)

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self.session is not None:
            self.session.close()

    @property
    def login(self) -> str:
        """Return the account that we are logged in as."""
        return self.connect().endpoint.user

    def ask(self, question: Question, more: HostStep | None = None) -> Facts:
        """Return the facts of the host. more: a further step that reports facts."""
        step = steps.facts(self.service, question)
        transcript = self.connect().execute(step, self.run, _nothing)
        if not transcript.reports:
            raise step_errors.unstarted(transcript, self.host.name, self.login)
        if not transcript.ended:
            raise step_errors.explain(step, transcript, self.host.name, self.login, self.service.needs)
        if more:
            for word, lines in self.perform(more, _nowhere).reports.items():
                transcript.reports.setdefault(word, []).extend(lines)
        return reports.parse(transcript)

    def accept(self, facts: Facts) -> None:
        """Raise LoopError if an older version set the host up: the paths that a run uses do not exist there yet."""
        if facts.outdated:
            raise LoopError(
                "an older version of this tool set the host up, and files have moved since; setup moves them",
                where=self.host.name,
                next=f"fab setup -H {self.host.name}; it loses no request",
                code="outdated",
            )

    def act_for_service(self) -> Facts:
        """Run further steps as the deploy account; return the state of the service."""
        facts = self.ask(questions.state())
        self.accept(facts)
        self.act_as(facts.account or self.login)
        return facts

    def act_as(self, account: str) -> None:
        """Run further steps as the deploy account: root changes to it; any other account is an error."""
        session = self.connect()
        if self.login == account:
            session.become = ()
        elif self.login == "root":
            session.become = ("runuser", "-u", account, "--")
        else:
            raise LoopError(
                f"the service was set up here for the account {account}, not for {self.login}",
                where=self.host.name,
                next=f"set `user: {account}` in hosts.yaml, or run: fab setup -H {self.host.name}",
                code="account",
            )

    def perform(
        self, step: HostStep, emit: Emit, payload: Iterable[bytes] = (), heard: Callable[[str], None] | None = None
    ) -> Transcript:
        """Run a step and emit what it reports. If it fails, raise LoopError with the last relevant lines.

        heard: called with the word of each report as it comes.
        """
        transcript = self.connect().execute(step, self.run, self._sink(step, emit, heard), payload)
        if transcript.ended and transcript.exit == 0:
            return transcript
        raise step_errors.explain(step, transcript, self.host.name, self.login, self.service.needs)

    def _sink(self, step: HostStep, emit: Emit, heard: Callable[[str], None] | None) -> Sink:
        logged = Room(LOGGED, lambda rest: emit(Line(self.host.name, rest, "log")))
        shown = room_to_show(self.host.name, emit)

        def log(text: str) -> None:
            if logged.has(text):
                emit(Line(self.host.name, text, "log"))

        def sink(item: Report | Output) -> None:
            if heard and isinstance(item, Report):
                heard(item.word)
            if isinstance(item, Output):
                if item.text.strip():
                    log(item.text)
            elif item.word in {"step", "warning"} and shown.has(text := item.text[:_SHOWN]):
                word, _, rest = text.partition(" ")
                warning = item.word == "warning"
                emit(Line(self.host.name, text, "warning") if warning else Step(self.host.name, step.name, word, rest))
            elif item.word in _LOG:
                log(_LOG[item.word](item.text))

        return sink

    def fail(self, error: LoopError, emit: Emit) -> None:
        """Report that the host failed, and what it serves now."""
        self.error = error
        serves = "unknown" if isinstance(error, Unreachable) else self.serves()
        emit(Failed(self.host.name, error, serves, self.seconds))

    def finish(self, emit: Emit, outcome: str, text: str, warning: str = "", **facts: object) -> None:
        """Report that the host is done. warning: a reminder for the operator."""
        if warning:
            emit(Line(self.host.name, warning, "warning"))
        emit(Finished(self.host.name, outcome, text, self.seconds, facts))

    def serves(self) -> str:
        """Ask the host what it serves now, and describe it."""
        try:
            if self.session is None:
                return "unknown: not contacted"
            with misread.as_error_of(self.host.name):
                return describe(self.ask(questions.health()))
        except LoopError:
            return "unknown: the host does not answer"


def room_to_show(host: str, emit: Emit) -> Room:
    """Return the room for the lines of one step that are shown. The line in place of the rest is a warning."""
    return Room(SHOWN, lambda rest: emit(Line(host, rest, "warning")))


def describe(facts: Facts) -> str:
    """Describe what a host serves."""
    if facts.committed_release is None:
        return "nothing: no release is committed"
    slot = facts.slot
    state = "healthy" if facts.healthy else "NOT healthy"
    if facts.silent:
        state = "unknown: systemd does not answer"
    elif facts.slot_state(slot) != "active":
        state = "stopped"
    return f"release {facts.live_release}, slot {slot}, {state}{'' if facts.probation is None else ', on probation'}"


def _nothing(_: Report | Output) -> None:
    """Ignore a report: the facts are read from the whole transcript."""


def _nowhere(_: Event) -> None:
    """Ignore an event: the steps of a question are not shown."""
