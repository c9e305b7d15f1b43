"""Lies for every parser of host output: it answers or refuses, soon, and in little memory."""

from __future__ import annotations

import ast
import base64
import contextlib
import json
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from functools import cache, partial
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.engine import untrusted_json
from tasks.engine.audit import packages
from tasks.engine.config.gateway import Tls
from tasks.engine.config.service import Secret
from tasks.engine.deploy import authority, libraries, plan, probation, rollback, secret_rollout
from tasks.engine.deploy.signing_key import SigningKey
from tasks.engine.diagnose import condition, doctor, drift, status
from tasks.engine.errors import LoopError
from tasks.engine.fleet import member, step_errors
from tasks.engine.fleet.member import Member
from tasks.engine.fleet.project import Project
from tasks.engine.host import (
    difference,
    facts,
    history,
    journal_check,
    log_entries,
    log_text,
    maintenance_page,
    plain_lines,
    protocol,
    questions,
    reported_names,
    sandbox_hints,
    system_files,
    typed,
)
from tasks.engine.host.facts import Facts
from tasks.engine.host.protocol import Output, Reader, Report, Transcript
from tasks.engine.host.questions import Question
from tasks.engine.host.steps import HostStep
from tasks.engine.logs import lines, merge, tracebacks
from tasks.engine.logs.read import Past, merged
from tasks.engine.release import archive
from templates.host.fact_schema import Boot, HostFacts, Job, Logged, Machine, Python, State, Survey, Used, plain
from tests.promises.words import CALM
from tests.support.certificates import Authority
from tests.support.host_facts import serving
from tests.support.nasty_texts import ANY
from tests.support.small_service import SERVICE
from tests.support.stand_ins import reported
from tests.unit.deploy.test_plan import WHEELS, release

LIES_TOLD = pytest.mark.promise(CALM, "a host that answers with lies, parser by parser")
MANY = pytest.mark.promise(CALM, "a host that answers with thousands of lies, parser by parser", part=60)

ENGINE = Path(__file__).resolve().parents[3] / "tasks/engine"
NONCE = "0123456789abcdef"
NEW, OLD = "b" * 12, "a" * 12
SECRETIVE = SERVICE._replace(secrets=(Secret("API_TOKEN"), Secret("SECRET_KEY")))


class Liar(Member):
    """A member whose host has already answered."""

    def __init__(self, said: Transcript) -> None:
        host = cast(Any, type("Host", (), {"name": "shire01", "user": "deploy", "python": None, "groups": ()}))
        super().__init__(host, SERVICE, cast(Any, None), cast(Any, None))
        self._said = said

    @property
    def login(self) -> str:
        return "deploy"

    def ask(self, question: Question, more: HostStep | None = None) -> Facts:  # noqa: ARG002 - whatever is asked
        return facts_of(self._said)

    def perform(self, *_: object, **__: object) -> Transcript:
        return self._said


def facts_of(said: Transcript) -> Facts:
    """Return the facts; parse them unless that was done already."""
    read: Facts | None = vars(said).get("read")
    return read or facts.parse(said)


def text_of(said: Transcript) -> str:
    """Return all reports as one text."""
    return "\n".join(rest for rests in said.reports.values() for rest in rests)


def journal_of(said: Transcript) -> list[log_entries.Entry]:
    """Return the journal entries among the reports."""
    found = (log_entries.parse("shire01", rest.encode()) for rests in said.reports.values() for rest in rests)
    return [entry for entry in found if entry]


def joined(said: Transcript) -> list[log_entries.Entry]:
    """Return the journal entries, as of one process, with tracebacks joined."""
    joiner = tracebacks.Joiner()
    found = [joiner.push(entry._replace(stream="7"), 0.0) for entry in journal_of(said)]
    return [entry for entries in [*found, joiner.rest()] for entry in entries]


def read(said: Transcript) -> list[Report | Output]:
    """Parse all reports again, from bytes that arrive in small pieces."""
    reader, found = Reader(NONCE), []
    raw = b"".join(
        reported(NONCE, word, rest) + f"noise {rest}\n".encode() for word in said.reports for rest in said.reports[word]
    )
    for start in range(0, len(raw), 50_000):
        found += list(reader.feed(raw[start : start + 50_000]))
    return [*found, *reader.close()]


def kept(said: Transcript) -> None:
    """Add all reports to another transcript."""
    again = Transcript()
    for item in read(said):
        again.add(item)


def merge_all(said: Transcript) -> list[str]:
    held: merge.Merge[str] = merge.Merge(0.5, 10**6)
    for entry in journal_of(said):
        held.push(entry.host, entry.time, entry.text, entry.size, 0.0, 10.0)
    return [*held.due(9.0), *held.rest()]


