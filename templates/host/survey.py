"""Facts that operators ask for and no run needs: a host's system, disk space, rights, and what the slots use."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress

from . import memory, name_keeper, programs, run_units, small_file, upkeep
from .background import Background
from .fact_schema import Isolation, Job, Process, Slot, Survey, Upkeep, Used
from .folders import Folder
from .locks import PROC
from .run import now
from .service import Service
from .slot_names import SLOTS
from .state import Links, Units, jobs, processes
from .units import allowed, last_lines
from .used import by_age, in_use, named_by

_SECONDS = 20
_PIDS = 4096
"""Processes to look at in a slot."""
_LINES, _LINE = 100, 1000
"""Lines of a journal to report, and characters of each: its end, where a structured line has the exception."""
_CERTIFICATE = re.compile("-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----")
_NEVER_COUNTED = str(2**64 - 1)
"""Older versions of systemd report this if they never counted bytes."""


class Questions:
    """The questions that take a program each, asked in parallel. rights: whether to ask sudo."""

    def __init__(self, service: Service, *, rights: bool) -> None:
        self._service, self._rights = service, rights
        self._systemd = Background(lambda: programs.ask("systemctl", "--version", seconds=_SECONDS).output)
        self._certificate = Background(lambda: _certificate_end(service.name))
        self._differs = Background(lambda: _certificate_differs(service))
        self._commands = Background(lambda: run_units.at_work(service.name))
        self._oom_kills = Background(lambda: memory.killed_lately(_all(service)))
        # Asks sudo about the rule, without using it.
        self._rules = Background(lambda: rights and allowed("start", service.slot("blue")))

    def facts(self, links: Links, units: Units, root: Folder | None) -> Survey:
        """Return the answers. root: the directory of the service, if it exists."""
        version = re.match(r"systemd ([0-9]+)", self._systemd.result())
        room = os.statvfs(_existing(self._service.root))
        serves = links.serves
        release, unit = links.releases.get(serves, ""), self._service.slot(serves) if serves else ""
        kept = Background(lambda: upkeep.look(self._service.root, release, unit) if self._rights else Upkeep())
        return Survey(
            uptime=int(now()),
            os=_system(),
            systemd=int(version[1]) if version else 0,
            selinux=small_file.read("/sys/fs/selinux/enforce", 10).strip() == "1",
            free_bytes=room.f_bavail * room.f_frsize,
            free_inodes=room.f_favail,
            certificate_end=self._certificate.result(),
            certificate_fault=_certificate_fault(units.get(f"{self._service.name}-certificate.service", {})),
            certificate_differs=self._differs.result(),
            jobs={unit: _job(units, unit) for unit in jobs(self._service)},
            processes={unit: _process(units, unit) for unit in processes(self._service, links)},
            used=dict(_used(root, links, self._service.name)) if root else {},
            rules=self._rules.result(),
            isolation=_isolation(units.get(self._service.slot(serves), {})) if self._rights and serves else Isolation(),
            said=_said(self._service, links, units) if self._rights else (),
            commands=self._commands.result(),
            oom_kills=self._oom_kills.result(),
            upkeep=kept.result(),
        )

    def slots(self, known: Mapping[str, Slot], units: Units) -> dict[str, Slot]:
        """Add to each known slot what it uses."""
        return {name: slot(units.get(self._service.slot(name), {}), known[name]) for name in known}


def _all(service: Service) -> list[str]:
    """Return every unit of a service that runs code of a release, but those of `fab run`, whose names have numbers."""
    slots = [unit for slot in SLOTS for unit in (service.slot(slot), service.hook(slot))]
    return [*slots, *(process.of(slot) for process in service.processes for slot in SLOTS), *jobs(service)]


def _existing(path: str) -> str:
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


def _system() -> str:
    """Return the name of the system. os-release is a shell script, but only read as text."""
    names = re.findall(r"^PRETTY_NAME=(.*)", small_file.read("/etc/os-release"), re.MULTILINE)
    return names[-1].replace('"', "").replace("'", "")[:200] if names else ""


def _certificate_end(name: str) -> str:
    data = small_file.content(f"/etc/{name}/tls/certificate.pem", 1 << 20)
    if not data:
        return ""
    answer = programs.ask("openssl", "x509", "-noout", "-enddate", data=data, seconds=_SECONDS)
    return answer.output.strip().partition("=")[2][:100] if answer.well else ""


def _certificate_fault(shown: Mapping[str, str]) -> str:
    """Return the last log line of the unit that gives nginx a new certificate, if it failed."""
    invocation = shown.get("InvocationID", "")
    if shown.get("ActiveState") != "failed" or not re.fullmatch("[0-9a-f]{32}", invocation):
        return ""
    said = last_lines([invocation], 1)
    return said[-1][-_LINE:] if said else "see the journal"


def _certificate_differs(service: Service) -> bool:
    """Return whether nginx shows another certificate than its file has; False if either cannot be seen."""
    name = service.front.host
    keeper = name_keeper.find(name) if service.front.prefix else ""
    there = _CERTIFICATE.search(small_file.read(f"/etc/{keeper or service.name}/tls/certificate.pem", 1 << 20))
    if service.front.kind != "https" or not there:
        return False
    ask = ("openssl", "s_client", "-connect", "127.0.0.1:443", "-servername", name)
    shown = _CERTIFICATE.search(programs.ask(*ask, seconds=_SECONDS).output)
    return shown is not None and shown[0].split() != there[0].split()


def _number(text: str | None) -> int | None:
    """Parse a number that systemd prints; None for `[not set]`."""
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 21 else None


def _seconds(text: str | None) -> int | None:
    """Convert systemd's microseconds since boot to seconds; None for a moment that never was."""
    return (_number(text) or 0) // 1_000_000 or None


