"""Check the application's gunicorn.conf.py before any contact: what it sets is honoured, or refused with its line."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

from packaging.version import Version

from tasks.engine import python_text
from tasks.engine.config.service import Process, Service
from tasks.engine.errors import UsageError
from tasks.engine.release.lockfile import Lock

NAME = "gunicorn.conf.py"
_OURS = {
    "bind": "systemd opens the socket of each slot",
    "chdir": "the launcher enters the release's code",
    "daemon": "systemd has to see the process",
    "graceful_timeout": "it follows `drain` of service.yaml",
    "group": "the unit has it",
    "pidfile": "systemd knows the process",
    "reload": "a release never changes",
    "user": "the unit has it",
    "wsgi_app": "`app` of service.yaml names it",
}
"""Settings that would break a slot, each with the reason."""
_NO_EVENTLET = Version("26")
"""The version of gunicorn that has no worker class eventlet any more."""
_SHARED = ("workers", "threads", "worker_class")
"""Settings that `processes.web` may have, too."""


def check(text: bytes, services: Iterable[Service]) -> None:
    """Raise UsageError for a setting that a slot decides, or that service.yaml sets as well."""
    try:
        settings = dict(_assigned(python_text.parse(text)))
    except SyntaxError as error:
        raise _refused(error.lineno or 1, f"Python cannot read it: {error.msg}", "correct it") from None
    for name, reason in _OURS.items():
        if name in settings:
            raise _refused(settings[name], f"{name} is not for the application to set: {reason}", f"remove {name}")
    for service in services:
        web = next(process for process in service.processes if process.name == "web")
        for name in _SHARED:
            if name in settings and getattr(web, name) is not None:
                message = f"{name} is set here, and by processes.web.{name} of service.yaml"
                raise _refused(settings[name], message, "set it in one place: remove the other")
        _require_one_model(web, settings)


def require_worker_class(lock: Lock, services: Iterable[Service]) -> None:
    """Raise UsageError for a worker class that the locked gunicorn lacks, or whose package is not locked."""
    wanted = {process.worker_class for service in services for process in service.processes if process.name == "web"}
    versions = [Version(entry.version) for entry in lock.entries if entry.name == "gunicorn"]
    if "eventlet" in wanted and min(versions) >= _NO_EVENTLET:
        raise UsageError(
            f"gunicorn {min(versions)} has no worker class eventlet any more",
            where="service/service.yaml (processes.web.worker_class)",
            next="write gevent, and gunicorn[gevent] in requirements.in; or lock gunicorn<26",
        )
    for name in sorted({"gevent", "tornado", "eventlet"} & {*wanted}):
        lock.require(name, f"processes.web.worker_class {name} needs it")


def _require_one_model(web: Process, settings: dict[str, int]) -> None:
    """Refuse a worker class of one file beside threads of the other, which gunicorn would drop in silence."""
    if "worker_class" in settings and web.threads is not None:
        message = "worker_class is set here, and threads by service.yaml"
        raise _refused(settings["worker_class"], message, "set both in one place")
    if "threads" in settings and web.worker_class is not None:
        message = "threads is set here, and worker_class by service.yaml"
        raise _refused(settings["threads"], message, "set both in one place")


def _assigned(body: ast.AST) -> Iterator[tuple[str, int]]:
    """Yield the names that a module sets as it is read, each with its line; functions are not read."""
    # A list, not recursion: the tree may be deeper than Python calls.
    waiting = [body]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)):
            waiting.extend(reversed(list(ast.iter_child_nodes(node))))


def _refused(line: int, message: str, way: str) -> UsageError:
    return UsageError(message, where=f"service/{NAME}:{line}", next=way)
