"""The sections of service.yaml, each with its reader, which raises UsageError on a fault."""

from __future__ import annotations

from typing import NamedTuple

from tasks.engine.config import formats, schema
from tasks.engine.config.nodes import Mapping, Node

NEEDS = ("host", "network", "jit", "proc", "gpu", "home")

# Setup installs units with the names NAME-probation@, NAME-live@, NAME-boot@, NAME-listen and NAME-hook@.
_RESERVED_PROCESSES = frozenset({"probation", "live", "boot", "listen", "hook"})
# The deploy sets these, or they can change which code runs or which socket it serves.
_RESERVED_VARIABLES = frozenset(
    {"SERVICE", "RELEASE", "HOST", "PATH", "IFS", "ENV", "BASH_ENV", "SHELLOPTS", "GUNICORN_CMD_ARGS", "NOTIFY_SOCKET"}
    | {"PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"}
    | {"WATCHDOG_PID", "WATCHDOG_USEC"}
)
# Variables of the shell itself, dash or bash: it changes a value given to them, or the value ends the launcher.
_SHELL_VARIABLES = frozenset(
    {"_", "UID", "EUID", "PPID", "OPTIND", "SHLVL", "LINENO", "SECONDS", "RANDOM", "SRANDOM", "EPOCHSECONDS"}
    | {"EPOCHREALTIME", "GROUPS", "DIRSTACK", "FUNCNAME", "HISTCMD"}
)


class Health(NamedTuple):
    """The health gate: `passes` answers of exactly `status` in a row over at least `settle` s, within `timeout` s."""

    path: str = "/readyz"
    status: int = 200
    timeout: int = 30
    passes: int = 3
    settle: float = 2.0


HEALTH = Health()


class Process(NamedTuple):
    """One unit. `web` has workers and threads. Any other has a command (an argument list in shell quoting, run without
    a shell), and a timer also has a schedule."""

    name: str
    command: str | None = None
    schedule: str | None = None
    workers: int = 0
    threads: int = 0


WEB = Process("web", workers=2, threads=4)


class Tls(NamedTuple):
    """Certificate of nginx. mode: self-signed, files or off; certificate, key: paths on the controller, for `files`."""

    mode: str = "self-signed"
    certificate: str | None = None
    key: str | None = None


class Gateway(NamedTuple):
    """The nginx in front of the service."""

    server_name: str
    tls: Tls = Tls()


class Listen(NamedTuple):
    """The TCP address on which the service itself listens; IPv6 without brackets."""

    address: str
    port: int


class Hooks(NamedTuple):
    """Commands around an activation, argument lists in shell quoting, each run without a shell.

    before_activate: once for a whole deploy, on the first host, from the staged release, as the service's user.
    drain, undrain: on the controller, for each host, before and after its activation.
    """

    before_activate: str | None = None
    drain: str | None = None
    undrain: str | None = None


HOOKS = Hooks()


def hooks(node: Node) -> Hooks:
    """Read the hooks, each of them optional."""
    fields = schema.keys(node, Hooks._fields)
    return Hooks(**{name: schema.text(value, formats.COMMAND) for name, value in fields.items()})


def processes(node: Node) -> tuple[Process, ...]:
    """Read all processes: `web` first, then in the order of the file; null removes one, but never `web`."""
    schema.entries(node)
    others, web = [], WEB
    for name, value, place in schema.named(node):
        if name == "web":
            web = _web(value)
        elif not formats.PROCESS_NAME.fits(name) or name in _RESERVED_PROCESSES:
            message = f"expected {formats.PROCESS_NAME.expected}, found {schema.quoted(name)}"
            fix = f"rename it; {', '.join(sorted(_RESERVED_PROCESSES))} are taken"
            raise schema.refuse(place, message, fix)
        elif not schema.is_null(value):
            others.append(_process(name, value))
    return (web, *others)


def _web(node: Node) -> Process:
    fields = schema.keys(node, ("workers", "threads"))
    return Process(
        WEB.name,
        workers=schema.optional(fields, "workers", lambda value: schema.integer(value, 1, 64), WEB.workers),
        threads=schema.optional(fields, "threads", lambda value: schema.integer(value, 1, 256), WEB.threads),
    )


def _process(name: str, node: Node) -> Process:
    fields = schema.keys(node, ("command", "schedule"))
    command = schema.text(schema.required(node, fields, "command", '"python -m jobs"'), formats.COMMAND)
    return Process(name, command, schema.text(fields["schedule"], formats.SCHEDULE) if "schedule" in fields else None)


def health(node: Node) -> Health:
    fields = schema.keys(node, Health._fields)
    health = Health(
        path=schema.optional(fields, "path", lambda value: schema.text(value, formats.HEALTH_PATH), HEALTH.path),
        status=schema.optional(fields, "status", lambda value: schema.integer(value, 200, 299), HEALTH.status),
        timeout=schema.optional(fields, "timeout", lambda value: schema.integer(value, 1, 600), HEALTH.timeout),
        passes=schema.optional(fields, "passes", lambda value: schema.integer(value, 1, 20), HEALTH.passes),
        settle=schema.optional(fields, "settle", lambda value: schema.number(value, 0, 60), HEALTH.settle),
    )
    if health.settle >= health.timeout:
        message = f"settle ({health.settle:g} s) must be shorter than timeout ({health.timeout} s)"
        raise schema.refuse(fields.get("settle", node), message, "raise timeout or lower settle")
    return health


def listen(node: Node) -> Listen:
    return Listen(*formats.split_listen(schema.text(node, formats.LISTEN)))


def gateway(node: Node) -> Gateway:
    fields = schema.keys(node, ("server_name", "tls"))
    name = schema.text(schema.required(node, fields, "server_name", "myapp.example"), formats.SERVER_NAME)
    return Gateway(name, schema.optional(fields, "tls", _tls, Tls()))


def _tls(node: Node) -> Tls:
    if not isinstance(node, Mapping):
        return Tls(schema.choice(node, ("self-signed", "off")))
    fields = schema.keys(node, ("certificate", "key"))
    certificate = schema.text(schema.required(node, fields, "certificate", "tls/myapp.pem"), formats.FILE)
    return Tls("files", certificate, schema.text(schema.required(node, fields, "key", "tls/myapp.key"), formats.FILE))


def needs(node: Node) -> tuple[str, ...]:
    """Return the needs in the order of NEEDS, so that their order in the file changes nothing."""
    wanted = [schema.choice(item, NEEDS) for item in schema.items(node)]
    return tuple(need for need in NEEDS if need in wanted)


def env(node: Node) -> tuple[tuple[str, str], ...]:
    """Return the variables sorted by name, so that their order in the file changes nothing."""
    for name, _, place in schema.named(node):
        if not formats.VARIABLE.fits(name):
            message = f"expected {formats.VARIABLE.expected}, found {schema.quoted(name)}"
            raise schema.refuse(place, message, f"write it like {formats.VARIABLE.example}")
        if name in _RESERVED_VARIABLES or name.startswith("LD_"):
            raise schema.refuse(place, f"{name} is set by the deploy or the system", "choose another name")
        if name in _SHELL_VARIABLES or name.startswith("BASH"):
            raise schema.refuse(place, f"{name} is a variable of the shell's own", "choose another name")
    return tuple((name, schema.text(value, empty=True)) for name, value in sorted(schema.entries(node).items()))
