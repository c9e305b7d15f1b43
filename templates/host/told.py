"""What the step `facts` tells of a host: one object, its keys and their types, which both sides share.

The program fills it in; the controller reads an answer by these very types, and believes nothing else. An empty text,
an empty list and None mean that there is nothing of that kind, or that nobody asked for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

SLOTS = ("blue", "green")
_NONE: Mapping[str, Any] = {}


class Machine(NamedTuple):
    """time: seconds since 1970 by the host's clock; ipv6: whether it has that; tools: paths of programs, by name.

    web_accounts: which of www-data and nginx it has; root: whether root is to be had, where `rights` are asked for.
    """

    time: int = 0
    ipv6: bool = False
    tools: Mapping[str, str] = _NONE
    web_accounts: tuple[str, ...] = ()
    root: bool = False


class Record(NamedTuple):
    """What setup wrote into /etc/NAME/setup. account: the deploy account, empty until a setup came to its end.

    files: the first digest of each file that was asked for, by path. The rest is empty where it was not written.
    """

    layout: str = ""
    account: str = ""
    origin: str = ""
    by: str = ""
    since: str = ""
    files: Mapping[str, str] = _NONE


class Python(NamedTuple):
    """An interpreter on a host.

    flaws: why the service may not be able to run it, or should not, as kind and path: `hidden /home; open /opt/x`.
    """

    path: str
    version: str
    soabi: str
    machine: str
    libc: str
    implementation: str
    flaws: str = ""


class Slot(NamedTuple):
    """state: as systemd has it; release: of its link. What follows is told with the survey, and None where not known.

    began: seconds between boot and start; restarts: by systemd; memory: bytes as systemd counts them; workers: how
    many; pss, rss: bytes of its processes where systemd does not count, with shared pages by part, or whole in each.
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
    """A unit that a timer starts. state, result: as systemd has them; ended: seconds between boot and its last end."""

    state: str = ""
    result: str = ""
    exit_status: int | None = None
    ended: int | None = None


class Health(NamedTuple):
    """What the slot that has the traffic and the front door answered: `ok`, or what is wrong with it."""

    slot: str = ""
    front: str = ""


class State(NamedTuple):
    """The service. current, live: the slot that is committed, and the one that has the traffic.

    tries: slots that systemd starts though they are not committed; facade, nginx, processes: states, by unit.
    probation: seconds left to the live release, None without one; finishing: one has ended, its watch cleans up.
    busy: the line of who activates at this moment; adrift: its controller is gone; activating: it outlasted the wait.
    maintenance: what lies in its state.json, None while the door is open; pruning: a prune was cut.
    lists: the digests of MANIFEST and LAUNCHERS of the release that was asked for, empty where it is not as they say.
    """

    current: str = ""
    live: str = ""
    slots: Mapping[str, Slot] = _NONE
    tries: tuple[str, ...] = ()
    facade: str = ""
    nginx: str = ""
    processes: Mapping[str, str] = _NONE
    probation: int | None = None
    finishing: bool = False
    busy: str | None = None
    adrift: bool = False
    activating: bool = False
    maintenance: str | None = None
    pruning: bool = False
    health: Health = Health()
    venvs: tuple[str, ...] = ()
    wheels: tuple[str, ...] = ()
    lists: Mapping[str, str] = _NONE


class Used(NamedTuple):
    """A release of no slot from which something runs. place: among all, the newest being 1; pids: as far as known."""

    place: int = 0
    pids: tuple[int, ...] = ()


class Isolation(NamedTuple):
    """Of the slot that serves. outside: whether it has addresses beside loopback.

    filtered: whether systemd counts what it filters, as it does where the kernel lets it filter; None if not asked to.
    """

    outside: bool = False
    filtered: bool | None = None


class Survey(NamedTuple):
    """What people want to know, and no run. uptime: seconds; systemd: its version; selinux: whether it enforces.

    certificate_end: as openssl prints it; jobs: by unit; used: by release; rules: whether sudo knows those of setup.
    """

    uptime: int = 0
    os: str = ""
    systemd: int = 0
    selinux: bool = False
    free_bytes: int = 0
    free_inodes: int = 0
    certificate_end: str = ""
    jobs: Mapping[str, Job] = _NONE
    used: Mapping[str, Used] = _NONE
    rules: bool = False
    isolation: Isolation = Isolation()


class Told(NamedTuple):
    """A host. The first four are root's own word where root looks; the rest is read with the deploy account's rights.

    files: SHA-256 of the files that were asked for and of the certificate, by path, as far as they may be read.
    loopback: whether the unit of an older version leaves the host's loopback to the service.
    """

    machine: Machine = Machine()
    record: Record = Record()
    files: Mapping[str, str] = _NONE
    loopback: bool = False
    state: State = State()
    survey: Survey = Survey()
    pythons: tuple[Python, ...] = ()


def plain(value: Any) -> Any:
    """A value of these types as JSON has it."""
    if hasattr(value, "_asdict"):
        return {key: plain(inner) for key, inner in value._asdict().items()}
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, (tuple, list)) else value
