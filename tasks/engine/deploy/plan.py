"""Plan a run on one host from the facts that the host reported. Pure: a plan is data, and explains itself."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from tasks.engine.config.sections import SECRET_KEY
from tasks.engine.config.service import Service
from tasks.engine.errors import LoopError
from tasks.engine.host import history, launchers, layout, reported_names, steps, system_files
from tasks.engine.host.facts import Facts
from tasks.engine.host.payload import Delivery
from tasks.engine.host.steps import Activation, Consent, HostStep, Installation, Staging
from tasks.engine.host.system_files import HostFile
from tasks.engine.release import archive, sbom
from tasks.engine.release.build import Release
from tasks.engine.release.wheelhouse import Wheelhouse
from templates.host.fact_schema import Python

_PACKAGES = {
    "certbot": ("certbot", "certbot"),
    "curl": ("curl", "curl"),
    "flock": ("util-linux", "util-linux"),
    "nginx": ("nginx", "nginx"),
    "openssl": ("openssl", "openssl"),
    "ss": ("iproute2", "iproute"),
    "sudo": ("sudo", "sudo"),
    "tar": ("tar", "tar"),
    "visudo": ("sudo", "sudo"),
}


class FromClone(NamedTuple):
    """Data that setup takes from this clone.

    certificate: None for a self-signed one; origin: git remote, or empty; given: see system_files.render
    """

    certificate: bytes | None = None
    origin: str = ""
    given: Mapping[str, str] = MappingProxyType({})


_NO_CLONE, _NO_CONSENT = FromClone(), Consent()


class Setup(NamedTuple):
    """The plan of root's part.

    files: all of root's files; changed: paths of those that differ on the host
    packages: missing packages; origin: git remote of this clone
    edited: paths among `changed` that were edited on the host
    warnings: consequences that may surprise the operator
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
        """Return whether setup has anything to do."""
        return bool(self.changed or self.packages or self.reasons)

    def step(self, service: Service) -> HostStep:
        """Return the step that performs root's part on the host."""
        parts = Installation(self.account, self.packages, self.files, self.origin, self.consent)
        return steps.setup(service, parts)


class HostPlan(NamedTuple):
    """The plan of a deploy to one host. why: reason to activate the release; empty if it serves already.

    warnings: what may fail, though the deploy goes on
    """

    host: str
    service: Service
    setup: Setup
    delivery: Delivery
    activation: Activation
    why: str
    warnings: tuple[str, ...] = ()

    @property
    def unchanged(self) -> bool:
        """Return whether the release serves already, as it should."""
        return not self.why

    @property
    def library_step(self) -> HostStep | None:
        """The step that looks for the shared libraries that a new venv needs; None if there is no need to look."""
        names = self.delivery.wheelhouse.libraries
        return steps.libraries(self.service, names) if names and not self.delivery.venv_there else None

    def steps(self, *, hook: bool = False, wait: int = 0, stop_first: bool = False) -> tuple[HostStep, ...]:
        """Return the steps that change the host, in order. hook: the host is the first of the run.

        wait: seconds to wait for another run; stop_first: kill the live slot first.
        """
        made = []
        if self.setup.needed:
            made += [self.setup.step(self.service), *steps.issue(self.service)]
        if not self.unchanged:
            made.append(steps.hold(self.service, "deploy", self.activation.release, wait))
            made.append(steps.stage(self.service, self.delivery.staging))
            if hook and self.service.hooks.before_activate:
                made.append(steps.hook(self.service, self.activation.release, stop_first=stop_first))
            made.append(steps.activate(self.service, self.activation, stop_first=stop_first))
        return tuple(made)


def activation(action: str, release: str, facts: Facts) -> Activation:
    """Return the activation of a release on a host with these facts."""
    on_probation = facts.live_release if facts.live_release != facts.committed_release else None
    return Activation(action, release, facts.committed_release, on_probation)


def setup(
    service: Service, facts: Facts, account: str, clone: FromClone = _NO_CLONE, consent: Consent = _NO_CONSENT
) -> Setup:
    """Plan root's part: what is missing or differs. Raise LoopError if another clone owns the service."""
    _require_ours(service, facts, clone.origin, consent)
    certificate = clone.certificate
    files = system_files.render(service, facts.traits(account), clone.given)
    changed = tuple(file.path for file in files if _there(facts, file.path) != file.sha256)
    reasons = []
    if facts.account is None:
        reasons.append("the host was never set up for this service")
    elif facts.outdated:
        reasons.append("an older version set the host up; setup moves its files to the new paths")
    if facts.account and facts.account != account:
        reasons.append(f"the host was set up for the account {facts.account}, not {account}")
    installed = facts.files.get(f"/etc/{service.name}/tls/certificate.pem")
    if certificate is not None and installed != hashlib.sha256(certificate).hexdigest():
        reasons.append("the certificate differs")
    if steps.front(service) == "https" and not installed and facts.account:
        reasons.append("there is no certificate")
    edited = tuple(
        path for path in changed if (there := facts.files.get(path)) and there != facts.record.files.get(path)
    )
    if consent.take_over and _others(facts, clone.origin):
        reasons.append(f"the service is taken over from the clone {_others(facts, clone.origin)}")
    packages = _missing(service, facts, account)
    return Setup(
        account, files, changed, packages, tuple(reasons), edited, clone.origin, consent, _warnings(service, facts)
    )


