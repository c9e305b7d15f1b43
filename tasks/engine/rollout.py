"""deploy, rollback and restart over a fleet: prepared everywhere in parallel, then activated in waves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from tasks.engine import balancer, history, scripts, waves
from tasks.engine.errors import LoopError, Unreachable
from tasks.engine.events import Event, Line, Notice, Step
from tasks.engine.facts import Facts
from tasks.engine.fanout import Emit, Stop, gather, pool
from tasks.engine.hold import Holds
from tasks.engine.member import Member
from tasks.engine.scripts import Question
from tasks.engine.session import LinkLost
from tasks.engine.staging import Candidate, Delivering, stage
from tasks.engine.waves import Policy

_DONE = {"deploy": "deployed", "rollback": "rolled back", "restart": "restarted", "undo": "undone"}


@dataclass
class Rollout:
    """One run over a fleet. again: the command that does the same without some hosts."""

    action: str
    members: Sequence[Member]
    policy: Policy
    stop: Stop
    again: Callable[[Sequence[str]], str]
    holds: Holds = field(default_factory=Holds)
    candidates: dict[str, Candidate] = field(default_factory=dict)
    done: list[Candidate] = field(default_factory=list)

    def deploy(self, delivering: Delivering) -> Iterator[Event]:
        """Stage everywhere; unless that failed on more hosts than allowed, run the hook once, and activate in waves."""

        def prepare(member: Member, emit: Emit) -> Candidate:
            return stage(delivering, member, self.holds, emit)

        yield from self._run(prepare, self._hook)

    def switch(self, target: str | None, lock_wait: int = 0) -> Iterator[Event]:
        """rollback and restart: activate what is there already, with nothing sent or built."""

        def prepare(member: Member, emit: Emit) -> Candidate:
            candidate = look(member)
            if self.holds.take(member, self.action, candidate.release, lock_wait, emit):
                candidate = look(member)
            emit(Step(member.host.name, "plan", self.action, candidate.release))
            return candidate

        def look(member: Member) -> Candidate:
            found = member.ask(Question())
            member.act_as(found.account or member.login)
            return Candidate(member, *aim(member, self.action, target, found))

        yield from self._run(prepare, lambda: iter(()))

    def _run(
        self, prepare: Callable[[Member, Emit], Candidate], before: Callable[[], Iterator[Event]]
    ) -> Iterator[Event]:
        def keep(member: Member, emit: Emit) -> None:
            self.candidates[member.host.name] = prepare(member, emit)

        try:
            yield from everywhere(self.members, keep, self.stop)
            if not self._stopped:
                yield from before()
            yield from self._waves()
            if self._failures and self.policy.undo:
                yield from self._undo()
            yield from self._closing()
        finally:
            self.holds.release()
            for member in self.members:
                member.close()

    @property
    def _failures(self) -> int:
        return sum(1 for member in self.members if member.error)

    @property
    def _stopped(self) -> bool:
        return bool(self.stop) or waves.stops(self._failures, len(self.members), self.policy)

    @property
    def _ready(self) -> list[Candidate]:
        """The hosts that are staged and in order, as the inventory has them."""
        found = (self.candidates.get(member.host.name) for member in self.members if not member.error)
        return [candidate for candidate in found if candidate]

    def _hook(self) -> Iterator[Event]:
        """before_activate, once, on the first host that is to change; its failure fails that host, and ends the run."""
        first = next((candidate for candidate in self._ready if not candidate.unchanged), None)
        if first is None or not first.member.service.hooks.before_activate:
            return

        def work(member: Member, emit: Emit) -> None:
            transcript = member.perform(scripts.hook(member.service, first.release), emit)
            for line in transcript.all("journal"):
                emit(Line(member.host.name, line, "hook"))

        yield from everywhere([first.member], work)
        if first.member.error:
            self.stop.refuse()

    def _waves(self) -> Iterator[Event]:
        ready = self._ready
        # A host that has nothing to change would make a canary that proves nothing.
        yield from self._together([one for one in ready if one.unchanged], self.action)
        parts = waves.split([one for one in ready if not one.unchanged], self.policy, len(self.members))
        for number, wave in enumerate(parts, start=1):
            if self._stopped:
                return
            if number > 1 and self.policy.pause and not self.stop.wait(self.policy.pause):
                yield Notice(f"paused for {self.policy.pause:g} s")
            if self.stop:
                return
            if len(parts) > 1:
                yield Notice(f"wave {number} of {len(parts)}: {', '.join(one.member.host.name for one in wave)}")
            yield from self._together(wave, self.action)

    def _together(self, wave: Sequence[Candidate], action: str) -> Iterator[Event]:
        by_host = {candidate.member.host.name: candidate for candidate in wave}

        def work(member: Member, emit: Emit) -> None:
            self._activate(by_host[member.host.name], action, emit)

        yield from everywhere([candidate.member for candidate in wave], work)

    def _activate(self, candidate: Candidate, action: str, emit: Emit) -> None:
        member = candidate.member
        if candidate.unchanged:
            member.finish(emit, "unchanged", f"release {candidate.release} serves already", release=candidate.release)
            return
        with balancer.taken_out(candidate, emit):
            try:
                script = scripts.activate(member.service, action, candidate.release, candidate.before, candidate.spare)
                member.perform(script, emit)
            except LinkLost as lost:
                _read_back(candidate, lost, emit)
            self.done.append(candidate)
        came = f"{candidate.before} -> {candidate.release}" if candidate.before else candidate.release
        member.finish(emit, _DONE[action], came, release=candidate.release, before=candidate.before)

    def _undo(self) -> Iterator[Event]:
        """Return every host that this run has activated to what it served before, in waves again."""
        back = [
            Candidate(one.member, one.before, one.release)
            for one in self.done
            if one.before and one.before != one.release and not one.member.error
        ]
        for one in self.done:
            if one.before is None:
                yield Line(one.member.host.name, f"nothing served here before: {one.release} stays", "warning")
        if back:
            yield Notice(f"undo: {len(back)} hosts go back to what they served before")
        for wave in waves.split(back, self.policy, len(self.members)):
            yield from self._together(wave, "undo")
        undone = {candidate.member.host.name for candidate in back}
        self.done = [one for one in self.done if one.member.host.name not in undone]

    def _closing(self) -> Iterator[Event]:
        """What a stopped run leaves behind, and the command that goes on."""
        if not self._failures and not self.stop.signal:
            return
        errors = [member.error for member in self.members if member.error]
        failed = [member.host.name for member in self.members if member.error]
        changed = [one.member.host.name for one in self.done if not one.unchanged]
        left = [one for one in self._ready if one.member.host.name not in changed and not one.unchanged]
        left = [one for one in left if one.before != one.release or self.action == "restart"]
        if changed and left:
            others = sorted({one.before or "nothing" for one in left})
            yield Notice(f"side by side now: the new one on {', '.join(changed)}; {', '.join(others)} on the others")
        if errors and all(isinstance(error, Unreachable) for error in errors) and left:
            yield Notice("hosts that were not reached stopped the run; without them:", self.again(failed))
        elif self.stop.signal:
            yield Notice("interrupted; what was begun is finished. To go on:", self.again(()))
        elif changed and self.action == "deploy":
            yield Notice("to take back what this run did:", f"fab rollback -H {','.join(changed)}")


def aim(member: Member, action: str, wanted: str | None, found: Facts) -> tuple[str, str | None, str | None]:
    """The id that a rollback or restart activates, the one that serves, and the one to go back to afterwards."""
    release = target_of(member, action, wanted, found)
    return release, found.current, history.way_back(found.actions, action, release, found.release_ids)


def target_of(member: Member, action: str, wanted: str | None, found: Facts) -> str:
    """The id that a rollback or restart activates."""
    name = member.host.name
    if found.current is None:
        raise LoopError("no release is committed on this host", where=name, next=f"fab deploy -H {name}")
    if action == "restart":
        return found.current
    if wanted:
        fits = [release for release in found.release_ids if release.startswith(wanted)]
        if len(fits) == 1:
            return fits[0]
        told = "is not on this host" if not fits else "fits more than one release"
        raise LoopError(f"release {wanted} {told}", where=name, next=f"fab releases -H {name}")
    before = history.previous(found.actions, found.current, found.release_ids)
    if before is None:
        raise LoopError(
            f"there is no release before {found.current} to go back to",
            where=name,
            next=f"fab releases -H {name}, then: fab rollback -H {name} --to ID",
        )
    return before


def everywhere(
    members: Sequence[Member], work: Callable[[Member, Emit], None], stop: Stop | None = None
) -> Iterator[Event]:
    """The same work on all hosts in parallel; a host that fails says so, and hides no other."""

    def guarded(member: Member, emit: Emit) -> None:
        try:
            if not stop:
                work(member, emit)
        except LoopError as error:
            member.fail(error, emit)

    with pool(len(members)) as executor:
        yield from gather([partial(guarded, member) for member in members], executor)


def switch_scripts(member: Member, action: str, target: str | None, wait: int) -> tuple[scripts.Script, ...]:
    """What a rollback or restart would run on a host, in order. wait: seconds for another run to end."""
    release, *others = aim(member, action, target, member.ask(Question()))
    return (
        scripts.facts(member.service, Question()),
        scripts.hold(member.service, action, release, wait),
        scripts.activate(member.service, action, release, *others),
    )


def _read_back(candidate: Candidate, lost: LinkLost, emit: Emit) -> None:
    """A lost link says nothing about the outcome: ask the host, once whoever still works there has ended."""
    member = candidate.member
    emit(Step(member.host.name, "activate", "reconnect", lost.message))
    member.connect().reopen()
    found = member.ask(Question(health=True, wait=candidate.member.service.health.timeout + 60))
    mine = [action for action in found.actions if action.run == member.run.id and action.state == "done"]
    if not (mine and found.current == candidate.release and found.healthy):
        raise lost