def stood(said: Transcript) -> None:
    """Show a host like `fab status`."""
    line = status.describe("shire01", SERVICE, facts_of(said))
    status.mark_differing([line])
    status.table([line], 80)
    status.notes([line])


def verified(said: Transcript) -> object:
    found = facts_of(said)
    return history.verify(found.actions, current=found.committed_release, settled=False, busy=False, torn=found.torn)


def planned(said: Transcript) -> object:
    found = facts_of(said)
    python = facts.choose_python(found, None, ">=3.9", "shire01")
    made = plan.deploy("shire01", SERVICE, release("app.py"), found, python,
                       WHEELS, plan.setup(SERVICE, found, "deploy"))  # fmt: skip
    return facts.target(python, found.machine.distribution).place, plan.as_dict(plan.resend(made)), made.steps()


def drifted(said: Transcript) -> object:
    found = facts_of(said)
    files = system_files.render(SERVICE, found.traits("deploy"))
    return [one.as_dict() for one in drift.examine(files, found, lambda _, path: path.encode() * 20)]


def compared(said: Transcript) -> object:
    """Compare two texts that differ in every second line: the most work that a comparison can be made to do."""
    texts = text_of(said).split("\n")
    old, new = ("\n".join(f"{text}\n{side}{number}" for number, text in enumerate(texts)) for side in "ou")
    return difference.Comparison(200_000).lines(old.encode(), new.encode(), ("old", "new"))


def crumbs(data: bytes) -> Iterator[bytes]:
    """Yield it in small pieces."""
    return (data[start : start + 8] for start in range(0, len(data), 8))


def each(read_one: Callable[[str], object]) -> Callable[[Transcript], object]:
    """Return a parser of all lines from a parser of one."""

    def parse(said: Transcript) -> None:
        for rests in said.reports.values():
            for rest in rests:
                _refused(ValueError, lambda rest=rest: read_one(rest))  # type: ignore[misc]

    return parse


def _refused(kind: type[Exception], call: Callable[[], object]) -> None:
    try:
        call()
    except kind:
        return


def typed_read(said: Transcript) -> None:
    """Parse every JSON text as facts of the program."""
    for rests in said.reports.values():
        for rest in rests:
            _refused(ValueError, lambda rest=rest: typed.read(HostFacts, untrusted_json.load(rest)))  # type: ignore[misc]


@cache
def our_authority() -> authority.Authority:
    """Return a CA."""
    with tempfile.TemporaryDirectory() as folder:
        made = Authority(Path(folder))
        made.certificate.with_suffix(".key").chmod(0o600)
        return authority.load(Tls("ca", "ca.pem", "ca.key"), Path(folder), authority.now() + timedelta(hours=1))


def signed(said: Transcript) -> object:
    """Answer a request, and look at the certificate that a host says it has."""
    now = authority.now()
    our_authority().is_good(text_of(said), ("myapp.example",), now)
    return our_authority().sign(text_of(said), ("myapp.example",), now)


def examined(said: Transcript) -> None:
    """Let doctor examine a host, but not what clients see, which the controller finds out by itself."""
    member = Liar(said)
    member.service = SERVICE._replace(nginx=None)
    doctor.examine(cast(Project, type("Project", (), {"root": ENGINE, "origin": ""})), member)


