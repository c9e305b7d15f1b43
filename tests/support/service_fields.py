"""The fields of service.yaml, taken from its named tuples: their place in the file and in the result."""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import UnionType
from typing import Any

from tasks.engine.config import gateway, sections
from tasks.engine.config.service import Service
from tests.support.nasty_texts import in_yaml

BASE: dict[str, Any] = {"name": "myapp", "app": "app:app", "listen": "127.0.0.1:8080"}
SMALLEST = "".join(f"{key}: {value}\n" for key, value in BASE.items())

Read = Callable[[Any], object]


@dataclass(frozen=True)
class Where:
    """The place of a field. keys: the path in the file; read: its reader; beside: other lines that the file needs.

    listed: it is an item of a list; around: YAML that has the value at VALUE
    """

    keys: tuple[str, ...]
    read: Read
    beside: tuple[str, ...] = ()
    listed: bool = False
    around: str = "VALUE"


# The place of each class's fields; a field's key is its own name.
CLASSES: dict[type, tuple[tuple[str, ...], Read]] = {
    Service: ((), lambda found: found),
    sections.Backup: (("backup",), lambda found: found.backup),
    sections.Dependencies: (("dependencies",), lambda found: found.dependencies),
    sections.Health: (("health",), lambda found: found.health),
    sections.Hooks: (("hooks",), lambda found: found.hooks),
    sections.Limits: (("limits",), lambda found: found.limits),
    gateway.Nginx: (("nginx",), lambda found: found.nginx),
    gateway.Rate: (("nginx", "rate"), lambda found: found.nginx.rate),
    gateway.Tls: (("nginx", "tls"), lambda found: found.nginx.tls),
    sections.Process: (("processes", "worker"), lambda found: found.processes[1]),
}
BESIDE = {
    "Backup.restore": ("backup.command=x",),
    "Nginx.max_body": ("nginx.server_name=a.example",),
    **{
        f"Nginx.{key}": ("nginx.server_name=a.example",)
        for key in (
            "timeout",
            "aliases",
            "hsts",
            "error_page",
            "extra",
            "basic_auth",
            "client_ca",
            "balancer_check",
            "path",
        )
    },
    "Nginx.path": ("nginx.server_name=a.example", "listen="),
    "Rate.requests": ("nginx.server_name=a.example",),
    "Rate.burst": ("nginx.server_name=a.example", "nginx.rate.requests=5/s"),
    "Tls.certificate": ("nginx.server_name=a.example", "nginx.tls.key=k.pem"),
    "Tls.key": ("nginx.server_name=a.example", "nginx.tls.certificate=c.pem"),
    "Process.schedule": ("processes.worker.command=x",),
    "Process.single": ("processes.worker.command=x",),
    "Process.stop": ("processes.worker.command=x",),
}
_IGNORED = "{id: A-1, reason: x, until: 2027-01-31}"


def _ignored(key: str) -> Read:
    return lambda found: getattr(found.audit.ignore[0], key)


