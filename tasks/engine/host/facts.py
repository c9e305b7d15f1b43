"""Read what a host reported into the types of `fact_schema.py`, which the host has too; refuse all others. Pure."""

from __future__ import annotations

import base64
import re
from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from tasks.engine import untrusted_json
from tasks.engine.config.sections import MOST_SECRETS
from tasks.engine.errors import LoopError
from tasks.engine.host import history, layout, reported_names, typed
from tasks.engine.host.protocol import Transcript
from tasks.engine.host.system_files import HostTraits
from tasks.engine.release import archive, python_target
from tasks.engine.release.python_target import Target
from templates.host.fact_schema import (
    Event,
    HostFacts,
    Logged,
    Machine,
    Process,
    Python,
    Record,
    State,
    Survey,
)
from templates.host.slot_names import SLOTS, other

_PYTHONS, _LONGEST = 50, 1000
"""Interpreters accepted from a host, and characters of each text about an interpreter; the rest is ignored."""
_EVENTS = 1500
"""Lines of PID 1 accepted from a host."""
_RELEASES = 2000
"""Releases accepted from a host, which reports no more."""
_STEADY_SECONDS = 60
"""Seconds after which a process that systemd started again counts as up."""


class Facts(NamedTuple):
    """The facts of one host: the fields of `HostFacts`, and further reports.

    manifest: path to digest, of the committed release; contents: path to content of the files on the host
    drift: differences from what was written; torn: number of history lines that a power cut left incomplete
    journal, systemd: the last log lines of the slot without traffic, and systemd's messages about it
    events: what PID 1 logged; history_size: bytes of the history's lines
    """

    machine: Machine = Machine()
    record: Record = Record()
    files: Mapping[str, str] = MappingProxyType({})
    loopback: bool = False
    state: State = State()
    survey: Survey = Survey()
    pythons: tuple[Python, ...] = ()
    logged: Logged = Logged()
    releases: tuple[Mapping[str, object], ...] = ()
    actions: tuple[history.Action, ...] = ()
    manifest: Mapping[str, str] | None = None
    contents: Mapping[str, bytes] | None = None
    drift: tuple[str, ...] = ()
    torn: int = 0
    journal: tuple[str, ...] = ()
    systemd: tuple[str, ...] = ()
    events: tuple[Event, ...] = ()
    history_size: int = 0

    def slot_state(self, slot: str) -> str:
        """Return systemd's state of a slot, such as active, inactive or failed; empty if it is not known."""
        return self.state.slots[slot].state if slot in self.state.slots else ""

    @property
    def silent(self) -> bool:
        """True if systemd did not say whether the live slot runs."""
        return self.slot_state(self.slot) in {"", "unknown"}

    def _release(self, slot: str) -> str | None:
        return self.state.slots[slot].release or None if slot in self.state.slots else None

    @property
    def committed_release(self) -> str | None:
        """The ID of the committed release; None if there is none."""
        return self._release(self.state.current)

    @property
    def live_release(self) -> str | None:
        """The ID of the release that has the traffic: the committed one, unless another is on probation."""
        return self._release(self.state.live) or self.committed_release

    @property
    def slot(self) -> str:
        """The slot that has the traffic; empty when no release is committed."""
        return self.state.live or self.state.current

    @property
    def probation(self) -> int | None:
        """Seconds left of the live release's probation, 0 while it is being committed; None without a probation."""
        return self.state.probation

    @property
    def unwatched(self) -> bool:
        """True if the live release is neither committed nor guarded, as after a run was killed."""
        return self.live_release != self.committed_release and self.probation is None and self.state.holder is None

    @property
    def account(self) -> str | None:
        """The deploy account that setup recorded; None before setup."""
        return self.record.account or None

    @property
    def outdated(self) -> bool:
        """True if an older version has set the host up: some files lie at old paths until setup moves them."""
        return self.account is not None and self.record.layout not in {str(layout.VERSION), str(layout.WITH_STATIC)}

    @property
    def release_ids(self) -> tuple[str, ...]:
        """The IDs of the releases on the host."""
        return tuple(str(release.get("id", "")) for release in self.releases)

    @property
    def healthy(self) -> bool:
        """True if the live slot and the front door both passed their checks, and the processes beside `web` are up."""
        return self.state.health == ("ok", "ok") and not self.down

    @property
    def down(self) -> Mapping[str, str]:
        """The units beside `web` that are not up, each with why; a timer is no process."""
        states = {unit: state for unit, state in self.state.processes.items() if not unit.endswith(".timer")}
        faults = {unit: self._fault(unit, state) for unit, state in states.items()}
        return {unit: why for unit, why in faults.items() if why}

    def _fault(self, unit: str, state: str) -> str:
        if state != "active":
            return f"is {state or 'unknown'}"
        process = self.survey.processes.get(unit, Process())
        up = self.survey.uptime - (process.began or 0)
        recent = process.restarts and up < _STEADY_SECONDS
        return f"does not stay up: systemd started it again {process.restarts} times" if recent else ""

    @property
    def settled(self) -> bool:
        """True if only the committed slot runs and has the traffic, so that a run has nothing to recover."""
        state = self.state

        return (
            state.current != ""
            and state.live == state.current
            and not state.tries
            and state.main_unit == "active"
            and self.slot_state(state.current) == "active"
            and self.slot_state(other(state.current)) == "inactive"
        )

    def traits(self, account: str) -> HostTraits:
        """Return the traits of the host that root's files depend on."""
        machine = self.machine
        systemctl = machine.tools.get("systemctl", "")
        if systemctl not in layout.SYSTEMCTLS:
            systemctl = layout.SYSTEMCTL
        # Root's files contain no text of the host's own, only one of these known words.
        web = next((name for name in machine.web_accounts if name in {"www-data", "nginx"}), None)
        secrets = tuple(filter(None, self.record.secrets[:MOST_SECRETS]))
        return HostTraits(account, web, machine.ipv6, systemctl, secrets)

    def lacking(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return which of these secrets are not on the host."""
        return tuple(name for name in names if name not in self.record.secrets)

    def secrets_of(self, release: str) -> tuple[str, ...]:
        """Return the names of the secrets that a release on the host uses."""
        return next((_secrets(described) for described in self.releases if described.get("id") == release), ())

    def releases_with(self, secret: str) -> tuple[str, ...]:
        """Return the IDs of the releases on the host that use a secret."""
        return tuple(str(described.get("id", "")) for described in self.releases if secret in _secrets(described))


def _secrets(described: Mapping[str, object]) -> tuple[str, ...]:
    """Return the names of the secrets in a release.json; former versions wrote none there."""
    used = described.get("secrets")
    names = [name for name in used if isinstance(name, str)] if isinstance(used, list) else []
    return tuple(name for name in names if re.fullmatch(reported_names.VARIABLE, name))[:MOST_SECRETS]


def parse(transcript: Transcript) -> Facts:
    """Return the facts of one host; LoopError if the step did not reach its end, or reported invalid facts."""
    if not transcript.ended:
        raise LoopError("the host did not answer all questions", detail=tuple(transcript.tail))
    # The program reports `facts` once; further reports of that word are ignored.
    host = _host(next(iter(transcript.all("facts")), ""))
    _accept(host)
    lines = transcript.all("history")
    actions = history.parse(lines)
    return Facts(
        *host._replace(pythons=_pythons(host.pythons)),
        tuple(_releases(transcript.all("release"))),
        actions,
        _manifest(transcript.all("same")),
        dict(map(_content, reversed(transcript.all("data")))),
        transcript.all("drift"),
        len(lines) - len(actions),
        transcript.all("journal"),
        transcript.all("systemd"),
        tuple(map(_event, transcript.all("event")[:_EVENTS])),
        sum(len(line.encode()) + 1 for line in lines),
    )


def _event(text: str) -> Event:
    try:
        return typed.read(Event, untrusted_json.load(text))
    except ValueError as error:
        raise LoopError(f"the host reports impossible lines of its journal: {error}", code="lies") from None


def _host(text: str) -> HostFacts:
    try:
        return typed.read(HostFacts, untrusted_json.load(text))
    except ValueError as error:
        raise LoopError(
            f"the host reports impossible facts: {error}",
            next="check on the host what the deploy account's login runs: shell, .bashrc, ForceCommand in sshd_config",
            code="lies",
        ) from None


def _accept(host: HostFacts) -> None:
    """Raise LoopError for an unknown layout, and for an account, slot or release with an impossible name."""
    state, record = host.state, host.record
    if record.layout not in {"", *map(str, range(1, layout.WITH_STATIC + 1))}:
        raise LoopError(
            f"a newer version of this tool has set the host up: its layout is {record.layout[:20]}, "
            f"and not {layout.WITH_STATIC}",
            next="use the clone that it was set up from, or update this one",
            code="newer",
        )
    way = "look at `current` and slots/*/release in /opt/apps/NAME, /run/NAME/live, /etc/NAME/setup"
    reported_names.require("its deploy account", record.account, reported_names.ACCOUNT, way)
    for secret in (*record.secrets, *record.changing):
        reported_names.require("its secret", secret, reported_names.VARIABLE, way)
    for slot in (state.current, state.live, *state.slots):
        reported_names.require("its slot", slot, "|".join(SLOTS), way)
    for status in state.slots.values():
        reported_names.require("its release", status.release, reported_names.RELEASE, way)


def _manifest(lines: tuple[str, ...]) -> Mapping[str, str] | None:
    """Return path to digest; None for no manifest or an edited one: then the run sends every file."""
    try:
        return archive.parse_manifest("\n".join(lines)) if lines else None
    except ValueError:
        return None


def _releases(lines: tuple[str, ...]) -> list[Mapping[str, object]]:
    """Return the record of each release once; ignore all that is none."""
    records: dict[str, Mapping[str, object]] = {}
    for line in lines[:_RELEASES]:
        try:
            value = untrusted_json.load(line)
        except ValueError:
            continue
        if isinstance(value, dict) and reported_names.is_release(name := str(value.get("id", ""))):
            records.setdefault(name, value)
    return list(records.values())


def _pythons(reported: tuple[Python, ...]) -> tuple[Python, ...]:
    """Return the interpreters with a plain path and a valid version, each path once."""
    by_path: dict[str, Python] = {}
    for python in reported:
        if len(by_path) < _PYTHONS and _is_plain(python):
            by_path.setdefault(python.path, python._replace(flaws=python.flaws[:_LONGEST]))
    return tuple(by_path.values())


def _is_plain(python: Python) -> bool:
    try:
        Version(python.version)
    except InvalidVersion:
        return False
    return max(map(len, python[:-1])) <= _LONGEST and bool(re.fullmatch(r"(/[A-Za-z0-9._+@~-]+)+", python.path))


def target(python: Python, distribution: str = "") -> Target:
    """Return the target that wheels are chosen for."""
    return python_target.described(
        python.version, python.soabi, python.machine, python.libc, python.implementation, distribution
    )


def _content(line: str) -> tuple[str, bytes]:
    path, _, encoded = line.partition(" ")
    try:
        return path, base64.b64decode(encoded, validate=True)
    except ValueError:
        return path, b""


_FLAWS = {
    "hidden": "it lies below {}, which the service's sandbox hides",
    "open": "others than root and the deploy account may change {}",
    "closed": "the service's user has no right to {}",
}
_HOMES = {"/home", "/root", "/run/user"}


def flaw(python: Python, needs: Collection[str]) -> str:
    """Return why the service cannot use an interpreter; empty if it can. needs: those of service.yaml."""
    for text in python.flaws.split("; "):
        kind, _, path = text.partition(" ")
        if kind in _FLAWS and not (kind == "hidden" and path in _HOMES and "home" in needs):
            return _FLAWS[kind].format(path)
    return ""


def choose_python(facts: Facts, wanted: str | None, specifier: str, host: str, needs: Collection[str] = ()) -> Python:
    """Return the interpreter that hosts.yaml names, else the newest that fits service.yaml; LoopError if none fits."""
    fits = [python for python in facts.pythons if Version(python.version) in SpecifierSet(specifier)]
    if wanted:
        fits = [python for python in fits if python.path == wanted or python.path.endswith(f"/{wanted}")]
    if not fits:
        there = ", ".join(f"{python.path} ({python.version})" for python in facts.pythons) or "none"
        raise LoopError(
            f"no Python on the host fits {wanted or ''}{' and ' if wanted else ''}{specifier}; it has {there}",
            where=host,
            next="install one on the host, or change `python:` in hosts.yaml or service.yaml",
            code="python",
        )
    unusable = [f"{python.path}: {why}" for python in fits if (why := flaw(python, needs))]
    in_home = any(f"hidden {home}" in python.flaws for python in fits for home in _HOMES) and "home" not in needs
    fits = [python for python in fits if not flaw(python, needs)]
    if not fits:
        way = "install one for the whole host, as root, below /usr or /opt; or name another as `python:` in hosts.yaml"
        raise LoopError(
            f"no Python on the host fits that the service can run by: {'; '.join(unusable)}",
            where=host,
            next=f"{way}; or set `needs: [home]` in service.yaml" if in_home else way,
            code="python",
        )
    # Choose a pre-release only if no other version fits.
    return max(fits, key=lambda python: (not Version(python.version).is_prerelease, Version(python.version)))
