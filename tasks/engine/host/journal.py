"""What is asked of a host's journal, and what it answers. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any, NamedTuple

from tasks.engine import quote, untrusted_json
from tasks.engine.config.schema import nearest
from tasks.engine.config.service import Service
from tasks.engine.errors import UsageError
from tasks.engine.host import layout, log_text

LEVELS = ("debug", "info", "warning", "error")
_LINES = 200
_LINES_BEFORE = 10
# A level finds what says so itself, and what journald files under it: the numbers of syslog.
_PRIORITIES = {"error": "0-3", "warning": "0-4"}
_WORDS = {"error": "error|crit|fatal|alert|emerg|panic", "warning": "warn|error|crit|fatal|alert|emerg|panic"}
# So many lines that are surely no checks, and those between; the status is journalctl's.
_COUNTED = r"""
/^@end / { status = $2; next }
{ print }
!/\\"check\\": ?\\"[bgl]/ && ++seen == last { exit }
END { exit status }
"""
_LATEST = 253402300799  # the year 9999
_WAYS = ("blue", "green", "live")
_WIDEST = 128
"""Characters of a source or an identifier."""


class Wanted(NamedTuple):
    """What of the journals. lines: a host; since, until, grep: as journalctl takes them, times in UTC; level: at least.

    processes: those of service.yaml, none for all; nginx: the gateway's lines, too; follow: and whether to go on.
    checks: the requests of our own health checks, too.
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

    def has(self, entry: Entry, service: Service) -> bool:
        """Whether this line is wanted."""
        if not self.checks and entry.is_check(service):
            return False
        return not self.level or LEVELS.index(entry.level) >= LEVELS.index(self.level)

    @property
    def last(self) -> int | None:
        """So many lines of a host, its last; None for all."""
        if self.lines is not None or self.since:
            return self.lines
        return _LINES_BEFORE if self.follow else _LINES


class Entry(NamedTuple):
    """One line. time: seconds since 1970, by the clock of its host; cursor: its place there.

    source: the unit that wrote it, by what journald itself saw; identifier: what the sender calls itself.
    """

    time: float
    host: str
    source: str
    level: str
    text: str
    cursor: str
    identifier: str = ""

    @property
    def size(self) -> int:
        """Roughly what it takes to hold it: a line of one letter is not for nothing."""
        return len(self.text) + 256

    @property
    def moment(self) -> str:
        """Its time, UTC."""
        return datetime.fromtimestamp(self.time, timezone.utc).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]

    def is_check(self, service: Service) -> bool:
        """Whether it is the request of a health check of ours, as nginx marks those that show the host's secret.

        The service repeats nginx's word. With `listen:` its clients come past nginx, and could say the same.
        """
        by_service = self.source in {f"{service.name}@{slot}" for slot in layout.SLOTS} and not service.listen
        if not (by_service or self.source == "nginx") or '"check"' not in self.text:
            return False
        found = log_text.fields(self.text) or {}
        return found.get("check") in _WAYS and (found.get("logger") == "access" or not by_service)

    def as_dict(self) -> dict[str, object]:
        """Plain data for JSON; fields: the line itself, where it is structured."""
        found: dict[str, object] = {
            "time": datetime.fromtimestamp(self.time, timezone.utc).isoformat(timespec="microseconds"),
            "host": self.host, "source": self.source, "identifier": self.identifier, "level": self.level,
            "text": self.text,
        }  # fmt: skip
        fields = log_text.fields(self.text)
        return found if fields is None else {**found, "fields": fields}


def wanted(
    *, n: str, since: str, until: str, grep: str, level: str, process: str, nginx: bool, follow: bool, checks: bool
) -> Wanted:
    """The flags of the command line; UsageError for what cannot be."""
    if n and not (n.isascii() and n.isdigit()):
        raise UsageError(f"-n takes a number of lines, not {n!r}", where="-n", next="fab logs -n 100")
    if level and level not in LEVELS:
        meant = nearest(level, LEVELS) or "error"
        raise UsageError(f"there is no level {level!r}: {', '.join(LEVELS)}", where="--level",
                         next=f"fab logs --level {meant}")  # fmt: skip
    if follow and until:
        raise UsageError("-f goes on, and --until ends", where="--until", next="take one of them")
    processes = tuple(word.strip() for word in process.split(",") if word.strip())
    return Wanted(int(n) if n else None, since, until, grep, level, processes, nginx, follow, checks)


def check(asked: Wanted, services: Sequence[Service]) -> None:
    """UsageError when no host has what is asked for."""
    names = sorted({process.name for service in services for process in service.processes} | {"web"})
    for word in asked.processes:
        if word not in names:
            raise UsageError(f"there is no process {word!r}: {', '.join(names)}", where="--process",
                             next=f"fab logs --process {nearest(word, names) or 'web'}")  # fmt: skip
    if asked.nginx and not any(service.nginx for service in services):
        raise UsageError("the service has no nginx in front", where="--nginx", next="leave --nginx out")