PARSERS: dict[str, Callable[[Transcript], object]] = {
    "audit.packages.running": lambda said: packages.running("shire01", facts_of(said)),
    "release.archive.parse_manifest": lambda said: _refused(ValueError, lambda: archive.parse_manifest(text_of(said))),
    "deploy.rollback.prepare": lambda said: rollback.prepare(Liar(said), "rollback", None, facts_of(said)),
    "deploy.rollback.plan_reactivation": lambda said: rollback.plan_reactivation(Liar(said), "restart", None, 0),
    "deploy.rollback.target_of": lambda said: rollback.target_of(Liar(said), "rollback", "a", facts_of(said)),
    "host.difference.Comparison": compared,
    "diagnose.condition.conditions": lambda said: condition.conditions(SERVICE, facts_of(said), 0),
    "diagnose.condition.needed_disk": lambda said: condition.needed_disk(facts_of(said)),
    "diagnose.condition.needed_memory": lambda said: condition.needed_memory(SERVICE, facts_of(said)),
    "diagnose.condition.short_of_memory": lambda said: condition.short_of_memory(SERVICE, facts_of(said)),
    "diagnose.doctor.examine": examined,
    "diagnose.drift.examine": drifted,
    "host.facts.choose_python": planned,
    "host.facts.flaw": planned,
    "host.facts.parse": facts.parse,
    "host.facts.target": planned,
    "fleet.step_errors.busy": each(lambda rest: step_errors.busy("shire01", rest)),
    "fleet.step_errors.explain": lambda said: step_errors.explain(
        HostStep("activate", "", 1), said, "shire01", "deploy"
    ),
    "fleet.step_errors.unstarted": lambda said: step_errors.unstarted(said, "shire01", "deploy"),
    "untrusted_json.load": each(untrusted_json.load),
    # Of every document that `load` reads.
    "untrusted_json.measure": each(lambda line: untrusted_json.measure([line])),
    "host.history.parse": lambda said: history.parse(text_of(said).split("\n")),
    "host.history.author": lambda said: [history.author(action.who) for action in facts_of(said).actions],
    "host.history.newest": lambda said: [history.newest(facts_of(said).actions, last) for last in (0, 7)],
    "host.history.person": each(history.person),
    "host.history.previous": lambda said: history.previous(facts_of(said).actions, NEW, [OLD]),
    "host.history.stack": lambda said: history.stack(facts_of(said).actions),
    "host.history.verify": verified,
    "host.journal_check.verify": lambda said: journal_check.verify(
        facts_of(said).actions, 10**5, Logged(1, {"b": Boot(1, 2**60)}), facts_of(said).events, 2e9
    ),
    "host.log_entries.parse": journal_of,
    "host.log_entries.invocations": lambda said: log_entries.invocations("aa", journal_of(said)),
    "logs.lines.cut": lambda said: list(lines.cut(crumbs(text_of(said).encode()), 1000)),
    "host.maintenance_page.describe": lambda said: maintenance_page.describe(
        maintenance_page.state(facts_of(said)) or {}, ""
    ),
    "host.maintenance_page.state": lambda said: maintenance_page.state(facts_of(said)),
    "host.maintenance_page.warn": lambda said: maintenance_page.warn(facts_of(said), SERVICE),
    "host.protocol.Reader": read,
    "host.protocol.Transcript": kept,
    "fleet.member.describe": lambda said: member.describe(facts_of(said)),
    "logs.merge.Merge": merge_all,
    "deploy.plan.activation": planned,
    "deploy.plan.require_secrets": lambda said: plan.require_secrets(SECRETIVE, facts_of(said), "shire01"),
    "deploy.plan.require_secrets_of": lambda said: plan.require_secrets_of(OLD, SECRETIVE, facts_of(said), "shire01"),
    "deploy.secret_rollout.listing": lambda said: secret_rollout.listing("")(Liar(said)),
    "deploy.secret_rollout.unset": lambda said: secret_rollout.unset("API_TOKEN", "", Liar(said), lambda _: None),
    "deploy.signing_key.SigningKey": lambda said: SigningKey(lambda _: [Liar(said)], str).bring(
        Liar(said), lambda _: None
    ),
    "deploy.plan.as_dict": planned,
    "deploy.plan.deploy": planned,
    "deploy.plan.resend": planned,
    "deploy.plan.setup": planned,
    "logs.read.merged": lambda said: merged([Past(journal_of(said)), Past(journal_of(said))]),
    "logs.tracebacks.Joiner": joined,
    "logs.tracebacks.oldest_first": lambda said: list(tracebacks.oldest_first(journal_of(said))),
    "logs.tracebacks.newest_first": lambda said: list(tracebacks.newest_first(journal_of(said))),
    "host.plain_lines.level": each(plain_lines.level),
    "host.plain_lines.Process": lambda said: [one.follows(text_of(said), 0) for one in [plain_lines.Process()] * 2],
    "host.log_text.by_service": each(log_text.by_service),
    "host.log_text.by_systemd": each(log_text.by_systemd),
    "host.log_text.fields": each(log_text.fields),
    "host.log_text.level": each(log_text.level),
    "host.log_text.summarize": lambda said: log_text.summarize(text_of(said).split("\n"), text_of(said).split("\n")),
    "host.log_text.format_line": each(log_text.format_line),
    "host.sandbox_hints.advice": lambda said: sandbox_hints.advice(text_of(said).split("\n"), ()),
    "host.sandbox_hints.hints": lambda said: sandbox_hints.hints(text_of(said).split("\n"), ()),
    "diagnose.status.days_left": stood,
    "diagnose.status.describe": stood,
    "diagnose.status.duration": stood,
    "diagnose.status.failed_jobs": stood,
    "diagnose.status.former_jobs": stood,
    "diagnose.status.job_result": stood,
    "diagnose.status.mark_differing": stood,
    "diagnose.status.memory": lambda said: [status.memory(slot) for slot in facts_of(said).state.slots.values()],
    "diagnose.status.notes": stood,
    "diagnose.status.releases": lambda said: status.releases(facts_of(said)),
    "diagnose.status.row": stood,
    "diagnose.status.table": stood,
    "host.typed.read": typed_read,
    "host.reported_names.is_release": each(reported_names.is_release),
    "host.reported_names.release": each(lambda text: reported_names.release("a release", text, (NEW, ""))),
    "host.reported_names.require": each(
        lambda text: reported_names.require("a release", text, reported_names.RELEASE, "look")
    ),
    "deploy.libraries.require": lambda said: libraries.require(
        Liar(said), HostStep("libraries", "", 1), WHEELS._replace(libraries={"libx.so.1": ()}), Machine()
    ),
    "deploy.authority.Authority": signed,
    "deploy.probation.require_committed": lambda said: probation.require_committed(Liar(said), NEW),
}
"""Every function and class that gets output of a host, and a way to feed it."""
WAYS = sorted({parse: name for name, parse in PARSERS.items()}.values())
"""One name of each way: several are fed in one."""

