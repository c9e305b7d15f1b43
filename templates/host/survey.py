"""What people want to know of a host, and no run: its system, its room, its rights, and what the slots use."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress

from . import programs
from .beside import Background
from .folders import Folder
from .locks import PROC
from .run import now
from .service import Service
from .state import Links, Units, jobs
from .told import Isolation, Job, Slot, Survey, Used
from .units import allowed
from .used import by_age, in_use, named_by

_SECONDS = 20
_PIDS = 4096
"""Processes of a slot that are looked at."""
_NEVER_COUNTED = str(2**64 - 1)
"""What older versions of systemd say of bytes that were never counted."""


class Questions:
    """Those that take a program each, asked side by side from the beginning. rights: whether sudo is asked."""

    def __init__(self, service: Service, *, rights: bool) -> None:
        self._service, self._rights = service, rights
        self._systemd = Background(lambda: programs.ask("systemctl", "--version", seconds=_SECONDS).output)
        self._certificate = Background(lambda: _certificate_end(service.name))
        # Asked about, and not used.
        self._rules = Background(lambda: rights and allowed("start", service.slot("blue")))

    def told(self, links: Links, units: Units, root: Folder | None) -> Survey:
        """The answers. root: the directory of the service, if it is there."""
        version = re.match(r"systemd ([0-9]+)", self._systemd.result())
        room = os.statvfs(_existing(self._service.root))
        serves = links.serves
        return Survey(
            uptime=int(now()),
            os=_system(),
            systemd=int(version[1]) if version else 0,
            selinux=_read("/sys/fs/selinux/enforce", 10).strip() == "1",
            free_bytes=room.f_bavail * room.f_frsize,
            free_inodes=room.f_favail,
            certificate_end=self._certificate.result(),
            jobs={unit: _job(units, unit) for unit in jobs(self._service)},
            used=dict(_used(root, links, self._service.name)) if root else {},
            rules=self._rules.result(),
            isolation=_isolation(units.get(self._service.slot(serves), {})) if self._rights and serves else Isolation(),
        )

    def slots(self, known: Mapping[str, Slot], units: Units) -> dict[str, Slot]:
        """What is known of each slot, and what it uses."""
        return {name: slot(units.get(self._service.slot(name), {}), one) for name, one in known.items()}


def _existing(path: str) -> str:
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


def _read(path: str, limit: int) -> str:
    """The beginning of a file; empty where it may not be read."""
    try:
        with open(path, "rb") as file:
            return file.read(limit).decode("utf-8", "replace")
    except OSError:
        return ""


def _system() -> str:
    """How it calls itself. Read as a text, whoever wrote it."""
    named = re.findall(r"^PRETTY_NAME=(.*)", _read("/etc/os-release", 1 << 16), re.MULTILINE)
    return named[-1].replace('"', "").replace("'", "")[:200] if named else ""


def _certificate_end(name: str) -> str:
    path = f"/etc/{name}/tls/certificate.pem"
    if not os.access(path, os.R_OK):
        return ""
    told = programs.ask("openssl", "x509", "-noout", "-enddate", "-in", path, seconds=_SECONDS)
    return told.output.strip().partition("=")[2][:100] if told.well else ""


def _number(text: str | None) -> int | None:
    """A number of systemd's; None for `[not set]`."""
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 21 else None


def _seconds(text: str | None) -> int | None:
    """Seconds since boot of a moment that systemd tells in millionths; None for one that never was."""
    return (_number(text) or 0) // 1_000_000 or None


def _job(units: Units, unit: str) -> Job:
    told = units.get(unit, {})
    ended = _seconds(told.get("ExecMainExitTimestampMonotonic"))
    return Job(told.get("ActiveState", ""), told.get("Result", ""), _number(told.get("ExecMainStatus")), ended)


def slot(told: Mapping[str, str], known: Slot) -> Slot:
    """What is known of a slot, and what it uses. told: by systemd."""
    main = _number(told.get("MainPID"))
    found = known._replace(
        began=_seconds(told.get("ActiveEnterTimestampMonotonic")),
        restarts=_number(told.get("NRestarts")),
        memory=_number(told.get("MemoryCurrent")),
    )
    if not main:
        return found
    workers = _read(f"{PROC}/{main}/task/{main}/children", 1 << 16).split()
    pids = _read(f"/sys/fs/cgroup{told.get('ControlGroup', '')}/cgroup.procs", 1 << 16).split()
    # A host that is a container may see another group there than its own.
    pids = (pids if str(main) in pids else [str(main), *workers])[:_PIDS]
    pss = _sum(pids, "smaps_rollup", "Pss")
    return found._replace(workers=len(workers), pss=pss, rss=None if pss else _sum(pids, "status", "VmRSS"))


def _sum(pids: list[str], file: str, word: str) -> int | None:
    """Bytes of all processes together; None unless every one of them can be asked."""
    found = [
        re.search(rf"^{word}:\s*([0-9]+) kB", _read(f"{PROC}/{pid}/{file}", 1 << 14), re.MULTILINE) for pid in pids
    ]
    return sum(int(one[1]) for one in found if one) * 1024 if all(found) else None


def _isolation(told: Mapping[str, str]) -> Isolation:
    """What keeps the service from networks that its `needs` do not name, as it came out."""
    main = _number(told.get("MainPID"))
    routes = _read(f"{PROC}/{main}/net/route", 1 << 16) if main else ""
    if not routes:
        return Isolation()
    addresses = [line for line in _read(f"{PROC}/{main}/net/if_inet6", 1 << 16).splitlines() if line[-3:] != " lo"]
    outside = len(routes.splitlines()) > 1 or bool(addresses)
    if told.get("IPAccounting") != "yes":
        return Isolation(outside)
    # It has counters where the kernel let it put the filter there.
    counted = told.get("IPIngressBytes", "")
    return Isolation(outside, counted.isdigit() and counted != _NEVER_COUNTED)


def _used(root: Folder, links: Links, service: str) -> list[tuple[str, Used]]:
    """The releases of no slot from which something runs."""
    found = []
    with suppress(OSError), root.below("releases") as releases:
        for place, name in enumerate(by_age(releases), 1):
            if name not in links.releases.values() and in_use(releases, name, service):
                users = {*named_by(service, name), *_openers(f"{root.path}/releases/{name}")}
                found.append((name, Used(place, tuple(sorted(users)[:_PIDS]))))
    return found


def _openers(path: str) -> Iterator[int]:
    """The processes that have a directory open, as far as this account may know."""
    for pid in filter(str.isdigit, os.listdir(PROC)):
        with suppress(OSError):
            if any(_leads(f"{PROC}/{pid}/fd/{file}", path) for file in os.listdir(f"{PROC}/{pid}/fd")):
                yield int(pid)


def _leads(link: str, path: str) -> bool:
    try:
        return os.readlink(link) == path
    except OSError:
        return False
