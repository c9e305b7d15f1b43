"""What a host is told to do: steps of its program, each one JSON object. Pure: what is printed runs.

Nothing of one run is in it: nonce, run id, who and failpoint travel on standard input, ahead of the payload.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import NamedTuple

from tasks.engine.config.service import Service
from tasks.engine.host import host_program, launchers, layout, system_files
from tasks.engine.host.questions import Question
from tasks.engine.host.system_files import HostFile

_PACKAGES = 600
"""Seconds that a package manager may take, as in the host's program."""


class Script(NamedTuple):
    """One stage on one host. seconds: how long it may take; root: whether it needs more than the deploy account has.

    text: a step of the host's program, one JSON object. followed: another one comes after it, as a rule.
    place: of the copy that is to run it, empty where the program is sent.
    """

    stage: str
    text: str
    seconds: float
    root: bool = False
    followed: bool = False
    place: str = ""


def facts(service: Service, question: Question) -> Script:
    """Reads only; ends in a few seconds. What it tells is in `templates/host/told.py`."""
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
    script = _step("facts", service, values, seconds=60 + question.wait + question.watch)
    return script._replace(followed=question.followed)


class Consent(NamedTuple):
    """What the operator has said to: take_over: another clone's service is replaced; overwrite: edited files are."""

    take_over: bool = False
    overwrite: bool = False


class Installation(NamedTuple):
    """Root's part. account: the deploy account; origin: the git remote of this clone, empty without one."""

    account: str
    packages: tuple[str, ...]
    files: tuple[HostFile, ...]
    origin: str = ""
    consent: Consent = Consent()


def setup(service: Service, installation: Installation) -> Script:
    """As root: accounts, directories, certificate, units, nginx file, sudo rules. The payload has the contents."""
    files = [
        {"path": file.path, "mode": f"{file.mode:04o}", "sha256": file.sha256}
        for file in sorted(installation.files, key=lambda file: file.path)
    ]
    values: dict[str, object] = {
        "account": installation.account,
        "packages": list(installation.packages),
        "files": files,
        "certificate": service.nginx.tls.mode if service.nginx else "off",
        "front": front(service),
        "server_name": service.nginx.server_name if service.nginx else "",
        "listen": system_files.listen_address(service),
        "units": list(layout.enabled(service)),
        "drain": service.drain,
        "grace": launchers.GRACE,
        "layout": layout.VERSION,
        "origin": installation.origin,
        **installation.consent._asdict(),
    }
    return _step("setup", service, values, seconds=600 + 3 * _PACKAGES * bool(installation.packages), root=True)


def drift(service: Service, files: Collection[str], manifests: Mapping[str, str]) -> Script:
    """Reads only: what of ours is not as it was written. files: root's, by path.

    manifests: by release the SHA-256 of its manifest, which the host's own is compared with; of others it is believed.
    """
    values: dict[str, object] = {
        "files": sorted(files),
        "certificate": f"/etc/{service.name}/tls/certificate.pem" if front(service) == "https" else "",
        "units": list(layout.units(service)),
        "manifests": dict(manifests),
    }
    return _step("drift", service, values, seconds=240)


class Staging(NamedTuple):
    """One release for one host. base: the release whose unchanged files are linked; present: it is there already.

    lists: the SHA-256 of MANIFEST and LAUNCHERS: those on the host are compared with these, and files with them.
    """

    release: str
    venv: str
    python: str
    base: str | None
    present: bool
    lists: Mapping[str, str]


def stage(service: Service, staging: Staging) -> Script:
    """Receives, verifies and builds; touches nothing that is live."""
    values = {**staging._asdict(), "base": staging.base or ""}
    return _step("stage", service, values, seconds=900)._replace(followed=True)


class Activation(NamedTuple):
    """One release on its way to the traffic of a host. action: deploy, rollback, restart or undo.

    before: the committed release; on_probation: the one on probation, which may be committed at any moment.
    keep_for_rollback: what a rollback goes back to afterwards; it is not pruned.
    """

    action: str
    release: str
    before: str | None
    keep_for_rollback: str | None = None
    on_probation: str | None = None

    @property
    def served(self) -> str | None:
        """The release that had the traffic when this was planned."""
        return self.on_probation or self.before

    @property
    def allowed_current(self) -> tuple[str, ...]:
        """The releases of which one must be committed when the activation begins; an empty text stands for none."""
        before = self.before or ""
        return (before, self.on_probation) if before and self.on_probation else (before,)


