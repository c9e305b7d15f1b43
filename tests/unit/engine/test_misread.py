"""An exception in one host's work is that host's error: the others' results stay, and the log has the traceback."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tasks import executor, runner
from tasks.engine import misread
from tasks.engine.deploy import rollout
from tasks.engine.errors import LoopError, UsageError
from tasks.engine.events import Failed, Finished, Line
from tasks.engine.fleet import remote_command
from tasks.engine.fleet.member import Member
from tasks.engine.host.log_entries import Wanted
from tasks.engine.host.steps import HostStep
from tasks.engine.logs import follow, read
from tasks.engine.parallel import Emit, gather
from tasks.engine.report import run_view, runs
from tasks.engine.ssh import ssh_session
from tasks.engine.ssh.session import LinkLost, Run
from tests.promises.words import CALM, OTHERS
from tests.support.small_service import SERVICE

pytestmark = pytest.mark.promise(OTHERS, "an answer that our code stumbles over, in each worker")

SAID = "what the host said \x1b[2J"
FAULTS: list[Exception] = [
    KeyError("x"), IndexError(SAID), ValueError(SAID), TypeError(), RecursionError(), MemoryError(), OverflowError(),
    AssertionError(), StopIteration(), UnicodeDecodeError("utf-8", b"\xff", 0, 1, SAID), EOFError(),
    OSError(5, "Input/output error"), RuntimeError("x" * 10**6),
]  # fmt: skip


class StubMember(Member):
    """A member whose host raises an exception, or prints one line."""

    def __init__(self, name: str, fault: Exception | None) -> None:
        host = cast(Any, type("Host", (), {"name": name, "user": "deploy", "python": None, "groups": ()}))
        options = cast(Any, type("Options", (), {"command_timeout": None}))
        super().__init__(host, SERVICE, Run("20260101T000000-abc123", "{}"), options)
        self.fault, self.sent, self.nonce, self.follows = fault, False, b"", False

    def connect(self) -> Any:
        return self

    @contextmanager
    def channel(self, line: str, seconds: float | None) -> Iterator[StubMember]:  # noqa: ARG002 - of a session
        self.sent = False
        yield self

    def sendall(self, data: bytes) -> None:
        """Take the nonce of `fab exec` from its script."""
        self.nonce, self.follows = data.split(b"\n", 2)[1].rpartition(b" ")[2], b"--follow" in data

    def shutdown_write(self) -> None:
        """Do nothing: no more input comes."""

    def settimeout(self, seconds: float | None) -> None:
        """Ignore it: no call waits."""

    def recv(self, size: int) -> bytes:  # noqa: ARG002 - of a channel
        if self.fault:
            raise self.fault
        told, self.sent = b"" if self.sent else b'\n%s {"report": "begin"}\nhello\n' % self.nonce, True
        return told

    @property
    def status_event(self) -> threading.Event:
        """Return an event that is already set."""
        ended = threading.Event()
        ended.set()
        return ended

    exit_status = 0


def pair(fault: Exception) -> list[Member]:
    return [StubMember("shire01", fault), StubMember("shire02", None)]


def _name(member: Member) -> str:
    cast(StubMember, member).recv(1)
    return member.host.name


def require_short(error: LoopError | None) -> LoopError:
    """Assert an error of its host that is short and has a next step."""
    assert error
    assert (error.where, bool(error.next)) == ("shire01", True)
    assert error.exit_status == 1
    assert len(error.message) < 500
    return error


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
def test_a_question_that_fails_on_one_host_is_answered_by_the_others(fault: Exception) -> None:
    members = pair(fault)
    found = runner.ask(members, _name)
    assert found == {"shire02": "shire02"}
    require_short(members[0].error)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
def test_a_run_that_fails_on_one_host_is_finished_by_the_others(fault: Exception) -> None:
    members = pair(fault)

    def work(member: Member, emit: Emit) -> None:
        cast(StubMember, member).recv(1)
        member.finish(emit, "done", "done")

    events = list(rollout.everywhere(members, work))
    (failed,) = (one for one in events if isinstance(one, Failed))
    (finished,) = (one for one in events if isinstance(one, Finished))
    assert (failed.host, finished.host) == ("shire01", "shire02")
    require_short(failed.error)


def test_an_error_without_a_place_gets_that_of_its_host() -> None:
    members = pair(LoopError("no answer", next="fab doctor"))
    assert remote_command.run_all(members, "echo hello", as_json=True).keys() == {"shire02"}
    require_short(members[0].error)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
def test_a_command_that_fails_on_one_host_is_run_by_the_others(fault: Exception) -> None:
    members = pair(fault)
    found = remote_command.run_all(members, "echo hello", as_json=True)
    assert {name: answer.lines for name, answer in found.items()} == {"shire02": ["hello"]}
    require_short(members[0].error)


@pytest.mark.parametrize("fault", [one for one in FAULTS if not isinstance(one, OSError)],
                         ids=lambda fault: type(fault).__name__)  # fmt: skip
def test_a_journal_that_fails_on_one_host_is_followed_on_the_others(
    fault: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = threading.Event()
    members = pair(fault)
    monkeypatch.setattr(StubMember, "recv", _journal(seen))
    found = []
    for item in follow.follow(members, Wanted(), seen.is_set):
        found.append(item)
        if {one.host for one in found} == {"shire01", "shire02"}:
            seen.set()
    assert [one.host for one in found if isinstance(one, follow.Note) and one.event == "out"] == ["shire01"]
    assert {one.host for one in found if not isinstance(one, follow.Note)} == {"shire02"}
    require_short(members[0].error)


def _journal(seen: threading.Event) -> Callable[[StubMember, int], bytes]:
    entry = {"MESSAGE": "hello", "__REALTIME_TIMESTAMP": "1700000000000000", "__CURSOR": "c"}

    def recv(member: StubMember, size: int) -> bytes:  # noqa: ARG001 - of a channel
        if member.fault:
            raise member.fault
        if member.sent:
            if member.follows:
                seen.wait(60)
            return b""
        member.sent = True
        return b"@begin\n" + json.dumps(entry).encode() + b"\n@end 0\n"

    return recv


def test_an_error_of_ours_stays_what_it_is() -> None:
    for error in (LoopError("x", where="y"), UsageError("z")):
        with pytest.raises(type(error)) as raised, misread.as_error_of("shire01"):
            raise error
        assert raised.value is error


def test_the_log_of_a_run_has_the_traceback_and_the_terminal_has_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    members = pair(KeyError("the key"))

    def work(member: Member, emit: Emit) -> None:
        emit(Line(member.host.name, str(cast(StubMember, member).recv(1)), "log"))

    tally = run_view.follow(
        rollout.everywhere(members, work), ["shire01", "shire02"], "run", tmp_path, {}, as_json=False
    )
    assert tally.status == 1
    shown = capsys.readouterr()
    assert "Traceback" not in shown.out + shown.err
    assert f"log of this run: {tmp_path}/run.log" in shown.out
    logged = [json.loads(line) for line in (tmp_path / "run.log").read_text().splitlines()]
    (trace,) = (one["traceback"] for one in logged if one["event"] == "failed")
    assert "in recv" in trace
    assert trace.endswith("KeyError: 'the key'\n")


def test_a_query_keeps_the_traceback_and_says_where(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    members = pair(KeyError("the key"))
    runner.ask(members, lambda member: cast(StubMember, member).recv(1))
    with pytest.raises(SystemExit) as left:
        runner.leave(members)
    assert left.value.code == 1
    told = capsys.readouterr().err
    assert "error: the host's answer cannot be understood (KeyError: 'the key')" in told
    assert "Traceback" not in told
    path = Path(told.split("log of this run: ")[1].strip())
    assert json.loads(path.read_text())["host"] == "shire01"
    assert "in recv" in json.loads(path.read_text())["traceback"]


def test_a_fault_of_fab_itself_is_a_sentence_and_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with pytest.raises(SystemExit) as left:
        executor._leave(executor._fault(KeyError("ours")), as_json=False)
    told = capsys.readouterr().err
    assert left.value.code == 1
    assert "error: a fault of fab itself: KeyError: 'ours'" in told
    assert "Traceback" not in told
    (log,) = tmp_path.rglob("*.log")
    assert f"the traceback in {log}" in told
    assert "KeyError: 'ours'" in json.loads(log.read_text())["traceback"]


def test_where_no_log_can_be_written_the_error_stays(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert runs.keep_faults(tmp_path / "file/below", "run", {"shire01": "trace"}) is None


@pytest.mark.promise(CALM, "a host that says long lines faster than they are shown")
def test_long_lines_wait_in_little_memory() -> None:
    said = 0

    def work(emit: Emit) -> None:
        nonlocal said
        for _ in range(500):
            emit(Line("shire01", "x" * 1024 * 1024, "log"))
            said += 1

    with ThreadPoolExecutor(1) as executor:
        items = gather([work], executor)
        next(items)
        threading.Event().wait(0.3)
        assert said <= 20
        assert sum(1 for _ in items) == 499


class Endless(StubMember):
    """A host that sends output at once and forever."""

    def recv(self, size: int) -> bytes:
        return b"x\n" * (size // 2)


@pytest.mark.promise(CALM, "a host that answers without an end")
@pytest.mark.parametrize(("bound", "told"), [("_SECONDS", "within 0 s"), ("_SENT", "sends more than")])
def test_a_journal_without_an_end_is_given_up(monkeypatch: pytest.MonkeyPatch, bound: str, told: str) -> None:
    monkeypatch.setattr(read, bound, 0.1)
    with pytest.raises(read.Refused, match=told):
        read.past(Endless("shire01", None), Wanted())


@pytest.mark.promise(CALM, "a host that answers without an end")
def test_a_script_without_an_end_is_given_up() -> None:
    ends = StubMember("shire01", None)
    channel = type("Channel", (Endless,), {"get_transport": lambda _: ends})("shire01", None)
    feeder = cast(ssh_session._Feeder, SimpleNamespace(done=True, moved=time.monotonic()))
    with pytest.raises(LinkLost, match="did not end within 0 s") as caught:
        for _ in ssh_session._received(channel, ends.host, HostStep("facts", "", 0.1), feeder):
            pass
    assert caught.value.next == "run the command again"
