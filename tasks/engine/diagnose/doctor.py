"""Find what would stop a deploy to a host or surprise its operator, each with its fix."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import NamedTuple

from tasks.engine.config.sections import SECRET_KEY
from tasks.engine.config.service import Service
from tasks.engine.deploy import plan, stage
from tasks.engine.diagnose import condition, status
from tasks.engine.diagnose.condition import Condition
from tasks.engine.errors import LoopError
from tasks.engine.fleet import client_view
from tasks.engine.fleet.member import Member
from tasks.engine.fleet.project import Project
from tasks.engine.host import facts as reports
from tasks.engine.host import layout, questions, sandbox_hints
from tasks.engine.host.facts import Facts
from tasks.engine.host.steps import Consent

_FREE_INODES = 20_000


class Finding(NamedTuple):
    """One problem of a host. stops: it would make a deploy fail; mend: the command or edit that fixes it."""

    stops: bool
    text: str
    mend: str


class Examined(NamedTuple):
    """What doctor says of one host. conditions: what it found well, left open, or could not find out."""

    findings: tuple[Finding, ...]
    conditions: tuple[Condition, ...]


def examine(project: Project, member: Member) -> Examined:
    """Return all findings of one host, and its conditions."""
    service, host = member.service, member.host
    account = host.user or member.login
    asked = time.time()
    facts = member.ask(questions.doctor(service, host, account))
    skew = _skew(facts.machine.time, asked, time.time())
    setup = plan.setup(service, facts, account, stage.from_clone(project, service), Consent())
    findings = [*_machine(facts, skew), *_rights(member, facts, setup), *_isolation(member, facts, setup)]
    findings += [*_certificate(host.name, service, facts), *_upkeep(service, facts)]
    try:
        reports.choose_python(facts, host.python, service.python, host.name, service.needs)
    except LoopError as error:
        findings.append(Finding(True, error.message, error.next or ""))
    findings += _secrets(member, facts)
    findings += _health(host.name, facts)
    if facts.state.main_unit == "active":
        timers = {unit: f"is {state}" for unit, state in facts.state.processes.items()
                  if state != "active" and unit in layout.timers(service)}  # fmt: skip
        findings += [
            Finding(False, f"{unit} {why}", f"on the host: journalctl -u {unit}; systemctl start {unit}")
            for unit, why in {**facts.down, **timers}.items()
        ]
    if service.nginx:
        serves = bool(facts.committed_release) and facts.state.nginx == "active"
        clients = client_view.remarks(service.nginx, member.connect().endpoint, serves=serves)
        findings += [Finding(False, text, mend) for text, mend in clients]
    findings += [*_jobs(member, facts), *_commands(facts), *_forbidden(service, facts), *_used(member, facts)]
    return Examined(tuple(findings), condition.conditions(service, facts, skew))


def _skew(there: int, asked: float, answered: float) -> float:
    """Return the seconds by which a host's clock is ahead of this machine's, at least; below 0: behind.

    there: the host's time in whole seconds, read between the question and the answer, which may be far apart
    """
    return min(0.0, there + 1 - asked) + max(0.0, there - answered)


def _health(host: str, facts: Facts) -> Iterator[Finding]:
    health = facts.state.health
    if facts.committed_release and health != ("ok", "ok"):
        reason = health.slot if health.slot != "ok" else health.front
        reason = reason or ("systemd does not answer" if facts.silent else "it is stopped")
        text = f"release {facts.live_release} does not answer as it should: {reason}"
        yield Finding(False, text, f"fab logs -H {host} -n 50")


def _upkeep(service: Service, facts: Facts) -> Iterator[Finding]:
    upkeep, machine = facts.survey.upkeep, facts.machine
    if upkeep.rating is not None and upkeep.rating > condition.rating_limit(service):
        yield Finding(False, f"systemd rates the slot {upkeep.rating / 10:.1f}, and its unit as setup writes it has "
                      f"{condition.rating_limit(service) / 10:.1f} or less: something opens it further",
                      "look for drop-ins: fab drift; on the host: systemd-analyze security "
                      f"{service.name}@{facts.slot or 'blue'}.service")  # fmt: skip
    if condition.short_of_memory(service, facts):
        least = condition.size(condition.needed_memory(service, facts) or 0)
        left = f"{condition.size(machine.available)} of {condition.size(machine.memory)} are available"
        yield Finding(False, f"a deploy runs two releases: a second one may take {least} of memory, and {left}",
                      "lower limits.memory, start fewer workers, or give the host more memory")  # fmt: skip
    needed, free = condition.needed_disk(facts), facts.survey.free_bytes
    if 0 < free < needed:
        yield Finding(False, f"{condition.RELEASES} more releases, each with a venv of its own, take "
                      f"{condition.size(needed)}, and {condition.size(free)} are free below /opt/apps",
                      "make room there, or lower `keep` in service.yaml")  # fmt: skip
    if upkeep.reboot:
        yield Finding(False, f"the host needs a reboot: {upkeep.reboot[:200]}",
                      "reboot it when it suits: the committed release starts with it")  # fmt: skip


def _certificate(name: str, service: Service, facts: Facts) -> Iterator[Finding]:
    unit = f"{service.name}-certificate.service"
    fault, days, nginx = facts.survey.certificate_fault, status.days_left(facts), service.nginx
    if nginx and days is not None and days < status.CERTIFICATE_DAYS:
        ways = {
            "files": f"renew it, and run fab setup -H {name}",
            "on_host": "on the host: let its program renew it",
            "ca": f"fab cert -H {name}",
            "acme": f"fab setup -H {name}: certbot asks the CA again",
        }
        text = "the certificate has ended" if days < 0 else f"the certificate ends in {days} days"
        yield Finding(False, text, ways.get(nginx.tls.mode, f"on the host, as root: rm /etc/{service.name}/tls/"
                      f"certificate.pem; then fab setup -H {name} makes another one"))  # fmt: skip
    if facts.survey.certificate_differs:
        yield Finding(False, f"nginx shows another certificate than /etc/{service.name}/tls/certificate.pem has",
                      "on the host, as root: nginx -t && systemctl reload nginx")  # fmt: skip
    if fault:
        yield Finding(False, f"nginx does not get the new certificate: {fault}",
                      f"mend the files; then on the host, as root: systemctl start {unit}")  # fmt: skip


def _secrets(member: Member, facts: Facts) -> Iterator[Finding]:
    host = member.host.name
    for name in facts.lacking(secret.name for secret in member.service.secrets):
        if name == SECRET_KEY:
            yield Finding(
                False, f"{name} is not on this host: the next setup or deploy brings it", f"fab setup -H {host}"
            )
            continue
        yield Finding(True, f"the secret {name} is not on this host", f"fab secrets.set {name} -H {host}")
    for name in facts.record.changing:
        text = f"a change of the secret {name} was cut short: a boot puts the former value back if it is not committed"
        verb = "fab secrets.rotate" if name == SECRET_KEY else "fab secrets.set"
        yield Finding(False, text, f"{verb} {name} -H {host}")


def _jobs(member: Member, facts: Facts) -> Iterator[Finding]:
    name, service = member.host.name, member.service
    results = {unit: status.job_result(facts, unit) for unit in layout.jobs(service)}
    for unit, why in status.failed_jobs(results).items():
        process = unit.removeprefix(f"{service.name}-").removesuffix(".service")
        mend = f"fab logs -H {name} --process {process} -n 50"
        yield Finding(False, f"{unit} failed the last time it ran: {why}", mend)
    for unit, seconds in status.former_jobs(results).items():
        text = f"{unit} is at work, for {status.duration(seconds)}, and began before the release that serves"
        yield Finding(False, text, f"if it should have ended, on the host, as root: systemctl stop {unit}")


def _commands(facts: Facts) -> Iterator[Finding]:
    """Yield the commands at work: one that should have ended may harm what serves, under the same account."""
    for unit, began in facts.survey.commands.items():
        age = status.duration(max(0, facts.survey.uptime - began))
        text = f"{unit} is at work, for {age}: a command of fab run, or of a release"
        yield Finding(False, text, f"if it should have ended, on the host, as root: systemctl stop {unit}")


def _forbidden(service: Service, facts: Facts) -> Iterator[Finding]:
    """Yield what the service has logged that looks like its sandbox."""
    for line, way in sandbox_hints.hints(facts.survey.said, service.needs):
        text = f"the service logs what its sandbox may cause: {line.strip()[:200]}"
        yield Finding(False, text, f"in service.yaml: {way}")


def _used(member: Member, facts: Facts) -> Iterator[Finding]:
    """Yield the releases that prune keeps only because something runs from them."""
    for release in facts.release_ids:
        used = facts.survey.used.get(release)
        if used is None or used.place <= member.service.keep:
            continue
        pids = f" (pid {', '.join(map(str, used.pids))[:200]})" if used.pids else ""
        text = f"release {release} stays beyond keep: {member.service.keep}, since something runs from it{pids}"
        path = f"{layout.root(member.service)}/releases/{release}"
        yield Finding(False, text, f"on the host, as root, to see what: find /proc/[0-9]*/fd -lname {path}")


def _machine(facts: Facts, skew: float) -> Iterator[Finding]:
    survey = facts.survey
    if "systemctl" not in facts.machine.tools or survey.systemd < 247:
        yield Finding(True, f"systemd is {survey.systemd or 'missing'}, 247 is needed", "use a newer host")
    elif survey.systemd < 249:
        yield Finding(False, "systemd is older than 249: after `systemctl stop`, a request may start a slot again",
                      "stop with: fab stop")  # fmt: skip
    if 0 < survey.free_bytes < status.FREE_BYTES:
        yield Finding(True, f"only {survey.free_bytes // 1_000_000} MB are free below /opt/apps", "make room there")
    if 0 < survey.free_inodes < _FREE_INODES:
        yield Finding(True, f"only {survey.free_inodes} inodes are free below /opt/apps", "make room there")
    if abs(skew) > condition.SKEW_SECONDS:
        yield Finding(
            False,
            f"the host's clock is {abs(skew):.0f} s {'ahead' if skew > 0 else 'behind'}",
            "timedatectl set-ntp on",
        )
    if survey.selinux:
        yield Finding(False, "SELinux is enforcing: nginx may not be let through to a unix socket",
                      "setsebool -P httpd_can_network_connect on, and look for denials: ausearch -m avc")  # fmt: skip


def _isolation(member: Member, facts: Facts, setup: plan.Setup) -> Iterator[Finding]:
    """Yield the reasons why the service may reach networks that its `needs` do not name."""
    host, needs = member.host.name, set(member.service.needs)
    for warning in setup.warnings:
        yield Finding(False, warning, f"if the service does not use that: fab setup -H {host}")
    if "network" in needs or setup.changed:
        return
    isolation = facts.survey.isolation
    if "host" not in needs and isolation.outside:
        yield Finding(False, "the service reaches the networks of this host: it was started before setup closed them, "
                      "or systemd may make no network namespaces here",
                      f"fab restart -H {host}; if that does not help, look for what keeps this host from "
                      "making them, such as the settings of a container")  # fmt: skip
    if "host" in needs and isolation.filtered is False:
        yield Finding(False, "`needs: [host]` opens all networks here: the kernel does not let systemd filter "
                      "addresses (cgroups of version 1, or a container without BPF)",
                      "use unix sockets, without `host`, or close the service to others by a firewall")  # fmt: skip
    elif "host" in needs and facts.committed_release and isolation.filtered is None:
        yield Finding(False, "the service has not been started with `needs: [host]`, so it is unknown whether that "
                      "keeps it from other machines", f"fab restart -H {host}")  # fmt: skip


def _rights(member: Member, facts: Facts, setup: plan.Setup) -> Iterator[Finding]:
    name = member.host.name
    if setup.packages:
        yield Finding(True, f"packages are missing: {', '.join(setup.packages)}",
                      f"fab setup -H {name}, where a mirror is reached; else install them by hand")  # fmt: skip
    differs = bool(setup.changed or setup.reasons)
    if differs and not facts.machine.can_be_root:
        what = "; ".join(setup.reasons) or f"{len(setup.changed)} files of root differ: {', '.join(setup.changed)}"
        yield Finding(True, f"{what}; this needs root once", f"fab setup -H {name} (full sudo), or with --as root")
    elif differs:
        what = "; ".join(setup.reasons) or f"{len(setup.changed)} files of root differ"
        yield Finding(False, f"{what}: the next deploy sets it up", f"fab setup -H {name}")
    if not differs and not facts.survey.rules:
        yield Finding(
            True, f"sudo does not let {member.login} start and stop the service", f"fab setup -H {name} --as root"
        )
    if member.service.nginx and facts.account and facts.state.nginx != "active":
        yield Finding(True, f"nginx is {facts.state.nginx or 'missing'}", "on the host: systemctl start nginx")
