"""Name the paths and units of a service on a host. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

from tasks.engine.config import sections
from tasks.engine.config.gateway import Tls
from tasks.engine.config.service import Process, Service
from templates.host.slot_names import SLOTS

JOB_STOP = 90
"""Seconds that a job has for its stop, if service.yaml does not say: those that systemd gives by itself."""
GRACE = 2
"""Seconds that gunicorn waits longer than `drain`. systemd waits longer still: `stop_timeout`."""
SYSTEMCTL = "/usr/bin/systemctl"
SYSTEMCTLS = frozenset({SYSTEMCTL, "/bin/systemctl"})
"""The paths that distributions use: a sudo rule names no other program, whatever a host reports."""
TASKS = 4096
"""Processes and threads that a unit may have where service.yaml says nothing: no service needs more by accident."""
VERSION = 3
"""The layout's version in a host's record; raised when setup has to move files that older versions look for."""
WITH_STATIC = 4
"""The layout's version for a host whose nginx serves static files. It is higher, so that a clone too old for them
refuses the host: it would leave the files of another release in the slot."""


def version(service: Service) -> int:
    """Return the layout that setup gives a host of this service."""
    return WITH_STATIC if service.nginx and service.nginx.static else VERSION


def root(service: Service) -> str:
    """Return the directory of releases, venvs and slots."""
    return f"/opt/apps/{service.name}"


def data(service: Service) -> str:
    """Return the directory of the service's data, which STATE_DIRECTORY names."""
    return f"/var/lib/{service.name}"


def secrets(service: Service) -> str:
    """Return root's directory of the secrets."""
    return f"/etc/{service.name}/secrets"


def credentials(service: Service, there: Iterable[str] = ()) -> tuple[str, ...]:
    """Return the names of the secrets that units hand out, sorted. there: those on the host."""
    names = {secret.name for secret in service.secrets} | {*there}
    return tuple(sorted(names | {sections.FALLBACKS} if sections.SECRET_KEY in names else names))


def cache(service: Service) -> str:
    """Return the directory of the service's caches, which it can make again."""
    return f"/var/cache/{service.name}"


def started_with_main(service: Service) -> tuple[str, ...]:
    """Return the units started with the service beside its slots: processes, timers, and the socket of `listen:`."""
    listen = (f"{service.name}-listen.socket",) if service.listen else ()
    return (*listen, *processes(service), *timers(service))


def processes(service: Service, *slots: str) -> tuple[str, ...]:
    """Return the units of the processes in these slots, by default in both."""
    return tuple(f"{unit}@{slot}.service" for slot in slots or SLOTS for unit in unslotted(service))


def numbered(service: Service, process: Process) -> tuple[str, ...]:
    """Return the names of a process's units, without slot and type: one for each that `count` asks for."""
    names = (sections.numbered(process.name, number) for number in range(1, process.copies + 1))
    return tuple(f"{service.name}-{name}" for name in names)


def unslotted(service: Service) -> tuple[str, ...]:
    """Return the names of the processes' units without slot and type, as for people."""
    return tuple(unit for process in beside(service) for unit in numbered(service, process))


def web(service: Service) -> Process:
    """Return the process that gunicorn serves."""
    return next(process for process in service.processes if process.name == "web")


def memory(service: Service, releases: int) -> int:
    """Return the bytes that so many releases may use at once by their limits: slots and processes that have one."""
    most = 0
    for process in (web(service), *beside(service)):
        limit = process.limits.beside(service.limits).memory_bytes or 0
        most += limit * (1 if process.single else process.copies * releases)
    return most


def other_processes(service: Service) -> tuple[Process, ...]:
    """Return every process except `web`."""
    return tuple(process for process in service.processes if process.name != "web")


def beside(service: Service) -> tuple[Process, ...]:
    """Return every process that runs all the time in a slot, beside `web`."""
    return tuple(process for process in other_processes(service) if not process.schedule)


