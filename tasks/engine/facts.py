"""What a host reported, as values. Pure: parses the marks of the facts script, asks nobody anything."""

from __future__ import annotations

import base64
import re
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from tasks.engine import archive, foreign, history, layout
from tasks.engine.errors import LoopError
from tasks.engine.host_files import Ground
from tasks.engine.marks import Transcript
from tasks.engine.target import Target

_PYTHONS, _LONGEST, _OBJECT = 50, 1000, 8000
"""Interpreters of a host, characters of one word about one, and of all words: more is not believed."""
_RELEASE = r"[0-9a-z]{1,40}"
_SHAPES = {
    "current": ("committed slot", "(blue|green)?"),
    "live": ("live slot", "(blue|green)?"),
    "current_release": ("committed release", f"({_RELEASE})?"),
    "live_release": ("live release", f"({_RELEASE})?"),
    "setup.account": ("deploy account", r"([A-Za-z0-9_][A-Za-z0-9._@-]{0,99})?"),
}
"""What goes on into scripts and command lines: what it is called, and how it looks, or the host is believed nothing."""


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

    def target(self) -> Target:
        """What wheels are chosen for."""
        abi = re.match(r"cpython-(\d+t?)", self.soabi)
        name, _, version = self.libc.partition(" ")
        numbers = re.match(r"([0-9]{1,4})\.([0-9]{1,4})(?![0-9])", version)
        libc = ("glibc", int(numbers[1]), int(numbers[2])) if name == "glibc" and numbers else ("musl", 1, 2)
        return Target(self.version, f"cp{abi[1]}" if abi else self.soabi, self.machine, libc, self.implementation)


class Facts(NamedTuple):
    """One host.

    manifest: path to digest of the committed release. contents: files as they are there. drift: what the script found
    that is not as it was written. torn: lines of the history that a power cut left half-written.
    journal: the last words of the slot that has no traffic; systemd: what systemd said of it.
    """

    values: Mapping[str, str]
    pythons: tuple[Python, ...] = ()
    releases: tuple[Mapping[str, object], ...] = ()
    actions: tuple[history.Action, ...] = ()
    manifest: Mapping[str, str] | None = None
    contents: Mapping[str, bytes] | None = None
    drift: tuple[str, ...] = ()
    torn: int = 0
    journal: tuple[str, ...] = ()
    systemd: tuple[str, ...] = ()

    def get(self, key: str) -> str:
        """The value of a fact; empty when it was not reported."""
        return self.values.get(key, "")

    def under(self, prefix: str) -> list[tuple[str, str]]:
        """The facts whose keys begin so, each with the rest of its key."""
        return [(key.removeprefix(prefix), value) for key, value in self.values.items() if key.startswith(prefix)]

    def number(self, key: str) -> int:
        """A fact that is a whole number; 0 when it is not."""
        text = self.get(key)
        return int(text) if re.fullmatch(r"[0-9]{1,20}", text) else 0

    @property
    def current(self) -> str | None:
        """The id of the committed release."""
        return self.get("current_release") or None

    @property
    def live(self) -> str | None:
        """The id of the release that has the traffic: the committed one, unless another is on probation."""
        return self.get("live_release") or self.current

    @property
    def slot(self) -> str:
        """The slot that has the traffic; empty when no release is committed."""
        return self.get("live") or self.get("current")

    @property
    def probation(self) -> int | None:
        """Seconds that the live release has still to prove itself, 0 while it is being committed; None otherwise."""
        return self.number("probation") if self.get("probation") else None

    @property
    def unwatched(self) -> bool:
        """Whether a release has the traffic that is not committed, nor watched: what a run that was killed leaves."""
        return self.live != self.current and self.probation is None and not self.get("busy")

    @property
    def account(self) -> str | None:
        """The deploy account that setup recorded; None before setup."""
        return self.get("setup.account") or None

    @property
    def outdated(self) -> bool:
        """Whether an older version has set the host up: what a run looks for lies elsewhere, until setup moves it."""
        return self.account is not None and self.number("setup.layout") < layout.VERSION

    @property
    def release_ids(self) -> tuple[str, ...]:
        """The releases that are there."""
        return tuple(str(release.get("id", "")) for release in self.releases)

    @property
    def healthy(self) -> bool:
        """Whether the slot that has the traffic and the front door both answered as they should."""
        return self.get("health.slot") == "ok" and self.get("health.front") == "ok"

    @property
    def settled(self) -> bool:
        """Whether exactly the committed slot runs, and the traffic goes there: nothing for a run to recover."""
        slot = self.get("current")
        other = "green" if slot == "blue" else "blue"
        return (
            slot != ""
            and self.get("live") == slot
            and not self.get("tries")
            and self.get("facade") == "active"
            and self.get(f"slot.{slot}.ActiveState") == "active"
            and self.get(f"slot.{other}.ActiveState") == "inactive"
        )

    def ground(self, account: str) -> Ground:
        """What decides about root's files."""
        systemctl = self.get("tool.systemctl")
        if systemctl not in layout.SYSTEMCTLS:
            systemctl = layout.SYSTEMCTL
        # What a host says of itself comes into root's files only as one of the words that we know.
        web = self.get("web_account") if self.get("web_account") in {"www-data", "nginx"} else None
        return Ground(account, web, self.get("ipv6") == "1", systemctl)


