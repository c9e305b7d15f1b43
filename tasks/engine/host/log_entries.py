"""Write the scripts that read a host's journal, and parse the entries that they print. Pure."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from typing import Any, NamedTuple

from tasks.engine import quote, untrusted_json
from tasks.engine.config.schema import nearest
from tasks.engine.config.service import Service
from tasks.engine.errors import UsageError
from tasks.engine.host import layout, log_text, plain_lines, reported_names
from tasks.engine.room import taken
from templates.host.slot_names import SLOTS

LEVELS = ("debug", "info", "warning", "error")
_LINES = 200
_LINES_BEFORE = 10
# A line has a level if its own text names it, or if journald stores it under that syslog priority.
_PRIORITIES = {"error": "0-3", "warning": "0-4"}
_WORDS = {"error": "error|crit|fatal|alert|emerg|panic", "warning": "warn|error|crit|fatal|alert|emerg|panic"}
# Of a traceback: an indented line, the name of an exception, or a line between two tracebacks.
_IN_TRACEBACK = r'"MESSAGE" *: *"( |[^ ":{\\]+[":]|Traceback |During handling |The above exception )'
LINE = 1024 * 1024
"""Bytes of a line of journalctl that a host sends."""
TOO_LONG = b"@long"
"""The line that a host sends in place of a longer one."""
# The exit status is journalctl's.
_SHORT = f"""
length > {LINE} {{ $0 = "{TOO_LONG.decode()}" }}
/^@end / {{ status = $2; next }}
{{ print }}
END {{ exit status }}
"""
# Print, the newest first, until more than `last` lines that count have passed. Health checks do not count. Of a
# traceback one line counts, sometimes two or none: too many lines come rather than too few.
_COUNTED = r"""
hidden && /\\"check\\": ?\\"[bgl]/ { next }
/"MESSAGE" *: *"( |During handling |The above exception )/ { next }
/"MESSAGE" *: *"Traceback / { seen--; next }
++seen > last { exit }
"""
_LATEST = 253402300799  # the year 9999
_WAYS = ("blue", "green", "live")
_OTHERS = ("systemd", "nginx", "-")
"""Sources that are no process of the service."""
_STARTS = 500
"""Starts of one release whose lines are asked for at most: each is an argument of journalctl."""
_KNOWN = 100_000
"""Starts that are remembered, the newest: those of a job each minute in two months."""
_WIDEST = 128
"""Characters of a source or an identifier."""
_CURSOR = 1000
"""Characters of a cursor; journald's have about 130."""


class Wanted(NamedTuple):
    """The lines of the journals that the user wants.

    lines: number of lines from each host; level: the lowest one; processes: names of service.yaml, empty for all
    since, until, grep: as journalctl takes them, times in UTC
    nginx: also nginx's lines; checks: also the requests of our health checks; follow: keep printing new lines
    release: only lines of processes of this release, empty for all
    """

    lines: int | None = None
    since: str = ""
    until: str = ""
    grep: str = ""
    level: str = ""
    processes: tuple[str, ...] = ()
    nginx: bool = False
    follow: bool = False
    checks: bool = False
    release: str = ""

    def has(self, entry: Entry, service: Service) -> bool:
        """Return whether this entry is wanted."""
        if not self.checks and entry.is_check(service):
            return False
        return not self.level or LEVELS.index(entry.level) >= LEVELS.index(self.level)

    @property
    def last(self) -> int | None:
        """The number of last lines to read from a host; None for all."""
        if self.lines is not None or self.since:
            return self.lines
        return _LINES_BEFORE if self.follow else _LINES


