"""hosts, doctor: who the hosts are, and what would stop a deploy."""

from __future__ import annotations

import os
import sys
from typing import Any

from tasks.program import ROOT, invocation, verb


@verb()
def hosts(c: Any, trust: str = "", json: bool = False) -> None:
    """Show the inventory as resolved; --trust HOST shows a host's key and records it in known_hosts."""
    from tasks.engine import project as projects
    from tasks.engine import report
    from tasks.engine.yamlfile import shown

    project = projects.load(ROOT, os.environ)
    if trust:
        _trust(c, project, trust)
        return
    selection = project.select(invocation(c).hosts)
    if json:
        found = [
            {"host": host.name, "address": host.address, "port": host.port, "user": host.user,
             "groups": list(host.groups), "pinned": host.host_key is not None, "python": host.python}
            for host in selection.hosts
        ]  # fmt: skip
        report.document({"inventory": str(project.inventory.path), "hosts": found})
        return
    writer = report.out()
    writer.line(f"inventory {shown(project.inventory.path)}")
    rows = [("host", "address", "user", "groups", "host key", "service")]
    for host in selection.hosts:
        address = f"{host.address}:{host.port}" if host.port else host.address
        rows.append(
            (host.name, address, host.user or "(ssh_config)", ",".join(host.groups) or "-",
             "pinned" if host.host_key else "known_hosts", _front(project.service_of(host)))
        )  # fmt: skip
    for line in report.table(rows):
        writer.raw(line)


def _front(service: Any) -> str:
    from tasks.engine import host_files, scripts

    front = scripts.front(service)
    place = host_files.listen_address(service) if front == "listen" else service.nginx.server_name
    return f"{service.name} at {'http' if front == 'listen' else front}://{place}"


def _trust(c: Any, project: Any, expression: str) -> None:
    """Show the key that the host offers, and record it: at once without a terminal, after a yes with one."""
    from tasks.engine import connection, host_keys, misread, report
    from tasks.engine.errors import LoopError, UsageError

    writer = report.out()
    for host in project.select(expression).hosts:
        with misread.own(host.name):
            endpoint, key = connection.offered_key(host, invocation(c).options)
        trust = host_keys.known(endpoint)
        writer.line(f"{host.name}  {endpoint.known_as} offers {host_keys.fingerprint(key)}")
        try:
            host_keys.judge(endpoint, trust, key)
        except LoopError as problem:
            if trust.keys or key.asbytes() in trust.revoked or host.host_key:
                raise
            writer.line(f"{host.name}  compare it on the host: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub")
            if sys.stdin.isatty() and input(f"trust {host.name}? [y/N] ").strip().lower() not in {"y", "yes"}:
                raise UsageError("nothing was recorded", where=host.name, next="compare the fingerprints") from problem
            writer.line(f"{host.name}  recorded in {host_keys.record(endpoint, key)}")
        else:
            writer.line(f"{host.name}  known already: {trust.source}")


@verb()
def doctor(c: Any, json: bool = False) -> None:
    """Read only: everything on a host that would stop a deploy, each with what mends it."""
    from tasks import fleet
    from tasks.engine import report
    from tasks.engine.doctor import examine

    project, members = fleet.open_fleet(c)
    found = fleet.ask(members, lambda member: examine(project, member))
    writer = report.out()
    if json:
        report.document({"hosts": [
            {"host": name, "findings": [finding.as_dict() for finding in findings]} for name, findings in found.items()
        ], "errors": fleet.errors(members)})  # fmt: skip
    else:
        for name, findings in found.items():
            if not findings:
                writer.line(f"{name}  ready")
            for finding in findings:
                writer.line(f"{name}  {'STOPS' if finding.stops else 'note '}  {finding.text}")
                writer.line(f"{' ' * len(name)}         mend: {finding.mend}")
    fleet.leave(members, bad=any(finding.stops for findings in found.values() for finding in findings))
