"""Read service.yaml; validate it whole, alone and with each host's overrides, before any connection."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from tasks.engine.config import formats, schema, sections, yaml_reader
from tasks.engine.config.inventory import Host
from tasks.engine.config.nodes import Node, merge
from tasks.engine.config.sections import HEALTH, HOOKS, WEB, Gateway, Health, Hooks, Listen, Process, Tls
from tasks.engine.config.yaml_reader import Document
from tasks.engine.errors import UsageError

__all__ = ["Gateway", "Health", "Listen", "Process", "Service", "Tls", "describe", "load"]

_CREATE = 'create it with the lines `name: myapp`, `app: "app:create_app()"` and `listen: 127.0.0.1:8080`'

# The system has a unit, an account or directories below /etc and /run of these names.
_TAKEN = frozenset(
    {"bin", "cron", "daemon", "dbus", "init", "mail", "network", "nginx", "nobody", "root", "ssh", "sshd", "sudo"}
    | {"systemd", "udev", "user"}
)


class Service(NamedTuple):
    """The service as one host gets it: service.yaml with that host's overrides.

    drain, probation: seconds; keep: number of releases
    """

    name: str
    app: str
    python: str = ">=3.9"
    processes: tuple[Process, ...] = (WEB,)
    health: Health = HEALTH
    drain: int = 30
    probation: int = 30
    listen: Listen | None = None
    nginx: Gateway | None = None
    needs: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    hooks: Hooks = HOOKS
    keep: int = 5


_USUAL = Service("", "")


def load(path: Path) -> Document:
    """Read service.yaml and validate it without overrides. Raises UsageError at the first fault."""
    document = yaml_reader.read(path, missing=_CREATE)
    _service(document.root)
    return document


def describe(document: Document, host: Host | None = None) -> Service:
    """Return the service as this host gets it, its overrides merged in; without a host, service.yaml alone.

    For a fault in an override, raises a UsageError that names the host and points into its file.
    """
    if host is None or host.service is None:
        return _service(document.root)
    if "name" in host.service.keys:
        place = host.service.keys["name"]
        raise schema.refuse(place, "the name is the same on every host", "remove it; set it in service.yaml")
    try:
        return _service(merge(document.root, host.service))
    except UsageError as error:
        message = f"with the overrides of {host.name}: {error.message}"
        raise UsageError(message, where=error.where, next=error.next) from None


def _service(root: Node) -> Service:
    if schema.is_null(root):
        raise schema.refuse(root, "the service description is empty", _CREATE)
    fields = schema.keys(root, Service._fields)
    service = Service(
        name=_name(schema.required(root, fields, "name", "myapp")),
        app=schema.text(schema.required(root, fields, "app", '"app:create_app()"'), formats.APP),
        python=schema.optional(fields, "python", lambda node: schema.text(node, formats.SPECIFIER), _USUAL.python),
        processes=schema.optional(fields, "processes", sections.processes, _USUAL.processes),
        health=schema.optional(fields, "health", sections.health, _USUAL.health),
        drain=schema.optional(fields, "drain", lambda node: schema.integer(node, 0, 300), _USUAL.drain),
        probation=schema.optional(fields, "probation", lambda node: schema.integer(node, 0, 3600), _USUAL.probation),
        listen=schema.optional(fields, "listen", sections.listen, None),
        nginx=schema.optional(fields, "nginx", sections.gateway, None),
        needs=schema.optional(fields, "needs", sections.needs, ()),
        env=schema.optional(fields, "env", sections.env, ()),
        hooks=schema.optional(fields, "hooks", sections.hooks, _USUAL.hooks),
        keep=schema.optional(fields, "keep", lambda node: schema.integer(node, 2, 100), _USUAL.keep),
    )
    _reachable(service, root, fields)
    return service


def _reachable(service: Service, root: Node, fields: dict[str, Node]) -> None:
    """Refuse a service that no traffic can reach, or one that takes a port of nginx."""
    if service.listen is None and service.nginx is None:
        fix = "add `listen: 127.0.0.1:8080`, or `nginx: {server_name: myapp.example}`"
        raise schema.refuse(root, "nothing could reach the service: it has neither nginx nor listen", fix)
    if service.listen and service.nginx and service.listen.port in (80, 443):
        message = f"port {service.listen.port} is the gateway's where there is nginx"
        raise schema.refuse(fields["listen"], message, "write another port, such as listen: 127.0.0.1:8080")


def _name(node: Node) -> str:
    name = schema.text(node, formats.SERVICE_NAME)
    if name in _TAKEN:
        raise schema.refuse(node, f"{name} is a name of the system's own", "choose another name")
    return name
