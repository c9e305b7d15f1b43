"""What a host reported, as values: of the types of `templates/host/told.py`, or the host is believed nothing. Pure."""

from __future__ import annotations

import base64
import re
from collections.abc import Collection, Mapping
from typing import NamedTuple

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from tasks.engine import untrusted_json
from tasks.engine.errors import LoopError
from tasks.engine.host import history, layout, typed, words
from tasks.engine.host.protocol import Transcript
from tasks.engine.host.system_files import HostTraits
from tasks.engine.release import archive
from tasks.engine.release.python_target import Target
from templates.host.told import SLOTS, Machine, Python, Record, State, Survey, Told

_PYTHONS, _LONGEST = 50, 1000
"""Interpreters of a host, and characters of one word about one: more is not believed."""
_FIRST = "1"
"""The layout of a host whose record names none."""


class Facts(NamedTuple):
    """One host.

    manifest: path to digest of the committed release. contents: files as they are there. drift: what the script found
    that is not as it was written. torn: lines of the history that a power cut left half-written.
    journal: the last words of the slot that has no traffic; systemd: what systemd said of it.
    """

    told: Told = Told()
    releases: tuple[Mapping[str, object], ...] = ()
    actions: tuple[history.Action, ...] = ()
    manifest: Mapping[str, str] | None = None
    contents: Mapping[str, bytes] | None = None
    drift: tuple[str, ...] = ()
    torn: int = 0
    journal: tuple[str, ...] = ()
    systemd: tuple[str, ...] = ()

    @property
    def machine(self) -> Machine:
        """The machine itself."""
        return self.told.machine

    @property
    def record(self) -> Record:
        """What setup recorded there."""
        return self.told.record

    @property
    def files(self) -> Mapping[str, str]:
        """The digests of root's files, by path, as far as they may be read."""
        return self.told.files

    @property
    def state(self) -> State:
        """How the service stands."""
        return self.told.state

    @property
    def survey(self) -> Survey:
        """What people want to know, where they asked."""
        return self.told.survey

    @property
    def pythons(self) -> tuple[Python, ...]:
        """The interpreters that are there."""
        return self.told.pythons

    def slot_state(self, slot: str) -> str:
        """Whether a slot is active, inactive, failed or on its way; empty where that is not known."""
        return self.state.slots[slot].state if slot in self.state.slots else ""

    def _release(self, slot: str) -> str | None:
        return self.state.slots[slot].release or None if slot in self.state.slots else None

    @property
    def current(self) -> str | None:
        """The id of the committed release."""
        return self._release(self.state.current)

    @property
    def live(self) -> str | None:
        """The id of the release that has the traffic: the committed one, unless another is on probation."""
        return self._release(self.state.live) or self.current

    @property
    def slot(self) -> str:
        """The slot that has the traffic; empty when no release is committed."""
        return self.state.live or self.state.current

    @property
    def probation(self) -> int | None:
        """Seconds that the live release has still to prove itself, 0 while it is being committed; None otherwise."""
        return self.state.probation

    @property
    def unwatched(self) -> bool:
        """Whether a release has the traffic that is not committed, nor watched: what a run that was killed leaves."""
        return self.live != self.current and self.probation is None and self.state.busy is None

    @property
    def account(self) -> str | None:
        """The deploy account that setup recorded; None before setup."""
        return self.record.account or None

    @property
    def outdated(self) -> bool:
        """Whether an older version has set the host up: what a run looks for lies elsewhere, until setup moves it."""
        return self.account is not None and self.record.layout != str(layout.VERSION)

    @property
    def release_ids(self) -> tuple[str, ...]:
        """The releases that are there."""
        return tuple(str(release.get("id", "")) for release in self.releases)

    @property
    def healthy(self) -> bool:
        """Whether the slot that has the traffic and the front door both answered as they should."""
        return self.state.health == ("ok", "ok")

    @property
    def settled(self) -> bool:
        """Whether exactly the committed slot runs, and the traffic goes there: nothing for a run to recover."""
        state = self.state
        other = "green" if state.current == "blue" else "blue"
        return (
            state.current != ""
            and state.live == state.current
            and not state.tries
            and state.facade == "active"
            and self.slot_state(state.current) == "active"
            and self.slot_state(other) == "inactive"
        )

    def traits(self, account: str) -> HostTraits:
        """What decides about root's files."""
        machine = self.machine
        systemctl = machine.tools.get("systemctl", "")
        if systemctl not in layout.SYSTEMCTLS:
            systemctl = layout.SYSTEMCTL
        # What a host says of itself comes into root's files only as one of the words that we know.
        web = next((name for name in machine.web_accounts if name in {"www-data", "nginx"}), None)
        return HostTraits(account, web, machine.ipv6, systemctl)


