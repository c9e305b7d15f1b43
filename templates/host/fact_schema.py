"""The facts of a host, which the step `facts` reports: one object, whose keys and types both sides share.

The host's program fills it in; the controller reads an answer by these types and accepts nothing else. An empty text,
an empty list and None mean that there is nothing of that kind, or that the step did not ask for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

_NONE: Mapping[str, Any] = {}


class Machine(NamedTuple):
    """The machine. time: seconds since 1970 by the host's clock; ipv6: it has IPv6; tools: paths of programs, by name.

    web_accounts: of www-data and nginx the one that nginx.conf names, or those that exist.
    can_be_root: the account can become root, if `rights` are asked for.
    distribution: ID and VERSION_ID of os-release, such as `debian 12`
    memory, available: bytes of memory, all and those that are available; 0 if unknown
    """

    time: int = 0
    ipv6: bool = False
    tools: Mapping[str, str] = _NONE
    web_accounts: tuple[str, ...] = ()
    can_be_root: bool = False
    distribution: str = ""
    memory: int = 0
    available: int = 0


class Record(NamedTuple):
    """The record in /etc/NAME/setup; what setup did not write is empty.

    account: the deploy account, empty until a setup has finished.
    files: by path, the digest of each file that was asked for, as the last finished setup wrote it.
    secrets, changing: names of secrets on the host, and of those whose change is not committed.
    """

    layout: str = ""
    account: str = ""
    origin: str = ""
    by: str = ""
    since: str = ""
    files: Mapping[str, str] = _NONE
    secrets: tuple[str, ...] = ()
    changing: tuple[str, ...] = ()


class Python(NamedTuple):
    """An interpreter on a host.

    flaws: why the service may be unable to run it, or should not, as kind and path: `hidden /home; open /opt/x`.
    """

    path: str
    version: str
    soabi: str
    machine: str
    libc: str
    implementation: str
    flaws: str = ""


class Slot(NamedTuple):
    """A slot. state: as systemd reports it; release: from its link. The rest comes with the survey; None if unknown.

    began: seconds between boot and start
    restarts: by systemd
    memory: bytes, as systemd counts them
    workers: number of workers
    pss: used if systemd has no count: bytes of the slot's processes, each shared page divided among its users
    rss: the same if pss is unknown, each shared page counted in every process
    """

    state: str = ""
    release: str = ""
    began: int | None = None
    restarts: int | None = None
    memory: int | None = None
    workers: int | None = None
    pss: int | None = None
    rss: int | None = None


class Job(NamedTuple):
    """A unit that a timer starts. state, result: as systemd reports them.

    ended, began: seconds from boot to its last end and start
    """

    state: str = ""
    result: str = ""
    exit_status: int | None = None
    ended: int | None = None
    began: int | None = None


class Process(NamedTuple):
    """A timer, or a unit beside `web` in the live slot. restarts: by systemd; began: last start, seconds from boot."""

    restarts: int | None = None
    began: int | None = None


class Answers(NamedTuple):
    """Answers of the live slot and the front door to the health check: `ok`, or what is wrong."""

    slot: str = ""
    front: str = ""


class State(NamedTuple):
    """The service. current, live: the committed slot, and the one that has the traffic.

    tries: slots that systemd would start though they are not committed
    main_unit, nginx, processes: states of units; of processes by unit
    probation: seconds left of it, None without one
    finishing: the guard ends the slot that has no traffic: after a commit it drains the former one and cleans up; after
        it has moved the traffic back it stops the one that failed
    holder: the line that the holder of the change lock wrote into it; None if the lock is free
    abandoned: the holder is a run whose controller is gone
    activating: the holder was still at work after the wait
    maintenance: content of its state.json, None while the door is open
    pruning: a release is left that a prune or a stage has put aside
    lists: digests of MANIFEST, LAUNCHERS, SITE and sbom.json of the release asked for; empty if its files differ, or
        its venv is damaged
    """

    current: str = ""
    live: str = ""
    slots: Mapping[str, Slot] = _NONE
    tries: tuple[str, ...] = ()
    main_unit: str = ""
    nginx: str = ""
    processes: Mapping[str, str] = _NONE
    probation: int | None = None
    finishing: bool = False
    holder: str | None = None
    abandoned: bool = False
    activating: bool = False
    maintenance: str | None = None
    pruning: bool = False
    health: Answers = Answers()
    venvs: tuple[str, ...] = ()
    wheels: tuple[str, ...] = ()
    lists: Mapping[str, str] = _NONE


class Used(NamedTuple):
    """A release in neither slot that a process still runs from. place: 1 for the newest; pids: as far as known."""

    place: int = 0
    pids: tuple[int, ...] = ()


class Isolation(NamedTuple):
    """The isolation of the live slot. outside: it has addresses beside loopback; seen: it runs, so this is known.

    filtered: systemd counts the slot's traffic, which shows that the kernel can filter it; None if it was not asked to.
    """

    outside: bool = False
    filtered: bool | None = None
    seen: bool = False


class Upkeep(NamedTuple):
    """How a host is kept. rating: of the live slot by systemd-analyze security, in tenths; None for unknown.

    release_bytes, venv_bytes: what the live release takes on the disk, 0 for unknown
    upgrades: whether security updates install themselves: on, off, or empty for unknown
    reboot: why the host needs one; reboot_known: whether anything there tells it
    """

    rating: int | None = None
    release_bytes: int = 0
    venv_bytes: int = 0
    upgrades: str = ""
    reboot: str = ""
    reboot_known: bool = False


class Survey(NamedTuple):
    """Facts that operators ask for and no run needs. uptime: seconds; systemd: its version; selinux: it enforces.

    certificate_end: as openssl prints it; jobs, processes: by unit; used: by release; rules: sudo has those of setup.
    said: the last log lines of what runs and of each job's last run; of a long line its end
    commands: units of commands at work, each with the seconds from boot to its start
    certificate_fault: why nginx does not get a new certificate that the host keeps
    certificate_differs: nginx shows another certificate than its file has
    oom_kills: units of which processes were killed for want of memory in the last 24 hours, each with how often
    """

    uptime: int = 0
    os: str = ""
    systemd: int = 0
    selinux: bool = False
    free_bytes: int = 0
    free_inodes: int = 0
    certificate_end: str = ""
    jobs: Mapping[str, Job] = _NONE
    processes: Mapping[str, Process] = _NONE
    used: Mapping[str, Used] = _NONE
    rules: bool = False
    isolation: Isolation = Isolation()
    said: tuple[str, ...] = ()
    commands: Mapping[str, int] = _NONE
    certificate_fault: str = ""
    certificate_differs: bool = False
    oom_kills: Mapping[str, int] = _NONE
    upkeep: Upkeep = Upkeep()


class Event(NamedTuple):
    """A line of PID 1 in the journal. time, clock: microseconds since 1970, and since the machine started.

    It comes in a report of its own.
    kind: of the unit: slot, guard, boot, or live, which moves the traffic; slot: `none` for a way in that is closed
    word: started, ended, failed, or again: systemd will start it again; release: what a slot started, if it said so
    """

    time: int
    clock: int
    boot: str
    kind: str
    slot: str
    word: str
    release: str = ""


class Boot(NamedTuple):
    """What the journal has of one boot. first, last: microseconds since 1970, of PID 1's lines; 0 for unknown."""

    first: int = 0
    last: int = 0


class Logged(NamedTuple):
    """How far the journal goes back. born: the second in which root made the service's directory; 0 for unknown.

    boots: by ID, those of the events and this one; cut: older lines were not read
    """

    born: int = 0
    boots: Mapping[str, Boot] = _NONE
    cut: bool = False


class HostFacts(NamedTuple):
    """The facts of a host.

    Root reads the first four if the step runs as root; the rest is read with the deploy account's rights.
    files: SHA-256 of the files that were asked for and of the certificate, by path, as far as they can be read.
    loopback: the unit of an older version leaves the host's loopback open to the service.
    """

    machine: Machine = Machine()
    record: Record = Record()
    files: Mapping[str, str] = _NONE
    loopback: bool = False
    state: State = State()
    survey: Survey = Survey()
    pythons: tuple[Python, ...] = ()
    logged: Logged = Logged()


def plain(value: Any) -> Any:
    """Return a value of these types as plain JSON values."""
    if hasattr(value, "_asdict"):
        return {key: plain(inner) for key, inner in value._asdict().items()}
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, (tuple, list)) else value
