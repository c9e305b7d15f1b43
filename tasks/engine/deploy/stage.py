"""Prepare one host of a deploy, up to a staged release that does not run yet."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import NamedTuple

from tasks.engine.config.service import Service
from tasks.engine.deploy import plan
from tasks.engine.deploy.plan import FromClone, HostPlan
from tasks.engine.deploy.prepared import Prepared, Progress
from tasks.engine.deploy.run_lock import Claim, RunLocks
from tasks.engine.deploy.signing_key import SigningKey
from tasks.engine.events import Line, Sent, Step
from tasks.engine.fleet.member import Member
from tasks.engine.fleet.project import Project
from tasks.engine.fleet.step_errors import Edited
from tasks.engine.host import facts as reports
from tasks.engine.host import maintenance_page, payload, questions, steps, system_files
from tasks.engine.host.facts import Facts
from tasks.engine.host.steps import Consent
from tasks.engine.parallel import Emit, run_in_thread
from tasks.engine.release import sbom
from tasks.engine.release.build import Release

_NO_CONSENT = Consent()


class DeployOrder(NamedTuple):
    """The contents of a deploy, and its options. lock_wait: seconds to wait for another run to end."""

    project: Project
    release: Release
    lock_wait: int = 0
    consent: Consent = _NO_CONSENT
    signing_key: SigningKey | None = None


def look(
    project: Project,
    made: Release,
    member: Member,
    emit: Emit,
    consent: Consent = _NO_CONSENT,
    *,
    show: bool = False,
) -> tuple[Facts, HostPlan]:
    """Return facts and plan of one host, and collect its wheels; change nothing there."""
    service, host = member.service, member.host
    emit(Step(host.name, "plan", "connect"))
    account = host.user or member.login
    asked = (questions.plan if show else questions.deploy)(service, host, account, made.id)
    facts = member.ask(asked)
    member.reach("controller.facts")
    plan.require_secrets(service, facts, host.name)
    python = reports.choose_python(facts, host.python, service.python, host.name, service.needs)
    target = reports.target(python, facts.machine.distribution)
    wheels = project.wheelhouse(made, target, lambda text: emit(Step(host.name, "plan", "wheels", text)))
    setup = plan.setup(service, facts, account, from_clone(project, service), consent)
    planned = plan.deploy(host.name, service, made, facts, python, wheels, setup)
    if step := planned.library_step:
        from tasks.engine.deploy import libraries

        libraries.require(member, step, wheels, facts.machine)
    return facts, planned


def from_clone(project: Project, service: Service) -> FromClone:
    """Return the data that setup takes from this clone."""
    given = payload.given(service, project.root)
    return FromClone(payload.certificate(service, project.root), project.origin, given)


def prepare(order: DeployOrder, member: Member, locks: RunLocks, emit: Emit) -> Prepared:
    """Run setup if needed; take the run lock and stage the release. What is live stays as it is.

    Once setup has made its directories, stage while setup finishes.
    """
    ask = partial(look, order.project, order.release, member, emit, order.consent)
    facts, planned = ask()
    if order.signing_key and order.signing_key.lacking(member.service, facts):
        order.signing_key.bring(member, emit)
        facts, planned = ask()
    if not planned.unchanged:
        emit(Step(member.host.name, "plan", "deploy", planned.why))
    if facts.committed_release is None:
        _warn_of_left(order, member, emit)
    with ExitStack() as stack:
        if planned.setup.needed:
            emit(Step(member.host.name, "plan", "setup", f"needs root: {_why_root(planned.setup)}"))
            stack.enter_context(_installed(order.project, member, planned.setup, emit))
        member.act_as(planned.setup.account)
        if not planned.unchanged:
            claim = Claim("deploy", order.release.id, facts.actions[-1:])
            if locks.take(member, claim, order.lock_wait, emit):
                facts, planned = ask()
            _deliver(order.release, member, planned, emit)
    serves = Progress.FOUND_ON_PROBATION if planned.activation.on_probation else Progress.UNCHANGED
    progress = serves if planned.unchanged else Progress.STAGED
    return Prepared(member, planned.activation, maintenance_page.warn(facts, member.service), progress)


def _warn_of_left(order: DeployOrder, member: Member, emit: Emit) -> None:
    from tasks.engine.release import left_behind, package_data

    made = order.release
    left = left_behind.sentence(left_behind.find(order.project.root, made.tree))
    lacks = package_data.sentence(package_data.lacking(made.tree.entries, made.site))
    for warning in filter(None, (left, lacks)):
        emit(Line(member.host.name, warning, "warning"))


def _deliver(made: Release, member: Member, planned: HostPlan, emit: Emit) -> None:
    member.reach("controller.lock")
    member.reach("controller.send")
    try:
        _send(made, member, planned, emit)
    except Edited as edited:
        emit(Step(member.host.name, "stage", "resend", "files on the host were edited: everything is sent"))
        _send(made, member, plan.resend(planned, edited.lacks), emit)
    member.reach("controller.staged")


def _why_root(setup: plan.Setup) -> str:
    missing = [f"without {' '.join(setup.packages)}"] if setup.packages else []
    return "; ".join([*setup.reasons, *missing]) or f"not as wanted: {', '.join(setup.changed)}"


def install(
    project: Project, member: Member, setup: plan.Setup, emit: Emit, heard: Callable[[str], None] | None = None
) -> None:
    """Run root's part. heard: called with the word of each report, if the deploy goes on beside setup."""
    for warning in setup.warnings:
        emit(Line(member.host.name, warning, "warning"))
    sent = payload.setup(member.service, setup.files, system_files.readme(member.service), project.root)
    step = setup.step(member.service)
    member.perform(step._replace(starts_next=True) if heard else step, emit, sent, heard)
    from tasks.engine.deploy import certificates

    certificates.issue_if_needed(project.root, member, emit)


