"""What a run takes back, and its closing messages, from its progress on each host, and each host's error."""

from __future__ import annotations

from typing import Any, cast

import pytest

from tasks.engine.config.sections import Hooks
from tasks.engine.deploy.prepared import Prepared, Progress
from tasks.engine.deploy.rollout import Rollout
from tasks.engine.deploy.waves import Policy, Share
from tasks.engine.errors import LoopError, Unreachable
from tasks.engine.events import Notice
from tasks.engine.fleet.member import Member
from tasks.engine.host.protocol import Report, Transcript
from tasks.engine.host.steps import Activation, HostStep
from tasks.engine.parallel import Stop
from tasks.engine.ssh.session import Run
from tests.support.host_facts import NEW, OLD
from tests.support.small_service import SERVICE

BROKEN, AWAY = LoopError("broken"), Unreachable("no answer")
ON_PROBATION = f"on probation for {SERVICE.probation} s: "
SIDE_BY_SIDE = "side by side now: the new release on shire01; "
TAKE_BACK = "to take back what this run did:", "fab rollback -H shire01"


def host(number: int, progress: Progress | None, error: LoopError | None) -> tuple[Member, Prepared | None]:
    named = cast(Any, type("Host", (), {"name": f"shire{number:02}"}))
    member = Member(named, SERVICE, Run("r", "{}"), cast(Any, None), error=error)
    return member, progress and Prepared(member, Activation("deploy", NEW, OLD), "", progress)


def ending(*ends: tuple[Progress | None, LoopError | None]) -> list[tuple[str, str]]:
    """Return the closing messages of a deploy that ended like this on its hosts."""
    hosts = [host(number, *end) for number, end in enumerate(ends, start=1)]
    stop = Stop()
    run = Rollout("deploy", [member for member, _ in hosts], Policy(), stop, lambda without: f"again but {without}")
    run.hosts.update({member.host.name: candidate for member, candidate in hosts if candidate})
    events = [event for event in run._closing() if isinstance(event, Notice)]
    return [(one.text.partition(". A host")[0], one.next or "") for one in events]


@pytest.mark.parametrize(
    ("ends", "said"),
    [
        ([(Progress.COMMITTED, None), (Progress.UNCHANGED, None)], []),
        (
            [(Progress.ON_PROBATION, None), (Progress.FOUND_ON_PROBATION, None), (Progress.ON_PROBATION, BROKEN)],
            [
                (f"{ON_PROBATION}shire01, shire02", ""),
                ("to take back what this run did:", "fab rollback -H shire01,shire03"),
            ],
        ),
        # A failed host is not named as changed; one that went back by itself needs no undo.
        ([(Progress.COMMITTED, None), (Progress.STAGED, BROKEN), (Progress.RETURNED, BROKEN)], [TAKE_BACK]),
        (
            [(Progress.COMMITTED, None), (Progress.STAGED, None), (None, BROKEN)],
            [(f"{SIDE_BY_SIDE}{OLD} on the others", ""), TAKE_BACK],
        ),
        (
            [(Progress.COMMITTED, None), (Progress.STAGED, None), (None, AWAY)],
            [
                (f"{SIDE_BY_SIDE}{OLD} on the others", ""),
                ("hosts that were not reached stopped the run; without them:", "again but ['shire03']"),
            ],
        ),
        # Nothing is left of a run that has taken back all that it did.
        ([(Progress.UNDONE, None), (Progress.UNDONE, BROKEN), (Progress.UNCHANGED, None)], []),
    ],
)
def test_the_end_says_what_is_left_and_how_to_go_on(
    ends: list[tuple[Progress | None, LoopError | None]], said: list[tuple[str, str]]
) -> None:
    assert ending(*ends) == said


class Host(Member):
    """A member that activates whatever it is told to, or fails."""

    fails = False

    def perform(self, step: HostStep, *_: object, **__: object) -> Transcript:
        assert step.name == "activate"
        if self.fails:
            raise LoopError("the way back is closed")
        transcript = Transcript()
        transcript.add(Report("before", NEW))
        transcript.add(Report("served", NEW))
        return transcript

    def serves(self) -> str:
        return "the new release"


def taken_back(policy: Policy, *hosts: tuple[Progress, LoopError | None, bool]) -> dict[str, Progress]:
    """Return the progress of each host after the end of a deploy. hosts: progress, error, whether its undo fails."""
    members = []
    for number, (_, error, fails) in enumerate(hosts, start=1):
        named = cast(Any, type("Host", (), {"name": f"shire{number:02}", "groups": ()}))
        run = cast(Any, type("Run", (), {"failpoint": ""}))
        members.append(Host(named, SERVICE._replace(hooks=Hooks()), run, cast(Any, None), error=error))
        members[-1].fails = fails
    run = Rollout("deploy", members, policy, Stop(), lambda _: "")
    progress = dict(zip((member.host.name for member in members), (each[0] for each in hosts), strict=True))

    def prepare(member: Member, _: object) -> Prepared:
        return Prepared(member, Activation("deploy", NEW, OLD), "", progress[member.host.name])

    list(run._run(prepare, lambda: iter(())))
    return {name: prepared.progress for name, prepared in run.hosts.items()}


UNDO = Policy(undo=True)


def test_an_undo_takes_back_every_host_that_was_activated_and_says_which_it_could_not() -> None:
    after = taken_back(
        UNDO,
        (Progress.COMMITTED, None, False),
        (Progress.COMMITTED, BROKEN, False),
        (Progress.ON_PROBATION, None, True),
        (Progress.UNCHANGED, None, False),
    )
    ends = [Progress.UNDONE, Progress.UNDONE, Progress.ON_PROBATION, Progress.UNCHANGED]
    assert list(after.values()) == ends


def test_no_host_is_taken_back_while_no_more_fail_than_may() -> None:
    hosts = ((Progress.COMMITTED, None, False), (Progress.COMMITTED, BROKEN, False))
    assert set(taken_back(UNDO._replace(max_failures=Share(1)), *hosts).values()) == {Progress.COMMITTED}
    assert set(taken_back(UNDO, *hosts).values()) == {Progress.UNDONE}
    assert set(taken_back(Policy(), *hosts).values()) == {Progress.COMMITTED}
