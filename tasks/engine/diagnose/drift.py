"""Find files of the deploy on a host that were edited, masked or removed, and files that were added. Pure."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import NamedTuple

from tasks.engine.host.difference import Comparison
from tasks.engine.host.facts import Facts
from tasks.engine.host.protocol import TooMuch
from tasks.engine.host.system_files import HostFile

_UNITS = "/etc/systemd/system/"
_NOTES = frozenset({"outdated", "unreadable", "absent"})
# Edited files that get a diff: git is asked for the former content of each, one by one.
_COMPARED = 100
# A service has at most three: who keeps its name, HTTP/2 and the host's addresses.
_CHOSEN = 3
_ADDRESSES = re.compile(rb"(?:server_name [0-9a-f.:\[\]]{1,41};\n)*")
_DROP_INS = 1000
"""Files that systemd may read for the units of one service; a host that names more is refused."""
_ADDITIONS = 100 * _DROP_INS
"""Units, in all, that these files add to."""
_UNIT = 255
"""Characters of a unit's name."""

_MANIFEST = re.compile(r"/releases/[^/]+/(MANIFEST|SITE)$")
_SBOM = re.compile(r"/releases/[^/]+/sbom\.json$")
_SECRET = re.compile(r"/etc/[^/]+/check/map$")
_VENV = re.compile(r"/venvs/[^/]+(/|$)")
_STATIC = re.compile(r"/opt/apps/[^/]+/static(/|$)")
_PYTHON = re.compile(r"/\.program/[^/]+/python$")

Source = Callable[[str, str], bytes | None]
"""Return the former content of a file (release, path below its directory); None if it is not known here."""


class Finding(NamedTuple):
    """A file. kind: edited, drop-in, masked, missing, extra, linked, stale; no drift: outdated, unreadable, absent."""

    kind: str
    path: str
    text: str
    diff: tuple[str, ...] = ()

    @property
    def drifted(self) -> bool:
        """True if the file was changed on the host; a file that only the templates have outdated was not."""
        return self.kind not in _NOTES

    def as_dict(self) -> dict[str, object]:
        """Return plain data for JSON."""
        return {"kind": self.kind, "path": self.path, "text": self.text, "drift": self.drifted, "diff": list(self.diff)}


def examine(files: tuple[HostFile, ...], facts: Facts, source: Source) -> tuple[Finding, ...]:
    """Return all findings of one host, drift first, by path. files: root's, as setup would write them now."""
    seen: dict[str, list[str]] = {}
    compare = Comparison()
    # Each once: a finding shows the content of its file, which the host has sent once.
    for line in dict.fromkeys(facts.drift):
        kind, _, detail = line.partition(" ")
        seen.setdefault(kind, []).append(detail)
    links = {link.partition(" ")[0]: link.partition(" ")[2] for link in seen.get("link", [])}
    chosen = {line.partition(" ")[0]: _decoded(line.partition(" ")[2]) for line in seen.get("chosen", [])[:_CHOSEN]}
    findings = [
        *_root_files(
            files, facts, links, frozenset(seen.get("unreadable", ())), frozenset(seen.get("missing", ())), compare
        ),
        *_units(seen.get("unit", []), facts, compare),
        *_certificate(facts, frozenset(seen.get("missing", ()))),
        *_chosen(chosen, links, frozenset(seen.get("unreadable", ())), facts, compare),
    ]
    known = {file.path for file in files}
    findings += [
        Finding("outdated" if facts.outdated and path in chosen else "missing", path, _missing(path))
        for path in seen.get("missing", ())
        if path not in known and not path.endswith("/tls/certificate.pem")
    ]
    for number, path in enumerate(seen.get("edited", ())):
        diff = _release_diff(path, facts, source, compare) if number < _COMPARED else ()
        findings.append(Finding("edited", path, _edited(path), diff))
    for path in seen.get("extra", ()):
        findings.append(
            Finding("extra", path, "the deploy did not write it", _diff(compare, b"", _content(facts, path), path))
        )
    for link in seen.get("points", ()):
        path, _, target = link.partition(" ")
        findings.append(Finding("linked", path, f"it leads to {target or 'nothing'}"))
    return tuple(sorted(findings, key=lambda finding: (not finding.drifted, finding.path)))


def _edited(path: str) -> str:
    if _MANIFEST.search(path):
        return "it is not the manifest of what this clone deploys"
    if _SBOM.search(path):
        return "it is not the list of packages that was made with the release; a deploy of its content writes it anew"
    if _PYTHON.search(path):
        return "it names no interpreter of the system; remove the directory it is in, and the next run makes that anew"
    if _SECRET.match(path):
        return "it is not the one secret of the host's own checks, which pass allow and basic_auth: fab setup makes one"
    if _VENV.search(path):
        return "it is not as it was when the venv was built; the next deploy builds that anew"
    if _STATIC.match(path):
        return "it is not what nginx should serve: the next deploy or restart puts the files of the release there anew"
    return "it is not what its manifest says"


