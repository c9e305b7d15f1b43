"""Read the controller's own apt sources, and rewrite them for one suite of its distribution."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tasks.engine.errors import UsageError

_ONE_LINE = re.compile(r"deb\s+(?:\[(?P<options>[^]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)\s+(?P<components>.+)")


@dataclass(frozen=True)
class Source:
    """One deb822 stanza: the origin of packages and the key that signs them."""

    uris: str
    suites: tuple[str, ...]
    components: str
    signed_by: str = ""

    def text(self) -> str:
        """Return the stanza as apt reads it."""
        lines = [
            "Types: deb",
            f"URIs: {self.uris}",
            f"Suites: {' '.join(self.suites)}",
            f"Components: {self.components}",
        ]
        if self.signed_by:
            lines.append(f"Signed-By: {self.signed_by}")
        return "\n".join(lines) + "\n"


def release() -> tuple[str, str]:
    """Return the controller's distribution and codename, as in ("debian", "bookworm"). Raises UsageError for others."""
    fields = {}
    path = Path("/etc/os-release")
    for line in path.read_text().splitlines() if path.exists() else []:
        key, _, value = line.partition("=")
        fields[key] = value.strip("\"'")
    distribution, codename = fields.get("ID", ""), fields.get("VERSION_CODENAME", "")
    if distribution not in ("debian", "ubuntu") or not codename:
        raise UsageError(
            "the sandbox is made from the packages of Debian or Ubuntu, and this machine is neither",
            where=str(path),
            next="run it on a Debian or Ubuntu machine, or name your own hosts in hosts.yaml",
        )
    return distribution, codename


def machine_sources(etc: Path = Path("/etc/apt")) -> tuple[Source, ...]:
    """Return every enabled binary source of apt on this machine, in the order in which apt reads them."""
    lists = [etc / "sources.list", *sorted((etc / "sources.list.d").glob("*"))]
    sources: list[Source] = []
    for path in lists:
        if path.suffix == ".sources":
            sources += parse_deb822(path.read_text())
        elif path.suffix == ".list" and path.exists():
            sources += parse_one_line(path.read_text())
    return tuple(sources)


def parse_deb822(text: str) -> Iterator[Source]:
    """Yield the enabled deb stanzas of a .sources file; keep a key block below Signed-By as it is."""
    for stanza in re.split(r"\n\s*\n", text):
        fields: dict[str, str] = {}
        key = ""
        for line in stanza.splitlines():
            if line.startswith("#") or not line.strip():
                continue
            if line[0].isspace():
                fields[key] = f"{fields.get(key, '')}\n{line}"
                continue
            key, _, value = line.partition(":")
            key = key.lower()
            fields[key] = value.strip()
        if "deb" in fields.get("types", "").split() and fields.get("enabled", "yes").lower() not in ("no", "false"):
            yield Source(
                uris=fields.get("uris", ""),
                suites=tuple(fields.get("suites", "").split()),
                components=fields.get("components", ""),
                signed_by=fields.get("signed-by", ""),
            )


def parse_one_line(text: str) -> Iterator[Source]:
    """Yield the deb lines of a sources.list; leave out deb-src and comments."""
    for line in text.splitlines():
        match = _ONE_LINE.fullmatch(line.partition("#")[0].strip())
        if match:
            options = dict(word.split("=", 1) for word in (match["options"] or "").split() if "=" in word)
            yield Source(match["uri"], (match["suite"],), match["components"], options.get("signed-by", ""))


def for_suite(sources: Iterable[Source], codename: str, suite: str) -> str:
    """Rewrite the sources of the distribution `codename` for its sister `suite`. Raises UsageError if none fits."""
    wanted = {codename, f"{codename}-updates", f"{codename}-security"}
    kept = [
        Source(source.uris, suites, source.components, source.signed_by)
        for source in sources
        if (suites := tuple(suite + name[len(codename) :] for name in source.suites if name in wanted))
    ]
    if not any(suite in source.suites for source in kept):
        raise UsageError(
            f"the apt sources of this machine do not name its own suite {codename}",
            where="/etc/apt",
            next="apt-get update, and correct the sources until it works",
        )
    return "\n".join(source.text() for source in kept)
