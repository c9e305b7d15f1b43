"""What a run would do on one host, decided from what the host reported. Pure: a plan is data, and explains itself."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from tasks.engine.config.service import Service
from tasks.engine.errors import LoopError
from tasks.engine.host import history, launchers, layout, steps, system_files
from tasks.engine.host.facts import Facts
from tasks.engine.host.steps import Activation, Consent, Installation, Script, Staging
from tasks.engine.host.system_files import HostFile
from tasks.engine.release import archive
from tasks.engine.release.build import Release
from tasks.engine.release.wheelhouse import Wheelhouse
from templates.host.told import Python

_PACKAGES = {
    "curl": ("curl", "curl"),
    "flock": ("util-linux", "util-linux"),
    "nginx": ("nginx", "nginx"),
    "openssl": ("openssl", "openssl"),
    "ss": ("iproute2", "iproute"),
    "sudo": ("sudo", "sudo"),
    "tar": ("tar", "tar"),
    "visudo": ("sudo", "sudo"),
}


class Own(NamedTuple):
    """What this clone brings along. certificate: None for a self-signed one; origin: its git remote, or nothing."""

    certificate: bytes | None = None
    origin: str = ""


_NONE, _SAID_NOTHING = Own(), Consent()


class Setup(NamedTuple):
    """Root's part. files: all of them; changed: those that differ on the host; packages: what is missing.

    edited: those of the changed that are not as they were written there. origin: the git remote of this clone.
    warnings: what of the change may surprise the service.
    """

    account: str
    files: tuple[HostFile, ...]
    changed: tuple[str, ...]
    packages: tuple[str, ...]
    reasons: tuple[str, ...]
    edited: tuple[str, ...] = ()
    origin: str = ""
    consent: Consent = Consent()
    warnings: tuple[str, ...] = ()

    @property
    def needed(self) -> bool:
        """Whether anything of it is to be done."""
        return bool(self.changed or self.packages or self.reasons)

    def script(self, service: Service) -> Script:
        """What does it on the host."""
        parts = Installation(self.account, self.packages, self.files, self.origin, self.consent)
        return steps.setup(service, parts)


class Delivery(NamedTuple):
    """What is sent. same: paths that are linked on the host; gone: of those there, the ones that the release has not.

    wheels_there, venv_there: what the host has.
    """

    staging: Staging
    launchers: dict[str, str]
    wheelhouse: Wheelhouse
    same: frozenset[str]
    gone: frozenset[str]
    changed: tuple[str, ...]
    wheels_there: frozenset[str]
    venv_there: bool


class HostPlan(NamedTuple):
    """One host, one deploy. why: the release has to be activated; empty where there is nothing to activate."""

    host: str
    service: Service
    setup: Setup
    delivery: Delivery
    activation: Activation
    why: str

    @property
    def unchanged(self) -> bool:
        """Whether the release serves already, as it should."""
        return not self.why

    def scripts(self, *, hook: bool = False, wait: int = 0, stop_first: bool = False) -> tuple[Script, ...]:
        """What changes the host, in order. hook: this one is the first of the run; wait: seconds for another run.

        stop_first: what serves is killed first.
        """
        found = []
        if self.setup.needed:
            found.append(self.setup.script(self.service))
        if not self.unchanged:
            found.append(steps.hold(self.service, "deploy", self.activation.release, wait))
            found.append(steps.stage(self.service, self.delivery.staging))
            if hook and self.service.hooks.before_activate:
                found.append(steps.hook(self.service, self.activation.release))
            found.append(steps.activate(self.service, self.activation, stop_first=stop_first))
        return tuple(found)


def activation(action: str, release: str, facts: Facts) -> Activation:
    """What activates a release on a host that told these facts."""
    keep_for_rollback = history.way_back(facts.actions, action, release, facts.release_ids)
    on_probation = facts.live if facts.live != facts.current else None
    return Activation(action, release, facts.current, keep_for_rollback, on_probation)


def setup(service: Service, facts: Facts, account: str, own: Own = _NONE, consent: Consent = _SAID_NOTHING) -> Setup:
    """What of root's is missing or differs; LoopError where the service is another clone's."""
    _require_ours(service, facts, own.origin, consent)
    certificate = own.certificate
    files = system_files.render(service, facts.traits(account))
    changed = tuple(file.path for file in files if _there(facts, file.path) != file.sha256)
    reasons = []
    if facts.account is None:
        reasons.append("the host was never set up for this service")
    elif facts.outdated:
        reasons.append("it was set up by an older version, and what a run uses is moved to where this one has it")
    if facts.account and facts.account != account:
        reasons.append(f"it was set up for the account {facts.account}, not {account}")
    installed = facts.files.get(f"/etc/{service.name}/tls/certificate.pem")
    if certificate is not None and installed != hashlib.sha256(certificate).hexdigest():
        reasons.append("the certificate differs")
    if steps.front(service) == "https" and not installed and facts.account:
        reasons.append("there is no certificate")
    edited = tuple(
        path for path in changed if (there := facts.files.get(path)) and there != facts.record.files.get(path)
    )
    if consent.take_over and _others(facts, own.origin):
        reasons.append(f"it is taken over from the clone {_others(facts, own.origin)}")
    packages = _missing(service, facts, account)
    return Setup(
        account, files, changed, packages, tuple(reasons), edited, own.origin, consent, _warnings(service, facts)
    )


def _require_ours(service: Service, facts: Facts, origin: str, consent: Consent) -> None:
    theirs = _others(facts, origin)
    if not theirs or consent.take_over:
        return
    raise LoopError(
        f"{service.name} on this host is the service of another clone: {theirs}, set up by "
        f"{history.person(facts.record.by)} at {facts.record.since or 'an unknown time'}",
        next="give this service another name in service.yaml, or say --take-over if it is to replace that one",
        code="another-clone",
    )


def _others(facts: Facts, origin: str) -> str:
    """The git remote of the clone that the service is of, where that is another one than ours, or ours has none."""
    theirs = facts.record.origin
    return theirs if theirs != origin else ""


def _warnings(service: Service, facts: Facts) -> tuple[str, ...]:
    """A host that a former version has set up let every service reach the host itself."""
    if not facts.told.loopback or {"host", "network"} & set(service.needs):
        return ()
    return (
        "setup takes the host's loopback from the service, which it has had until now. If it uses that (a database at "
        "127.0.0.1 or localhost), write `needs: [host]` into service.yaml first; unix sockets need nothing",
    )


def _there(facts: Facts, path: str) -> str:
    """The digest of a file of root's: as it is; where it may not be read, as it was written."""
    found = facts.files.get(path, "")
    # Those that anybody may read are not there when they were not read.
    return found if found or path.startswith("/etc/systemd/") else facts.record.files.get(path, "")