def require_secrets(service: Service, facts: Facts, host: str) -> None:
    """Raise LoopError if the host lacks a secret of the service that no run makes."""
    if lacking := facts.lacking(secret.name for secret in service.secrets if secret.name != SECRET_KEY):
        raise LoopError(
            f"the host lacks {_counted(lacking)}",
            where=host,
            next="; ".join(f"fab secrets.set {name} -H {host}" for name in lacking),
            code="secrets",
        )


def _counted(secrets: Sequence[str]) -> str:
    return f"the secret{'' if len(secrets) == 1 else 's'} {', '.join(secrets)}"


def require_secrets_of(release: str, service: Service, facts: Facts, host: str) -> None:
    """Raise LoopError if the host lacks a secret that a release on it uses."""
    lacking = facts.lacking(facts.secrets_of(release))
    if not lacking:
        return
    unnamed = [name for name in lacking if name not in {secret.name for secret in service.secrets}]
    way = f"fab secrets.set {lacking[0]} -H {host}"
    if unnamed:
        way = f"write {', '.join(unnamed)} into `secrets` of service.yaml, then: {way}, and fab setup -H {host}"
    raise LoopError(
        f"release {release} uses {_counted(lacking)}, which the host lacks", where=host, next=way, code="secrets"
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
    """Return the git remote of another clone that owns the service, else an empty text. origin: ours, or empty."""
    theirs = facts.record.origin
    return theirs if theirs != origin else ""


def _warnings(service: Service, facts: Facts) -> tuple[str, ...]:
    """Warn if setup takes away access to the host's loopback, which older versions gave every service."""
    if not facts.loopback or {"host", "network"} & set(service.needs):
        return ()
    return (
        "setup takes the host's loopback from the service, which it has had until now. If the service uses it (a "
        "database at 127.0.0.1 or localhost), write `needs: [host]` into service.yaml first; unix sockets need nothing",
    )


def _there(facts: Facts, path: str) -> str:
    """Return the digest of a file of root's; the recorded one if the file is not readable."""
    digest = facts.files.get(path, "")
    # Every account may read units, so one that was not read does not exist.
    return digest if digest or path.startswith("/etc/systemd/") else facts.record.files.get(path, "")


def _missing(service: Service, facts: Facts, account: str) -> tuple[str, ...]:
    """Return the missing packages of tools that a run uses, as the host's package manager names them."""
    unneeded = set() if service.nginx else {"nginx", "openssl"}
    unneeded |= set() if service.nginx and service.nginx.tls.mode == "acme" else {"certbot"}
    # A host where root itself deploys may lack sudo, and does not need it.
    unneeded |= {"sudo", "visudo"} if account == "root" else set()
    needed = [tool for tool in _PACKAGES if tool not in unneeded]
    tools = facts.machine.tools
    column = 1 if "dnf" in tools and "apt-get" not in tools else 0
    return tuple(sorted({_PACKAGES[tool][column] for tool in needed if tool not in tools}))


def deploy(
    host: str, service: Service, release: Release, facts: Facts, python: Python, wheelhouse: Wheelhouse, setup: Setup
) -> HostPlan:
    """Plan a deploy of `release` to one host."""
    present = release.id in facts.release_ids
    manifest = facts.manifest or {}
    committed = {entry.path for entry in release.tree.entries if manifest.get(entry.path) == entry.sha256}
    others = _kept({path: digest for path, digest in release.large.items() if path not in committed}, facts)
    same = frozenset(committed.union(*others.values()))
    venv = venv_name(wheelhouse, python)
    starts = launchers.render(service, release.id, host, _gunicorn(wheelhouse), site=bool(release.site))
    lists = {"MANIFEST": archive.manifest(release.tree.entries), "LAUNCHERS": launchers.listed(starts)}
    lists[sbom.NAME] = sbom.render(service.name, release.id, wheelhouse)
    if release.site:
        lists["SITE"] = archive.manifest(release.site)
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in lists.items()}
    delivery = Delivery(
        Staging(
            release.id, venv, python.path, facts.committed_release if committed else None, present, digests, others
        ),
        starts,
        wheelhouse,
        same,
        tuple(entry.path for entry in release.tree.entries if entry.path not in same),
        frozenset({wheel.filename for wheel in wheelhouse.wheels} & {*facts.state.wheels}),
        venv in facts.state.venvs,
    )
    why = _why(release.id, facts, digests) or _why_new_account(facts, setup)
    warnings = _short_of_memory(service, facts) if why else ()
    return HostPlan(host, service, setup, delivery, activation("deploy", release.id, facts), why, warnings)


