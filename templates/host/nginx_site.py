"""Make nginx serve our site: check its configuration and ports, reload it, and check that other sites still answer."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from . import accounts, nginx_conf, own_addresses, programs
from .files import RootFiles
from .folders import Folder
from .run import Refused, Run

_RELOAD_SECONDS = 10
_CONFLICT = re.compile(r'conflicting server name "([^"]*)" on \S+:(?:80|443),')
_UNIT = "nginx.service"
_LISTENER = re.compile(r":(\d+) .* ino:(\d+) ")
_HOLDER = re.compile(r'users:\(\("([^"]*)",pid=(\d+)')
_NAME_SECONDS = 5
"""Seconds to look for the name of a program that has a port."""


def require_fitting(name: str, socket: bytes) -> None:
    """Refuse, before any change to a file of ours, an nginx that would not read our file, or not reach the service.

    socket: the unit of a slot's socket, which names the group that may connect.
    """
    if not nginx_conf.reads(f"{nginx_conf.FOLDER}/conf.d/{name}.conf"):
        raise Refused(
            f"nginx of this host does not read {nginx_conf.FOLDER}/conf.d/{name}.conf: add "
            f"`include {nginx_conf.FOLDER}/conf.d/*.conf;` to the block `http` of {nginx_conf.FOLDER}/nginx.conf, "
            "and run this again"
        )
    worker = accounts.of_nginx().name
    if f"SocketGroup={worker}\n".encode() not in socket:
        raise Refused(
            f"nginx's workers run as {worker} on this host, which this run did not know: run it again, "
            "with --as root if the deploy account cannot read nginx.conf"
        )


class Nginx:
    """nginx during a setup. restore_files: puts the former files back."""

    def __init__(self, run: Run, changes: RootFiles, restore_files: Callable[[], None]) -> None:
        self._run, self._changes, self._restore_files = run, changes, restore_files
        self._name, self._front, self._names = (run.step[key] for key in ("name", "front", "names"))
        self.reloaded = False

    def start(self, renewed: bool) -> None:
        """Check, then reload or start; Refused if nginx cannot serve our site beside the others.

        renewed: nginx must read a file that changed outside of `changes`.
        """
        if self._front == "listen":
            if programs.active(_UNIT) and self._changes.changed("/etc/nginx/"):
                self._check()
                self._reload()
            return
        enabled = programs.ask("systemctl", "is-enabled", "-q", _UNIT).well or programs.systemctl("enable", "-q", _UNIT)
        if not enabled:
            raise Refused("systemd does not enable nginx: see systemctl status nginx on this host")
        up = programs.active(_UNIT)
        changed = any(
            map(self._changes.changed, ("/etc/nginx/", f"/etc/{self._name}/tls/", f"/etc/{self._name}/nginx/"))
        )
        if up and not changed and not renewed:
            return
        self._run.say("nginx", "check and reload")
        self._check()
        main = programs.unit_property(_UNIT, "MainPID")
        require_ports((80, 443) if self._front == "https" else (80,), main)
        if up:
            self._reload_beside_others(main)
        elif not programs.systemctl("start", _UNIT):
            self._run.quote(programs.ask("journalctl", "-q", "--no-pager", "-o", "cat", "-n", "5", "-u", _UNIT).output)
            raise Refused("nginx does not start")

    def _check(self) -> None:
        """Check the configuration; if it fails, check it again without our files, to learn which file is at fault."""
        checked = programs.ask("nginx", "-t", errors=True)
        if checked.well:
            for name in _CONFLICT.findall(checked.output):
                if name in self._names:
                    raise Refused(f"another site of this nginx has the name {name} already")
                if self._run.step["balancer_check"] and (name == "" or name in own_addresses.found()):
                    asked = f"under {name}" if name else "without a name"
                    raise Refused(f"another site of this nginx answers {asked} already, so balancer_check cannot")
            return
        self._run.quote(checked.output)
        self._restore_files()
        if not programs.ask("nginx", "-t", "-q").well:
            raise Refused("nginx refuses its own configuration, and not for a file of this service: fix it first")
        raise Refused("nginx refuses the configuration with our file in place")

    def _reload_beside_others(self, main: str) -> None:
        before = _unknown_name_statuses()
        self._reload(main)
        after = _unknown_name_statuses()
        for port, (was, now) in zip((80, 443), zip(before, after)):
            # Without default_server the first site of a port gets unknown names, and ours may become the first.
            if was != "000" and now == "000":
                raise Refused(
                    f"this service would take the requests for unknown names on port {port} from another site of this "
                    f"nginx: add default_server to the `listen {port}` of that site"
                )

    def _reload(self, main: str = "") -> None:
        self.reloaded = True
        if not reload(main):
            self._run.quote("\n".join(_tail("/var/log/nginx/error.log", 3)))
            raise Refused("nginx was told to reload, and keeps its former configuration")


def require_ports(ports: Sequence[int], main: str) -> None:
    """Refuse a port that another program has: `nginx -t` opens none, and a reload that cannot open one fails silently.

    main: PID of nginx
    """
    ours = _open_files(main)
    # Not -p, which reads all that any account has open: that may be millions of files.
    for line in programs.ask("ss", "-Hltne", " or ".join(f"sport = :{port}" for port in ports)).output.splitlines():
        there = _LISTENER.search(line)
        if there and f"socket:[{there[2]}]" not in ours:
            raise Refused(f"port {there[1]} is held by {_holder(*there.groups())}, so nginx cannot have it")


def _open_files(pid: str) -> set[str]:
    """Return the links to the open files of a process; none if there is no such process."""
    found = set()
    with suppress(OSError), os.scandir(f"/proc/{pid}/fd") as files:
        for file in files:
            with suppress(OSError):
                found.add(os.readlink(file.path))
    return found


def _holder(port: str, inode: str) -> str:
    """Return the program that has a listening socket, and its PID."""
    shown = programs.ask("ss", "-Hltnpe", f"sport = :{port}", seconds=_NAME_SECONDS).output
    for line in shown.splitlines():
        holder = _HOLDER.search(line)
        if holder and f" ino:{inode} " in line:
            return f"{holder[1]} (pid {holder[2]})"
    return "another program"


def reload(main: str = "") -> bool:
    """Reload nginx; return True once no old worker accepts connections, False if that takes over ten seconds.

    main: PID of nginx, if it is known
    """
    former = _workers(main or programs.unit_property(_UNIT, "MainPID"))
    if not programs.systemctl("reload", _UNIT):
        return False
    deadline = time.monotonic() + _RELOAD_SECONDS
    while any(_takes_connections(pid) for pid in former):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def show_certificate(run: Run) -> None:
    """Let nginx show a new certificate, if it is up; Refused if it keeps the former one."""
    run.say("nginx", "check and reload")
    checked = programs.ask("nginx", "-t", errors=True)
    if not checked.well:
        run.quote(checked.output)
        raise Refused("nginx refuses its configuration with the new certificate: it keeps the former one")
    if programs.active(_UNIT) and not reload():
        raise Refused("nginx was told to reload, and keeps its former certificate")


def _workers(main: str) -> list[str]:
    return (_read(f"/proc/{main}/task/{main}/children") or "").split()


def _takes_connections(pid: str) -> bool:
    title = _read(f"/proc/{pid}/cmdline")
    return bool(title) and "shutting down" not in (title or "")


def _read(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(65536)
    except OSError:
        return None


def _tail(path: str, count: int) -> list[str]:
    folder, name = os.path.split(path)
    try:
        # The directory may be that of nginx's workers, who could put a pipe there.
        with Folder.open(folder) as place, place.reader(name) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 8192))
            return file.read(8192).decode("utf-8", "replace").splitlines()[-count:]
    except OSError:
        return []


def _unknown_name_statuses() -> tuple[str, str]:
    """Return the status for a name that no site has, by HTTP and by HTTPS; 000 for no answer."""
    ask = ("-s", "-o", "/dev/null", "--noproxy", "*", "--max-time", "5", "-w", "%{http_code}\n")
    curl = programs.ask(
        *("curl", *ask, "--resolve", "stranger.invalid:80:127.0.0.1", "http://stranger.invalid/"),
        *("--next", "-k", *ask, "--resolve", "stranger.invalid:443:127.0.0.1", "https://stranger.invalid/"),
    )
    http, https = (*curl.output.split(), "000", "000")[:2]
    return http, https
