"""The controller's own apt sources, narrowed to one suite of its distribution: text in, text out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tasks.engine.errors import UsageError

_ONE_LINE = re.compile(r"deb\s+(?:\[(?P<options>[^]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)\s+(?P<components>.+)")


@dataclass(frozen=True)
class Source:
    """One deb822 stanza: where packages come from and whose signature they carry."""

    uris: str
    suites: tuple[str, ...]
    components: str
    signed_by: str = ""

    def text(self) -> str:
        """The stanza as apt reads it."""
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
    """The controller's distribution and codename, as in ("debian", "bookworm"). Raises UsageError elsewhere."""
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
    """Every enabled binary source that apt on this machine knows, in the order apt reads them."""
    lists = [etc / "sources.list", *sorted((etc / "sources.list.d").glob("*"))]
    found: list[Source] = []
    for path in lists:
        if path.suffix == ".sources":
            found += parse_deb822(path.read_text())
        elif path.suffix == ".list" and path.exists():
            found += parse_one_line(path.read_text())
    return tuple(found)


def parse_deb822(text: str) -> Iterator[Source]:
    """The enabled deb stanzas of a .sources file; a key block below Signed-By is kept as it is."""
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
    """The deb lines of a sources.list; deb-src and comments are left out."""
    for line in text.splitlines():
        match = _ONE_LINE.fullmatch(line.partition("#")[0].strip())
        if match:
            options = dict(word.split("=", 1) for word in (match["options"] or "").split() if "=" in word)
            yield Source(match["uri"], (match["suite"],), match["components"], options.get("signed-by", ""))


def for_suite(sources: Iterable[Source], codename: str, suite: str) -> str:
    """The sources of the distribution `codename`, rewritten for its sister `suite`. Raises UsageError for none."""
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
            next="apt-get update, and mend the sources until it works",
        )
    return "\n".join(source.text() for source in kept)
