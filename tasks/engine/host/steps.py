"""Make the steps of the host's program, each one JSON object. Pure: what is printed is what runs.

A step has no data of one run: nonce, run id, author and failpoint travel on standard input, ahead of the payload.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import NamedTuple

from tasks.engine.config.gateway import Tls
from tasks.engine.config.service import Service
from tasks.engine.host import host_program, layout, shared_name, system_files
from tasks.engine.host.questions import Question
from tasks.engine.host.system_files import HostFile

_PACKAGES = 600
"""Seconds that a package manager may take; the same in the host's program."""


class HostStep(NamedTuple):
    """One step for one host.

    text: the step, one JSON object; seconds: its time limit
    root: it needs more rights than the deploy account has
    starts_next: another step usually comes next, in another process, which is started while this step runs
    place: path of the copy that runs it; empty if the program is sent
    waits: another step usually comes next, in the same process, if a copy runs it
    """

    name: str
    text: str
    seconds: float
    root: bool = False
    starts_next: bool = False
    place: str = ""
    waits: bool = False

    @property
    def stays(self) -> bool:
        """True if its process waits for the next step: a copy does, a program that was sent ends."""
        return self.waits and bool(self.place)


def facts(service: Service, question: Question) -> HostStep:
    """Make the step that reads facts, in a few seconds; `templates/host/fact_schema.py` has their keys."""
    values: dict[str, object] = {
        "wants": sorted(question.wants),
        "files": list(question.files),
        "python": question.python,
        "wanted": question.release,
        "history": question.history,
        "wait": question.wait,
        "watch": question.watch,
        **_running(service),
        "enabled": list(layout.enabled(service)),
    }
    seconds = 60 + question.wait + question.watch
    return _step("facts", service, values, seconds=seconds, waits=question.followed)


def libraries(service: Service, names: Mapping[str, tuple[str, ...]]) -> HostStep:
    """Make the step that reports which shared libraries the host lacks; it only reads.

    names: libraries, each with further folders to look in
    """
    values: dict[str, object] = {"libraries": {name: list(folders) for name, folders in names.items()}}
    return _step("libraries", service, values, seconds=60, waits=True)


class Consent(NamedTuple):
    """The operator's consent. take_over: replace another clone's service; overwrite: replace edited files."""

    take_over: bool = False
    overwrite: bool = False


class Installation(NamedTuple):
    """The data of root's part. account: the deploy account; origin: git remote of this clone, or empty."""

    account: str
    packages: tuple[str, ...]
    files: tuple[HostFile, ...]
    origin: str = ""
    consent: Consent = Consent()


def setup(service: Service, installation: Installation) -> HostStep:
    """Make root's step: accounts, directories, certificate, units, nginx file, sudo rules; contents in the payload."""
    files = [
        {"path": file.path, "mode": f"{file.mode:04o}", "sha256": file.sha256}
        for file in sorted(installation.files, key=lambda file: file.path)
    ]
    tls = service.nginx.tls if service.nginx else Tls()
    values: dict[str, object] = {
        "account": installation.account,
        "packages": list(installation.packages),
        "files": files,
        "certificate": service.nginx.tls.mode if service.nginx else "off",
        "on_host": list(layout.watched_pair(service) or ()),
        "acme": [tls.email, tls.directory] if tls.mode == "acme" else [],
        "watchers": list(layout.certificate_units(service)),
        "front": front(service),
        "balancer_check": bool(service.nginx and service.nginx.balancer_check),
        "static": bool(service.nginx and service.nginx.static),
        "names": list(service.nginx.names) if service.nginx else [],
        "shared": shared_name.terms(service),
        "listen": system_files.listen_address(service),
        "units": list(layout.enabled(service)),
        "run_sockets": list(layout.run_sockets(service)),
        "logs": "logs" in service.needs,
        "drain": service.drain,
        "grace": layout.GRACE,
        "layout": layout.version(service),
        "origin": installation.origin,
        **installation.consent._asdict(),
    }
    return _step("setup", service, values, seconds=600 + 3 * _PACKAGES * bool(installation.packages), root=True)


def request_certificate(service: Service, *, rotate: bool) -> HostStep:
    """Make root's step that reports a request for a certificate; rotate: for a new key."""
    return _step("certify", service, {"action": "request", "rotate": rotate}, seconds=120, root=True)


def install_certificate(service: Service) -> HostStep:
    """Make root's step that gives nginx the certificate of the last request, from the payload."""
    names = list(service.nginx.names) if service.nginx else []
    return _step("certify", service, {"action": "install", "names": names}, seconds=240, root=True)


