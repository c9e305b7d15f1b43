"""The sections of service.yaml, each with its reader, which raises UsageError on a fault."""

from __future__ import annotations

from typing import NamedTuple

from tasks.engine.config import formats, keys, schema
from tasks.engine.config.keys import DEPLOY, RUN, SETUP, Key, Reader, Required
from tasks.engine.config.nodes import Mapping, Node, Place

NEEDS = ("host", "network", "jit", "proc", "gpu", "home", "logs")

# Setup installs units with the names NAME-probation@, NAME-live@, NAME-boot@, NAME-listen, NAME-hook@, NAME-run@ and
# NAME-run-health@.
_RESERVED_PROCESSES = frozenset(
    {"probation", "live", "boot", "listen", "hook", "run", "run-health", "certificate", "certificate-again"}
)
# The deploy sets these, or they can change which code runs or which socket it serves.
_RESERVED_VARIABLES = frozenset(
    {"SERVICE", "RELEASE", "HOST", "PATH", "IFS", "ENV", "BASH_ENV", "SHELLOPTS", "GUNICORN_CMD_ARGS", "NOTIFY_SOCKET"}
    | {"PYTHONHOME", "PYTHONSTARTUP", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"}
    | {"WATCHDOG_PID", "WATCHDOG_USEC", "CREDENTIALS_DIRECTORY"}
)
# Variables of the shell itself, dash or bash: it changes a value given to them, or the value ends the launcher.
_SHELL_VARIABLES = frozenset(
    {"_", "UID", "EUID", "PPID", "OPTIND", "SHLVL", "LINENO", "SECONDS", "RANDOM", "SRANDOM", "EPOCHSECONDS"}
    | {"EPOCHREALTIME", "GROUPS", "DIRSTACK", "FUNCNAME", "HISTCMD"}
)

SECRET_KINDS = ("variable", "file")
MOST_SECRETS = 100
"""Secrets of a service, and names of secrets that a host may report."""
SECRET_KEY, FALLBACKS = "SECRET_KEY", "SECRET_KEY_FALLBACKS"
"""The key that a deploy makes, and the other key during a rotation: processes get both."""


class Health(NamedTuple):
    """The health gate: `passes` answers of exactly `status` in a row over at least `settle` s, within `timeout` s."""

    path: str = "/readyz"
    status: int = 200
    timeout: int = 30
    passes: int = 3
    settle: float = 2.0


HEALTH = Health()


class Limits(NamedTuple):
    """The most that a unit may use. None: no limit of ours.

    memory: with M or G; cpu: percent of one processor, with %; tasks: processes and threads; files: open at once
    """

    memory: str | None = None
    cpu: str | None = None
    tasks: int | None = None
    files: int | None = None

    def beside(self, other: Limits) -> Limits:
        """Return these limits, with those of `other` where there is none."""
        return other._replace(**{key: value for key, value in self._asdict().items() if value is not None})

    @property
    def memory_bytes(self) -> int | None:
        """The limit of memory in bytes."""
        return int(self.memory[:-1]) << {"M": 20, "G": 30}[self.memory[-1]] if self.memory else None


NO_LIMITS = Limits()


class Process(NamedTuple):
    """A process of service.yaml: `web`, another one, or a job.

    workers, threads, worker_class: of `web` alone; None where gunicorn.conf.py may say it
    command: of any other process, an argument list in shell quoting, run without a shell; a timer also has a schedule
    copies: number of such processes (`count`); single: there may never be two
    stop: seconds that a task under way may take; None: as long as a slot may
    health: a command that succeeds while the process is well, in shell quoting
    env: its variables beside those of the service, sorted
    limits: those that differ from the service's
    """

    name: str
    command: str | None = None
    schedule: str | None = None
    workers: int | None = None
    threads: int | None = None
    worker_class: str | None = None
    copies: int = 1
    single: bool = False
    stop: int | None = None
    health: str | None = None
    env: tuple[tuple[str, str], ...] = ()
    limits: Limits = NO_LIMITS


WEB = Process("web")


class Listen(NamedTuple):
    """The TCP address on which the service itself listens; IPv6 without brackets."""

    address: str
    port: int


class Hooks(NamedTuple):
    """Commands around a run or an activation, argument lists in shell quoting, each run without a shell.

    before_activate: once for a whole deploy, on the first host, from the staged release, as the service's user.
    drain, undrain: on the controller, for each host, before and after its activation.
    before_deploy, after_deploy, on_failure: on the controller, once for a deploy, rollback or restart.
    """

    before_activate: str | None = None
    drain: str | None = None
    undrain: str | None = None
    before_deploy: str | None = None
    after_deploy: str | None = None
    on_failure: str | None = None


HOOKS = Hooks()
ONCE_A_RUN = ("before_deploy", "after_deploy", "on_failure")
"""The hooks that run once for all hosts: a host cannot override them."""
HOOK_KEYS = (
    Key("before_activate", keys.text(formats.COMMAND), None, DEPLOY,
        "Runs once for a whole deploy, on the first host, from the staged release, as the service's user. If it fails, "
        "the deploy stops", '"flask db upgrade"'),
    Key("drain", keys.text(formats.COMMAND), None, RUN,
        "Runs on your machine, for each host, before its activation", '"balancer out"'),
    Key("undrain", keys.text(formats.COMMAND), None, RUN,
        "Runs on your machine after the activation, whatever its outcome", '"balancer in"'),
    Key("before_deploy", keys.text(formats.COMMAND), None, RUN,
        "Runs on your machine, in the root of the repository, once before a deploy, rollback or restart, with a JSON "
        "document of the run on standard input. If it fails, no host is contacted", '"ops/freeze.sh"'),
    Key("after_deploy", keys.text(formats.COMMAND), None, RUN,
        "Runs as `before_deploy` does, after a run in which no host failed", '"ops/tell.sh"'),
    Key("on_failure", keys.text(formats.COMMAND), None, RUN,
        "Runs as `before_deploy` does, after a run in which a host failed or that was interrupted, and after its undo",
        '"ops/tell.sh"'),
)  # fmt: skip


def hooks(node: Node) -> Hooks:
    """Read the hooks, each of them optional."""
    return Hooks(**keys.read(node, HOOK_KEYS))


def processes(node: Node) -> tuple[Process, ...]:
    """Read all processes: `web` first, then in the order of the file; null removes one, but never `web`."""
    schema.entries(node)
    others, web, taken = [], WEB, []
    for name, value, place in schema.named(node):
        if name == "web":
            web = _web(value)
        elif not formats.PROCESS_NAME.fits(name) or name in _RESERVED_PROCESSES:
            message = f"expected {formats.PROCESS_NAME.expected}, found {schema.quoted(name)}"
            fix = f"rename it; {', '.join(sorted(_RESERVED_PROCESSES))} are taken"
            raise schema.refuse(place, message, fix)
        elif not schema.is_null(value):
            others.append(_process(name, value))
            taken += [(numbered(name, number), name) for number in range(2, others[-1].copies + 1)]
    for name, first in taken:
        if any(process.name == name for process in others):
            message = f"{name} is one of the {first} that `count` asks for"
            raise schema.refuse(schema.entries(node)[name], message, "rename one of the two")
    return (web, *others)


def numbered(name: str, number: int) -> str:
    """Return the name of one of several such processes: worker, worker-2, worker-3."""
    return name if number == 1 else f"{name}-{number}"


def env(node: Node) -> tuple[tuple[str, str], ...]:
    """Return the variables sorted by name, so that their order in the file changes nothing."""
    for name, _, place in schema.named(node):
        _require_variable(name, place)
    given = sorted(schema.entries(node).items())
    return tuple((name, schema.text(value, empty=True, lines=True)) for name, value in given)


def _require_variable(name: str, place: Node | Place) -> None:
    """Raise UsageError unless a launcher can set the variable."""
    if not formats.VARIABLE.fits(name):
        message = f"expected {formats.VARIABLE.expected}, found {schema.quoted(name)}"
        raise schema.refuse(place, message, f"write it like {formats.VARIABLE.example}")
    if name == "PYTHONPATH":
        fix = "name the folders in the key `pythonpath` of service.yaml, such as pythonpath: [src]"
        raise schema.refuse(place, f"{name} is made from the key `pythonpath`", fix)
    if name in _RESERVED_VARIABLES or name.startswith("LD_"):
        raise schema.refuse(place, f"{name} is set by the deploy or the system", "choose another name")
    if name in _SHELL_VARIABLES or name.startswith("BASH"):
        raise schema.refuse(place, f"{name} is a variable of the shell's own", "choose another name")


class Secret(NamedTuple):
    """A secret. file: the process finds it as a file alone; else as a file and a variable."""

    name: str
    file: bool = False


def secrets(node: Node) -> tuple[Secret, ...]:
    """Read the secrets, sorted by name: a mapping of names to kinds, or a list of names and such mappings."""
    items = [node] if isinstance(node, Mapping) else schema.items(node)
    for item in items:
        if item is not node and not _secrets(item):
            raise schema.refuse(item, "expected a name, found a mapping without one", "write secrets: [API_TOKEN]")
    given = [one for item in items for one in _secrets(item)]
    kinds: dict[str, Secret] = {}
    for secret, place in given:
        if secret.name in kinds:
            raise schema.refuse(place, f"{secret.name} is named twice", "keep one of the two")
        kinds[secret.name] = secret
    if len(kinds) > MOST_SECRETS:
        raise schema.refuse(node, f"{len(kinds)} secrets, and {MOST_SECRETS} at most", "put several into one file")
    return tuple(sorted(kinds.values()))


def _secrets(item: Node) -> list[tuple[Secret, Node | Place]]:
    """Return the secrets of one item of the list: a name, or a mapping of names to kinds."""
    if isinstance(item, Mapping):
        named = [(name, schema.choice(value, SECRET_KINDS) == "file", place)
                 for name, value, place in schema.named(item) if not schema.is_null(value)]  # fmt: skip
    else:
        named = [(schema.text(item, formats.VARIABLE), False, item.place)]
    found: list[tuple[Secret, Node | Place]] = []
    for name, file, place in named:
        _require_variable(name, place)
        if name == FALLBACKS:
            raise schema.refuse(place, f"{name} comes with SECRET_KEY", "name SECRET_KEY alone")
        found.append((Secret(name, file), place))
    return found


ENV = Reader(env, "a mapping of variables to texts", "{GREETING: hello}")
_OWN_ENV = Key("env", ENV, (), DEPLOY, "Variables of this process alone; they override those of the service")
LIMIT_KEYS = (
    Key("memory", keys.text(formats.MEMORY), None, SETUP,
        "Memory; the kernel kills a process of a unit that needs more. Without it, all that the host has", "512M"),
    Key("cpu", keys.text(formats.CPU), None, SETUP, "Time of processors; a unit that wants more waits", "200%"),
    Key("tasks", keys.integer(8, 65536), None, SETUP,
        "Processes and threads; without it, 4096", "256"),
    Key("files", keys.integer(64, 1_048_576), None, SETUP,
        "Files and connections that each process has open at once; without it, systemd's: 1024, which a process itself "
        "may raise to 524288", "65536"),
)  # fmt: skip


def limits(node: Node) -> Limits:
    """Read the limits of a unit, each of them optional."""
    return Limits(**keys.read(node, LIMIT_KEYS))


_OWN_LIMITS = Key("limits", keys.mapping(limits, LIMIT_KEYS), NO_LIMITS, "",
    "Limits of this process, in place of the service's of the same name")  # fmt: skip
WEB_KEYS = (
    Key("workers", keys.integer(1, 64), None, DEPLOY, "Processes of gunicorn; without it, those of `gunicorn.conf.py`, "
        "or 2", "4"),
    Key("threads", keys.integer(1, 256), None, DEPLOY,
        "Requests that each worker handles at once; 1 is gunicorn's sync worker. Without it, those of "
        "`gunicorn.conf.py`, or 4 for the default worker class", "1"),
    Key("worker_class", keys.text(formats.WORKER_CLASS), None, DEPLOY,
        "The worker class of gunicorn; without it, that of `gunicorn.conf.py`, or by `threads`: sync or gthread",
        "uvicorn_worker.UvicornWorker"),
    _OWN_ENV,
    _OWN_LIMITS,
)  # fmt: skip
PROCESS_HEALTH_KEYS = (
    Key("command", keys.text(formats.COMMAND), Required('"python -m jobs ping"'), RUN,
        "Runs in the process's sandbox, beside it: a release whose command does not exit with 0 does not hold"),
)  # fmt: skip


def _process_health(node: Node) -> str:
    return str(keys.read(node, PROCESS_HEALTH_KEYS)["command"])


PROCESS_KEYS = (
    Key("command", keys.text(formats.COMMAND), Required('"python -m jobs"'), DEPLOY,
        "An argument list in shell quoting, run without a shell from the release"),
    Key("schedule", keys.text(formats.SCHEDULE), None, SETUP,
        "A timer starts the command at these times; without a schedule, the command runs always", '"*-*-* 03:00:00"'),
    Key("count", keys.integer(1, 64), 1, SETUP, "Number of such processes, each a unit of its own", "3"),
    Key("single", keys.boolean(), False, SETUP,
        "There may never be two, for example of a scheduler: the former one ends before the new one starts", "true"),
    Key("stop", keys.integer(1, 86400), None, SETUP,
        "Seconds that a task under way may take at a stop; without it, about `drain`. Only the deploy or restart that "
        "needs the same slot again waits for it", "600"),
    Key("health", Reader(_process_health, "a mapping", "", (("", PROCESS_HEALTH_KEYS),)), None, RUN,
        "How a process says that it is well"),
    _OWN_ENV,
    _OWN_LIMITS,
)  # fmt: skip


def _web(node: Node) -> Process:
    web = Process(WEB.name, **keys.read(node, WEB_KEYS))
    if web.worker_class not in {None, "gthread"} and web.threads not in {None, 1}:
        message = f"{web.worker_class} has no threads of this kind, and threads is {web.threads}"
        fix = "remove threads, or write worker_class: gthread"
        raise schema.refuse(schema.entries(node)["threads"], message, fix)
    return web


def _process(name: str, node: Node) -> Process:
    values = keys.read(node, PROCESS_KEYS)
    process = Process(name, copies=values.pop("count"), **values)
    fields = schema.entries(node)
    for key, wanted in (("count", process.copies > 1), ("single", process.single), ("health", process.health)):
        if process.schedule and wanted:
            fix = "remove it, or the schedule"
            raise schema.refuse(fields[key], f"a timer starts {name}, so it has no {key}", fix)
    if process.single and process.copies > 1:
        raise schema.refuse(fields["count"], f"{name} is single, so there is one of it", "remove count, or single")
    return process


HEALTH_KEYS = (
    Key("path", keys.text(formats.HEALTH_PATH), HEALTH.path, DEPLOY,
        "Asked on the slot's own socket; a release gets no traffic before it answers right", "/health"),
    Key("status", keys.integer(200, 299), HEALTH.status, DEPLOY, "The one status that counts as right", "204"),
    Key("timeout", keys.integer(1, 600), HEALTH.timeout, RUN,
        "Seconds that the health check may take to pass, once the slot is up; the start may take 60 s, or this if it "
        "is longer. A value over 60 also needs setup, one over 30 a deploy", "90"),
    Key("passes", keys.integer(1, 20), HEALTH.passes, RUN, "Right answers in a row", "5"),
    Key("settle", keys.number(0, 60), HEALTH.settle, RUN,
        "The right answers must span at least this many seconds, from the same processes; shorter than `timeout`",
        "10"),
)  # fmt: skip


def health(node: Node) -> Health:
    """Read the health gate."""
    health = Health(**keys.read(node, HEALTH_KEYS))
    if health.settle >= health.timeout:
        message = f"settle ({health.settle:g} s) must be shorter than timeout ({health.timeout} s)"
        raise schema.refuse(schema.entries(node).get("settle", node), message, "raise timeout or lower settle")
    return health


class Backup(NamedTuple):
    """Commands for data beyond the state directory, argument lists in shell quoting, run without a shell."""

    command: str
    restore: str | None = None


BACKUP_KEYS = (
    Key("command", keys.text(formats.COMMAND), Required('"mongodump --archive"'), RUN,
        "Runs in the service's sandbox; what it prints to standard output is a part of the backup"),
    Key("restore", keys.text(formats.COMMAND), None, RUN,
        "Gets the output of `command` on standard input, when a backup is put back", '"mongorestore --archive --drop"'),
)  # fmt: skip


def backup(node: Node) -> Backup:
    """Read the commands of a backup."""
    return Backup(**keys.read(node, BACKUP_KEYS))


def listen(node: Node) -> Listen:
    """Return the address at which the service itself listens."""
    return Listen(*formats.split_listen(schema.text(node, formats.LISTEN)))


def include(node: Node) -> tuple[str, ...]:
    """Return the paths and globs below service/ in the order of the file."""
    return tuple(schema.text(item, formats.INCLUDE) for item in schema.items(node))


def pythonpath(node: Node) -> tuple[str, ...]:
    """Return the folders of service/ in which Python looks, in the order of the file."""
    return tuple(schema.text(item, formats.FOLDER).removesuffix("/") for item in schema.items(node))


class Dependencies(NamedTuple):
    """Extras and dependency groups of pyproject.toml that the lock has beside the dependencies, sorted."""

    extras: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


DEPENDENCIES = Dependencies()


def _choices(node: Node) -> tuple[str, ...]:
    """Return the names sorted, so that their order in the file changes nothing."""
    return tuple(sorted({schema.text(item, formats.EXTRA) for item in schema.items(node)}))


DEPENDENCY_KEYS = (
    Key("extras", Reader(_choices, "a list of names", "[postgres]"), (), DEPLOY,
        "Extras of `pyproject.toml` or `pylock.toml` that `fab lock` locks, too"),
    Key("groups", Reader(_choices, "a list of names", "[deploy]"), (), DEPLOY,
        "Dependency groups that `fab lock` locks, too; no group is locked by itself"),
)  # fmt: skip


def dependencies(node: Node) -> Dependencies:
    """Read the extras and groups that the lock has."""
    return Dependencies(**keys.read(node, DEPENDENCY_KEYS))


def shared(node: Node) -> tuple[str, ...]:
    """Return the directories of the code that live in STATE_DIRECTORY, sorted."""
    places: list[str] = []
    for item in schema.items(node):
        place = schema.text(item, formats.SHARED)
        if place.split("/")[0] == "home":
            raise schema.refuse(item, "home in STATE_DIRECTORY is the service's HOME", "name another directory")
        other = next((one for one in places if f"{place}/".startswith(f"{one}/") or one.startswith(f"{place}/")), None)
        if other is not None:
            outer, inner = sorted((other, place), key=len)
            message = f"{inner} lies in {outer}" if inner != outer else f"{place} is named twice"
            raise schema.refuse(item, message, "keep one of the two")
        places.append(place)
    return tuple(sorted(places))


def needs(node: Node) -> tuple[str, ...]:
    """Return the needs in the order of NEEDS, so that their order in the file changes nothing."""
    wanted = [schema.choice(item, NEEDS) for item in schema.items(node)]
    return tuple(need for need in NEEDS if need in wanted)
