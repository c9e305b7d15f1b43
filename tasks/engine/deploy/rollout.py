"""Run deploy, rollback and restart over a fleet: prepare everywhere in parallel, then activate in waves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from tasks.engine import misread
from tasks.engine.deploy import load_balancer, probation, rollback, stage, waves
from tasks.engine.deploy.prepared import Prepared, Progress
from tasks.engine.deploy.run_hooks import RunHooks
from tasks.engine.deploy.run_lock import Claim, RunLocks
from tasks.engine.deploy.stage import DeployOrder
from tasks.engine.deploy.waves import Policy
from tasks.engine.errors import LoopError, Unreachable
from tasks.engine.events import Event, Line, Notice, Step
from tasks.engine.fleet.member import Member, room_to_show
from tasks.engine.host import questions, reported_names, steps
from tasks.engine.host.facts import Facts
from tasks.engine.host.steps import Activation
from tasks.engine.parallel import Emit, Stop, gather, pool
from tasks.engine.ssh.session import LinkLost

_DONE = {"deploy": "deployed", "rollback": "rolled back", "restart": "restarted", "undo": "undone"}
_AWAITED = (Progress.ON_PROBATION, Progress.FOUND_ON_PROBATION)
_CHANGED = (Progress.ON_PROBATION, Progress.COMMITTED)


@dataclass
class Rollout:
    """One run over a fleet.

    again: returns the command that repeats this run without the given hosts
    stop_first: kill the live slot before its successor starts
    hooks: the operator's programs around the run
    hosts: the prepared hosts, by name
    """

    action: str
    members: Sequence[Member]
    policy: Policy
    stop: Stop
    again: Callable[[Sequence[str]], str]
    stop_first: bool = False
    hooks: RunHooks | None = None
    locks: RunLocks = field(default_factory=RunLocks)
    hosts: dict[str, Prepared] = field(default_factory=dict)

    def deploy(self, order: DeployOrder) -> Iterator[Event]:
        """Stage everywhere; unless too many hosts failed, run before_activate once, and activate in waves."""

        def prepare(member: Member, emit: Emit) -> Prepared:
            return stage.prepare(order, member, self.locks, emit)

        yield from self._run(prepare, self._before_activate)

    def reactivate(self, target: str | None, lock_wait: int = 0) -> Iterator[Event]:
        """Activate a release that is on the hosts, for rollback and restart; send and build nothing."""

        def prepare(member: Member, emit: Emit) -> Prepared:
            facts, prepared = look(member)
            claim = Claim(self.action, prepared.activation.release, facts.actions[-1:])
            moved = self.locks.take(member, claim, lock_wait, emit)
            if self.action == "restart" and (moved or facts.probation is not None):
                moved = self._await_probation(member, emit) or moved
            if moved:
                _, prepared = look(member)
            emit(Step(member.host.name, "plan", self.action, prepared.activation.release))
            return prepared

        def look(member: Member) -> tuple[Facts, Prepared]:
            facts = member.ask(questions.reactivate(member.service))
            member.act_as(facts.account or member.login)
            return facts, rollback.prepare(member, self.action, target, facts)

        yield from self._run(prepare, lambda: iter(()))

    def _run(
        self, prepare: Callable[[Member, Emit], Prepared], before: Callable[[], Iterator[Event]]
    ) -> Iterator[Event]:
        def keep(member: Member, emit: Emit) -> None:
            prepared = prepare(member, emit)
            self._put(prepared, prepared.progress)

        if self.hooks:
            yield from self.hooks.before(self.members, self.stop)
        try:
            yield from everywhere(self.members, keep, self.stop)
            if not self._stopped:
                yield from before()
            yield from self._waves()
            if self.policy.undo and self._too_many_failed:
                yield from self._undo()
            yield from self._closing()
        finally:
            self.locks.release()
            for member in self.members:
                member.close()
        if self.hooks:
            yield from self.hooks.after(self.members, self.hosts, self.stop)

    @property
    def _failures(self) -> int:
        return sum(1 for member in self.members if member.error)

    @property
    def _too_many_failed(self) -> bool:
        return waves.stops(self._failures, len(self.members), self.policy)

    @property
    def _stopped(self) -> bool:
        return bool(self.stop) or self._too_many_failed

    def _put(self, prepared: Prepared, progress: Progress) -> None:
        """Set the progress of a host; no other code sets it."""
        self.hosts[prepared.member.host.name] = prepared._replace(progress=progress)

    def _at(self, *progress: Progress, failed: bool = False) -> list[Prepared]:
        """Return the prepared hosts with this progress, in the order of the inventory. failed: include failed hosts."""
        every = (self.hosts.get(member.host.name) for member in self.members if failed or not member.error)
        return [prepared for prepared in every if prepared and prepared.progress in progress]

    def _before_activate(self) -> Iterator[Event]:
        """Run before_activate once, on the first host that changes; a failure fails that host, and ends the run."""
        first = next(iter(self._at(Progress.STAGED)), None)
        if first is None or not first.member.service.hooks.before_activate:
            return
        coming = first.activation

        def work(member: Member, emit: Emit) -> None:
            # The hook needs the idle slot, and changes data for the new release, not for the one on probation.
            if coming.on_probation and not self._await_probation(member, emit):
                return
            transcript = member.perform(steps.hook(member.service, coming.release, stop_first=self.stop_first), emit)
            room = room_to_show(member.host.name, emit)
            for line in filter(room.has, transcript.all("journal")):
                emit(Line(member.host.name, line, "hook"))

        yield from everywhere([first.member], work)
        if first.member.error:
            self.stop.now()

    def _waves(self) -> Iterator[Event]:
        # An unchanged host would be a canary that proves nothing.
        unchanged = self._at(Progress.UNCHANGED, Progress.FOUND_ON_PROBATION)
        yield from everywhere([prepared.member for prepared in unchanged], self._report_unchanged)
        staged = self._at(Progress.STAGED)
        if self.stop_first and staged:
            yield Notice("--stop-first: what serves is killed before its successor starts. Clients get 502 for some "
                         "seconds, requests under way are cut, and there is no probation")  # fmt: skip
        parts = waves.split(staged, self.policy, len(self.members))
        # A release that an earlier run put on probation is a canary, too.
        if parts or self.policy.wait:
            yield from self._prove()
        for number, wave in enumerate(parts, start=1):
            if self._stopped:
                return
            if number > 1 and self.policy.pause and not self.stop.wait(self.policy.pause):
                yield Notice(f"paused for {self.policy.pause:g} s")
            if self.stop:
                return
            if len(parts) > 1:
                yield Notice(f"wave {number} of {len(parts)}: {', '.join(each.member.host.name for each in wave)}")
            yield from everywhere([prepared.member for prepared in wave], self._activate)
            # The first wave is the canary: its probation ends before the next wave begins.
            if self.policy.wait or (number == 1 and len(parts) > 1):
                yield from self._prove()

    def _prove(self) -> Iterator[Event]:
        """Wait for the probations under way; a host that went back has failed."""

        def work(member: Member, emit: Emit) -> None:
            if not self._await_probation(member, emit):
                return
            prepared = self.hosts[member.host.name]
            release = prepared.activation.release
            try:
                probation.require_committed(member, release)
            except LoopError:
                self._put(prepared, Progress.RETURNED)
                raise
            ours = prepared.progress is Progress.ON_PROBATION
            self._put(prepared, Progress.COMMITTED if ours else Progress.UNCHANGED)
            emit(Step(member.host.name, "probation", "committed", release))

        yield from everywhere([awaited.member for awaited in self._at(*_AWAITED)], work, self.stop)

    def _await_probation(self, member: Member, emit: Emit) -> bool:
        return probation.wait_until_over(member, member.service.probation, emit, self.stop)

    def _report_unchanged(self, member: Member, emit: Emit) -> None:
        prepared = self.hosts[member.host.name]
        release = prepared.activation.release
        more = ", on probation" if prepared.progress is Progress.FOUND_ON_PROBATION else ""
        member.finish(emit, "unchanged", f"release {release} serves already{more}", prepared.warning, release=release)

    def _activate(self, member: Member, emit: Emit) -> None:
        prepared = self.hosts[member.host.name]
        activation = prepared.activation
        release, served = activation.release, activation.served
        with load_balancer.taken_out(prepared, emit):
            try:
                member.reach("controller.activate")
                stop_first = self.stop_first and activation.action != "undo"
                transcript = member.perform(steps.activate(member.service, activation, stop_first=stop_first), emit)
                verdict = transcript.last("probation")
                # The release that was on probation at planning may be committed by now.
                before = reported_names.release(
                    "the release before", transcript.last("before"), activation.allowed_current
                )
                served = reported_names.release("the release that served", transcript.last("served"))
                activation = activation._replace(before=before)
            except LinkLost as lost:
                verdict = probation.read_back(member, release, lost, emit)
            progress = Progress.COMMITTED if verdict is None else Progress.ON_PROBATION
            self._put(prepared._replace(activation=activation), progress)
            member.reach("controller.activated")
        came = f"{served} -> {release}" if served else release
        member.finish(emit, _DONE[activation.action], came, prepared.warning, release=release, before=served)

    def _undo(self) -> Iterator[Event]:
        """Take each host that this run has activated back to the release that was committed before, in waves.

        A host that failed after its activation (its undrain, say) goes back, too. One whose undo fails keeps its
        progress: it still has the new release.
        """
        back = []
        for prepared in self._at(*_CHANGED, failed=True):
            done = prepared.activation
            if done.before is None:
                yield Line(prepared.member.host.name, f"nothing served here before: {done.release} stays", "warning")
            elif done.before != done.release:
                # The probation may end at any moment, so either release may be committed.
                back.append((prepared, Activation("undo", done.before, done.before, on_probation=done.release)))
        if back:
            yield Notice(f"undo: {len(back)} hosts go back to the release that was committed before")
        for prepared, _ in back[:1]:
            prepared.member.reach("controller.undo")
        for wave in waves.split(back, self.policy, len(self.members)):
            for prepared, undo in wave:
                self._put(prepared._replace(activation=undo), Progress.STAGED)
            yield from everywhere([prepared.member for prepared, _ in wave], self._activate)
            for prepared, _ in wave:
                undone = self.hosts[prepared.member.host.name].progress is not Progress.STAGED
                self._put(prepared, Progress.UNDONE if undone else prepared.progress)

    def _closing(self) -> Iterator[Event]:
        """Report the open probations, what a stopped run leaves behind, and the command that continues it."""
        for member in self.members[:1]:
            member.reach("controller.end")
        if awaited := [prepared.member for prepared in self._at(*_AWAITED)]:
            seconds = max(member.service.probation for member in awaited)
            names = ", ".join(member.host.name for member in awaited)
            yield Notice(f"on probation for {seconds} s: {names}. A host whose new release fails goes back by itself; "
                         "`fab status` shows it, --wait waits for it")  # fmt: skip
        if not self._failures and not self.stop.signal:
            return
        failed = [member for member in self.members if member.error]
        changed = [prepared.member.host.name for prepared in self._at(*_CHANGED, failed=True)]
        left = [prepared.activation for prepared in self._at(Progress.STAGED, Progress.UNDONE)]
        left = [planned for planned in left if planned.served != planned.release or self.action == "restart"]
        if changed and left:
            others = sorted({planned.served or "nothing" for planned in left})
            yield Notice(
                f"side by side now: the new release on {', '.join(changed)}; {', '.join(others)} on the others"
            )
        if failed and all(isinstance(member.error, Unreachable) for member in failed) and left:
            without = self.again([member.host.name for member in failed])
            yield Notice("hosts that were not reached stopped the run; without them:", without)
        elif self.stop.signal:
            yield Notice("interrupted; what was begun is finished. To go on:", self.again(()))
        elif changed and self.action == "deploy":
            yield Notice("to take back what this run did:", f"fab rollback -H {','.join(changed)}")


def everywhere(
    members: Sequence[Member], work: Callable[[Member, Emit], None], stop: Stop | None = None
) -> Iterator[Event]:
    """Do the same work on all hosts in parallel; a failed host reports its error, and hides no other."""

    def guarded(member: Member, emit: Emit) -> None:
        try:
            if not stop:
                with misread.as_error_of(member.host.name):
                    work(member, emit)
        except LoopError as error:
            member.fail(error, emit)

    with pool(len(members)) as executor:
        yield from gather([partial(guarded, member) for member in members], executor)