def parse(transcript: Transcript) -> Facts:
    """The facts of one host; LoopError when the script did not come to its end, or said what cannot be."""
    if not transcript.ended:
        raise LoopError("the host did not answer all questions", detail=tuple(transcript.tail))
    # The program says it once; what else comes is not believed.
    told = _told(next(iter(transcript.all("facts")), ""))
    _accept(told)
    actions = history.parse(transcript.all("history"))
    return Facts(
        told._replace(pythons=_pythons(told.pythons)),
        tuple(_objects(transcript.all("release"))),
        actions,
        _manifest(transcript.all("same")),
        dict(map(_content, reversed(transcript.all("data")))),
        transcript.all("drift"),
        len(transcript.all("history")) - len(actions),
        transcript.all("journal"),
        transcript.all("systemd"),
    )


def _told(text: str) -> Told:
    try:
        return typed.read(Told, untrusted_json.load(text))
    except ValueError as error:
        raise LoopError(
            f"the host tells facts that cannot be: {error}",
            next="look at the host by hand, with fab shell: who answers in the place of its deploy account?",
            code="lies",
        ) from None


def _accept(told: Told) -> None:
    """LoopError for a layout that is not known here, and for a name of ours that none of ours can be."""
    state, record = told.state, told.record
    if record.layout not in {"", _FIRST, str(layout.VERSION)}:
        raise LoopError(
            f"a newer version of this tool has set the host up: its layout is {record.layout[:20]}, "
            f"and not {layout.VERSION}",
            next="use the clone that it was set up from, or update this one",
            code="newer",
        )
    way = "look at `current` and slots/*/release in /opt/apps/NAME, /run/NAME/live, /etc/NAME/setup"
    words.require("its deploy account", record.account, words.ACCOUNT, way)
    for slot in (state.current, state.live, *state.slots):
        words.require("its slot", slot, "|".join(SLOTS), way)
    for one in state.slots.values():
        words.require("its release", one.release, words.RELEASE, way)


def _manifest(lines: tuple[str, ...]) -> Mapping[str, str] | None:
    """None as well for one that was edited: then nothing is taken for unchanged, and everything is sent."""
    try:
        return archive.parse_manifest("\n".join(lines)) if lines else None
    except ValueError:
        return None


def _objects(lines: tuple[str, ...]) -> list[Mapping[str, object]]:
    found: list[Mapping[str, object]] = []
    for line in lines:
        try:
            value = untrusted_json.load(line)
        except ValueError:
            continue
        if isinstance(value, dict) and words.is_release(str(value.get("id", ""))):
            found.append(value)
    return found


def _pythons(told: tuple[Python, ...]) -> tuple[Python, ...]:
    """Those that can be asked for by their path, each once."""
    found: dict[str, Python] = {}
    for python in told:
        if len(found) < _PYTHONS and _is_plain(python):
            found.setdefault(python.path, python._replace(flaws=python.flaws[:_LONGEST]))
    return tuple(found.values())


def _is_plain(python: Python) -> bool:
    try:
        Version(python.version)
    except InvalidVersion:
        return False
    return max(map(len, python[:-1])) <= _LONGEST and bool(re.fullmatch(r"(/[A-Za-z0-9._+@~-]+)+", python.path))


def target(python: Python) -> Target:
    """What wheels are chosen for."""
    abi = re.match(r"cpython-(\d+t?)", python.soabi)
    name, _, version = python.libc.partition(" ")
    numbers = re.match(r"([0-9]{1,4})\.([0-9]{1,4})(?![0-9])", version)
    libc = ("glibc", int(numbers[1]), int(numbers[2])) if name == "glibc" and numbers else ("musl", 1, 2)
    return Target(python.version, f"cp{abi[1]}" if abi else python.soabi, python.machine, libc, python.implementation)


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
    """Why the service cannot run by an interpreter, in words; empty when it can. needs: of service.yaml."""
    for text in python.flaws.split("; "):
        kind, _, path = text.partition(" ")
        if kind in _FLAWS and not (kind == "hidden" and path in _HOMES and "home" in needs):
            return _FLAWS[kind].format(path)
    return ""


def choose_python(facts: Facts, wanted: str | None, specifier: str, host: str, needs: Collection[str] = ()) -> Python:
    """The interpreter that hosts.yaml names, else the newest that fits service.yaml; LoopError when there is none."""
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
    told = [f"{python.path}: {why}" for python in fits if (why := flaw(python, needs))]
    in_home = any(f"hidden {home}" in python.flaws for python in fits for home in _HOMES) and "home" not in needs
    fits = [python for python in fits if not flaw(python, needs)]
    if not fits:
        way = "install one for the whole host, as root, below /usr or /opt; or name another as `python:` in hosts.yaml"
        raise LoopError(
            f"no Python on the host fits that the service can run by: {'; '.join(told)}",
            where=host,
            next=f"{way}; or set `needs: [home]` in service.yaml" if in_home else way,
            code="python",
        )
    # A pre-release serves only where nothing else fits.
    return max(fits, key=lambda python: (not Version(python.version).is_prerelease, Version(python.version)))
