"""hosts, doctor: the inventory, host keys, and what would stop a deploy."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from typing import Any

from tasks.executor import ROOT, agreed, invocation, verb

_SHOW = "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub"


@verb(
    trust="host whose key to show, and to record in known_hosts after a yes",
    fingerprint="fingerprint (SHA256:...) from the host's own console: record only a key that has it, without asking",
)
def hosts(c: Any, trust: str = "", fingerprint: str = "", json: bool = False) -> None:
    """Show the inventory, or show a host's key and record it."""
    from tasks.engine.config.yaml_reader import display_path
    from tasks.engine.fleet import project as projects
    from tasks.engine.report import output

    project = projects.load(ROOT, os.environ)
    if trust or fingerprint:
        _trust(c, _to_trust(project, trust, fingerprint), fingerprint)
        return
    selection = project.select(invocation(c).hosts)
    if json:
        rows = [
            {"host": host.name, "address": host.address, "port": host.port, "user": host.user,
             "groups": list(host.groups), "pinned": host.host_key is not None, "python": host.python}
            for host in selection.hosts
        ]  # fmt: skip
        output.document({"inventory": str(project.inventory.path), "hosts": rows})
        return
    writer = output.out()
    writer.line(f"inventory {display_path(project.inventory.path)}")
    table = [("host", "address", "user", "groups", "host key", "service")]
    for host in selection.hosts:
        address = f"{host.address}:{host.port}" if host.port else host.address
        table.append(
            (host.name, address, host.user or "(ssh_config)", ",".join(host.groups) or "-",
             "pinned" if host.host_key else "known_hosts", _front(project.service_of(host)))
        )  # fmt: skip
    for line in output.table(table):
        writer.raw(line)


def _front(service: Any) -> str:
    from tasks.engine.host import steps, system_files

    front = steps.front(service)
    nginx = service.nginx
    place = system_files.listen_address(service) if front == "listen" else f"{nginx.server_name}{nginx.path}"
    return f"{service.name} at {'http' if front == 'listen' else front}://{place}"


def _to_trust(project: Any, expression: str, fingerprint: str) -> Any:
    """Return the hosts whose keys to record; raise UsageError without a fingerprint or a terminal to confirm them."""
    from tasks.engine.errors import UsageError

    if not expression:
        raise UsageError("--fingerprint needs a host: --trust HOST", where="--fingerprint", next=_usage("HOST"))
    hosts = project.select(expression).hosts
    usage = _usage(hosts[0].name)
    if fingerprint and not re.fullmatch("SHA256:[A-Za-z0-9+/]{43}", fingerprint):
        raise UsageError(
            f"a fingerprint is SHA256: and 43 characters, not {fingerprint!r}", where="--fingerprint", next=usage
        )
    if fingerprint and len(hosts) > 1:
        names = ", ".join(host.name for host in hosts)
        raise UsageError(f"a fingerprint is of one host, and these are meant: {names}", where="--trust", next=usage)
    if not fingerprint and not sys.stdin.isatty():
        raise UsageError("there is no terminal to confirm a key on", where="--trust", next=usage)
    return hosts


def _usage(name: str) -> str:
    return f"fab hosts --trust {name} --fingerprint SHA256:..., as shown on the host by: {_SHOW}"


def _trust(c: Any, hosts: Any, fingerprint: str) -> None:
    """Show the key that each host offers; record it if it has the fingerprint, or after a yes."""
    from tasks.engine import misread
    from tasks.engine.errors import LoopError
    from tasks.engine.report import output
    from tasks.engine.ssh import connection, host_keys

    writer = output.out()
    for host in hosts:
        with misread.as_error_of(host.name):
            endpoint, key = connection.offered_key(host, invocation(c).options)
        trust = host_keys.load_trust(endpoint)
        writer.line(f"{host.name}  {endpoint.known_as} offers {host_keys.fingerprint(key)}")
        if fingerprint:
            host_keys.verify_fingerprint(endpoint, key, fingerprint)
        try:
            host_keys.verify(endpoint, trust, key)
        except LoopError as problem:
            if trust.keys or key.asbytes() in trust.revoked or host.host_key:
                raise
            if not fingerprint:
                writer.line(f"{host.name}  compare it on the host: {_SHOW}")
                _ask(host.name, problem)
            writer.line(f"{host.name}  recorded in {host_keys.record(endpoint, key)}")
        else:
            writer.line(f"{host.name}  known already: {trust.source}")


def _ask(name: str, problem: Exception) -> None:
    """Ask on the terminal; raise UsageError for any answer but yes, and at the end of the input."""
    from tasks.engine.errors import UsageError

    if not agreed(f"trust {name}?"):
        raise UsageError("nothing was recorded", where=name, next="compare the fingerprints") from problem


@verb()
def doctor(c: Any, json: bool = False) -> None:
    """List what would stop a deploy or clients, and the remedy.

    Then says how each host is kept: rating of the sandbox, network, memory,
    clock, disk, certificate, upgrades, reboot.

    Reads only. Asks the host, and checks from here where its names lead and
    whether its port answers.
    Exits with 1 if anything would stop a deploy.
    """
    from tasks import runner
    from tasks.engine.diagnose.doctor import examine

    project, members = runner.open_fleet(c)
    runner.check_files(project, [member.host for member in members])
    answers = runner.ask(members, lambda member: examine(project, member))
    hosts = [
        {"host": name, "findings": [finding._asdict() for finding in found.findings],
         "conditions": [condition._asdict() for condition in found.conditions]}
        for name, found in answers.items()
    ]  # fmt: skip

    def lines() -> Iterator[str]:
        for name, found in answers.items():
            if not found.findings:
                yield f"{name}  ready"
            for finding in found.findings:
                yield f"{name}  {'STOPS' if finding.stops else 'note '}  {finding.text}"
                yield f"{' ' * len(name)}         mend: {finding.mend}"
            for condition in found.conditions:
                yield f"{name}  {condition.state:<5}  {condition.text}"
                if condition.mend:
                    yield f"{' ' * len(name)}         mend: {condition.mend}"

    bad = any(finding.stops for found in answers.values() for finding in found.findings)
    runner.answer(members, hosts, lines(), json=json, bad=bad)