@contextmanager
def _installed(project: Project, member: Member, setup: plan.Setup, emit: Emit) -> Iterator[None]:
    """Run setup in a thread; run the body as soon as setup has made the directories; then wait for setup."""
    begun = threading.Event()

    def heard(word: str) -> None:
        if word == "directories":
            begun.set()

    work = run_in_thread(lambda: install(project, member, setup, emit, heard))
    work.add_done_callback(lambda _: begun.set())
    begun.wait()
    if work.done():
        work.result()
    try:
        yield
    finally:
        # Never cut setup off, even if the body failed.
        work.result()
    member.reach("controller.setup")


def _send(made: Release, member: Member, planned: HostPlan, emit: Emit) -> None:
    delivery, host = planned.delivery, member.host.name
    step = steps.stage(planned.service, delivery.staging)
    if delivery.staging.present:
        member.perform(step, emit)
        return
    record = {
        "id": made.id,
        "commit": made.commit,
        "dirty": len(made.dirty),
        "run": member.run.id,
        "python": delivery.staging.python,
        "large": made.large,
        "secrets": [secret.name for secret in planned.service.secrets],
        **({"site": True} if made.site else {}),
        "packages": sorted("==".join(wheel.filename.split("-")[:2]) for wheel in delivery.wheelhouse.wheels),
        "built": delivery.wheelhouse.built,
        sbom.NAME: delivery.staging.lists[sbom.NAME],
    }
    from tasks.engine.deploy.upload_progress import counted

    sent = payload.staging(made, delivery, record, planned.service)
    wheels = [wheel.size for wheel in delivery.wheels]
    files = [entry.size for entry in made.tree.entries if entry.path not in delivery.same]
    files += [entry.size for entry in payload.unlike_code(made)]
    plural = "" if len(wheels) == 1 else "s"
    wheels_text = f", {len(wheels)} wheel{plural} of {sum(wheels) / 1e6:.1f} MB" if wheels else ""
    emit(Step(host, "stage", "send", f"{len(delivery.changed)} of {len(made.tree.entries)} files{wheels_text}"))
    total = sum(wheels) + sum(files)
    watched = counted(sent, total, lambda gone, seconds: emit(Sent(host, "stage", gone, total, seconds)))
    member.perform(step, emit, watched)
