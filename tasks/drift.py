"""drift: what of ours on the hosts is not as it was written."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING, Any

from tasks.executor import ROOT, verb

_LONGEST = 4096
"""Bytes of a path on Linux."""
_LONGEST_VERSION = 100

if TYPE_CHECKING:
    from tasks.engine.diagnose.drift import Finding, Source
    from tasks.engine.fleet.member import Member
    from tasks.engine.fleet.project import Project
    from tasks.engine.host.facts import Facts
    from tasks.engine.release.build import Release


@verb(as_="account to log in as; root reads the sudo rules, too")
def drift(c: Any, as_: str = "", json: bool = False) -> None:
    """Show what was edited on the hosts since fab wrote it.

    Reads only. Shows the difference, and exits with 1 if anything was edited.
    """
    from tasks import runner
    from tasks.engine.report import output

    project, members = runner.open_fleet(c, user=as_ or None)
    made = project.release()
    found = runner.ask(members, lambda member: _look(project, made, member))
    if json:
        hosts = [{"host": name, "drift": any(one.drifted for one in findings),
                  "findings": [one.as_dict() for one in findings]} for name, findings in found.items()]  # fmt: skip
        output.document({"hosts": hosts, "errors": runner.errors(members)})
    else:
        for name, findings in found.items():
            _show(name, findings)
    runner.leave(members, bad=any(one.drifted for findings in found.values() for one in findings))


def _look(project: Project, made: Release, member: Member) -> tuple[Finding, ...]:
    from hashlib import sha256

    from tasks.engine import quote
    from tasks.engine.diagnose import drift as engine
    from tasks.engine.host import questions, steps, system_files
    from tasks.engine.release import archive

    service = member.service
    account = member.host.user or member.login
    paths = system_files.paths(service, account)
    manifests = {made.id: sha256(archive.manifest(made.tree.entries)).hexdigest()}
    found = member.ask(questions.drift(paths), steps.drift(service, paths, manifests))
    # A host that reports what is no account is compared with what setup would write.
    recorded = found.account if found.account and quote.is_account(found.account) else account
    files = system_files.render(service, found.traits(recorded))
    examined = engine.examine(files, found, _source(made, member, found))
    if found.account is None:
        told = f"the host was never set up for {service.name}: fab setup -H {member.host.name}"
        return (engine.Finding("absent", f"/etc/{service.name}/setup", told), *examined)
    return examined


def _source(made: Release, member: Member, found: Facts) -> Source:
    """What releases were made of: the working copy for its own, the commit for those of a clean tree."""
    from tasks.engine.release import archive

    records = {str(record.get("id")): record for record in found.releases}

    def source(release: str, path: str) -> bytes | None:
        folder, _, name = path.partition("/")
        record = records.get(release, {})
        if folder == "run":
            return _launcher(member, record, release, name)
        if made.id == release and path == "MANIFEST":
            return archive.manifest(made.tree.entries)
        if made.id == release:
            return next((entry.read() for entry in made.tree.entries if entry.path == name), None)
        commit = str(record.get("commit") or "")
        if record.get("dirty") != 0 or not re.fullmatch("[0-9a-f]{40,64}", commit) or len(name) > _LONGEST:
            return None
        shown = subprocess.run(
            ["git", "-C", ROOT, "show", f"{commit}:./service/{name}"], capture_output=True, check=False
        )
        return shown.stdout if shown.returncode == 0 else None

    return source


def _launcher(member: Member, record: Any, release: str, name: str) -> bytes | None:
    """As a deploy of today would write it; another release may have had another service.yaml."""
    from tasks.engine.host import launchers

    packages = record.get("packages")
    named = [str(one).partition("==") for one in (packages if isinstance(packages, list) else ())]
    versions = [version for package, _, version in named if package == "gunicorn"]
    try:
        text = launchers.render(member.service, release, member.host.name, versions[0][:_LONGEST_VERSION]).get(name)
    except (IndexError, ValueError):
        return None
    return text.encode() if text is not None else None


def _show(name: str, findings: tuple[Finding, ...]) -> None:
    from tasks.engine.report import output

    writer = output.out()
    for finding in findings:
        writer.line(
            f"{name}  {finding.kind.upper() if finding.drifted else finding.kind}  {finding.path}: {finding.text}"
        )
        for line in finding.diff:
            writer.line(f"    {line}")
    if not any(finding.drifted for finding in findings):
        writer.line(f"{name}  no drift")