def parse(transcript: Transcript) -> Facts:
    """The facts of one host; LoopError when the script did not come to its end."""
    if not transcript.ended:
        raise LoopError("the host did not answer all questions", detail=tuple(transcript.tail))
    values: dict[str, str] = {}
    pythons: dict[str, Python] = {}
    digests: dict[str, str] = {}
    for line in transcript.all("fact"):
        key, _, value = line.partition(" ")
        if key == "python":
            python = _python(value)
            if python and len(pythons) < _PYTHONS:
                pythons.setdefault(python.path, python)
        elif key in {"setup.file", "setup.tls"}:
            digest, _, path = value.partition(" ")
            digests.setdefault(path, digest)
        else:
            # Root's own word comes before that of the account to which it steps down.
            values.setdefault(key, value)
    _read_record(values)
    _accept(values)
    values.update({f"setup.{path}": digest for path, digest in digests.items()})
    actions = history.parse(transcript.all("history"))
    return Facts(
        values,
        tuple(pythons.values()),
        tuple(_objects(transcript.all("release"))),
        actions,
        _manifest(transcript.all("same")),
        dict(map(_content, reversed(transcript.all("data")))),
        transcript.all("drift"),
        len(transcript.all("history")) - len(actions),
        transcript.all("journal"),
        transcript.all("systemd"),
    )


def _read_record(values: dict[str, str]) -> None:
    """Bring the account to where the record of the first layout has it; LoopError for a layout that is not known here.

    Its line `account` says since then, to versions that know of no layouts, that this one is not for them.
    """
    if (told := values.get("setup.layout")) is None:
        return
    if told != str(layout.VERSION):
        raise LoopError(
            f"a newer version of this tool has set the host up: its layout is {told[:20]}, and not {layout.VERSION}",
            next="use the clone that it was set up from, or update this one",
            code="newer",
        )
    values["setup.account"] = values.pop("setup.user", "")


def _accept(values: Mapping[str, str]) -> None:
    """LoopError for a name of ours that none of ours can be."""
    for key, (called, shape) in _SHAPES.items():
        if not re.fullmatch(shape, values.get(key, "")):
            raise LoopError(
                f"the host says {values[key][:100]!r} where the name of its {called} belongs, which cannot be",
                next="look at `current` and slots/*/release in /opt/apps/NAME, /run/NAME/live, /etc/NAME/setup",
                code="lies",
            )


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
            value = foreign.load(line)
        except ValueError:
            continue
        if isinstance(value, dict) and re.fullmatch(_RELEASE, str(value.get("id", ""))):
            found.append(value)
    return found


def _python(text: str) -> Python | None:
    try:
        found: Any = foreign.load(text[:_OBJECT])
        Version(found["version"])
        keys = ("path", "version", "soabi", "machine", "libc", "implementation")
        python = Python(*(str(found[key]) for key in keys))._replace(flaws=str(found.get("flaws", ""))[:1000])
    except (ValueError, KeyError, TypeError, InvalidVersion):
        return None
    if max(map(len, python)) > _LONGEST:
        return None
    return python if re.fullmatch(r"(/[A-Za-z0-9._+@~-]+)+", python.path) else None


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
