"""Write the launchers that units exec: `run/web`, `run/worker`, ... of a release, a few lines of sh each. Pure."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Mapping
from typing import NamedTuple

from packaging.version import Version

from tasks.engine import quote
from tasks.engine.config.service import Process, Service
from tasks.engine.host import layout

GRACE = 2
"""Seconds that gunicorn waits longer than `drain`, and systemd longer than gunicorn: the gentlest stop comes first."""


def render(service: Service, release: str, host: str, gunicorn: str) -> dict[str, str]:
    """Return process name to text, with `hook` for before_activate, and `env.NAME`, which runs its arguments.

    gunicorn: its version in the venv ("27.0.1").
    """
    home = f"{layout.root(service)}/releases/{release}"
    texts = {}
    for process in service.processes:
        where = _Where(service, release, host, process.env)
        texts[process.name] = _text(where, process.name, _line(_words(service, process, home, gunicorn)))
        texts[f"env.{process.name}"] = _text(where, f"a command beside {process.name}", '"$@"')
    if service.hooks.before_activate:
        words = shlex.split(service.hooks.before_activate)
        texts["hook"] = _text(_Where(service, release, host), "hook", _line(words))
    return texts


def listed(launchers: Mapping[str, str]) -> bytes:
    """Return the file LAUNCHERS of a release: the digests of its launchers, as `sha256sum -c` reads them."""
    digests = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in launchers.items()}
    return "".join(f"{digest}  run/{name}\n" for name, digest in sorted(digests.items())).encode()


def _words(service: Service, process: Process, home: str, gunicorn: str) -> list[str]:
    return _web(service, process, home, gunicorn) if process.command is None else shlex.split(process.command)


class _Where(NamedTuple):
    """The place that a launcher runs in. env: variables of one process."""

    service: Service
    release: str
    host: str
    env: tuple[tuple[str, str], ...] = ()


def _line(words: list[str]) -> str:
    return " ".join(quote.shell(word) for word in words)


def _text(where: _Where, name: str, line: str) -> str:
    service, release, host, own = where
    home = f"{layout.root(service)}/releases/{release}"
    # Trust proxy headers only from nginx: the proxy of `listen:` passes on whatever its clients send.
    variables = [] if service.nginx else [("TRUSTED_PROXIES", "0")]
    variables += [*service.env, *own, ("SERVICE", service.name), ("RELEASE", release), ("HOST", host)]
    variables += [("PATH", f"{home}/venv/bin:/usr/local/bin:/usr/bin:/bin"), ("PYTHONDONTWRITEBYTECODE", "1")]
    variables += [("PYTHONUNBUFFERED", "1")]
    lines = [
        "#!/bin/sh",
        f"# {name} of {service.name}, release {release}. It runs as the service's user, never as root.",
        f"cd {quote.shell(home + '/code')} || exit 1",
        "# What this starts inherits the lock, which keeps the release from being pruned; it never waits for it.",
        f"exec 7<{quote.shell(home)}",
        "flock -n -s 7",
        *(f"export {key}={quote.shell(value)}" for key, value in variables),
        f"exec {line}",
    ]
    return "\n".join(lines) + "\n"


def _web(service: Service, process: Process, home: str, gunicorn: str) -> list[str]:
    # On by default since 25.1, and the two slots of one account would use the same path.
    quiet = ["--no-control-socket"] if Version(gunicorn) >= Version("25.1") else []
    # gunicorn kills a worker that imports for longer than `timeout`, 30 s by default.
    patience = max(30, service.health.timeout)
    if process.threads > 1:
        answers = ["--worker-class", "gthread", "--workers", str(process.workers), "--threads", str(process.threads)]
        answers += ["--timeout", str(patience)] if patience > 30 else []
    else:
        # One request at a time needs no thread. But a sync worker reports nothing to gunicorn during a request, either.
        answers = ["--worker-class", "sync", "--workers", str(process.workers)]
        answers += ["--timeout", str(max(patience, service.drain + GRACE))]
    graceful = ["--graceful-timeout", str(service.drain + GRACE)]
    return [f"{home}/venv/bin/gunicorn", *quiet, *answers, *graceful, service.app]