class Entry(NamedTuple):
    """One line of a journal.

    time: seconds since 1970 by the host's clock; cursor: its place in the journal
    source: the unit that wrote it, as journald itself saw it; identifier: the name that the sender gave itself
    stream: the process of the service that wrote it, and its output; empty for any other sender
    invocation: systemd's ID of the start of the unit that wrote it
    """

    time: float
    host: str
    source: str
    level: str
    text: str
    cursor: str
    identifier: str = ""
    stream: str = ""
    invocation: str = ""

    @property
    def size(self) -> int:
        """Bytes of memory that the entry takes, roughly: a short line takes some too."""
        return taken(self.text, self.cursor, self.source, self.identifier, self.stream, self.invocation) + 256

    @property
    def moment(self) -> str:
        """The time as text, in UTC."""
        return datetime.fromtimestamp(self.time, timezone.utc).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]

    def is_check(self, service: Service) -> bool:
        """Return whether this is a request of our health check: nginx marks requests that send the host's secret.

        The service copies nginx's mark. With `listen:`, clients bypass nginx and could forge it.
        """
        by_service = self.source in {f"{service.name}@{slot}" for slot in SLOTS} and not service.listen
        if not (by_service or self.source == "nginx") or '"check"' not in self.text:
            return False
        fields = log_text.fields(self.text) or {}
        return fields.get("check") in _WAYS and (fields.get("logger") == "access" or not by_service)

    def as_dict(self) -> dict[str, object]:
        """Return plain data for JSON; `fields` is the line itself, if it is structured."""
        document: dict[str, object] = {
            "time": datetime.fromtimestamp(self.time, timezone.utc).isoformat(timespec="microseconds"),
            "host": self.host, "source": self.source, "identifier": self.identifier, "level": self.level,
            "text": self.text,
        }  # fmt: skip
        fields = log_text.fields(self.text)
        return document if fields is None else {**document, "fields": fields}


def wanted(
    *,
    n: str,
    since: str,
    until: str,
    grep: str,
    level: str,
    process: str,
    nginx: bool,
    follow: bool,
    checks: bool,
    release: str,
) -> Wanted:
    """Return the flags of the command line as one value; UsageError for an invalid one."""
    if n and not (n.isascii() and n.isdigit()):
        raise UsageError(f"-n takes a number of lines, not {n!r}", where="-n", next="fab logs -n 100")
    if level and level not in LEVELS:
        meant = nearest(level, LEVELS) or "error"
        raise UsageError(f"there is no level {level!r}: {', '.join(LEVELS)}", where="--level",
                         next=f"fab logs --level {meant}")  # fmt: skip
    if follow and until:
        raise UsageError("-f goes on, and --until ends", where="--until", next="take one of them")
    if release and not reported_names.is_release(release):
        raise UsageError(f"{release!r} is no release", where="--release", next="fab releases lists them")
    if release and (follow or nginx):
        flag = "-f" if follow else "--nginx"
        raise UsageError(f"--release does not go with {flag}", where="--release", next=f"leave {flag} out")
    processes = tuple(word.strip() for word in process.split(",") if word.strip())
    return Wanted(int(n) if n else None, since, until, grep, level, processes, nginx, follow, checks, release)


def check(asked: Wanted, services: Sequence[Service]) -> None:
    """Raise UsageError if no host has the process, or nginx, that was asked for."""
    names = sorted({process.name for service in services for process in service.processes} | {"web"})
    for process in asked.processes:
        if process not in names:
            raise UsageError(f"there is no process {process!r}: {', '.join(names)}", where="--process",
                             next=f"fab logs --process {nearest(process, names) or 'web'}")  # fmt: skip
    if asked.nginx and not any(service.nginx for service in services):
        raise UsageError("the service has no nginx in front", where="--nginx", next="leave --nginx out")


def announced_script(service: Service, asked: Wanted) -> str:
    """Return the script that prints the lines by which processes name their release, the oldest first."""
    said = _base(asked._replace(grep=f"^{log_text.ANNOUNCED}{reported_names.RELEASE}$"))
    return _script(_cut(_shell([*said, *(f"_SYSTEMD_UNIT={unit}" for unit in _units(service, asked.processes))])))


