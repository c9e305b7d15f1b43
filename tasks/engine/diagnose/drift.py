"""What of ours on a host is not as it was written: edited, added to, masked, missing, or not ours at all. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from tasks.engine.host.difference import Comparison
from tasks.engine.host.facts import Facts
from tasks.engine.host.marks import TooMuch
from tasks.engine.host.system_files import HostFile

_UNITS = "/etc/systemd/system/"
_NOTES = frozenset({"outdated", "unreadable", "absent"})
# What an edited file was is asked of git, one by one.
_COMPARED = 100
_DROP_INS = 1000
"""Files that systemd may read for the units of one service; a host that names more is not believed."""

Source = Callable[[str, str], bytes | None]
"""What a file of a release was: release, path below its directory; None when nobody here knows."""


class Finding(NamedTuple):
    """kind: edited, drop-in, masked, missing, extra, linked, stale; outdated, unreadable, absent: no drift."""

    kind: str
    path: str
    text: str
    diff: tuple[str, ...] = ()

    @property
    def drifted(self) -> bool:
        """Whether somebody changed it; what only the templates have moved on from, nobody did."""
        return self.kind not in _NOTES

    def as_dict(self) -> dict[str, object]:
        """Plain data for JSON."""
        return {"kind": self.kind, "path": self.path, "text": self.text, "drift": self.drifted, "diff": list(self.diff)}


def examine(files: tuple[HostFile, ...], facts: Facts, source: Source) -> tuple[Finding, ...]:
    """Everything on one host, by path. files: root's, as setup would write them now."""
    seen: dict[str, list[str]] = {}
    compare = Comparison()
    for line in facts.drift:
        kind, _, rest = line.partition(" ")
        seen.setdefault(kind, []).append(rest)
    links = {rest.partition(" ")[0]: rest.partition(" ")[2] for rest in seen.get("link", [])}
    found = [
        *_root_files(
            files, facts, links, frozenset(seen.get("unreadable", ())), frozenset(seen.get("missing", ())), compare
        ),
        *_units(seen.get("unit", []), facts, compare),
        *_certificate(facts, frozenset(seen.get("missing", ()))),
    ]
    known = {file.path for file in files}
    found += [
        Finding("missing", path, "it is not there any more")
        for path in seen.get("missing", ())
        if path not in known and not path.endswith("/tls/certificate.pem")
    ]
    for number, path in enumerate(seen.get("edited", ())):
        diff = _release_diff(path, facts, source, compare) if number < _COMPARED else ()
        found.append(Finding("edited", path, "it is not what its manifest says", diff))
    for path in seen.get("extra", ()):
        found.append(
            Finding("extra", path, "nobody of ours wrote it", _diff(compare, b"", _content(facts, path), path))
        )
    for rest in seen.get("points", ()):
        path, _, target = rest.partition(" ")
        found.append(Finding("linked", path, f"it leads to {target or 'nothing'}"))
    return tuple(sorted(found, key=lambda finding: (not finding.drifted, finding.path)))


def _root_files(
    files: tuple[HostFile, ...],
    facts: Facts,
    links: Mapping[str, str],
    unreadable: frozenset[str],
    missing: frozenset[str],
    compare: Comparison,
) -> Iterator[Finding]:
    if facts.account is None:
        return
    for file in files:
        there, recorded = facts.files.get(file.path, ""), facts.record.files.get(file.path, "")
        if file.path in links:
            masked = links[file.path] == "/dev/null"
            yield Finding("masked" if masked else "linked", file.path, f"it is a link to {links[file.path]}")
        elif file.path in unreadable:
            yield Finding("unreadable", file.path, "this account may not read it")
        elif file.path in missing and recorded:
            yield Finding("missing", file.path, "it is not there any more")
        elif there and there != recorded and there != file.sha256:
            text = "it was edited since fab setup wrote it"
            yield Finding(
                "edited", file.path, text, _diff(compare, file.text.encode(), _content(facts, file.path), file.path)
            )
        elif there != file.sha256:
            diff = _diff(compare, _content(facts, file.path) or b"", file.text.encode(), file.path) if there else ()
            yield Finding("outdated", file.path, "as it was written, and fab setup would write it anew", diff)


def _units(lines: list[str], facts: Facts, compare: Comparison) -> Iterator[Finding]:
    """What else systemd reads for a unit than the file that is ours."""
    added: dict[str, list[str]] = {}
    for line in lines:
        unit, name, value = (*line.split(" ", 2), "", "")[:3]
        if name == "DropInPaths":
            paths = value.split(maxsplit=_DROP_INS)
            # What a distribution or a container adds to every unit is no change of ours.
            ours = [path for path in paths if not path.startswith(("/usr/lib/", "/lib/")) and _names(path, unit)]
            for path in ours:
                added.setdefault(path, []).append(unit)
            if len(paths) > _DROP_INS or len(added) > _DROP_INS:
                raise TooMuch(f"the host names more than {_DROP_INS} files that add to units",
                              next="look at it by hand: systemctl show -p DropInPaths UNIT")  # fmt: skip
        elif name == "FragmentPath" and value and value != "/dev/null" and not value.startswith(_UNITS):
            yield Finding("linked", value, f"systemd reads {unit} from here")
        elif name == "NeedDaemonReload" and value == "yes":
            yield Finding(
                "stale", f"{_UNITS}{unit}", "systemd has not read it since it changed: systemctl daemon-reload"
            )
    for path, units in added.items():
        text = f"it adds to {', '.join(sorted(units))}"
        yield Finding("drop-in", path, text, _diff(compare, b"", _content(facts, path), path))


def _names(path: str, unit: str) -> bool:
    """Whether a drop-in's directory means this unit, and not all services of the host."""
    folder = path.rpartition("/")[0].rpartition("/")[2].removesuffix(".d")
    # Of a path that has no directory nothing is known: it is told.
    return folder not in {"service", "socket", "timer"} and unit.startswith(folder.split(".")[0].split("@")[0])


def _certificate(facts: Facts, missing: frozenset[str]) -> Iterator[Finding]:
    for path in (path for path in facts.files if path.endswith("/tls/certificate.pem")):
        if _differs(facts.record.files.get(path, ""), facts.files[path]):
            yield Finding("edited", path, "it is another certificate than fab setup put there")
    for path in missing:
        if path.endswith("/tls/certificate.pem") and facts.record.files.get(path):
            yield Finding("missing", path, "it is not there any more")


def _differs(recorded: str, there: str) -> bool:
    """Whether both digests are known and are not the same."""
    return bool(recorded and there and recorded != there)


def _content(facts: Facts, path: str) -> bytes | None:
    return (facts.contents or {}).get(path)


def _release_diff(path: str, facts: Facts, source: Source, compare: Comparison) -> tuple[str, ...]:
    """Between what a release was and what lies there; nothing when no copy of it is at hand."""
    _, _, inner = path.partition("/releases/")
    release, _, inner = inner.partition("/")
    former = source(release, inner)
    return _diff(compare, former, _content(facts, path), path) if former is not None else ()


def _diff(compare: Comparison, before: bytes | None, after: bytes | None, path: str) -> tuple[str, ...]:
    if before is None or after is None:
        return ()
    return compare.lines(before, after, ("as written" if before else "/dev/null", path))