def activate(service: Service, activation: Activation, *, stop_first: bool = False) -> Script:
    """Recover, candidate, switch; then commit, or leave that to the probation. Its guard is told the same.

    stop_first: what serves is killed before the release starts.
    """
    limit = layout.start_timeout(service) + service.health.timeout + 6 * service.drain + 300
    values: dict[str, object] = {
        "action": activation.action,
        "release": activation.release,
        "expect": list(activation.allowed_current),
        # A rollback, an undo and --stop-first are rid of what serves: a boot must not bring that back.
        "probation": service.probation if activation.action in {"deploy", "restart"} and not stop_first else 0,
        "stop_first": stop_first,
        "keep": service.keep,
        "spare": activation.keep_for_rollback or "",
        **_running(service),
        "companions": list(layout.companions(service)),
        "timers": list(layout.timers(service)),
    }
    return _step("activate", service, values, seconds=limit)


def _running(service: Service) -> dict[str, object]:
    """What the host's program has to know of a service that runs, and of what a boot starts of it."""
    health = service.health
    return {
        "drain": service.drain,
        "grace": launchers.GRACE,
        "health": {
            "path": health.path,
            "status": health.status,
            "timeout": health.timeout,
            "start_timeout": layout.start_timeout(service),
            "passes": health.passes,
            "settle": health.settle,
        },
        "front": _front(service),
        "processes": list(layout.processes(service)),
        "enabled": list(layout.enabled(service)),
    }


def _front(service: Service) -> dict[str, object]:
    return {
        "kind": front(service),
        "host": service.nginx.server_name if service.nginx else "localhost",
        "listen": system_files.listen_address(service),
    }


def hook(service: Service, release: str) -> Script:
    """before_activate of a staged release; may take half an hour."""
    values: dict[str, object] = {"release": release, **_running(service)}
    return _step("hook", service, values, seconds=1900 + 4 * service.drain)._replace(followed=True)


def hold(service: Service, action: str, release: str, wait: int) -> Script:
    """Holds the run's lock for as long as bytes come. wait: seconds for another run to end."""
    values: dict[str, object] = {"action": action, "release": release, "wait": wait}
    return _step("hold", service, values, seconds=7 * 86400)


def stop(service: Service, *, disable: bool) -> Script:
    """Stops slots, workers and timers; `disable` keeps a boot from starting them."""
    values: dict[str, object] = {"units": list(layout.stopped(service)), "disable": disable, **_running(service)}
    return _step("stop", service, values, seconds=4 * service.drain + 180)


def start(service: Service) -> Script:
    """Starts the committed release and waits for its health check."""
    limit = 2 * layout.start_timeout(service) + service.health.timeout + 2 * service.drain + 180
    return _step("start", service, _running(service), seconds=limit)


def maintenance(service: Service, turn: str) -> Script:
    """Turns clients away (on) or lets them in again (off)."""
    values: dict[str, object] = {"turn": turn, "path": service.health.path, "front": _front(service)}
    return _step("maintenance", service, values, seconds=60)


def remove(service: Service, *, data: bool) -> Script:
    """As root: takes everything of the service off the host, and its data when asked to."""
    values: dict[str, object] = {"units": list(layout.stopped(service)), "data": data, "drain": service.drain}
    return _step("remove", service, values, seconds=2 * service.drain + 300, root=True)


def _step(step: str, service: Service, values: Mapping[str, object], *, seconds: float, root: bool = False) -> Script:
    """One JSON object, a key a line: what is printed is what the host's program gets."""
    head = {"program": host_program.digest(), "step": step, "name": service.name, "root": layout.root(service)}
    text = json.dumps({**head, **values}, indent=2) + "\n"
    # Root never runs what lies on the host.
    place = "" if root or step == "drift" else host_program.place(layout.root(service))
    return Script(step, text, seconds, root, place=place)


def front(service: Service) -> str:
    """What the front door is: https or http (nginx), or listen (the internal stage)."""
    if service.nginx is None:
        return "listen"
    return "http" if service.nginx.tls.mode == "off" else "https"