def invocations(release: str, entries: Iterable[Entry]) -> tuple[str, ...]:
    """Return the newest starts of processes of this release. Only the first such line of a start is its launcher's."""
    said = f"{log_text.ANNOUNCED}{release}"
    # Of a line only whether it names the release: a host may send a gigabyte of them.
    first: OrderedDict[bytes, bool] = OrderedDict()
    for entry in entries:
        first.setdefault(bytes.fromhex(entry.invocation), entry.text == said)
        if len(first) > _KNOWN:
            first.popitem(last=False)
    return tuple(one.hex() for one, named in first.items() if one and named)[-_STARTS:]


def last_script(service: Service, asked: Wanted, starts: Sequence[str] = ()) -> str:
    """Return the script that prints the past entries, newest first if a number of lines is asked for.

    starts: of the processes whose lines are wanted, for one release
    """
    arguments = [*_base(asked), *_option("since", asked.since), *_option("until", asked.until)]
    if asked.last is not None:
        arguments.append("--reverse")
    if asked.last == 0:
        return _script("true")
    matches = [*(f"_SYSTEMD_INVOCATION_ID={start}" for start in starts)] or _matches(service, asked)
    command = _shell([*arguments, *matches])
    if asked.level in _WORDS:
        numbers = f'"PRIORITY" *: *"[{_PRIORITIES[asked.level]}]"'
        # The host sends only lines that may have the level. journalctl prints a message that is not text as numbers.
        wanted = f'{numbers}|"MESSAGE" *: *\\[|{_WORDS[asked.level]}|{_IN_TRACEBACK}|^{TOO_LONG.decode()}$'
        return _script(f"{_cut(command)} | grep -aEi {quote.shell(wanted)}")
    if asked.last and not asked.level:
        # The controller joins tracebacks and filters checks, so it also counts; the host sends a few lines more.
        return _script(_cut(command, _COUNTED, f"-v last={asked.last} -v hidden={int(not asked.checks)} "))
    return _script(_cut(command))


def _cut(command: str, counted: str = "", variables: str = "") -> str:
    """Return the command with a mark in place of each line that is too long, however long it is."""
    # `cut` first: awk and grep would hold such a line in memory.
    filters = f"cut -b 1-{LINE + 1} | awk {variables}{quote.shell(_SHORT + counted)}"
    return f'{{ {command}; echo "@end $?"; }} | {filters}'


def newest_script() -> str:
    """Return the script that prints the newest entry of the whole journal: to follow from there if none matched."""
    return _script("journalctl --no-pager --output=json --output-fields=PRIORITY --lines=1")


def follow_script(service: Service, asked: Wanted, cursor: str | None) -> str:
    """Return the script that follows the journal from this cursor on, the line there included.

    `--after-cursor` would skip a line if the one at the cursor does not match the filter.
    """
    arguments = [*_base(asked), "--follow", "--no-tail", *_option("cursor", cursor or "")]
    return _script(_shell([*arguments, *_matches(service, asked)]))


def _base(asked: Wanted) -> list[str]:
    # Without --all, journalctl leaves out lines of more than 4 KiB, such as every other traceback.
    fields = "MESSAGE,PRIORITY,SYSLOG_IDENTIFIER,_SYSTEMD_UNIT,_PID,_UID,_STREAM_ID,_SYSTEMD_INVOCATION_ID"
    arguments = ["journalctl", "--no-pager", "--output=json", "--all", f"--output-fields={fields}"]
    return [*arguments, *_option("grep", asked.grep)]


def _option(name: str, value: str) -> list[str]:
    return [f"--{name}={value}"] if value else []


def _matches(service: Service, asked: Wanted) -> list[str]:
    """Return the matches for the units' lines and systemd's lines about them.

    By full name: a pattern finds only units that have logged already. Only journald sets fields with a leading
    underscore; a sender sets UNIT= and SYSLOG_IDENTIFIER=, so these count only together with such a field.
    """
    units = _units(service, asked.processes)
    matches = [*(f"_SYSTEMD_UNIT={unit}" for unit in units)]
    matches += ["+", "_PID=1", "_UID=0", *(f"UNIT={unit}" for unit in units)]
    if asked.nginx and service.nginx:
        matches += ["+", "_SYSTEMD_UNIT=nginx.service", f"SYSLOG_IDENTIFIER={layout.nginx_tag(service)}"]
    return matches