# Fields whose key has another name, or another place.
OTHERS = {
    "Service.env": Where(("env", "V"), lambda found: dict(found.env)["V"]),
    "Service.include": Where(("include",), lambda found: found.include[0], listed=True),
    "Service.pythonpath": Where(("pythonpath",), lambda found: found.pythonpath[0], listed=True),
    "Dependencies.extras": Where(("dependencies", "extras"), lambda found: found.dependencies.extras[0], listed=True),
    "Dependencies.groups": Where(("dependencies", "groups"), lambda found: found.dependencies.groups[0], listed=True),
    "Secret.name": Where(("secrets",), lambda found: found.secrets[0].name, listed=True),
    "Secret.file": Where(("secrets", "V"), lambda found: "file" if found.secrets[0].file else "variable"),
    **{
        f"Ignored.{key}": Where(
            ("audit", "ignore"), _ignored(key), listed=True, around=_IGNORED.replace(f"{key}: {value}", f"{key}: VALUE")
        )
        for key, value in (("id", "A-1"), ("reason", "x"), ("until", "2027-01-31"))
    },
    "Service.needs": Where(("needs",), lambda found: found.needs[0], listed=True),
    "Service.shared": Where(("shared",), lambda found: found.shared[0], listed=True),
    "Nginx.names": Where(("nginx", "server_name"), lambda found: found.nginx.names[0], listed=True),
    "Nginx.trusted_proxies": Where(
        ("nginx", "trusted_proxies"),
        lambda found: found.nginx.trusted_proxies[0],
        ("nginx.server_name=a.example",),
        listed=True,
    ),
    "Nginx.allow": Where(
        ("nginx", "allow"), lambda found: found.nginx.allow[0], ("nginx.server_name=a.example",), listed=True
    ),
    "Nginx.static": Where(
        ("nginx", "static", "/static/"),
        lambda found: dict(found.nginx.static)["/static/"],
        ("nginx.server_name=a.example",),
    ),
    "Tls.mode": Where(("nginx", "tls"), lambda found: found.nginx.tls.mode, ("nginx.server_name=a.example",)),
    "Tls.days": Where(
        ("nginx", "tls", "ca", "days"),
        lambda found: found.nginx.tls.days,
        ("nginx.server_name=a.example", "nginx.tls.ca.certificate=c.pem", "nginx.tls.ca.key=k.pem"),
    ),
    "Tls.email": Where(
        ("nginx", "tls", "acme", "email"), lambda found: found.nginx.tls.email, ("nginx.server_name=a.example",)
    ),
    "Tls.directory": Where(
        ("nginx", "tls", "acme", "directory"),
        lambda found: found.nginx.tls.directory,
        ("nginx.server_name=a.example", "nginx.tls.acme.email=a@b.example"),
    ),
    "Process.env": Where(
        ("processes", "worker", "env", "V"),
        lambda found: dict(found.processes[1].env)["V"],
        ("processes.worker.command=x",),
    ),
    "Process.copies": Where(
        ("processes", "worker", "count"), lambda found: found.processes[1].copies, ("processes.worker.command=x",)
    ),
    "Process.health": Where(
        ("processes", "worker", "health", "command"),
        lambda found: found.processes[1].health,
        ("processes.worker.command=x",),
    ),
    "Process.workers": Where(("processes", "web", "workers"), lambda found: found.processes[0].workers),
    "Process.worker_class": Where(("processes", "web", "worker_class"), lambda found: found.processes[0].worker_class),
    "Process.threads": Where(("processes", "web", "threads"), lambda found: found.processes[0].threads),
    "Listen.address": Where(("listen",), lambda found: f"{found.listen.address}:{found.listen.port}"),
    "Listen.port": Where(("listen",), lambda found: f"{found.listen.address}:{found.listen.port}"),
}
# Keys chosen by the operator, each with a matching value.
KEYS = {
    "Process.name": (Where(("processes",), lambda found: found.processes[1].name), "{command: x}"),
    "env": (Where(("env",), lambda found: found.env[0][0]), "x"),
}
# One of these values fits any field.
GOOD = ("7", "200", "x y", "/x", "a:b", "x.example", ">=3.10", "daily", "127.0.0.2:81", "jit", "off", "200m", "other",
        "512M", "200%", "serve", "file", "a@b.example", "https://a.example/d", "true", "10.0.0.0/8", "7/s",
        "2027-01-31")  # fmt: skip


def fields(kind: type) -> Iterator[tuple[type, str]]:
    """Yield every field of a named tuple that holds a value, including those of nested tuples."""
    for name, hint in typing.get_type_hints(kind).items():
        inner = [one for one in _named(hint) if hasattr(one, "_fields")]
        if not inner:
            yield kind, name
        for one in inner:
            assert isinstance(one, type)
            yield from fields(one)


def _named(hint: Any) -> Iterator[Any]:
    """Yield the classes that a type hint names."""
    if typing.get_origin(hint) in (UnionType, typing.Union, tuple):
        for one in typing.get_args(hint):
            yield from _named(one)
    else:
        yield hint


def field_places() -> dict[str, Where]:
    """Return the place of each field of service.yaml; KeyError for a class without a known place."""
    found = {}
    for kind, name in fields(Service):
        label = f"{kind.__name__}.{name}"
        if label in OTHERS:
            found[label] = OTHERS[label]
        elif label not in KEYS:
            keys, read = CLASSES[kind]
            found[label] = Where((*keys, name), _attribute(read, name), BESIDE.get(label, ()))
    return found


def _attribute(read: Read, name: str) -> Read:
    return lambda found: getattr(read(found), name)


FIELDS = field_places()


def written(where: Where, value: str) -> str:
    """Return a service.yaml with this YAML in this place, as nested flow mappings, one top-level key a line."""
    tree: dict[str, Any] = {key: in_yaml(text) for key, text in BASE.items()}
    for line in where.beside:
        keys, _, text = line.partition("=")
        _put(tree, tuple(keys.split(".")), in_yaml(text) if text else "null")
    value = where.around.replace("VALUE", value)
    _put(tree, where.keys, f"[{value}]" if where.listed else value)
    return "".join(f"{key}: {_flow(inner)}\n" for key, inner in tree.items())


def _put(tree: dict[str, Any], keys: tuple[str, ...], value: str) -> None:
    for key in keys[:-1]:
        tree = tree.setdefault(key, {})
    tree[keys[-1]] = value


def _flow(inner: Any) -> str:
    if isinstance(inner, str):
        return inner
    return "{" + ", ".join(f"{key}: {_flow(value)}" for key, value in inner.items()) + "}"