def issue(service: Service, *, rotate: bool = False) -> tuple[HostStep, ...]:
    """Return the steps by which the operator's CA issues a certificate; none for one that comes from elsewhere."""
    if service.nginx is None or service.nginx.tls.mode != "ca":
        return ()
    return request_certificate(service, rotate=rotate), install_certificate(service)


class Change(NamedTuple):
    """One action on the secrets of a host: set, unset, settle, swap, list or read. secret: its name.

    switch: a restart with the new value follows, and `settle` after it; until then the host keeps the former value
    committed: of `settle`: this run saw the commit of that restart
    """

    action: str
    secret: str = ""
    switch: bool = False
    committed: bool = False


def secret(service: Service, change: Change, origin: str) -> HostStep:
    """Make root's step for secrets. A value, or the key of a listing, is in the payload and never in the step."""
    # Until its probation ends, a restart is neither committed nor undone.
    most = 2 * service.drain + (service.probation if change.action == "settle" else 0)
    values = {**change._asdict(), "origin": origin, "wait": most + layout.GRACE + 30}
    return _step("secret", service, values, seconds=180 + most, root=True)


def drift(service: Service, files: Collection[str], lists: Mapping[str, Mapping[str, str]]) -> HostStep:
    """Make the step that looks for edits of our files; it only reads. files: paths of root's files.

    lists: SHA-256 of MANIFEST and SITE by release; the host's own lists of any other release are trusted.
    """
    values: dict[str, object] = {
        "files": sorted(files),
        "certificate": f"/etc/{service.name}/tls/certificate.pem" if front(service) == "https" else "",
        "front": front(service),
        "balancer_check": bool(service.nginx and service.nginx.balancer_check),
        "shared": shared_name.terms(service),
        "units": list(layout.units(service)),
        "lists": {release: dict(known) for release, known in lists.items()},
    }
    return _step("drift", service, values, seconds=240)


class Staging(NamedTuple):
    """One release for one host. base: release whose unchanged files are linked; present: the host has it already.

    lists: SHA-256 of MANIFEST, LAUNCHERS, sbom.json and SITE, if there is one, to verify these on the host. The host
        then verifies the files by the lists.
    others: further files to link, by the release that has them
    """

    release: str
    venv: str
    python: str
    base: str | None
    present: bool
    lists: Mapping[str, str]
    others: Mapping[str, tuple[str, ...]] = MappingProxyType({})


def stage(service: Service, staging: Staging) -> HostStep:
    """Make the step that receives, verifies and builds a release; it touches nothing live."""
    values = {**staging._asdict(), "base": staging.base or "", "others": dict(staging.others)}
    return _step("stage", service, values, seconds=900, waits=True)


class Activation(NamedTuple):
    """One release on its way to the traffic of a host. action: deploy, rollback, restart or undo.

    before: the committed release; on_probation: the one on probation, which may be committed at any moment
    """

    action: str
    release: str
    before: str | None
    on_probation: str | None = None

    @property
    def served(self) -> str | None:
        """Return the release that had the traffic at planning."""
        return self.on_probation or self.before

    @property
    def allowed_current(self) -> tuple[str, ...]:
        """Return the releases that may be committed when the activation begins; '' stands for no release."""
        before = self.before or ""
        return (before, self.on_probation) if before and self.on_probation else (before,)


def activate(service: Service, activation: Activation, *, stop_first: bool = False) -> HostStep:
    """Make the step that recovers, starts the candidate and switches; then commits, or leaves that to the guard.

    The guard gets the same step. stop_first: kill the live slot before the release starts.
    """
    limit = layout.start_timeout(service) + 2 * service.health.timeout + 6 * service.drain + 300
    limit += 3 * layout.longest_stop(service)
    values: dict[str, object] = {
        "action": activation.action,
        "release": activation.release,
        "expect": list(activation.allowed_current),
        # A rollback, an undo and --stop-first commit at once: a boot must not start the release that they replace.
        "probation": service.probation if activation.action in {"deploy", "restart"} and not stop_first else 0,
        "stop_first": stop_first,
        "keep": service.keep,
        **_running(service),
        "other_services": list(layout.other_services(service)),
    }
    return _step("activate", service, values, seconds=limit)


def _running(service: Service) -> dict[str, object]:
    """Return what the host's program needs to know of a running service, and of the units that a boot starts."""
    health = service.health
    return {
        "drain": service.drain,
        "grace": layout.GRACE,
        "health": {
            "path": health.path,
            "status": health.status,
            "timeout": health.timeout,
            "start_timeout": layout.start_timeout(service),
            "passes": health.passes,
            "settle": health.settle,
        },
        "front": _front(service),
        "processes": _processes(service),
        "timers": list(layout.timers(service)),
        "enabled": list(layout.enabled(service)),
    }