def _units(service: Service, processes: tuple[str, ...]) -> list[str]:
    name = service.name
    units = []
    if not processes or "web" in processes:
        units += [f"{name}.service", *layout.slot_units(service)]
        units += [f"{name}-{kind}@{slot}.service" for kind in ("hook", "probation") for slot in SLOTS]
        units += [f"{name}-listen.service", f"{name}-listen.socket"] if service.listen else []
    for process in layout.other_processes(service):
        if not processes or process.name in processes:
            # Without a slot: a job, and lines of a process from before it ran in slots.
            units += [f"{name}-{process.name}.service"]
            units += [f"{name}-{process.name}.timer"] if process.schedule else []
            units += layout.processes(service._replace(processes=(process,)))
    # For a process that only other hosts have: a name that matches nothing.
    return units or [f"{name}-{process}.service" for process in processes]


def _shell(arguments: Sequence[str]) -> str:
    return " ".join(quote.shell(word) for word in arguments)


def _script(line: str) -> str:
    """Return the script around a command. It prints @begin after the login's greeting; times are in UTC, as we show.

    It checks the rights itself: to an account without them journalctl may silently show that account's own lines.
    """
    return (
        "export TZ=UTC LC_ALL=C\n"
        "echo @begin\n"
        "for file in /run/log/journal/*/system.journal /var/log/journal/*/system.journal; do\n"
        '  if [ -f "$file" ] && [ ! -r "$file" ]; then echo @unreadable; exit 1; fi\n'
        "done\n"
        f"{line}\n"
        'echo "@end $?"\n'
    )


def parse(host: str, line: bytes) -> Entry | None:
    """Return an entry of journalctl's JSON; None for anything else. A message that is not UTF-8 is a list of bytes."""
    try:
        fields: Any = untrusted_json.load(line.decode("utf-8", "replace"))
        text, identifier = _text(fields.get("MESSAGE")), _text(fields.get("SYSLOG_IDENTIFIER"))
        time = int(fields["__REALTIME_TIMESTAMP"]) / 1e6
        cursor = str(fields["__CURSOR"])
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return None
    if not 0 <= time <= _LATEST or len(cursor) > _CURSOR:
        return None
    source = _source(fields)
    stream = "" if source in _OTHERS else f"{source} {fields.get('_PID')} {fields.get('_STREAM_ID')}"[: 2 * _WIDEST]
    own = log_text.level(text) or (plain_lines.level(text) if stream else None)
    level = own or _of_priority(fields.get("PRIORITY"))
    start = fields.get("_SYSTEMD_INVOCATION_ID")
    invocation = start if isinstance(start, str) and re.fullmatch("[0-9a-f]{32}", start) else ""
    return Entry(time, host, source, level, text, cursor, identifier[:_WIDEST], stream, invocation)


def _source(fields: dict[str, object]) -> str:
    """Return the writer by the fields that no sender can set: `systemd`, or the unit without `.service`."""
    if fields.get("_PID") == "1" and fields.get("_UID") == "0":
        return "systemd"
    unit = fields.get("_SYSTEMD_UNIT")
    return unit.removesuffix(".service")[:_WIDEST] if isinstance(unit, str) and unit else "-"


def _text(value: object) -> str:
    """Return a field as text; journalctl prints bytes as numbers, and a list of values if the field occurs twice."""
    if isinstance(value, list):
        if value and all(isinstance(item, int) for item in value):
            return bytes(value).decode("utf-8", "replace")
        return " ".join(_text(item) for item in value)
    return "" if value is None else str(value)


def _of_priority(priority: object) -> str:
    number = int(priority) if isinstance(priority, str) and re.fullmatch("[0-7]", priority) else 6
    return "error" if number <= 3 else "warning" if number == 4 else "debug" if number >= 7 else "info"
