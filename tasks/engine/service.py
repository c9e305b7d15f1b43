"""service.yaml: what is deployed. Validated whole, alone and with each host's overrides, before any connection."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from tasks.engine import schema, shapes, yamlfile
from tasks.engine.inventory import Host
from tasks.engine.yamlfile import Document, Mapping, Node

NEEDS = ("network", "jit", "proc", "gpu", "home")

# Names whose unit, account or directories below /etc and /run belong to the system.
_TAKEN = frozenset(
    {"bin", "cron", "daemon", "dbus", "init", "mail", "network", "nginx", "nobody", "root", "ssh", "sshd", "sudo"}
    | {"systemd", "udev", "user"}
)
# NAME-probation@, NAME-listen and NAME-hook@ are units of ours.
_RESERVED_PROCESSES = frozenset({"probation", "listen", "hook"})
# Set by us, or able to change which code runs or which socket it serves.
_RESERVED_VARIABLES = frozenset(
    {"SERVICE", "RELEASE", "HOST", "PATH", "IFS", "ENV", "BASH_ENV", "SHELLOPTS", "GUNICORN_CMD_ARGS", "NOTIFY_SOCKET"}
    | {"PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"}
    | {"WATCHDOG_PID", "WATCHDOG_USEC"}
)


@dataclass(frozen=True)
class Health:
    """The gate: `passes` answers of exactly `status` in a row over at least `settle` s, within `timeout` s."""

    path: str = "/readyz"
    status: int = 200
    timeout: int = 30
    passes: int = 3
    settle: float = 2.0


@dataclass(frozen=True)
class Process:
    """One unit. `web` has workers and threads; any other has a command, and a schedule if it is a timer."""

    name: str
    command: str | None = None
    schedule: str | None = None
    workers: int = 0
    threads: int = 0


@dataclass(frozen=True)
class Tls:
    """mode: self-signed, files or off; certificate and key: paths on the controller, for files alone."""

    mode: str = "self-signed"
    certificate: str | None = None
    key: str | None = None


@dataclass(frozen=True)
class Gateway:
    """The nginx in front."""

    server_name: str
    tls: Tls = Tls()


@dataclass(frozen=True)
class Listen:
    """A TCP address of the service itself; IPv6 without its brackets."""

    address: str
    port: int


@dataclass(frozen=True)
class Service:
    """What is deployed to one host: service.yaml with that host's overrides. drain in seconds, keep in releases."""

    name: str
    app: str
    python: str = ">=3.9"
    processes: tuple[Process, ...] = ()
    health: Health = Health()
    drain: int = 30
    listen: Listen | None = None
    nginx: Gateway | None = None
    needs: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    keep: int = 5

    def as_document(self) -> dict[str, object]:
        """Plain data for JSON, every default written out."""
        return {**dataclasses.asdict(self), "env": dict(self.env)}


_CREATE = 'create it with the lines `name: myapp`, `app: "app:create_app()"` and `listen: 127.0.0.1:8080`'
_KEYS = tuple(field.name for field in dataclasses.fields(Service))


def load(path: Path) -> Document:
    """service.yaml, valid as it stands. Raises UsageError at the first fault."""
    document = yamlfile.read(path, missing=_CREATE)
    _service(document.root)
    return document


def describe(document: Document, host: Host | None = None) -> Service:
    """The service as this host gets it, its overrides merged in; without a host, service.yaml alone.

    A fault of an override is a UsageError that points into the host's file.
    """
    if host is None or host.service is None:
        return _service(document.root)
    override = host.service
    if isinstance(override, Mapping) and "name" in override.keys:
        fix = "remove it; set it in service.yaml"
        raise schema.refuse(override.keys["name"], "the name is the same on every host", fix)
    return _service(schema.merge(document.root, override))


def _service(root: Node) -> Service:
    if schema.is_null(root):
        raise schema.refuse(root, "the service description is empty", "start with `name: myapp`")
    fields = schema.keys(root, _KEYS)
    name = schema.text(schema.required(root, fields, "name", "myapp"), shapes.SERVICE_NAME)
    if name in _TAKEN:
        raise schema.refuse(fields["name"], f"{name} is a name of the system's own", "choose another name")
    app = schema.text(schema.required(root, fields, "app", '"app:create_app()"'), shapes.APP)
    service = Service(
        name=name,
        app=app,
        python=schema.text(fields["python"], shapes.SPECIFIER) if "python" in fields else Service.python,
        processes=_processes(fields.get("processes")),
        health=_health(fields["health"]) if "health" in fields else Health(),
        drain=schema.integer(fields["drain"], 0, 300) if "drain" in fields else Service.drain,
        listen=_listen(fields["listen"]) if "listen" in fields else None,
        nginx=_gateway(fields["nginx"]) if "nginx" in fields else None,
        needs=_needs(fields["needs"]) if "needs" in fields else (),
        env=_env(fields["env"]) if "env" in fields else (),
        keep=schema.integer(fields["keep"], 2, 100) if "keep" in fields else Service.keep,
    )
    if service.listen is None and service.nginx is None:
        fix = "add `listen: 127.0.0.1:8080`, or `nginx: {server_name: myapp.example}`"
        raise schema.refuse(root, "nothing could reach the service: it has neither nginx nor listen", fix)
    return service