# They read no output of a host: our own texts and files, or results of a parser above.
NO_PARSERS = {
    "host.maintenance_page.parse_message", "host.maintenance_page.require_nginx", "host.maintenance_page.files",
    "host.maintenance_page.bypass", "host.maintenance_page.stays_open",
    "host.protocol.Report", "host.protocol.Output", "host.protocol.TooMuch", "diagnose.drift.Finding",
    "host.facts.Facts", "fleet.step_errors.Edited", "host.history.Action", "host.history.Finding",
    "deploy.rollback.Reactivation", "host.sandbox_hints.Hint",
}  # fmt: skip
READING = (
    "deploy.rollback", "diagnose.drift", "diagnose.status", "fleet.step_errors", "host.difference", "host.facts",
    "host.history", "host.log_text", "host.maintenance_page", "host.plain_lines", "host.protocol",
    "host.reported_names", "host.sandbox_hints", "host.typed", "logs.lines", "logs.merge", "logs.tracebacks",
    "untrusted_json",
)  # fmt: skip
SAID = {"Facts", "Transcript", "Action", "Report", "Output"}


def named(module: str, node: ast.FunctionDef | ast.ClassDef) -> bool:
    """Return true if this gets output of a host."""
    if node.name.startswith("_"):
        return False
    if module in READING:
        return True
    if isinstance(node, ast.ClassDef):
        return False
    types = {word.id for one in node.args.args if one.annotation for word in ast.walk(one.annotation)
             if isinstance(word, ast.Name)}  # fmt: skip
    return bool(types & SAID)


@LIES_TOLD
def test_every_parser_is_in_the_table() -> None:
    found = set()
    for path in (path for path in ENGINE.rglob("*.py") if path.parent.name != "sandbox"):
        module = ".".join(path.relative_to(ENGINE).with_suffix("").parts)
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and named(module, node):
                found.add(f"{module}.{node.name}")
    assert found - PARSERS.keys() == NO_PARSERS


# ---- lies of every kind

WORDS = ("facts", "history", "release", "same", "data", "drift", "journal", "failed", "busy", "moved", "last", "secret",
         "value", "event")  # fmt: skip
NUMBERS = st.one_of(st.integers(), st.sampled_from([10**19, 10**20, 10**4000, 2**64 - 1, -1])).map(str)
IDS = st.sampled_from([NEW, OLD, "c", "", "$(reboot)", "a" * 41])
SLOTS = st.sampled_from(["blue", "green", "current", "", "active", "inactive", "yes", "ok"])
VALUES = st.one_of(ANY, NUMBERS, IDS, SLOTS)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), VALUES),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(ANY, inner, max_size=3)),
    max_leaves=6,
)
ACTION = st.fixed_dictionaries(
    {"action": st.sampled_from(["deploy", "rollback", "restart", "undo"]), "release": IDS,
     "state": st.sampled_from(["started", "probation", "done", "failed", "returned", "ended"])},
    optional={"time": VALUES, "run": VALUES, "who": JSON, "why": JSON},
)  # fmt: skip
PYTHON = st.fixed_dictionaries({
    "path": st.one_of(ANY, st.just("/usr/bin/python3")), "machine": st.one_of(ANY, st.just("x86_64")),
    "version": st.one_of(ANY, st.sampled_from(["3.11.2", "3." + "9" * 5000, "1!3.12", "3.13.0rc1", "3.12+local"])),
    "soabi": st.one_of(ANY, st.just("cpython-311-x86_64-linux-gnu")),
    "libc": st.one_of(ANY, st.sampled_from(["glibc 2.36", "glibc 2." + "9" * 5000, "glibc 99999999.1"])),
    "implementation": st.one_of(ANY, st.just("cpython")),
    "flaws": st.one_of(JSON, st.sampled_from(["", "hidden /home; open /x", "closed " + "/x" * 9999])),
})  # fmt: skip
UNITS = st.builds(
    "unit {} {} {}".format, st.one_of(ANY, st.just("myapp@blue.service")),
    st.sampled_from(["DropInPaths", "FragmentPath", "NeedDaemonReload", "Other"]),
    st.one_of(ANY, st.sampled_from(["WORD", "/", "//", "/x", "yes", "/etc/systemd/system/myapp@.service.d/x.conf a"])),
)  # fmt: skip
PATHS = st.one_of(ANY, st.sampled_from(["/opt/apps/myapp/releases/x/code/y", "/etc/x", "/", ""]))