def _missing(service: Service, facts: Facts, account: str) -> tuple[str, ...]:
    """Packages for the tools that the scripts use, by the name that the host's package manager knows."""
    spared = set() if service.nginx else {"nginx", "openssl"}
    # Where root itself deploys there may be no sudo, and nothing for it to allow.
    spared |= {"sudo", "visudo"} if account == "root" else set()
    needed = [tool for tool in _PACKAGES if tool not in spared]
    tools = facts.machine.tools
    column = 1 if "dnf" in tools and "apt-get" not in tools else 0
    return tuple(sorted({_PACKAGES[tool][column] for tool in needed if tool not in tools}))


def deploy(
    host: str, service: Service, release: Release, facts: Facts, python: Python, wheelhouse: Wheelhouse, setup: Setup
) -> HostPlan:
    """The plan of a deploy of `release` to one host."""
    present = release.id in facts.release_ids
    manifest = facts.manifest or {}
    same = frozenset(entry.path for entry in release.tree.entries if manifest.get(entry.path) == entry.sha256)
    venv = venv_name(wheelhouse, python)
    starts = launchers.render(service, release.id, host, _gunicorn(wheelhouse))
    lists = {"MANIFEST": archive.manifest(release.tree.entries), "LAUNCHERS": launchers.listed(starts)}
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in lists.items()}
    delivery = Delivery(
        Staging(release.id, venv, python.path, facts.current if same else None, present, digests),
        starts,
        wheelhouse,
        same,
        frozenset(manifest.keys() - {entry.path for entry in release.tree.entries}),
        tuple(entry.path for entry in release.tree.entries if entry.path not in same),
        frozenset({wheel.filename for wheel in wheelhouse.wheels} & {*facts.state.wheels}),
        venv in facts.state.venvs,
    )
    why = _why(release.id, facts, digests) or _handed(facts, setup)
    return HostPlan(host, service, setup, delivery, activation("deploy", release.id, facts), why)


