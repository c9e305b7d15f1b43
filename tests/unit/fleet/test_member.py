"""What a member shows and logs of the reports of its host: a bounded part."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import pytest

from tasks.engine.config.sections import Hooks
from tasks.engine.deploy.prepared import Prepared, Progress
from tasks.engine.deploy.rollout import Rollout
from tasks.engine.deploy.waves import Policy
from tasks.engine.events import Event, Line, Step
from tasks.engine.fleet.member import Member
from tasks.engine.host.protocol import Report, Transcript
from tasks.engine.host.steps import Activation, HostStep
from tasks.engine.parallel import Stop
from tasks.engine.room import LOGGED, SHOWN, taken
from tasks.engine.ssh.session import Run, Sink
from tests.promises.words import CALM
from tests.support.host_facts import NEW, OLD
from tests.support.small_service import SERVICE

pytestmark = pytest.mark.promise(CALM, "a host that reports steps, warnings and lines without an end")

SMILE = "\U0001f600"
REST = "(further lines of this step are left out)"


class Session:
    """A session to a host that sends these reports to every step."""

    def __init__(self, word: str, text: str, count: int) -> None:
        self._report, self._count = Report(word, text), count

    def execute(self, _: HostStep, __: Run, sink: Sink, ___: Iterable[bytes] = ()) -> Transcript:
        transcript = Transcript()
        for _number in range(self._count):
            transcript.add(self._report)
            sink(self._report)
        transcript.add(Report("end", ""))
        return transcript

    def close(self) -> None:
        """Do nothing: no connection is open."""


def member(word: str, text: str, count: int) -> Member:
    named = cast(Any, type("Host", (), {"name": "shire01"}))
    service = SERVICE._replace(hooks=Hooks(before_activate="true"))
    return Member(named, service, Run("r", "{}"), cast(Any, None), session=cast(Any, Session(word, text, count)))


@pytest.mark.parametrize("text", ["", "x", "x " + "y" * 5000, "x " + SMILE * 5000])
@pytest.mark.parametrize(("word", "kind", "size"), [
    ("step", "step", SHOWN), ("warning", "warning", SHOWN), ("journal", "log", LOGGED), ("fault", "log", LOGGED),
])  # fmt: skip
def test_lines_of_one_step_are_bounded_and_one_says_so(word: str, kind: str, size: int, text: str) -> None:
    found: list[Event] = []
    member(word, text, size // 200 if len(text) < 100 else 3000).perform(HostStep("stage", "", 1), found.append)
    texts = [one.text for one in found if isinstance(one, (Step, Line))]
    assert sum(map(taken, texts)) < size + 20_000
    assert len(texts) < size // 256 + 2
    ends = [one for one in found if isinstance(one, Line) and one.text == REST]
    assert ends == ([Line("shire01", REST, "log" if kind == "log" else "warning")] if found[-1] in ends else [])
    assert ends or len(texts) == 3000


def test_an_honest_host_shows_all_of_its_steps() -> None:
    found: list[Event] = []
    member("step", "link 30 unchanged files of 8d087e0b1c5e", 2000).perform(HostStep("stage", "", 1), found.append)
    assert found == [Step("shire01", "stage", "link", "30 unchanged files of 8d087e0b1c5e")] * 2000


def test_lines_of_a_hook_are_bounded_and_one_says_so() -> None:
    run = Rollout("deploy", [member("journal", "x", 50_000)], Policy(), Stop(), lambda _: "")
    run.hosts["shire01"] = Prepared(run.members[0], Activation("deploy", NEW, OLD), "", Progress.STAGED)
    found = [one for one in run._before_activate() if isinstance(one, Line) and one.kind != "log"]
    assert 1000 < len(found) < 5000
    assert found[-1] == Line("shire01", REST, "warning")