def _short_of_memory(service: Service, facts: Facts) -> tuple[str, ...]:
    """Warn if two releases may use more memory than the host has, or one more than is available, by their limits."""
    machine = facts.machine
    once, twice = (layout.memory(service, releases) for releases in (1, 2))
    if not once or not machine.memory:
        return ()
    if twice > machine.memory:
        short = f"two releases at once may use {_mebibytes(twice)} of memory, and the host has"
        left = machine.memory
    elif once > machine.available:
        short = f"the new release may use {_mebibytes(once)} of memory beside what runs, and there are"
        left = machine.available
    else:
        return ()
    way = "lower limits.memory, or give the host more; otherwise the kernel may kill processes during a deploy"
    return (f"{short} {_mebibytes(left)}{'' if left == machine.memory else ' available'}: {way}",)


def _mebibytes(size: int) -> str:
    return f"{size >> 20}M"


def _kept(large: Mapping[str, str], facts: Facts) -> dict[str, tuple[str, ...]]:
    """Return, by release, which of these files the releases on the host have. The host checks their digests."""
    found: dict[str, tuple[str, ...]] = {}
    for path, digest in large.items():
        for record in facts.releases:
            name, files = record.get("id"), record.get("large")
            known = isinstance(name, str) and re.fullmatch(reported_names.RELEASE, name)
            if known and isinstance(files, dict) and files.get(path) == digest:
                found[str(name)] = (*found.get(str(name), ()), path)
                break
    return found


def _why_new_account(facts: Facts, setup: Setup) -> str:
    """Return why a new deploy account activates again: it trusts nothing that the former one could write."""
    other = facts.account is not None and facts.account != setup.account
    return (
        f"the account {facts.account} put the release there, and {setup.account} deploys from now on" if other else ""
    )


def _why(release: str, facts: Facts, lists: Mapping[str, str]) -> str:
    """Return why to activate the release; empty if it serves already, as it should. lists: digests of its contents."""
    whole = facts.state.lists == lists
    if facts.committed_release is None:
        return "nothing is deployed yet"
    if facts.state.abandoned:
        return "an abandoned run, whose controller is gone, is still at work there"
    # On probation: the host commits it, or goes back, without us.
    if facts.probation is not None and facts.live_release == release and facts.healthy and whole:
        return ""
    if facts.live_release != facts.committed_release:
        return f"release {facts.live_release} serves and is not committed, {facts.committed_release} is"
    if facts.committed_release != release:
        return f"release {facts.committed_release} serves"
    # finishing: the guard still drains the former slot, which is fine. cut: a prune was begun, and is not at work.
    cut = facts.state.pruning and facts.state.holder is None
    if cut or (not facts.settled and not facts.state.finishing):
        return "an earlier run did not finish, or the service is stopped"
    if not facts.healthy:
        down = [f"{unit} {why}" for unit, why in facts.down.items()]
        health = f"the release does not answer as it should: {facts.state.health.slot}; {facts.state.health.front}"
        return "; ".join(down) if facts.state.health == ("ok", "ok") else health
    return "" if whole else "the release's files on the host differ from those of this clone, or the venv was changed"


def venv_name(wheelhouse: Wheelhouse, python: Python) -> str:
    """Name the venv of these wheels and interpreter: 16 hex digits.

    The word `listed` in the digest gives a venv of an older version, which has no FILES, another name.
    """
    return hashlib.sha256(f"listed {wheelhouse.digest} {python.path} {python.version}".encode()).hexdigest()[:16]


def _gunicorn(wheelhouse: Wheelhouse) -> str:
    """Return the locked version of gunicorn, from its wheel's name."""
    for wheel in wheelhouse.wheels:
        name, version, *_ = wheel.filename.split("-")
        if name.lower() == "gunicorn":
            return version
    raise LoopError("gunicorn is not in the lock", next="add it to service/requirements.in, then: fab lock")


def resend(plan: HostPlan, lacks: frozenset[str] = frozenset()) -> HostPlan:
    """Return the same plan with all files sent, for a host whose files differ from its manifest.

    lacks: wheels to send again; the host has all others.
    """
    there = plan.delivery.wheels_there
    if not plan.delivery.staging.present:
        there = frozenset(wheel.filename for wheel in plan.delivery.wheelhouse.wheels)
    staging = plan.delivery.staging._replace(base=None, present=False, others={})
    changed = tuple(sorted({*plan.delivery.changed, *plan.delivery.same}))
    delivery = plan.delivery._replace(
        staging=staging,
        same=frozenset(),
        changed=changed,
        wheels_there=there - lacks,
        venv_there=False,
    )
    return plan._replace(delivery=delivery)


def as_dict(plan: HostPlan) -> dict[str, Any]:
    """Return the plan as data, for `fab plan --json`."""
    delivery = plan.delivery
    missing = [wheel.filename for wheel in delivery.wheels]
    return {
        "host": plan.host,
        "from": plan.activation.served,
        "to": plan.activation.release,
        "unchanged": plan.unchanged,
        "warnings": list(plan.warnings),
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
        "built": list(delivery.wheelhouse.built),
        "venv": {"name": delivery.staging.venv, "build": not delivery.venv_there, "python": delivery.staging.python},
        "restart": [] if plan.unchanged else [*layout.unslotted(plan.service), *layout.timers(plan.service)],
    }
