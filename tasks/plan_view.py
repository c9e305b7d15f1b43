"""Print plans, and the steps that they run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from tasks import runner
from tasks.engine.deploy import plan as plans
from tasks.engine.deploy import stage
from tasks.engine.events import Event, Step
from tasks.engine.host import questions, steps
from tasks.engine.host.difference import Comparison
from tasks.engine.host.steps import Consent
from tasks.engine.release import left_behind, package_data
from tasks.engine.report import output

if TYPE_CHECKING:
    from tasks.engine.deploy.plan import HostPlan, Setup
    from tasks.engine.deploy.rollback import Reactivation
    from tasks.engine.fleet.member import Member
    from tasks.engine.fleet.project import Project
    from tasks.engine.host.facts import Facts
    from tasks.engine.host.steps import HostStep
    from tasks.engine.release.build import Release

Texts = tuple[str, "Sequence[HostStep]"]
"""A host, and the steps that would run there."""


def announce(project: Project, made: Release, *, as_json: bool) -> None:
    """Print the release, its commit, and the files that are not committed."""
    writer = output.err() if as_json else output.out()
    writer.line(f"release {made.id} of commit {(made.commit or 'none')[:12]}")
    if made.dirty:
        more = f" and {len(made.dirty) - 5} more" if len(made.dirty) > 5 else ""
        writer.line(f"not committed: {', '.join(made.dirty[:5])}{more}")


def make(
    project: Project, made: Release, members: list[Member], consent: Consent | None = None
) -> list[tuple[Facts, HostPlan]]:
    """Return facts and plan of each host that answered, in order; the other members carry their error."""

    def say(event: Event) -> None:
        if isinstance(event, Step) and event.step == "wheels":
            output.err().line(f"{event.host}: {event.text}")

    answers = runner.ask(
        members, lambda member: stage.look(project, made, member, say, consent or Consent(), show=True)
    )
    return list(answers.values())


def show(
    project: Project, made: Release, members: list[Member], answers: Sequence[tuple[Facts, HostPlan]], *, as_json: bool
) -> None:
    """Print the plans as text, with the diffs of root's files, or as one JSON document."""
    left = left_behind.find(project.root, made.tree)
    lacks = package_data.lacking(made.tree.entries, made.site)
    if as_json:
        output.document({"inventory": str(project.inventory.path), "release": made.id, "dirty": list(made.dirty),
                         "left_behind": [{"path": one.path, "bytes": one.size} for one in left],
                         "wheel_lacks": list(lacks),
                         "hosts": [plans.as_dict(planned) for _, planned in answers],
                         "errors": runner.errors(members)})  # fmt: skip
        return
    announce(project, made, as_json=False)
    for warning in filter(None, (left_behind.sentence(left), package_data.sentence(lacks))):
        output.out().line(warning)
    for facts, planned in answers:
        _show_files(facts, planned)
        for line in _lines(planned):
            output.out().line(f"{planned.host}  {line}")


def _lines(planned: HostPlan) -> Iterable[str]:
    document = plans.as_dict(planned)
    setup = planned.setup
    yield from _setup_lines(setup)
    if planned.unchanged:
        yield f"unchanged: release {document['to']} serves already"
        return
    yield f"deploy {document['from'] or 'nothing'} -> {document['to']}, because {planned.why}"
    for warning in planned.warnings:
        yield f"  warning: {warning}"
    for path in document["files"]["send"][:20]:
        yield f"  send {path}"
    if len(document["files"]["send"]) > 20:
        yield f"  send {len(document['files']['send']) - 20} more files"
    if document["files"]["link"]:
        yield f"  link {document['files']['link']} files that are there"
    for wheel in document["wheels"]:
        yield f"  send {wheel}"
    if document["built"]:
        yield f"  built on this machine, from source: {', '.join(document['built'])}"
    venv = document["venv"]
    yield f"  {'build' if venv['build'] else 'use'} venv {venv['name']} with {venv['python']}"
    for unit in document["restart"]:
        yield f"  restart {unit}"


def _setup_lines(setup: Setup) -> Iterable[str]:
    if not setup.needed:
        return
    yield f"setup (needs root): {'; '.join(setup.reasons) or 'files of root differ'}"
    for path in setup.changed:
        kept = "  (edited on the host: needs --overwrite, which keeps a copy)" if path in setup.edited else ""
        yield f"  write {path}{kept}"
    if setup.packages:
        yield f"  install {' '.join(setup.packages)}"
    for warning in setup.warnings:
        yield f"  warning: {warning}"


def _show_files(facts: Facts, planned: HostPlan) -> None:
    """Print the diffs of root's files."""
    writer, compare = output.out(), Comparison()
    for file in planned.setup.files:
        former = (facts.contents or {}).get(file.path)
        if file.path not in planned.setup.changed or former is None or file.hidden:
            continue
        name = f"{planned.host}:{file.path}"
        diff = compare.lines(former, file.text.encode(), (name, "new"))
        for line in diff if len(diff) > 1 else [f"{name}: {reason}" for reason in diff]:
            writer.line(line)


def dry(members: list[Member], texts: Callable[[Member], Sequence[HostStep]]) -> None:
    """Print the steps of a verb for each host that answers, and exit with the status of a query."""
    answers = runner.ask(members, texts)
    show_steps(list(answers.items()))
    runner.leave(members)


def dry_deploy(
    project: Project, made: Release, members: list[Member], consent: Consent, wait: int, *, stop_first: bool
) -> None:
    """Print the steps of a deploy, and change nothing. wait: seconds for the lock."""
    planned = make(project, made, members, consent)
    show_steps(texts(planned, members, wait, stop_first=stop_first))
    runner.leave(members)


def dry_reactivation(members: list[Member], planned: Callable[[Member], Reactivation]) -> None:
    """Print the steps of a rollback or restart like `dry`, and on standard error the change that they make."""
    answers = runner.ask(members, planned)
    for name, reactivation in answers.items():
        output.err().line(f"{name}: {reactivation.change}")
    show_steps([(name, reactivation.steps) for name, reactivation in answers.items()])
    runner.leave(members)


def texts(
    answers: Sequence[tuple[Facts, HostPlan]], members: Sequence[Member], wait: int = 0, *, stop_first: bool = False
) -> list[Texts]:
    """Return the steps of a deploy by host: first the question, then the changes."""
    hosts = {member.host.name: member for member in members}
    first = next((plan.host for _, plan in answers if not plan.unchanged), None)
    return [
        (
            plan.host,
            (
                _question(hosts[plan.host], plan),
                *filter(None, (plan.library_step,)),
                *plan.steps(hook=plan.host == first, wait=wait, stop_first=stop_first),
            ),
        )
        for _, plan in answers
    ]


def _question(member: Member, planned: HostPlan) -> HostStep:
    asked = questions.deploy(planned.service, member.host, planned.setup.account, planned.activation.release)
    return steps.facts(planned.service, asked)


def show_steps(hosts: Iterable[Texts]) -> None:
    """Print the steps of each host, byte for byte and in order, each below a line that names it."""
    writer = output.out()
    for host, texts in hosts:
        for step in texts:
            writer.raw(f"# ---- {host}: {step.name} ({len(step.text.encode())} bytes)")
            writer.raw(step.text.removesuffix("\n"))