def last(service: Service, asked: Wanted) -> str:
    """The script that answers, newest first where a number of lines is asked for, and ends."""
    words = [*_base(asked), *_option("since", asked.since), *_option("until", asked.until)]
    if asked.last is not None:
        words.append("--reverse")
        # Levels are told apart here, where the lines arrive, and so are counted here.
        words += [f"--lines={asked.last}"] if asked.checks and not asked.level else []
    if asked.last == 0:
        return _script("true")
    line = _shell([*words, *_matches(service, asked)])
    if asked.level in _WORDS:
        numbers = f'"PRIORITY" *: *"[{_PRIORITIES[asked.level]}]"'
        # Of the whole journal, no more than may be wanted is sent; bytes that are no text are listed as numbers.
        line += " | grep -aEi " + quote.shell(f'{numbers}|"MESSAGE" *: *\\[|{_WORDS[asked.level]}')
    elif asked.last and not (asked.level or asked.checks):
        # Checks are told apart here, too: the host stops after so many lines that are none for certain.
        line = f'{{ {line}; echo "@end $?"; }} | awk -v last={asked.last} {quote.shell(_COUNTED)}'
    return _script(line)


def newest() -> str:
    """The script that tells the newest place in the whole journal, to follow from where nothing was found."""
    return _script("journalctl --no-pager --output=json --output-fields=PRIORITY --lines=1")


def onwards(service: Service, asked: Wanted, cursor: str | None) -> str:
    """The script that follows from this place on, the line there included.

    `--after-cursor` would skip a line where the one at the cursor does not fit the filter.
    """
    words = [*_base(asked), "--follow", "--no-tail", *_option("cursor", cursor or "")]
    return _script(_shell([*words, *_matches(service, asked)]))


def _base(asked: Wanted) -> list[str]:
    # Without --all, a line of more than 4 KiB is left out, and every other traceback is one.
    fields = "MESSAGE,PRIORITY,SYSLOG_IDENTIFIER,_SYSTEMD_UNIT,_PID,_UID"
    words = ["journalctl", "--no-pager", "--output=json", "--all", f"--output-fields={fields}"]
    return [*words, *_option("grep", asked.grep)]


def _option(name: str, value: str) -> list[str]:
    return [f"--{name}={value}"] if value else []


def _matches(service: Service, asked: Wanted) -> list[str]:
    """What the units say and what systemd says about them. By name: a pattern finds only units that have spoken.

    Only fields with a leading underscore are journald's word; UNIT= and SYSLOG_IDENTIFIER= are the sender's, and count
    beside those.
    """
    units = _units(service, asked.processes)
    words = [*(f"_SYSTEMD_UNIT={unit}" for unit in units)]
    words += ["+", "_PID=1", "_UID=0", *(f"UNIT={unit}" for unit in units)]
    if asked.nginx and service.nginx:
        words += ["+", "_SYSTEMD_UNIT=nginx.service", f"SYSLOG_IDENTIFIER={layout.gateway_tag(service)}"]
    return words


def _units(service: Service, processes: tuple[str, ...]) -> list[str]:
    name = service.name
    units = []
    if not processes or "web" in processes:
        units += [f"{name}.service", *layout.slot_units(service)]
        units += [f"{name}-{kind}@{slot}.service" for kind in ("hook", "probation") for slot in layout.SLOTS]
        units += [f"{name}-listen.service", f"{name}-listen.socket"] if service.listen else []
    for process in layout.extras(service):
        if not processes or process.name in processes:
            units += [f"{name}-{process.name}.service"]
            units += [f"{name}-{process.name}.timer"] if process.schedule else []
    # One that another host has, and this one has not: nothing fits.
    return units or [f"{name}-{process}.service" for process in processes]


def _shell(words: Sequence[str]) -> str:
    return " ".join(quote.shell(word) for word in words)


def _script(line: str) -> str:
    """Times in UTC, as they are shown; what comes before the mark is the login's own greeting.

    To an account without rights journalctl may show that account's own lines, and say nothing.
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
    """An entry of journalctl's JSON; None for anything else. Messages that are not UTF-8 come as a list of bytes."""
    try:
        found: Any = untrusted_json.load(line.decode("utf-8", "replace"))
        text, identifier = _text(found.get("MESSAGE")), _text(found.get("SYSLOG_IDENTIFIER"))
        time = int(found["__REALTIME_TIMESTAMP"]) / 1e6
        cursor = str(found["__CURSOR"])
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return None
    if not 0 <= time <= _LATEST:
        return None
    level = _level(text, found.get("PRIORITY"))
    return Entry(time, host, _source(found), level, text, cursor, identifier[:_WIDEST])


def _source(found: dict[str, object]) -> str:
    """Who wrote the line, by the fields that no sender can set: `systemd`, or the unit, without `.service`."""
    if found.get("_PID") == "1" and found.get("_UID") == "0":
        return "systemd"
    unit = found.get("_SYSTEMD_UNIT")
    return unit.removesuffix(".service")[:_WIDEST] if isinstance(unit, str) and unit else "-"


def _text(value: object) -> str:
    """A field: text, bytes as numbers, or several of them where it was given more than once."""
    if isinstance(value, list):
        if value and all(isinstance(item, int) for item in value):
            return bytes(value).decode("utf-8", "replace")
        return " ".join(_text(item) for item in value)
    return "" if value is None else str(value)


def _level(text: str, priority: object) -> str:
    own = log_text.level(text)
    if own:
        return own
    number = int(priority) if isinstance(priority, str) and re.fullmatch("[0-7]", priority) else 6
    return "error" if number <= 3 else "warning" if number == 4 else "debug" if number >= 7 else "info"