def _handed(facts: Facts, setup: Setup) -> str:
    """Of what a former deploy account could write the next one takes nothing over."""
    other = facts.account is not None and facts.account != setup.account
    return f"the account {facts.account} put it there, and {setup.account} deploys from now on" if other else ""


def _why(release: str, facts: Facts, lists: Mapping[str, str]) -> str:
    """Why the release has to be activated; empty when it serves already, as it should. lists: what it is made of."""
    whole = facts.state.lists == lists
    if facts.current is None:
        return "nothing is deployed yet"
    if facts.state.adrift:
        return "a run whose controller is gone is still at work there"
    # On probation it needs nothing more of us: the host commits it, or goes back.
    if facts.probation is not None and facts.live == release and facts.healthy and whole:
        return ""
    if facts.live != facts.current:
        return f"release {facts.live} serves and is not committed, {facts.current} is"
    if facts.current != release:
        return f"release {facts.current} serves"
    # Its host is about to stop the slot before it: that needs nothing of us, either.
    cut = facts.state.pruning and facts.state.busy is None
    if cut or (not facts.settled and not facts.state.finishing):
        return "an earlier run did not come to its end, or the service is stopped"
    if not facts.healthy:
        return f"it does not answer as it should: {facts.state.health.slot}; {facts.state.health.front}"
    return "" if whole else "its files on the host are not what this clone sends, or its venv is not as it was built"


def venv_name(wheelhouse: Wheelhouse, python: Python) -> str:
    """One per set of wheels and interpreter: 16 hex digits. Those of older versions, which had no list, had others."""
    return hashlib.sha256(f"listed {wheelhouse.digest} {python.path} {python.version}".encode()).hexdigest()[:16]


def _gunicorn(wheelhouse: Wheelhouse) -> str:
    """The locked version of gunicorn, from its wheel's name."""
    for wheel in wheelhouse.wheels:
        name, version, *_ = wheel.filename.split("-")
        if name.lower() == "gunicorn":
            return version
    raise LoopError("gunicorn is not in the lock", next="add it to service/requirements.in, then: fab lock")


def resend(plan: HostPlan, lacks: frozenset[str] = frozenset()) -> HostPlan:
    """The same plan with all files sent: for a host whose files are not what its manifest says.

    lacks: wheels that are damaged there; those that the first attempt has sent are there by now.
    """
    there = plan.delivery.wheels_there
    if not plan.delivery.staging.present:
        there = frozenset(wheel.filename for wheel in plan.delivery.wheelhouse.wheels)
    staging = plan.delivery.staging._replace(base=None, present=False)
    changed = tuple(sorted({*plan.delivery.changed, *plan.delivery.same}))
    delivery = plan.delivery._replace(
        staging=staging,
        same=frozenset(),
        gone=frozenset(),
        changed=changed,
        wheels_there=there - lacks,
        venv_there=False,
    )
    return plan._replace(delivery=delivery)


def as_dict(plan: HostPlan) -> dict[str, Any]:
    """The plan as data, for `fab plan --json`."""
    delivery = plan.delivery
    missing = [wheel.filename for wheel in delivery.wheelhouse.wheels if wheel.filename not in delivery.wheels_there]
    return {
        "host": plan.host,
        "from": plan.activation.served,
        "to": plan.activation.release,
        "unchanged": plan.unchanged,
        "why": plan.why,
        "setup": {
            "write": list(plan.setup.changed),
            "edited": list(plan.setup.edited),
            "packages": list(plan.setup.packages),
            "reasons": list(plan.setup.reasons),
            "warnings": list(plan.setup.warnings),
        },
        "files": {"send": [] if delivery.staging.present else list(delivery.changed), "link": len(delivery.same)},
        "wheels": [] if delivery.staging.present else missing,
        "venv": {"name": delivery.staging.venv, "build": not delivery.venv_there, "python": delivery.staging.python},
        "restart": [] if plan.unchanged else list(layout.processes(plan.service)),
    }