def dumped(value: object) -> str:
    return json.dumps(value)


RESTS: dict[str, st.SearchStrategy[str]] = {
    "value": st.one_of(ANY, st.binary().map(bytes.hex)),
    "secret": st.one_of(ANY, JSON.map(dumped), st.fixed_dictionaries({
        "name": st.one_of(ANY, st.just("API_TOKEN")), "since": st.one_of(JSON, NUMBERS), "changing": st.booleans(),
        "fingerprint": st.one_of(ANY, st.just("0123456789ab"))}).map(lambda one: dumped(one))),
    "facts": st.one_of(ANY, JSON.map(dumped)),
    "history": st.one_of(ANY, ACTION.map(lambda one: dumped(one)), JSON.map(lambda one: dumped(one))),
    "event": st.fixed_dictionaries({
        "time": st.integers(0, 2**64 - 1), "clock": st.integers(0, 2**64 - 1), "boot": st.sampled_from(["b", "c"]),
        "kind": st.sampled_from(["slot", "guard", "live", "boot"]), "slot": SLOTS, "release": IDS,
        "word": st.sampled_from(["started", "ended", "failed", "again"])}).map(lambda one: dumped(one)),
    "release": st.one_of(ANY, st.fixed_dictionaries({"id": IDS}, optional={
        "dirty": JSON, "commit": JSON, "packages": JSON, "secrets": JSON}).map(lambda one: dumped(one))),
    "same": st.one_of(ANY, ANY.map(lambda text: f"{'0' * 64}  {text}")),
    "data": st.builds(
        "{} {}".format, PATHS, st.one_of(ANY, st.binary(max_size=20).map(lambda raw: base64.b64encode(raw).decode()))
    ),
    "drift": st.one_of(UNITS, st.builds("{} {}".format, st.sampled_from(
        ["edited", "extra", "points", "link", "missing", "unreadable", "other", "chosen"]), PATHS)),
}  # fmt: skip


def arrived(text: str) -> str:
    """Return a text as it arrives in a line."""
    return text.encode("utf-8", "replace").decode().replace("\n", " ").replace("\0", "\ufffd")


Steps = tuple[str | int, ...]


def places(value: object, above: Steps = ()) -> Iterator[Steps]:
    """Yield the path of each value in a document."""
    yield above
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        yield from places(inner, (*above, key))


def put(document: Any, way: Steps, value: object) -> Any:
    """Return the document with this value there."""
    if not way:
        return value
    place = document
    for step in way[:-1]:
        place = place[step]
    place[way[-1]] = value
    return document


_SERVING = serving()._replace(
    pythons=(Python("/usr/bin/python3", "3.11.2", "cpython-311", "x86_64", "glibc 2.36", "cpython"),),
    files={questions.reactivate(SERVICE).files[0]: "0" * 64},
    survey=Survey(jobs={"myapp-nightly.service": Job()}, used={OLD: Used(9, (1, 2))}),
)
HONEST = plain(HostFacts._make(_SERVING[: len(HostFacts())]))
PLACES = [*places(HONEST)]
LIE = st.one_of(
    JSON, st.integers(), st.sampled_from([2**64, 2**63, 10**30, -1]), PYTHON.map(lambda one: [one]), IDS, SLOTS,
    st.sampled_from(["3.99", "Jan 31 00:00:00 2026 GMT", "{}", "Jan 99 00:00:00 99999 GMT"]),
)  # fmt: skip


@st.composite
def documents(draw: st.DrawFn) -> str:
    """An honest document with some lies, each in place of a value, many of the right type."""
    document = json.loads(json.dumps(HONEST))
    for way in draw(st.lists(st.sampled_from(PLACES), max_size=4)):
        with contextlib.suppress(LookupError, TypeError):
            document = put(document, way, draw(LIE))
    return json.dumps(document)


