"""Read service.yaml; validate it whole, alone and with each host's overrides, before any connection."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from tasks.engine.config import audit, formats, gateway, keys, schema, sections, yaml_reader
from tasks.engine.config.audit import AUDIT, AUDIT_KEYS, Audit
from tasks.engine.config.gateway import Nginx, Tls
from tasks.engine.config.inventory import Host
from tasks.engine.config.keys import DEPLOY, RUN, SETUP, Key, Reader, Required
from tasks.engine.config.nodes import Mapping, Node, merge
from tasks.engine.config.sections import (
    DEPENDENCIES,
    HEALTH,
    HOOKS,
    LIMIT_KEYS,
    NO_LIMITS,
    WEB,
    Backup,
    Dependencies,
    Health,
    Hooks,
    Limits,
    Listen,
    Process,
    Secret,
)
from tasks.engine.config.yaml_reader import Document
from tasks.engine.errors import UsageError

__all__ = ["Dependencies", "Health", "Listen", "Nginx", "Process", "Secret", "Service", "Tls", "describe", "load"]

_CREATE = 'create it with the lines `name: myapp`, `app: "app:create_app()"` and `listen: 127.0.0.1:8080`'

SAME = ("name", "pythonpath", "dependencies", "include", "shared", "build", "audit")
"""The keys that are the same on every host: one release is sent to all, and one audit asks them."""

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
    nginx: Nginx | None = None
    needs: tuple[str, ...] = ()
    limits: Limits = NO_LIMITS
    env: tuple[tuple[str, str], ...] = ()
    secrets: tuple[Secret, ...] = ()
    hooks: Hooks = HOOKS
    pythonpath: tuple[str, ...] = ()
    dependencies: Dependencies = DEPENDENCIES
    include: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()
    build: str | None = None
    backup: Backup | None = None
    audit: Audit = AUDIT
    keep: int = 5


_USUAL = Service("", "")


def _name(node: Node) -> str:
    name = schema.text(node, formats.SERVICE_NAME)
    if name in _TAKEN:
        raise schema.refuse(node, f"{name} is a name of the system's own", "choose another name")
    return name


KEYS = (
    Key("name", Reader(_name, formats.SERVICE_NAME.expected, "myapp"), Required("myapp"), "nothing",
        "The name of units, directories and account on the host. Another name is another service"),
    Key("app", keys.text(formats.APP), Required('"app:create_app()"'), DEPLOY,
        "What gunicorn loads, from the folder `service/`"),
    Key("python", keys.text(formats.SPECIFIER), _USUAL.python, DEPLOY,
        "The versions of Python that fit; the newest on the host is taken", '">=3.11"'),
    Key("processes", Reader(sections.processes, "a mapping of names to processes", "",
        (("web", sections.WEB_KEYS), ("NAME", sections.PROCESS_KEYS))), _USUAL.processes, SETUP,
        "`web`, which gunicorn serves, and further processes and jobs. null removes one, but never `web`"),
    Key("health", keys.mapping(sections.health, sections.HEALTH_KEYS), HEALTH, "", "The health gate"),
    Key("drain", keys.integer(0, 300), _USUAL.drain, SETUP,
        "Seconds that running requests may take to end when a release is replaced. Also a setting of gunicorn, which "
        "only a deploy changes", "60"),
    Key("probation", keys.integer(0, 3600), _USUAL.probation, RUN,
        "Seconds after the switch in which the host goes back by itself; 0 commits at once", "300"),
    Key("listen", Reader(sections.listen, formats.LISTEN.expected, formats.LISTEN.example), None, SETUP,
        "The TCP address on which the service is reached without nginx, or beside it"),
    Key("nginx", keys.mapping(gateway.nginx, gateway.NGINX_KEYS), None, "",
        "The nginx in front of the service; without it, `listen` is needed"),
    Key("needs", Reader(sections.needs, f"a list of {', '.join(sections.NEEDS)}", "[network]"), (), SETUP,
        "What the sandbox opens ([HOST.md](HOST.md#what-needs-opens))"),
    Key("limits", keys.mapping(sections.limits, LIMIT_KEYS), NO_LIMITS, "",
        "The most that each unit may use: each slot, process, job, `before_activate` and command of `fab run` by "
        "itself. What runs keeps its former limits until it starts again ([HOST.md](HOST.md#limits))"),
    Key("env", sections.ENV, (), DEPLOY,
        "The environment of the service, its processes and `before_activate`. Values arrive as they are, `$` and "
        "several lines too. No secrets: this file is in git"),
    Key("secrets", Reader(sections.secrets, "a list of names, or a mapping of names to `variable` or `file`",
        "[API_TOKEN, {TLS_KEY: file}]"), (), SETUP,
        "Names of secrets; `fab secrets.set NAME` brings a value to the hosts ([SECRETS.md](SECRETS.md)). The process "
        "finds the variable `NAME` and the file `$CREDENTIALS_DIRECTORY/NAME`; with `file` the file alone"),
    Key("hooks", keys.mapping(sections.hooks, sections.HOOK_KEYS), HOOKS, "",
        "Commands around a run and an activation"),
    Key("pythonpath", Reader(sections.pythonpath, f"a list, each {formats.FOLDER.expected}", "[src]"), (), DEPLOY,
        "Folders in which Python looks for modules, for `web`, processes, hooks and `fab run` alike"),
    Key("dependencies", keys.mapping(sections.dependencies, sections.DEPENDENCY_KEYS), DEPENDENCIES, "",
        "What `fab lock` takes beside the dependencies themselves; run `fab lock` after a change"),
    Key("include", Reader(sections.include, f"a list, each {formats.INCLUDE.expected}",
        "[app/static/dist, models/*.bin]"), (), DEPLOY,
        "Paths and globs of files that a release has although git ignores them or they are larger than 10 MB; never "
        "`.env` files and private keys"),
    Key("shared", Reader(sections.shared, f"a list, each {formats.SHARED.expected}", "[media, instance]"), (), DEPLOY,
        "Directories of the code in which the service writes: links to directories of the same path in "
        "`STATE_DIRECTORY`, which the service makes when it starts. Git has no file there"),
    Key("build", keys.text(formats.COMMAND), None, DEPLOY,
        "Runs on your machine, in the root of the repository, before `fab deploy` and `fab plan` make the release. If "
        "it fails, no host is contacted", '"npm run build"'),
    Key("backup", keys.mapping(sections.backup, sections.BACKUP_KEYS), None, "",
        "Data beyond the state directory and PostgreSQL, for `fab backup` and `fab restore`"),
    Key("audit", keys.mapping(audit.audit, AUDIT_KEYS), AUDIT, "", "Known vulnerabilities, as `fab audit` shows them"),
    Key("keep", keys.integer(2, 100), _USUAL.keep, RUN,
        "The newest releases that stay on the host, the committed one among them", "10"),
)  # fmt: skip


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
    for key in SAME:
        if key in host.service.keys:
            place = host.service.keys[key]
            raise schema.refuse(place, f"{key} is the same on every host", "remove it; set it in service.yaml")
    hooks = host.service.entries.get("hooks")
    for key, place in hooks.keys.items() if isinstance(hooks, Mapping) else ():
        if key in sections.ONCE_A_RUN:
            raise schema.refuse(place, f"{key} runs once for all hosts", "remove it; set it in service.yaml")
    try:
        return _service(merge(document.root, host.service))
    except UsageError as error:
        message = f"with the overrides of {host.name}: {error.message}"
        raise UsageError(message, where=error.where, next=error.next) from None


def places(document: Document, key: str) -> dict[str, str]:
    """Return each text of a list in service.yaml (`include`, `pythonpath`), with its place."""
    found = schema.entries(document.root).get(key)
    return {schema.text(item): str(item.place) for item in schema.items(found)} if found else {}


def static_places(document: Document, host: Host | None) -> dict[str, str]:
    """Return each directory of `nginx.static` as this host gets it, with its place."""
    root = merge(document.root, host.service) if host and host.service else document.root
    nginx = schema.entries(root).get("nginx")
    found = schema.entries(nginx).get("static") if nginx else None
    return {schema.text(node): str(node.place) for node in schema.entries(found).values()} if found else {}


def _service(root: Node) -> Service:
    if schema.is_null(root):
        raise schema.refuse(root, "the service description is empty", _CREATE)
    service = Service(**keys.read(root, KEYS))
    _require_reachable(service, root)
    _require_safe_static(service, root)
    _require_secrets_apart(service, root)
    if service.nginx and service.nginx.balancer_check and not formats.PLAIN_PATH.fits(service.health.path):
        place = schema.entries(schema.entries(root)["nginx"])["balancer_check"]
        message = f"nginx cannot ask for health.path as it is: {schema.quoted(service.health.path)}"
        raise schema.refuse(place, message, f"give health {formats.PLAIN_PATH.expected}, or remove balancer_check")
    return service


def _require_safe_static(service: Service, root: Node) -> None:
    """Refuse to let nginx serve the service's data, or the application's code, as static files."""
    module = service.app.partition(":")[0].replace(".", "/")
    code = [module, *(f"{folder}/{module}" for folder in service.pythonpath)]
    for path, place in service.nginx.static if service.nginx else ():
        node = schema.entries(schema.entries(schema.entries(root)["nginx"])["static"])[path]
        shared = next((one for one in service.shared if f"{place}/".startswith(f"{one}/")), None)
        if shared:
            message = f"{shared} is `shared`, so its files are data that only the service may read"
            raise schema.refuse(node, message, f"let the application serve {path}, or take {shared} out of `shared`")
        if any(f"{one}/".startswith(f"{place}/") for one in code):
            message = f"{place} has the code of the application, which nginx would serve"
            raise schema.refuse(node, message, f"name a directory of static files alone, such as {place}/static")


def _require_secrets_apart(service: Service, root: Node) -> None:
    """Refuse a secret whose variable `env` sets, too."""
    secrets = {secret.name for secret in service.secrets if not secret.file}
    if sections.SECRET_KEY in secrets:
        secrets.add(sections.FALLBACKS)
    of_processes = {process.name: process.env for process in service.processes}
    for owner, env in {"": service.env, **of_processes}.items():
        for name in sorted(secrets & dict(env).keys()):
            fields = schema.entries(root)
            place = schema.entries(schema.entries(fields["processes"])[owner])["env"] if owner else fields["env"]
            fix = "remove it there: secrets stand in no file of the repository"
            raise schema.refuse(place, f"{name} is one of `secrets`, and `env` sets it, too", fix)


def _require_reachable(service: Service, root: Node) -> None:
    """Refuse a service that no traffic can reach, or one that takes a port of nginx."""
    if service.listen is None and service.nginx is None:
        fix = "add `listen: 127.0.0.1:8080`, or `nginx: {server_name: myapp.example}`"
        raise schema.refuse(root, "nothing could reach the service: it has neither nginx nor listen", fix)
    if service.listen and service.nginx and service.nginx.path:
        message = f"clients of listen would not come below {service.nginx.path}, and could claim another path"
        place = schema.entries(schema.entries(root)["nginx"])["path"]
        raise schema.refuse(place, message, "remove path or listen")
    if service.listen and service.nginx and service.listen.port in (80, 443):
        message = f"nginx itself uses port {service.listen.port}"
        raise schema.refuse(
            schema.entries(root)["listen"], message, "write another port, such as listen: 127.0.0.1:8080"
        )