def _processes(node: Node | None) -> tuple[Process, ...]:
    """All processes, `web` first, then in the order of the file."""
    declared = schema.entries(node) if node else {}
    web = Process("web", workers=2, threads=4)
    if "web" in declared:
        fields = schema.keys(declared["web"], ("workers", "threads"))
        web = Process(
            "web",
            workers=schema.integer(fields["workers"], 1, 64) if "workers" in fields else web.workers,
            threads=schema.integer(fields["threads"], 1, 256) if "threads" in fields else web.threads,
        )
    return (web, *(_process(name, declared[name]) for name in declared if name != "web"))


def _process(name: str, node: Node) -> Process:
    if not shapes.PROCESS_NAME.fits(name) or name in _RESERVED_PROCESSES:
        expected = shapes.PROCESS_NAME.expected
        fix = f"choose another name; {', '.join(sorted(_RESERVED_PROCESSES))} are taken"
        raise schema.refuse(node, f"expected {expected}, found {schema.quoted(name)}", fix)
    fields = schema.keys(node, ("command", "schedule"))
    command = schema.text(schema.required(node, fields, "command", '"python -m jobs"'), shapes.COMMAND)
    schedule = schema.text(fields["schedule"], shapes.SCHEDULE) if "schedule" in fields else None
    return Process(name, command, schedule)


def _health(node: Node) -> Health:
    fields = schema.keys(node, tuple(field.name for field in dataclasses.fields(Health)))
    health = Health(
        path=schema.text(fields["path"], shapes.HEALTH_PATH) if "path" in fields else Health.path,
        status=schema.integer(fields["status"], 200, 299) if "status" in fields else Health.status,
        timeout=schema.integer(fields["timeout"], 1, 600) if "timeout" in fields else Health.timeout,
        passes=schema.integer(fields["passes"], 1, 20) if "passes" in fields else Health.passes,
        settle=schema.number(fields["settle"], 0, 60) if "settle" in fields else Health.settle,
    )
    if health.settle >= health.timeout:
        message = f"settle ({health.settle:g} s) must be shorter than timeout ({health.timeout} s)"
        raise schema.refuse(fields.get("settle", node), message, "raise timeout or lower settle")
    return health


def _listen(node: Node) -> Listen:
    address = shapes.split_listen(schema.text(node, shapes.LISTEN))
    assert address is not None
    return Listen(*address)


def _gateway(node: Node) -> Gateway:
    fields = schema.keys(node, ("server_name", "tls"))
    name = schema.text(schema.required(node, fields, "server_name", "myapp.example"), shapes.SERVER_NAME)
    return Gateway(name, _tls(fields["tls"]) if "tls" in fields else Tls())


def _tls(node: Node) -> Tls:
    if not isinstance(node, Mapping):
        return Tls(schema.choice(node, ("self-signed", "off")))
    fields = schema.keys(node, ("certificate", "key"))
    certificate = schema.text(schema.required(node, fields, "certificate", "tls/myapp.pem"), shapes.FILE)
    return Tls("files", certificate, schema.text(schema.required(node, fields, "key", "tls/myapp.key"), shapes.FILE))


def _needs(node: Node) -> tuple[str, ...]:
    """In the order of NEEDS, so that the order of the file changes nothing."""
    wanted = [schema.choice(item, NEEDS) for item in schema.items(node)]
    return tuple(need for need in NEEDS if need in wanted)


def _env(node: Node) -> tuple[tuple[str, str], ...]:
    pairs = schema.entries(node)
    for name, value in pairs.items():
        if not shapes.VARIABLE.fits(name):
            message = f"expected {shapes.VARIABLE.expected}, found {schema.quoted(name)}"
            raise schema.refuse(value, message, "rename it")
        if name in _RESERVED_VARIABLES or name.startswith("LD_"):
            raise schema.refuse(value, f"{name} is set by the deploy or the system", "choose another name")
    return tuple((name, schema.text(value, empty=True)) for name, value in sorted(pairs.items()))