def _processes(service: Service) -> list[dict[str, object]]:
    """Return each unit beside `web`, without its slot; a health check belongs to the first of several."""
    return [
        {
            "unit": unit,
            "name": process.name,
            "single": process.single,
            "stop": layout.stop_seconds(service, process),
            "health": shlex.split(process.health) if process.health and not number else [],
        }
        for process in layout.beside(service)
        for number, unit in enumerate(layout.numbered(service, process))
    ]


def _front(service: Service) -> dict[str, object]:
    return {
        "kind": front(service),
        "host": service.nginx.server_name if service.nginx else "localhost",
        "prefix": service.nginx.path if service.nginx else "",
        "listen": system_files.listen_address(service),
    }


def hook(service: Service, release: str, *, stop_first: bool = False) -> HostStep:
    """Make the step that runs before_activate of a staged release, for half an hour at most.

    stop_first: end one of an abandoned run
    """
    values: dict[str, object] = {"release": release, "stop_first": stop_first, **_running(service)}
    seconds = 1900 + 4 * service.drain + layout.longest_stop(service)
    # Its process holds the change lock until it ends.
    return _step("hook", service, values, seconds=seconds)._replace(starts_next=True)


def hold(service: Service, action: str, release: str, wait: int) -> HostStep:
    """Make the step that holds the run lock as long as bytes come. wait: seconds for another run to end."""
    values: dict[str, object] = {"action": action, "release": release, "wait": wait}
    return _step("hold", service, values, seconds=7 * 86400)._replace(starts_next=True)


class Terminal(NamedTuple):
    """A terminal of the user's. term: its kind, the variable TERM."""

    term: str
    rows: int
    columns: int


class Command(NamedTuple):
    """A command beside a process of a release. release: empty for the release that has the traffic."""

    argv: tuple[str, ...]
    process: str = "web"
    release: str = ""


def command(service: Service, wanted: Command, terminal: Terminal | None) -> HostStep:
    """Make the step that runs one command in the place of a release."""
    term = terminal or Terminal("", 0, 0)
    values: dict[str, object] = {**wanted._asdict(), **term._asdict()}
    return _step("command", service, values, seconds=7 * 86400)


def stop(service: Service, *, disable: bool) -> HostStep:
    """Make the step that stops slots, processes, timers and jobs; `disable` keeps a boot from starting them."""
    values: dict[str, object] = {
        "units": list(layout.stopped(service)),
        "disable": disable,
        **_running(service),
        "other_services": list(layout.other_services(service)),
    }
    seconds = 4 * service.drain + 180 + layout.longest_stop(service)
    return _step("stop", service, values, seconds=seconds)


def start(service: Service) -> HostStep:
    """Make the step that starts the committed release and waits for its health check."""
    limit = 2 * layout.start_timeout(service) + service.health.timeout + 2 * service.drain + 180
    return _step("start", service, _running(service), seconds=limit)


def maintenance(service: Service, turn: str) -> HostStep:
    """Make the step that turns clients away (on) or lets them in again (off)."""
    values: dict[str, object] = {"turn": turn, "path": service.health.path, "front": _front(service)}
    return _step("maintenance", service, values, seconds=60)


def remove(service: Service, *, data: bool) -> HostStep:
    """Make root's step that removes the service from the host, with its data if `data`."""
    values: dict[str, object] = {"units": list(layout.stopped(service)), "data": data, "drain": service.drain}
    seconds = 2 * service.drain + 300 + layout.longest_stop(service)
    return _step("remove", service, values, seconds=seconds, root=True)


def _step(
    step: str,
    service: Service,
    values: Mapping[str, object],
    *,
    seconds: float,
    root: bool = False,
    waits: bool = False,
) -> HostStep:
    """Make a step: one JSON object, a key a line, printed and sent as the same text."""
    head = {"program": host_program.digest(), "step": step, "name": service.name, "root": layout.root(service)}
    last = {"waits": True} if waits else {}
    text = json.dumps({**head, **values, **last}, indent=2) + "\n"
    # Root never runs the copy on the host; drift checks that copy, so it does not run from it.
    place = "" if root or step == "drift" else host_program.place(layout.root(service))
    return HostStep(step, text, seconds, root, place=place, waits=waits)


def front(service: Service) -> str:
    """Return the kind of the front door: https or http (nginx), or listen."""
    if service.nginx is None:
        return "listen"
    return "http" if service.nginx.tls.mode == "off" else "https"