def _missing(path: str) -> str:
    if _MANIFEST.search(path):
        return (
            "it is not there, so no file of the release can be compared; a deploy of its content writes all files anew"
        )
    return "it is not there any more"


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
        actual, recorded = facts.files.get(file.path, ""), facts.record.files.get(file.path, "")
        if file.path in links:
            masked = links[file.path] == "/dev/null"
            yield Finding("masked" if masked else "linked", file.path, f"it is a link to {links[file.path]}")
        elif file.path in unreadable:
            yield Finding("unreadable", file.path, "this account may not read it")
        elif file.path in missing and recorded:
            yield Finding("missing", file.path, "it is not there any more")
        elif actual and actual != recorded and actual != file.sha256:
            text = "it was edited since fab setup wrote it"
            there = None if file.hidden else _content(facts, file.path)
            yield Finding("edited", file.path, text, _diff(compare, file.text.encode(), there, file.path))
        elif actual != file.sha256:
            diff = (
                _diff(compare, _content(facts, file.path) or b"", file.text.encode(), file.path)
                if actual and not file.hidden
                else ()
            )
            yield Finding("outdated", file.path, "not edited, but fab setup would write another version", diff)


def _units(lines: list[str], facts: Facts, compare: Comparison) -> Iterator[Finding]:
    """Yield other files that systemd reads for a unit, and units that it has not reloaded."""
    added: dict[str, dict[str, None]] = {}
    number = 0
    for line in lines:
        unit, name, value = (*line.split(" ", 2), "", "")[:3]
        if name == "DropInPaths":
            paths = value.split(maxsplit=_DROP_INS)
            # Drop-ins that a distribution or a container adds to every unit are no drift.
            drifted = [path for path in paths if not path.startswith(("/usr/lib/", "/lib/")) and _names(path, unit)]
            for path in drifted:
                added.setdefault(path, {})[unit[:_UNIT]] = None
            number += len(drifted)
            if len(paths) > _DROP_INS or len(added) > _DROP_INS or number > _ADDITIONS:
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
    """Return True if a drop-in's directory means this unit, and not all services of the host."""
    folder = path.rpartition("/")[0].rpartition("/")[2].removesuffix(".d")
    # A path without a directory may mean any unit, so it counts.
    return folder not in {"service", "socket", "timer"} and unit.startswith(folder.split(".")[0].split("@")[0])


def _certificate(facts: Facts, missing: frozenset[str]) -> Iterator[Finding]:
    for path in (path for path in facts.files if path.endswith("/tls/certificate.pem")):
        recorded, actual = facts.record.files.get(path, ""), facts.files[path]
        if recorded and actual and recorded != actual:
            yield Finding("edited", path, "it is another certificate than fab setup put there")
    for path in missing:
        if path.endswith("/tls/certificate.pem") and facts.record.files.get(path):
            yield Finding("missing", path, "it is not there any more")


def _chosen(chosen: Mapping[str, bytes], links: Mapping[str, str], unreadable: Collection[str],
            facts: Facts, compare: Comparison) -> Iterator[Finding]:  # fmt: skip
    """Yield the files whose text setup chooses on the host: who keeps a shared name, HTTP/2, addresses.

    chosen: what each would have now, empty for one that must not be there.
    """
    for path, wanted in chosen.items():
        there = _content(facts, path)
        if path in links:
            yield Finding("linked", path, f"it is a link to {links[path]}")
        elif path in unreadable:
            yield Finding("unreadable", path, "this account may not read it")
        elif there is None or there == wanted:
            continue
        elif not wanted:
            yield Finding("extra", path, "the deploy did not write it", _diff(compare, b"", there, path))
        elif path.endswith("/addresses.conf") and _ADDRESSES.fullmatch(there):
            text = "not edited, but the host has other addresses now: fab setup writes them"
            yield Finding("outdated", path, text, _diff(compare, there, wanted, path))
        else:
            text = "it was edited since fab setup wrote it"
            yield Finding("edited", path, text, _diff(compare, wanted, there, path))


def _decoded(encoded: str) -> bytes:
    try:
        return base64.b64decode(encoded, validate=True)
    except ValueError:
        return b""


def _content(facts: Facts, path: str) -> bytes | None:
    return (facts.contents or {}).get(path)


def _release_diff(path: str, facts: Facts, source: Source, compare: Comparison) -> tuple[str, ...]:
    """Return the diff from a release's file as deployed to the file now; empty if its former content is not known."""
    _, _, inner = path.partition("/releases/")
    release, _, inner = inner.partition("/")
    former = source(release, inner)
    return _diff(compare, former, _content(facts, path), path) if former is not None else ()


def _diff(compare: Comparison, before: bytes | None, after: bytes | None, path: str) -> tuple[str, ...]:
    if before is None or after is None:
        return ()
    return compare.lines(before, after, ("as written" if before else "/dev/null", path))
