"""Where things are on a host and what its units are called. Pure."""

from __future__ import annotations

import hashlib

from tasks.engine.config.service import Process, Service

SLOTS = ("blue", "green")
SYSTEMCTL = "/usr/bin/systemctl"
SYSTEMCTLS = frozenset({SYSTEMCTL, "/bin/systemctl"})
"""Where a distribution puts it: a sudo rule names no other program, whatever a host says."""
VERSION = 2
"""Of what lies where on a host, as its record has it: raised when setup has to move what older scripts look for."""


def root(service: Service) -> str:
    """The directory of releases, venvs and slots."""
    return f"/opt/apps/{service.name}"


def parts(service: Service) -> tuple[str, ...]:
    """What is started with the service beside its slots: workers, timers, and the socket of `listen:`."""
    listen = (f"{service.name}-listen.socket",) if service.listen else ()
    return (*listen, *processes(service))


def processes(service: Service) -> tuple[str, ...]:
    """The units that are restarted when a release is committed."""
    return tuple(
        f"{service.name}-{process.name}.{'timer' if process.schedule else 'service'}" for process in extras(service)
    )


def extras(service: Service) -> tuple[Process, ...]:
    """Every process but `web`, which has the slots."""
    return tuple(process for process in service.processes if process.name != "web")


def slot_units(service: Service) -> tuple[str, ...]:
    """Services and sockets of both slots."""
    return tuple(f"{service.name}@{slot}.{kind}" for slot in SLOTS for kind in ("service", "socket"))


def watches(service: Service) -> tuple[str, ...]:
    """What watches a release after its switch, one for each slot."""
    return tuple(f"{service.name}-probation@{slot}.service" for slot in SLOTS)


def movers(service: Service) -> tuple[str, ...]:
    """What leads all traffic to a slot, or to none; and what does so at boot."""
    ways = (f"{service.name}-live@{way}.service" for way in (*SLOTS, "none"))
    return (*ways, *(f"{service.name}-boot@{slot}.service" for slot in SLOTS))


def watch_file(service: Service) -> str:
    """The unit file of what watches a release after its switch."""
    return f"/etc/systemd/system/{service.name}-probation@.service"


def enabled(service: Service) -> tuple[str, ...]:
    """What a boot starts."""
    sockets = tuple(f"{service.name}@{slot}.socket" for slot in SLOTS)
    return (f"{service.name}.service", *sockets, *timers(service))


def gateway_tag(service: Service) -> str:
    """What nginx calls itself in the journal for this service: letters, digits and `_`, 32 at most."""
    name = service.name.replace("-", "_")
    # Names so long are told apart by a digest, which takes the place of their end.
    short = name if len(name) <= 26 else f"{name[:17]}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return f"{short}_nginx"


def stopped(service: Service) -> tuple[str, ...]:
    """Everything that `fab stop` stops, in one transaction: a socket left up would start its slot again."""
    listen = (f"{service.name}-listen.service",) if service.listen else ()
    return (f"{service.name}.service", *watches(service), *slot_units(service), *parts(service), *listen)


def units(service: Service) -> tuple[str, ...]:
    """Every unit of the service that systemd could be told something about, instances included."""
    hooks = tuple(f"{service.name}-hook@{slot}.service" for slot in SLOTS)
    jobs = tuple(unit.removesuffix(".timer") + ".service" for unit in processes(service) if unit.endswith(".timer"))
    return (*stopped(service), *movers(service), *hooks, *jobs)


def companions(service: Service) -> tuple[str, ...]:
    """The services of the same account beside the slots: workers, and the jobs of timers."""
    return tuple(f"{service.name}-{process.name}.service" for process in extras(service))


def timers(service: Service) -> tuple[str, ...]:
    """What starts the jobs."""
    return tuple(unit for unit in processes(service) if unit.endswith(".timer"))


def start_timeout(service: Service) -> int:
    """Seconds that a slot may take until its main process says that it is ready: what it imports before included."""
    return max(60, service.health.timeout)


def commands(service: Service) -> tuple[tuple[str, ...], ...]:
    """The systemctl commands, word by word, that a deploy account needs as root; the sudo rules are exactly these."""
    name = service.name
    found: list[tuple[str, ...]] = []
    for slot in SLOTS:
        unit, socket = f"{name}@{slot}.service", f"{name}@{slot}.socket"
        found += [("start", unit), ("stop", unit, socket), ("reset-failed", unit, socket)]
        found += [("kill", "-s", "KILL", unit), ("start", f"{name}-probation@{slot}.service")]
        hook = f"{name}-hook@{slot}.service"
        found += [("start", hook), ("reset-failed", hook)]
    found += [("start", f"{name}-live@{way}.service") for way in (*SLOTS, "none")]
    found += [("stop", *watches(service)), ("reset-failed", *watches(service))]
    found += [("start", f"{name}.service"), ("stop", *stopped(service))]
    found += [("enable", *enabled(service)), ("disable", *enabled(service))]
    if service.listen:
        listen = f"{name}-listen.socket"
        found += [("start", listen), ("stop", listen, f"{name}-listen.service")]
    found += [("restart", unit) for unit in processes(service)]
    if companions(service):
        found += [("kill", "-s", "KILL", *companions(service)), ("stop", *companions(service), *timers(service))]
    return tuple(found)
