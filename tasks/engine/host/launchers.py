"""Write the launchers that units exec: `run/web`, `run/worker`, ... of a release, a few lines of sh each. Pure."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Mapping
from typing import NamedTuple

from packaging.version import Version

from tasks.engine import quote
from tasks.engine.config.sections import FALLBACKS, SECRET_KEY
from tasks.engine.config.service import Process, Service
from tasks.engine.host import layout, log_text


def render(service: Service, release: str, host: str, gunicorn: str, *, site: bool = False) -> dict[str, str]:
    """Return the files of `run/` by name, with their text.

    A launcher for each process, `hook` (before_activate), `env.NAME` (runs its arguments as that process would run),
    `gunicorn.py` (gunicorn's settings), `shared.list` (the directories of the code that are links) and `static.list`
    (paths of URLs, each with the directory of the code that nginx serves there).

    gunicorn: its version in the venv ("27.0.1"). site: the release has the wheel of a project, in `site`.
    """
    home = f"{layout.root(service)}/releases/{release}"
    texts = {}
    for process in service.processes:
        where = _Where(service, release, host, process.env, site)
        line = _line(_words(service, process, home, gunicorn))
        texts[process.name] = _text(where, process.name, line, announced=True)
        texts[f"env.{process.name}"] = _text(where, f"a command beside {process.name}", '"$@"')
    texts["gunicorn.py"] = _gunicorn(_Where(service, release, host, site=site), home)
    if service.shared:
        texts["shared.list"] = "".join(f"{place}\n" for place in service.shared)
    if service.nginx and service.nginx.static:
        texts["static.list"] = "".join(f"{path} {place}\n" for path, place in service.nginx.static_urls)
    if service.hooks.before_activate:
        words = shlex.split(service.hooks.before_activate)
        texts["hook"] = _text(_Where(service, release, host, site=site), "hook", _line(words))
    return texts


def listed(launchers: Mapping[str, str]) -> bytes:
    """Return the file LAUNCHERS of a release: the digests of its launchers, as `sha256sum -c` reads them."""
    digests = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in launchers.items()}
    return "".join(f"{digest}  run/{name}\n" for name, digest in sorted(digests.items())).encode()


def _words(service: Service, process: Process, home: str, gunicorn: str) -> list[str]:
    if process.command is not None:
        return shlex.split(process.command)
    return _web(process, home, service.app, Version(gunicorn) >= Version("25.1"))


class _Where(NamedTuple):
    """The place that a launcher runs in. env: variables of one process; site: it has the wheel of a project."""

    service: Service
    release: str
    host: str
    env: tuple[tuple[str, str], ...] = ()
    site: bool = False


def _line(words: list[str]) -> str:
    return " ".join(quote.shell(word) for word in words)


def _text(where: _Where, name: str, line: str, *, announced: bool = False) -> str:
    """Return a launcher. announced: whether its first line in the journal names the release."""
    service, release, host, own, site = where
    home = f"{layout.root(service)}/releases/{release}"
    variables = [*_places(service), ("REQUEST_TIMEOUT", str(layout.request_timeout(service)))]
    # Trust proxy headers only from nginx: the proxy of `listen:` passes on whatever its clients send.
    variables += [] if service.nginx else [("TRUSTED_PROXIES", "0")]
    variables += [*service.env, *own, ("SERVICE", service.name), ("RELEASE", release), ("HOST", host)]
    scripts = [f"{home}/site/bin"] if site else []
    path = ":".join([*scripts, f"{home}/venv/bin", "/usr/local/bin", "/usr/bin", "/bin"])
    variables += [("PATH", path), ("PYTHONDONTWRITEBYTECODE", "1"), ("PYTHONUNBUFFERED", "1")]
    folders = [f"{home}/site"] if site else []
    folders += [f"{home}/code" if folder == "." else f"{home}/code/{folder}" for folder in service.pythonpath]
    if folders:
        variables.append(("PYTHONPATH", ":".join(folders)))
    # By this line fab logs --release finds the other lines of this start. The application can print no line before it.
    said = [f"echo '{log_text.ANNOUNCED}{release}'"] if announced else []
    lines = [
        "#!/bin/sh",
        f"# {name} of {service.name}, release {release}. It runs as the service's user, never as root.",
        *said,
        f"cd {quote.shell(home + '/code')} || exit 1",
        "# What this starts inherits the lock, which keeps the release from being pruned; flock -n does not wait.",
        f"exec 7<{quote.shell(home)}",
        "flock -n -s 7",
        f"(cd {quote.shell(layout.data(service))} && mkdir -p -m 0700 {_line(['home', *service.shared])})",
        *_secrets(service),
        *(f"export {key}={quote.shell(value)}" for key, value in variables),
        f"exec {line}",
    ]
    return "\n".join(lines) + "\n"


_LF = "'\n'"
_LACKING = """\
lacking() {
  echo "the secret $1 is not on this host: fab secrets.set $1 (if fab secrets.list shows it: fab setup)" >&2
  exit 78
}"""


def _secrets(service: Service) -> list[str]:
    """Return the lines that export the secrets, and refuse a start without one.

    systemd has put each into a file: a line feed alone if it is not on the host. `$(...)` would drop the last line
    feeds of a value, but for the dot.
    """
    lines = [_LACKING] if service.secrets else []
    for name, file in service.secrets:
        path = f'"$CREDENTIALS_DIRECTORY/{name}"'
        if file:
            lines.append(f"case $(od -An -tx1 -N2 {path}) in '' | ' 0a') lacking {name} ;; esac")
            continue
        lines += [f"{name}=$(cat {path} && echo .) || lacking {name}", f"{name}=${{{name}%.}}"]
        lines += [f'[ "${name}" != {_LF} ] || lacking {name}', f"export {name}"]
        if name == SECRET_KEY:
            other = f'"$CREDENTIALS_DIRECTORY/{FALLBACKS}"'
            lines += [f"{FALLBACKS}=$(cat {other})", f'[ -z "${FALLBACKS}" ] || export {FALLBACKS}']
    return lines


def _places(service: Service) -> list[tuple[str, str]]:
    """Return the variables by which libraries find a home and a place for caches, and read text as UTF-8."""
    cache = layout.cache(service)
    return [
        ("HOME", f"{layout.data(service)}/home"),
        ("LANG", "C.UTF-8"),
        ("XDG_CACHE_HOME", cache),
        ("MPLCONFIGDIR", f"{cache}/matplotlib"),
        ("NUMBA_CACHE_DIR", f"{cache}/numba"),
    ]


def _web(process: Process, home: str, app: str, quiet: bool) -> list[str]:
    """Return gunicorn's command line: only what service.yaml says stands there, since it overrides every file."""
    given = {"--workers": process.workers, "--threads": process.threads, "--worker-class": process.worker_class}
    words = [word for flag, value in given.items() if value is not None for word in (flag, str(value))]
    # On by default since 25.1, and the two slots of one account would use the same path.
    control = ["--no-control-socket"] if quiet else []
    return [f"{home}/venv/bin/gunicorn", "--config", f"{home}/run/gunicorn.py", *control, *words, app]


def _gunicorn(where: _Where, home: str) -> str:
    """Return gunicorn's settings, a Python file: the application's, then what neither it nor service.yaml sets."""
    service = where.service
    web = next(process for process in service.processes if process.name == "web")
    path = f"{home}/code/gunicorn.conf.py"
    lines = [
        f"# Settings of gunicorn for {service.name}, release {where.release}.",
        *(_site_first(f"{home}/site") if where.site else ()),
        f"__file__ = {path!r}",
        "try:",
        "    with open(__file__, 'rb') as text:",
        "        application = compile(text.read(), __file__, 'exec')",
        "except FileNotFoundError:",
        "    application = ''",
        "exec(application)",
        "",
        "# What neither service.yaml nor gunicorn.conf.py says.",
        'workers = globals().get("workers", 2)',
    ]
    # gunicorn kills a worker that imports for longer than `timeout`.
    patience = max(30, service.health.timeout)
    longer = layout.worker_timeout(service)
    sync = web.worker_class == "sync" or (web.worker_class is None and web.threads == 1)
    seconds = str(longer if sync else patience)
    if web.worker_class is None and web.threads is None:
        lines += [
            'threads = globals().get("threads", 1 if "worker_class" in globals() else 4)',
            'sync = threads == 1 and globals().get("worker_class", "sync") == "sync"',
        ]
        seconds = f"{longer} if sync else {patience}"
    lines += [f'timeout = globals().get("timeout", {seconds})', f"graceful_timeout = {service.drain + layout.GRACE}"]
    lines += _believed(service)
    return "\n".join(lines) + "\n"


def _believed(service: Service) -> list[str]:
    """Return what gunicorn believes of a request's headers: by a Unix socket it believes every sender.

    nginx replaces these headers. The proxy of `listen:` passes on whatever its clients send.
    """
    path = "SCRIPT_NAME" if service.nginx and service.nginx.path else ""
    lines = [f'forwarder_headers = globals().get("forwarder_headers", "{path}")']
    if not service.nginx:
        lines.append('secure_scheme_headers = globals().get("secure_scheme_headers", {})')
    return lines


def _site_first(site: str) -> tuple[str, ...]:
    return (
        "# gunicorn has put the working directory first, where the sources of the project may be.",
        "import sys",
        f"sys.path[:] = [{site!r}, *(place for place in sys.path if place != {site!r})]",
    )