def _job(units: Units, unit: str) -> Job:
    shown = units.get(unit, {})
    began, ended = (_seconds(shown.get(f"ExecMain{end}TimestampMonotonic")) for end in ("Start", "Exit"))
    state, result = shown.get("ActiveState", ""), shown.get("Result", "")
    return Job(state, result, _number(shown.get("ExecMainStatus")), ended, began)


def _process(units: Units, unit: str) -> Process:
    shown = units.get(unit, {})
    return Process(_number(shown.get("NRestarts")), _seconds(shown.get("ActiveEnterTimestampMonotonic")))


def slot(shown: Mapping[str, str], known: Slot) -> Slot:
    """Add to a known slot what it uses. shown: its unit's properties."""
    main = _number(shown.get("MainPID"))
    counted = known._replace(
        began=_seconds(shown.get("ActiveEnterTimestampMonotonic")),
        restarts=_number(shown.get("NRestarts")),
        memory=_number(shown.get("MemoryCurrent")),
    )
    if not main:
        return counted
    workers = small_file.read(f"{PROC}/{main}/task/{main}/children").split()
    pids = small_file.read(f"/sys/fs/cgroup{shown.get('ControlGroup', '')}/cgroup.procs").split()
    # In a container this path may be another cgroup.
    pids = (pids if str(main) in pids else [str(main), *workers])[:_PIDS]
    pss = _sum(pids, "smaps_rollup", "Pss")
    return counted._replace(workers=len(workers), pss=pss, rss=None if pss else _sum(pids, "status", "VmRSS"))


def _sum(pids: list[str], file: str, word: str) -> int | None:
    """Return the bytes of all processes together; None unless all of them can be read."""
    matches = [
        re.search(rf"^{word}:\s*([0-9]+) kB", small_file.read(f"{PROC}/{pid}/{file}", 1 << 14), re.MULTILINE)
        for pid in pids
    ]
    return sum(int(match[1]) for match in matches if match) * 1024 if all(matches) else None


def _isolation(shown: Mapping[str, str]) -> Isolation:
    """Return how far the live slot is cut off from networks that `needs` does not name, as the kernel shows it."""
    main = _number(shown.get("MainPID"))
    routes = small_file.read(f"{PROC}/{main}/net/route") if main else ""
    if not routes:
        return Isolation()
    addresses = [line for line in small_file.read(f"{PROC}/{main}/net/if_inet6").splitlines() if line[-3:] != " lo"]
    outside = len(routes.splitlines()) > 1 or bool(addresses)
    if shown.get("IPAccounting") != "yes":
        return Isolation(outside, seen=True)
    # systemd has counters only if the kernel let it install the filter.
    counted = shown.get("IPIngressBytes", "")
    return Isolation(outside, counted.isdigit() and counted != _NEVER_COUNTED, seen=True)


def _said(service: Service, links: Links, units: Units) -> tuple[str, ...]:
    """Return the last lines of the live slot, its processes and the jobs."""
    names = [service.slot(links.serves), *processes(service, links), *jobs(service)]
    started = [units.get(name, {}).get("InvocationID", "") for name in names]
    found = last_lines([one for one in started if re.fullmatch("[0-9a-f]{32}", one)], _LINES)
    return tuple(line[-_LINE:] for line in found)


def _used(root: Folder, links: Links, service: str) -> list[tuple[str, Used]]:
    """Return the releases in neither slot that a process still runs from."""
    releases_in_use = []
    with suppress(OSError), root.below("releases") as releases:
        for place, name in enumerate(by_age(releases), 1):
            if name not in links.releases.values() and in_use(releases, name, service):
                users = {*named_by(service, name), *_openers(f"{root.path}/releases/{name}")}
                releases_in_use.append((name, Used(place, tuple(sorted(users)[:_PIDS]))))
    return releases_in_use


def _openers(path: str) -> Iterator[int]:
    """Yield the processes that have a directory open, as far as this account can see."""
    for pid in filter(str.isdigit, os.listdir(PROC)):
        with suppress(OSError):
            if any(_leads(f"{PROC}/{pid}/fd/{file}", path) for file in os.listdir(f"{PROC}/{pid}/fd")):
                yield int(pid)


def _leads(link: str, path: str) -> bool:
    try:
        return os.readlink(link) == path
    except OSError:
        return False
