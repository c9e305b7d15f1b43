"""The clone that a command runs in: its inventory and service description, and the release made from it."""

from __future__ import annotations

import getpass
import json
import os
import secrets
import socket
import subprocess
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from tasks.engine.config import inventory, selection, service
from tasks.engine.config.inventory import Host, Inventory
from tasks.engine.config.selection import Selection
from tasks.engine.config.service import Service
from tasks.engine.config.yaml_reader import Document
from tasks.engine.errors import UsageError
from tasks.engine.parallel import run_in_thread
from tasks.engine.ssh.session import Run

if TYPE_CHECKING:
    from tasks.engine.release.build import Release
    from tasks.engine.release.git import Checkout
    from tasks.engine.release.python_target import Target
    from tasks.engine.release.wheelhouse import Wheelhouse


@dataclass(frozen=True)
class Project:
    """A clone of the template, validated as a whole before any host is contacted."""

    root: Path
    inventory: Inventory
    document: Document
    services: Mapping[str, Service]
    _wheelhouses: dict[Target, Future[Wheelhouse]] = field(default_factory=dict, compare=False)
    _lock: Lock = field(default_factory=Lock, compare=False)

    @cached_property
    def origin(self) -> str:
        """The address of this clone's git remote, or an empty text; the hosts of a run share one question to git."""
        from tasks.engine.release import git

        return git.origin(self.root)

    def select(self, expression: str | None) -> Selection:
        """Return the hosts that `-H` selects."""
        return selection.select(self.inventory, expression)

    def service_of(self, host: Host) -> Service:
        """Return the service with this host's overrides."""
        return self.services[host.name]

    def release(self, *, require_clean: bool = False) -> Release:
        """Build the release that a deploy would send."""
        # The modules below take longer to load than git to answer.
        asked = run_in_thread(self._ask_git)
        from tasks.engine.release import build, gunicorn_conf

        overrides = inventory.overrides_document(self.inventory)
        include = service.places(self.document, "include")
        described = service.describe(self.document)
        made = build.build(
            self.root,
            overrides,
            include,
            described.dependencies,
            described.shared,
            require_clean=require_clean,
            checkout=asked.result(),
        )
        build.require_folders(made.tree, service.places(self.document, "pythonpath"))
        for host in (None, *self.inventory.hosts, *self.inventory.sandbox):
            build.require_folders(made.tree, service.static_places(self.document, host))
        gunicorn_conf.require_worker_class(made.lock, self.services.values())
        for entry in made.tree.entries:
            if entry.path == gunicorn_conf.NAME:
                gunicorn_conf.check(entry.read(), self.services.values())
        return made

    def _ask_git(self) -> Checkout:
        """Return the state of service/; ask for the remote too, which each host's plan compares later."""
        from tasks.engine.release import git

        checkout = git.read(self.root)
        _ = self.origin
        return checkout

    def wheelhouse(self, made: Release, target: Target, say: Callable[[str], None]) -> Wheelhouse:
        """Return the wheels for a target. Hosts of one target share one fetch and its failure; others do not wait.

        Of one target are hosts whose Pythons have the whole version in common: a lock may choose packages by it, and a
        host that lies about its own must not choose for another.
        """
        from tasks.engine.release import wheelhouse

        with self._lock:
            first = target not in self._wheelhouses
            fetched = self._wheelhouses.setdefault(target, Future())
        if first:
            try:
                fetched.set_result(wheelhouse.fetch(made.lock, target, say, self.root / "service"))
            except BaseException as error:  # other hosts wait for it
                fetched.set_exception(error)
        return fetched.result()


def load(root: Path, environ: Mapping[str, str]) -> Project:
    """Read and validate hosts.yaml and service.yaml with every host's overrides; UsageError at the first fault."""
    hosts = inventory.load(root, environ)
    document = service.load(root / "service" / "service.yaml")
    services = {host.name: service.describe(document, host) for host in (*hosts.hosts, *hosts.sandbox)}
    _require_one_host_a_name(document, services)
    return Project(root, hosts, document, services)


def _require_one_host_a_name(document: Document, services: Mapping[str, Service]) -> None:
    """Refuse `acme` for one name on several hosts: the CA asks any of them, and only one has the answer."""
    seen: dict[str, str] = {}
    for host, described in services.items():
        nginx = described.nginx
        for name in nginx.names if nginx and nginx.tls.mode == "acme" else ():
            if name in seen:
                raise UsageError(
                    f"acme cannot get a certificate for {name} on several hosts ({seen[name]} and {host}): the CA "
                    "asks any of them, and only one has the answer",
                    where=str(document.root.place),
                    next="give each host a name (`service:` in hosts.yaml), let a balancer have the TLS "
                    '(tls: "off"), or take tls: {certificate: ...}, {ca: ...} or {on_host: ...}',
                )
            seen[name] = host


def begin(root: Path) -> Run:
    """Return a new run: its ID, and the user and machine that started it."""
    moment = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S")
    who = {"user": _user(), "host": socket.gethostname(), "git": _git_identity(root)}
    clean = {key: "".join(c for c in value if c.isprintable())[:200] for key, value in who.items() if value}
    return Run(f"{moment}-{secrets.token_hex(3)}", json.dumps(clean, ensure_ascii=True))


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def _git_identity(root: Path) -> str:
    try:
        answer = subprocess.run(
            ["git", "-C", str(root), "config", "user.email"], capture_output=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.decode("utf-8", "replace").strip()