def slot_units(service: Service) -> tuple[str, ...]:
    """Return the services and sockets of both slots."""
    return tuple(f"{service.name}@{slot}.{kind}" for slot in SLOTS for kind in ("service", "socket"))


def guards(service: Service) -> tuple[str, ...]:
    """Return the units of the guard, one for each slot."""
    return tuple(f"{service.name}-probation@{slot}.service" for slot in SLOTS)


def switchers(service: Service) -> tuple[str, ...]:
    """Return the units that move the traffic to a slot or to none, and those that do so at boot."""
    ways = (f"{service.name}-live@{way}.service" for way in (*SLOTS, "none"))
    return (*ways, *(f"{service.name}-boot@{slot}.service" for slot in SLOTS))


def run_sockets(service: Service) -> tuple[str, str]:
    """Return the sockets of `fab run` and of health commands, which are there while the service is stopped, too."""
    return f"{service.name}-run.socket", f"{service.name}-run-health.socket"


def run_slices(service: Service) -> tuple[str, str]:
    """Return the slice of what runs from a release beside its slots, and the slice of the health commands inside it.

    `-` in the name of a slice means `in`, and `_` is in no service's name.
    """
    slice_of_all = f"system-{service.name.replace('-', '_')}_run"
    return f"{slice_of_all}.slice", f"{slice_of_all}-health.slice"


def certificate_units(service: Service) -> tuple[str, ...]:
    """Return the units that look for a new certificate of the host's own."""
    return (f"{service.name}-certificate.path", f"{service.name}-certificate.timer") if watched_pair(service) else ()


def watched_pair(service: Service) -> tuple[str, str] | None:
    """Return the paths of certificate and key that another program of the host keeps; None without such."""
    tls = service.nginx.tls if service.nginx else Tls()
    if tls.mode == "acme":
        place = f"/etc/letsencrypt/live/loop-{service.name}"
        return f"{place}/fullchain.pem", f"{place}/privkey.pem"
    return (tls.certificate, tls.key) if tls.mode == "on_host" and tls.certificate and tls.key else None


def guard_file(service: Service) -> str:
    """Return the path of the guard's unit file."""
    return f"/etc/systemd/system/{service.name}-probation@.service"


def enabled(service: Service) -> tuple[str, ...]:
    """Return the units that a boot starts."""
    sockets = tuple(f"{service.name}@{slot}.socket" for slot in SLOTS)
    return (f"{service.name}.service", *sockets, *timers(service))


def nginx_tag(service: Service) -> str:
    """Return nginx's identifier in the journal for this service: letters, digits and `_`, 32 at most."""
    name = service.name.replace("-", "_")
    # A digest replaces the end of a longer name, so that tags stay distinct.
    short = name if len(name) <= 26 else f"{name[:17]}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return f"{short}_nginx"


def stopped(service: Service) -> tuple[str, ...]:
    """Return all units that `fab stop` stops, in one transaction: a socket left up would start its slot again."""
    listen = (f"{service.name}-listen.service",) if service.listen else ()
    return (f"{service.name}.service", *guards(service), *slot_units(service), *started_with_main(service), *listen)


def units(service: Service) -> tuple[str, ...]:
    """Return every unit of the service that a drop-in could change, instances included."""
    hooks = tuple(f"{service.name}-hook@{slot}.service" for slot in SLOTS)
    commands = (*run_sockets(service), f"{service.name}-run@0.service", f"{service.name}-run-health@0.service")
    taking = certificate_units(service)
    if taking:
        taking += (f"{service.name}-certificate.service", f"{service.name}-certificate-again.service")
    return (*stopped(service), *switchers(service), *hooks, *jobs(service), *commands, *taking)


def other_services(service: Service) -> tuple[str, ...]:
    """Return the services of the same account beside `web`: the processes, and the jobs of timers."""
    return (*processes(service), *jobs(service))


def timers(service: Service) -> tuple[str, ...]:
    """Return the timers, which start the jobs; a commit restarts them."""
    return tuple(f"{service.name}-{process.name}.timer" for process in other_processes(service) if process.schedule)


