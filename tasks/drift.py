"""drift: the edits that were made on the hosts since fab wrote its files."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tasks.executor import ROOT, verb

_LONGEST = 4096
"""Longest path on Linux, in bytes."""
_LARGE = 10**6
"""Bytes of a file that is compared as text, at most."""
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

    project, members = runner.open_fleet(c, user=as_ or None)
    runner.check_files(project, [member.host for member in members])
    release = project.release()
    answers = runner.ask(members, lambda member: _look(project, release, member))
    drifted = {name: any(finding.drifted for finding in findings) for name, findings in answers.items()}
    hosts = [{"host": name, "drift": drifted[name], "findings": [row.as_dict() for row in findings]}
             for name, findings in answers.items()]  # fmt: skip
    lines = (line for name, findings in answers.items() for line in _lines(name, findings))
    runner.answer(members, hosts, lines, json=json, bad=any(drifted.values()))


def _look(project: Project, release: Release, member: Member) -> tuple[Finding, ...]:
    from hashlib import sha256

    from tasks.engine import quote
    from tasks.engine.diagnose import drift as engine
    from tasks.engine.host import payload, questions, steps, system_files
    from tasks.engine.release import archive

    service = member.service
    account = member.host.user or member.login
    paths = system_files.paths(service, account)
    lists = {"MANIFEST": sha256(archive.manifest(release.tree.entries)).hexdigest()}
    if release.site:
        lists["SITE"] = sha256(archive.manifest(release.site)).hexdigest()
    facts = member.ask(questions.drift(paths), steps.drift(service, paths, {release.id: lists}))
    # If the host reports an invalid account, compare with the files that setup would write.
    recorded = facts.account if facts.account and quote.is_account(facts.account) else account
    files = system_files.render(service, facts.traits(recorded), payload.given(service, project.root))
    examined = engine.examine(files, facts, _source(release, member, facts))
    if facts.account is None:
        text = f"the host was never set up for {service.name}: fab setup -H {member.host.name}"
        return (engine.Finding("absent", f"/etc/{service.name}/setup", text), *examined)
    return examined


def _source(made: Release, member: Member, found: Facts) -> Source:
    """Return a reader of releases' files: from the working copy for its own release, from git for a committed one."""
    from tasks.engine.release import archive

    records = {str(record.get("id")): record for record in found.releases}

    def source(release: str, path: str) -> bytes | None:
        folder, _, name = path.partition("/")
        record = records.get(release, {})
        if folder == "site" or path == "SITE":
            return _of_site(made, release, name)
        if folder == "run":
            return _launcher(member, record, release, name)
        if made.id == release and path == "MANIFEST":
            return archive.manifest(made.tree.entries)
        if made.id == release:
            entry = next((entry for entry in made.tree.entries if entry.path == name), None)
            return entry.read() if entry and entry.size <= _LARGE else None
        commit = str(record.get("commit") or "")
        if record.get("dirty") != 0 or not re.fullmatch("[0-9a-f]{40,64}", commit) or len(name) > _LONGEST:
            return None
        return _of_git(commit, name)

    return source


def _of_git(commit: str, name: str) -> bytes | None:
    """Return a file of a commit; None if git has none, or a large one: a host chooses both."""
    command = ["git", "-C", str(ROOT), "show", f"{commit}:./service/{name}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as git:
        assert git.stdout
        data = git.stdout.read(_LARGE + 1)
        if len(data) > _LARGE:
            git.kill()
    return data if git.returncode == 0 and len(data) <= _LARGE else None


def _of_site(made: Release, release: str, name: str) -> bytes | None:
    """Return a file of the site, or its list for an empty name; None for any release but that of the working copy."""
    from tasks.engine.release import archive

    if made.id != release:
        return None
    if not name:
        return archive.manifest(made.site)
    entry = next((entry for entry in made.site if entry.path == name), None)
    return entry.read() if entry and entry.size <= _LARGE else None


def _launcher(member: Member, record: Any, release: str, name: str) -> bytes | None:
    """Return a launcher as a deploy would write it today; the release may have had another service.yaml."""
    from tasks.engine.host import launchers

    packages = record.get("packages")
    named = [str(package).partition("==") for package in (packages if isinstance(packages, list) else ())]
    versions = [version for package, _, version in named if package == "gunicorn"]
    try:
        version, site = versions[0][:_LONGEST_VERSION], record.get("site") is True
        text = launchers.render(member.service, release, member.host.name, version, site=site).get(name)
    except (IndexError, ValueError):
        return None
    return text.encode() if text is not None else None


def _lines(name: str, findings: tuple[Finding, ...]) -> Iterator[str]:
    for finding in findings:
        yield f"{name}  {finding.kind.upper() if finding.drifted else finding.kind}  {finding.path}: {finding.text}"
        yield from (f"    {line}" for line in finding.diff)
    if not any(finding.drifted for finding in findings):
        yield f"{name}  no drift"