@st.composite
def transcripts(draw: st.DrawFn) -> Transcript:
    """A transcript that a step can be made to send; usually true enough to be believed."""
    said = Transcript()
    said.add(Report("facts", arrived(draw(documents()))))
    if draw(st.booleans()):
        honest(said)
    for word in draw(st.lists(st.sampled_from(WORDS), max_size=12)):
        said.add(Report(word, arrived(draw(RESTS.get(word, st.one_of(ANY, JSON.map(dumped)))))))
    for text in draw(st.lists(ANY, max_size=3)):
        said.add(Output(arrived(text)))
    said.add(Report("end", ""))
    return said


def honest(said: Transcript) -> None:
    """Add enough to plan, roll back and decide on a probation."""
    said.add(Report("facts", json.dumps(HONEST)))
    for name in (OLD, NEW):
        said.add(Report("release", json.dumps({"id": name})))
        said.add(Report("history", json.dumps({"action": "deploy", "release": name, "state": "done", "run": name})))


@cache
def lies() -> list[Transcript]:
    """Make transcripts for all parsers: to make one takes ten times as long as to read it."""
    made: list[Transcript] = []

    @given(said=transcripts())
    @settings(deadline=None)
    def make(said: Transcript) -> None:
        made.append(said)

    make()
    return made


@LIES_TOLD
@pytest.mark.parametrize("name", WAYS)
def test_a_parser_answers_or_refuses_whatever_is_said(name: str) -> None:
    for said in lies():
        try:
            _refused(LoopError, partial(PARSERS[name], said))
        except Exception as error:
            raise AssertionError(f"{name} of {said}") from error


# ---- lies of every size