def jobs(service: Service) -> tuple[str, ...]:
    """Return the units that timers start."""
    return tuple(unit.removesuffix("timer") + "service" for unit in timers(service))


def worker_timeout(service: Service) -> int:
    """Return the seconds that a sync worker of gunicorn may take for a request; it reports nothing meanwhile."""
    asked = (service.nginx and service.nginx.timeout) or 0
    return max(30, service.health.timeout, max(service.drain, asked) + GRACE)


def request_timeout(service: Service) -> int:
    """Return the seconds that a request may take: until gunicorn ends its worker, or nginx gives up the answer."""
    return min(worker_timeout(service), gateway_timeout(service)) if service.nginx else worker_timeout(service)


def stop_timeout(service: Service) -> int:
    """Return the seconds that a stop of a slot may take; the processes beside `web` may have limits of their own."""
    return service.drain + 5 * GRACE


def gateway_timeout(service: Service) -> int:
    """Return the seconds that a request may take at nginx: those of service.yaml, or `drain`.

    30 at least: a short `drain` hurries a deploy, and must not cut slow requests at all other times.
    """
    given = service.nginx.timeout if service.nginx else None
    return given or max(30, service.drain)


def longest_stop(service: Service) -> int:
    """Return the most seconds that a stop of any process or job may take, beside `web`; 0 if there is none."""
    return max((stop_seconds(service, process) for process in other_processes(service)), default=0)


def stop_seconds(service: Service, process: Process) -> int:
    """Return the seconds that systemd gives a process or a job for its stop."""
    return process.stop or (JOB_STOP if process.schedule else stop_timeout(service))


def _process_commands(service: Service, slot: str) -> Iterator[tuple[str, ...]]:
    """Yield the commands for the processes of a slot: first for those that are not `single`, then for those that are.

    With --no-block systemctl does not wait: systemd may first have to stop a process whose task takes long.
    """
    for single in (False, True):
        group = [process for process in beside(service) if process.single == single]
        units = processes(service._replace(processes=tuple(group)), slot)
        if units:
            yield from (("start", "--no-block", *units), ("stop", "--no-block", *units), ("stop", *units))
            yield from (("kill", "-s", "KILL", *units), ("reset-failed", *units))


def start_timeout(service: Service) -> int:
    """Return the seconds that a slot's main process may take to report that it is ready, its imports included."""
    return max(60, service.health.timeout)


def commands(service: Service) -> tuple[tuple[str, ...], ...]:
    """Return the systemctl commands, word by word, that the deploy account may run as root: exactly its sudo rules."""
    name = service.name
    rules: list[tuple[str, ...]] = []
    for slot in SLOTS:
        unit, socket = f"{name}@{slot}.service", f"{name}@{slot}.socket"
        rules += [("start", unit), ("stop", unit, socket), ("reset-failed", unit, socket)]
        rules += [("kill", "-s", "KILL", unit), ("start", f"{name}-probation@{slot}.service")]
        hook = f"{name}-hook@{slot}.service"
        rules += [("start", hook), ("reset-failed", hook)]
    rules += [("start", f"{name}-live@{way}.service") for way in (*SLOTS, "none")]
    rules += [("stop", *guards(service)), ("reset-failed", *guards(service))]
    rules += [("start", f"{name}.service"), ("stop", *stopped(service))]
    # `systemctl stop` waits for all that runs in the slice.
    rules += [("stop", each) for each in run_slices(service)]
    rules += [("enable", *enabled(service)), ("disable", *enabled(service))]
    if service.listen:
        listen = f"{name}-listen.socket"
        rules += [("start", listen), ("stop", listen, f"{name}-listen.service")]
    rules += [words for slot in SLOTS for words in _process_commands(service, slot)]
    rules += [("restart", unit) for unit in timers(service)]
    if other_services(service):
        rules += [
            ("kill", "-s", "KILL", *other_services(service)),
            ("stop", *other_services(service), *timers(service)),
        ]
    return tuple(rules)