def _histories(count: int) -> Iterator[tuple[str, str]]:
    """Yield a history: half deploys of a new release, half rollbacks to the release before."""
    for number in range(count // 2):
        yield "history", json.dumps({"action": "deploy", "state": "done", "release": f"r{number}", "run": f"{number}"})
    for number in range(count // 2):
        yield "history", json.dumps({"action": "rollback", "state": "done", "release": f"r{count // 2 - 2 - number}"})


def _events(count: int) -> Iterator[tuple[str, str]]:
    """Yield a history whose runs all lie at one time, as do all lines of the journal."""
    line = {"action": "deploy", "state": "done", "time": "2026-01-01T00:00:00Z", "release": NEW}
    event = {"time": 1767225600000000, "clock": 1, "boot": "b", "kind": "guard", "slot": "blue", "word": "started"}
    for number in range(count // 2):
        yield "history", json.dumps({**line, "run": f"{number}"})
        yield "event", json.dumps({**event, "release": NEW})


def _unended(count: int) -> Iterator[tuple[str, str]]:
    for number in range(count):
        yield "history", json.dumps({"action": "deploy", "state": "started", "release": NEW, "run": f"{number}"})


def _drop_ins(count: int) -> Iterator[tuple[str, str]]:
    for number in range(count // 10):
        yield "drift", f"unit myapp@.service DropInPaths {' '.join(f'/e/myapp@.service.d/{number}' for _ in range(10))}"


def _files(count: int) -> Iterator[tuple[str, str]]:
    """Yield edited files that agree in some lines and differ in the others."""
    for number in range(count // 100):
        text = "".join(f"x{line % 50}\n{line}\n" for line in range(50)).encode()
        yield "drift", f"edited /opt/apps/myapp/releases/x/code/{number}"
        yield "data", f"/opt/apps/myapp/releases/x/code/{number} {base64.b64encode(text).decode()}"


def _chosen(count: int) -> Iterator[tuple[str, str]]:
    """Yield files of the host's own choice that agree with what they should be in no line."""
    for number in range(count // 100):
        there, wanted = ("".join(f"{side}{line}\n" for line in range(50)).encode() for side in "ou")
        yield "drift", f"chosen /etc/myapp/nginx/{number} {base64.b64encode(wanted).decode()}"
        yield "data", f"/etc/myapp/nginx/{number} {base64.b64encode(there).decode()}"


def _document(**values: object) -> tuple[str, str]:
    return "facts", json.dumps({**HONEST, **values})


def _pythons(count: int) -> Iterator[tuple[str, str]]:
    (known,) = HONEST["pythons"]
    yield _document(pythons=[{**known, "path": f"/{number}"} for number in range(count)])


def _units(count: int) -> Iterator[tuple[str, str]]:
    processes = {f"{number}": f"{number}" for number in range(count)}
    jobs = {f"{number}": HONEST["survey"]["jobs"]["myapp-nightly.service"] for number in range(count)}
    yield _document(state={**HONEST["state"], "processes": processes}, survey={**HONEST["survey"], "jobs": jobs})


LIES: dict[str, Callable[[int], Iterator[tuple[str, str]]]] = {
    "history": _histories,
    "history without an end": _unended,
    "history and journal": _events,
    "drop-ins": _drop_ins,
    "files": _files,
    "chosen files": _chosen,
    "extra files": lambda count: (("drift", f"extra /x/{number}") for number in range(count)),
    "units": _units,
    "pythons": _pythons,
    "releases": lambda count: (("release", f'{{"id": "{number}"}}') for number in range(count)),
    "manifest": lambda count: (("same", f"{'0' * 64}  {number}") for number in range(count)),
    "complaints": lambda count: (("journal", f"{number} went wrong") for number in range(count)),
    "tracebacks": lambda count: (("journal", 'Traceback (most recent call last):\n  File "x"') for _ in range(count)),
    "journal": lambda count: (("journal", json.dumps({"MESSAGE": f"m{number}", "__CURSOR": "c",
                               "__REALTIME_TIMESTAMP": str(10**15 - number)})) for number in range(count)),
    "one line": lambda count: iter([
        _document(state={**HONEST["state"], "maintenance": "[" * 10 * count}), ("failed", "x" * 20 * count)]),
    "one list": lambda count: iter([("history", '{"who": [' + "[]," * 5 * count + "0]}")] * 2),
}  # fmt: skip


LIMITED = {"difference.Comparison", "drift.examine", "host.journal_check.verify"}
"""Their work may grow with the square, up to a limit of its own."""


@cache
def lie(kind: str, count: int) -> Transcript:
    """Return what a host says that lies so often. The parsers only read it."""
    said = Transcript()
    for word, rest in LIES[kind](count):
        said.add(Report(word, rest))
    honest(said)
    said.add(Report("end", ""))
    vars(said)["read"] = facts.parse(said)
    return said


def seconds(parse: Callable[[Transcript], object], said: Transcript) -> float:
    began = time.thread_time()
    _refused(LoopError, lambda: parse(said))
    return time.thread_time() - began


@MANY
@pytest.mark.parametrize("kind", LIES)
@pytest.mark.parametrize("name", WAYS)
def test_four_times_as_much_takes_no_sixteen_times_as_long(name: str, kind: str) -> None:
    much = lie(kind, 4000)
    # The clock of this thread alone; other load on the machine costs a second try.
    for _ in range(3):
        long = seconds(PARSERS[name], much)
        if long < (5 if name in LIMITED else 0.05):
            return
        short = seconds(PARSERS[name], lie(kind, 1000))
        if long < 8 * short:
            return
    pytest.fail(f"{long:.2f} s, and {short:.2f} s for a quarter of it")


@MANY
@pytest.mark.parametrize("kind", LIES)
def test_what_is_made_of_much_takes_little_memory(kind: str) -> None:
    said = lie(kind, 500)
    size = sum(len(rest) for rests in said.reports.values() for rest in rests)
    for name in WAYS:
        tracemalloc.start()
        try:
            _refused(LoopError, lambda name=name: PARSERS[name](said))  # type: ignore[misc]
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 30 * size + 2 * 1024**2, (name, peak, size)


@LIES_TOLD
def test_more_lines_than_a_host_has_to_say_are_refused() -> None:
    said = Transcript()
    for number in range(protocol.REPORTS):
        said.add(Report("history", f"{number}"))
    with pytest.raises(protocol.TooMuch, match="200000 lines"):
        said.add(Report("history", "one more"))


@LIES_TOLD
def test_a_line_that_comes_byte_by_byte_is_searched_once() -> None:
    taken = []
    for size in (100_000, 400_000):
        reader, began = Reader(NONCE), time.thread_time()
        for byte in reported(NONCE, "fact", "y" * size)[:-2]:
            list(reader.feed(bytes([byte])))
        taken.append(time.thread_time() - began)
    assert taken[1] < 8 * taken[0]


@LIES_TOLD
@pytest.mark.parametrize("libc", ["glibc 2." + "9" * 5000, "glibc " + "9" * 5000 + ".1", "glibc 2.", "", "x" * 9999])
@pytest.mark.parametrize("soabi", ["cpython-" + "9" * 5000, "cpython-311", "", "\0"])
def test_an_interpreter_of_any_words_is_one_that_wheels_fit_or_none_is_asked_for(libc: str, soabi: str) -> None:
    with contextlib.suppress(LoopError):
        python = Python("/usr/bin/python3", "3.11.2", soabi, "x86_64", libc, "cpython")
        assert len(facts.target(python).identity) < 200


@LIES_TOLD
def test_a_path_without_a_directory_is_a_drop_in_like_any_other() -> None:
    found = drift.examine((), Facts(drift=("unit X DropInPaths WORD",)), lambda *_: None)
    assert [(one.kind, one.path) for one in found] == [("drop-in", "WORD")]


@LIES_TOLD
@pytest.mark.parametrize("kind", ["extra", "edited", "missing", "points"])
def test_a_file_that_a_host_names_a_thousand_times_is_one_finding(kind: str) -> None:
    """Once: each had the whole content in its difference, so 13 kB of a host's answer took 1 GB of memory."""
    told = Facts(drift=(f"{kind} /a",) * 1000, contents={"/a": b"x" * 1000})
    assert len(drift.examine((), told, lambda *_: b"y")) == 1


@LIES_TOLD
def test_units_that_a_host_names_take_no_more_memory_than_real_ones() -> None:
    """Once: a line of 200 kB that named a unit of that length, and one file 900 times, took 340 MB of memory."""
    lines = [f"unit {number}{'u' * 20_000} DropInPaths {'a ' * 900}" for number in range(20)]
    (found,) = drift.examine((), Facts(drift=tuple(lines)), lambda *_: None)
    assert len(found.text) < 20 * 300
    many = [f"unit u{number} DropInPaths {' '.join(f'/{name}' for name in range(900))}" for number in range(120)]
    with pytest.raises(protocol.TooMuch):
        drift.examine((), Facts(drift=tuple(many)), lambda *_: None)


@LIES_TOLD
def test_all_texts_of_a_log_line_count_as_memory() -> None:
    """Once: its cursor did not, so what `fab logs -f` holds of a host took 17 times its limit."""
    fields = {"MESSAGE": "", "SYSLOG_IDENTIFIER": "\U0001f600" * 999, "_SYSTEMD_UNIT": "\U0001f600" * 999}
    said = {**fields, "__REALTIME_TIMESTAMP": "1", "__CURSOR": "\U0001f600" * 1000}
    entry = log_entries.parse("shire01", json.dumps(said).encode())
    assert entry is not None
    assert entry.size > 4 * (1000 + 128 + 128)


@LIES_TOLD
def test_no_more_lines_of_a_history_are_shown_than_were_asked_for() -> None:
    """Once: 200,000 lines of a host that lies came between those of the others."""
    actions = history.parse(f'{{"run": "{number}"}}' for number in range(2000))
    assert [one.run for one in history.newest(actions, 2)] == ["1998", "1999"]
    assert len(history.newest(actions, 0)) == 1200
    assert history.newest(actions[:3], 5) == actions[:3]


@LIES_TOLD
def test_actions_without_an_outcome_are_counted_where_there_are_many() -> None:
    """Once: 100,000 lines of a host that lies were as many findings."""
    began = [history.Action("", str(number), "deploy", "a" * 12, "started", {}) for number in range(1000)]
    found = history.verify(tuple(began), current=None, settled=False, busy=False)
    assert len(found) == 51
    assert found[0] == history.Finding(True, "950 more actions before these were cut off")
    done = history.Action("", "x", "deploy", "b" * 12, "done", {})
    assert not history.verify((*began, done), current="b" * 12, settled=True, busy=False)[0].wrong


@LIES_TOLD
def test_a_release_that_a_host_reports_often_is_one() -> None:
    """Once: doctor looked at the processes of each, ten thousand of them, for minutes."""
    said = Transcript()
    for item in [*(Report("release", f'{{"id": "{OLD}", "number": {number}}}') for number in range(1000)),
                 Report("release", f'{{"id": "{NEW}"}}'), Report("facts", json.dumps(plain(HostFacts()))),
                 Report("end", "ok")]:  # fmt: skip
        said.add(item)
    assert facts.parse(said).releases == ({"id": OLD, "number": 0}, {"id": NEW})


@LIES_TOLD
def test_what_a_host_says_of_a_maintenance_names_no_other_host() -> None:
    said = Facts(
        state=State(maintenance=json.dumps({"host": "shire02", "maintenance": False, "since": "x", "message": "m"}))
    )
    assert maintenance_page.state(said) == {"since": "x", "message": "m"}


@LIES_TOLD
def test_the_way_back_of_a_history_is_what_it_was() -> None:
    """Compare it with the plain algorithm."""

    @given(st.lists(st.tuples(st.sampled_from(["deploy", "rollback", "undo"]), st.sampled_from("abcd"))))
    def same(done: list[tuple[str, str]]) -> None:
        releases: list[str] = []
        for action, name in done:
            if action != "deploy" and name in releases:
                del releases[releases.index(name) + 1 :]
            elif not releases or releases[-1] != name:
                releases.append(name)
        actions = [history.Action("", "", action, name, "done", {}) for action, name in done]
        assert history.stack(actions) == tuple(releases)

    same()


@LIES_TOLD
def test_a_time_of_any_host_can_be_written() -> None:
    entry = log_entries.Entry(log_entries._LATEST, "h", "s", "info", "t", "c")
    assert datetime.fromtimestamp(entry.time, timezone.utc).year == 9999
    assert entry.moment.startswith("9999")
