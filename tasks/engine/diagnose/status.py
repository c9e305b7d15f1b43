"""How a host stands, from its facts: the rows of `fab status` and `fab releases`. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from tasks.engine.config.service import Service
from tasks.engine.errors import LoopError, Unreachable, UsageError
from tasks.engine.host import history, layout, maintenance
from tasks.engine.host.facts import Facts
from templates.host.told import Job, Slot

HEADINGS = ("host", "state", "release", "age", "slot", "up", "workers", "jobs", "memory", "free", "cert", "last action")
# What a narrow terminal does without, first of all first.
_DROPPED = ("up", "slot", "workers", "cert", "memory", "free", "jobs", "last action", "age")
_CERTIFICATE_DAYS = 21
_FREE_BYTES = 500_000_000


def of(host: str, service: Service, facts: Facts | None, error: LoopError | None = None) -> dict[str, Any]:
    """One host as data; facts None: it told nothing. error: why not, None for a host that was not reached."""
    if facts is None:
        reached = error is not None and not isinstance(error, (Unreachable, UsageError))
        state = ("no python" if error and error.code == "no-python" else "unknown") if reached else "unreachable"
        return {"host": host, "reachable": reached, "service": service.name, "release": None, "slot": None,
                "healthy": False, "state": state}  # fmt: skip
    slot = facts.slot or None
    serves, survey = facts.state.slots.get(facts.slot, Slot()), facts.survey
    last = facts.actions[-1] if facts.actions else None
    memory, counted = _memory(serves)
    return {
        "host": host,
        "reachable": True,
        "service": service.name,
        "release": facts.live,
        "slot": slot,
        "committed": facts.current,
        "probation_seconds": facts.probation,
        "healthy": facts.healthy,
        "state": _state(facts),
        "maintenance": maintenance.state(facts),
        "time": facts.machine.time,
        "age_seconds": _age_of(facts),
        "up_seconds": survey.uptime - serves.began if serves.began else None,
        "restarts": serves.restarts or 0,
        "workers": serves.workers,
        "workers_wanted": next((one.workers for one in service.processes if one.name == "web"), None),
        "memory_bytes": memory,
        "memory_counted": counted,
        "disk_free_bytes": survey.free_bytes,
        "certificate_days": _days_left(facts),
        "processes": dict(facts.state.processes),
        "jobs": {unit: job(facts, unit) for unit in jobs(service)},
        "last_action": last.as_dict() if last else None,
    }


def jobs(service: Service) -> tuple[str, ...]:
    """The units that timers start."""
    return tuple(one.removesuffix("timer") + "service" for one in layout.processes(service) if one.endswith(".timer"))


def job(facts: Facts, unit: str) -> dict[str, Any]:
    """How a job ended the last time: `result` as systemd calls it, None for one that has not run since the boot."""
    told = facts.survey.jobs.get(unit, Job())
    # To systemd what has never run is a success.
    return {
        "result": (told.result or None) if told.ended or told.result != "success" else None,
        "exit_status": told.exit_status or 0 if told.ended else None,
        "running": told.state == "activating",
        "ended_seconds": max(0, facts.survey.uptime - told.ended) if told.ended else None,
    }


def failed(jobs: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """The jobs that failed the last time, each with why: systemd's word, and the exit status or the signal."""
    return {
        unit: f"{one['result']}, {one['exit_status']}" if one["exit_status"] else str(one["result"])
        for unit, one in jobs.items()
        if one["result"] not in {"success", None}
    }


def _memory(slot: Slot) -> tuple[int | None, str | None]:
    """Bytes, and who counted them: systemd, or the sum over its processes of their share (pss) or of all (rss)."""
    # systemd says 2^64 - 1 where it does not count.
    for size, counted in ((slot.memory, "systemd"), (slot.pss, "pss"), (slot.rss, "rss")):
        if size and size < 2**63:
            return size, counted
    return None, None


def _state(facts: Facts) -> str:
    slot = facts.slot
    if not slot:
        return "nothing deployed"
    if (state := facts.slot_state(slot)) != "active":
        return "stopped" if state == "inactive" else state
    if not facts.healthy:
        return "unhealthy"
    if facts.unwatched:
        return "uncommitted"
    return "healthy" if facts.probation is None else "probation"


def _days_left(facts: Facts) -> int | None:
    """Whole days until the certificate ends, by the host's own clock."""
    try:
        end = datetime.strptime(facts.survey.certificate_end, "%b %d %H:%M:%S %Y GMT").replace(tzinfo=timezone.utc)
    except ValueError:
        return None
    return int((end.timestamp() - facts.machine.time) // 86400)


def _age_of(facts: Facts) -> int | None:
    """Seconds since the release that serves was put there, by the host's own clock."""
    came = [
        one
        for one in facts.actions
        if one.state in {"done", "probation"} and one.action in {"deploy", "rollback"} and one.release == facts.live
    ]
    if not came:
        return None
    return _since(came[-1].time, facts.machine.time)


def _since(time: str, now: int) -> int | None:
    try:
        moment = datetime.strptime(time, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
    except ValueError:
        return None
    return max(0, now - int(moment.timestamp()))


def _age(seconds: int | None) -> str:
    """In the largest unit that says enough."""
    if seconds is None:
        return "-"
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def _told(line: Mapping[str, Any]) -> bool:
    """Whether the host told how it stands."""
    return "time" in line


def mark_differing(lines: Sequence[dict[str, Any]]) -> None:
    """Say of each host that told it whether its release differs from that of most; of equals, the first counts."""
    counts = Counter(line["release"] for line in lines if _told(line))
    most = counts.most_common(1)[0][0] if counts else None
    for line in lines:
        line["differs"] = _told(line) and line["release"] != most


def row(line: Mapping[str, Any]) -> tuple[str, ...]:
    """One line of the table."""
    if not _told(line):
        return (line["host"], line["state"].upper(), *("-" for _ in HEADINGS[2:]))
    state = line["state"] if line["state"] == "healthy" else line["state"].upper()
    memory, days, workers = line["memory_bytes"], line["certificate_days"], line["workers"]
    return (
        line["host"],
        "MAINTENANCE" if state == "healthy" and line["maintenance"] is not None else state,
        f"{line['release'] or '-'}{' !' if line.get('differs') else ''}",
        _age(line["age_seconds"]),
        line["slot"] or "-",
        _age(line["up_seconds"]),
        f"{workers}/{line['workers_wanted']}" if workers is not None else "-",
        _jobs(line["jobs"]),
        f"{'' if line['memory_counted'] == 'systemd' else '~'}{memory // 1_000_000} MB" if memory is not None else "-",
        f"{line['disk_free_bytes'] / 1e9:.1f} GB",
        f"{days} d" if days is not None else "-",
        _last(line),
    )


def _jobs(jobs: Mapping[str, Mapping[str, Any]]) -> str:
    bad = len(failed(jobs))
    return f"{bad} FAILED" if bad else "ok" if jobs else "-"


def _last(line: Mapping[str, Any]) -> str:
    """What was done last, how long ago, and by whom."""
    last = line["last_action"]
    if not last:
        return "-"
    state = "" if last["state"] in {"done", "probation"} else f" {last['state'].upper()}"
    return f"{last['action']}{state} {_age(_since(last['time'], line['time']))} ago, {_person(last['who'])}"


def _person(who: Mapping[str, str]) -> str:
    return str(who.get("git") or who.get("user") or "-")


def table(lines: Sequence[Mapping[str, Any]], width: int | None) -> list[tuple[str, ...]]:
    """Headings and rows, with as many columns as the width has room for; None: all."""
    rows = [HEADINGS, *(row(line) for line in lines)]
    column = HEADINGS.index("jobs")
    kept = [name for name in HEADINGS if name != "jobs" or any(cells[column] != "-" for cells in rows[1:])]
    for name in ("", *_DROPPED):
        kept = [heading for heading in kept if heading != name]
        columns = [HEADINGS.index(heading) for heading in kept]
        fits = [tuple(cells[column] for column in columns) for cells in rows]
        if width is None or sum(max(map(len, cells)) + 2 for cells in zip(*fits, strict=True)) - 2 <= width:
            break
    return fits


def notes(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the table has no room for, and an operator should not miss."""
    reached = [line for line in lines if _told(line)]
    found = []
    if any(line.get("differs") for line in reached):
        found.append("! the hosts do not all serve the same release")
    for counted, told in (("pss", "of shared pages its part"), ("rss", "shared pages in each")):
        if any(line["memory_counted"] == counted for line in reached):
            found.append(f"~ memory added up over the processes ({told}): systemd does not count it there")
    for line in reached:
        days, name = line["certificate_days"], line["host"]
        if line["maintenance"] is not None:
            found.append(f"{name}: maintenance is on {maintenance.describe(line['maintenance'])}")
        if days is not None and days < _CERTIFICATE_DAYS:
            found.append(f"{name}: the certificate {'has ended' if days < 0 else f'ends in {days} days'}")
        if line["disk_free_bytes"] < _FREE_BYTES:
            found.append(f"{name}: only {line['disk_free_bytes'] // 1_000_000} MB are free")
        found += [f"{name}: {unit} is {state}" for unit, state in line["processes"].items() if state == "failed"]
        for unit, why in failed(line["jobs"]).items():
            process = unit.removeprefix(f"{line['service']}-").removesuffix(".service")
            ago = _age(line["jobs"][unit]["ended_seconds"])
            found.append(f"{name}: {unit} failed {ago} ago ({why}): fab logs -H {name} --process {process}")
        found += _outcome(line, line["last_action"] or {"state": "done"})
    return found


def _outcome(line: Mapping[str, Any], last: Mapping[str, Any]) -> list[str]:
    """What became of the last action, where it did not simply end well."""
    name, left = line["host"], line["probation_seconds"]
    if left is not None:
        back = f"if it fails, the host goes back to {line['committed']}"
        return [f"{name}: {line['release']} is on probation, {left} s more; {back}"]
    if last["state"] == "returned":
        told = f"{last['release']} did not hold its probation: {last.get('why') or 'see the journal'}"
        return [f"{name}: {told}. The host went back to {line['committed']} by itself"]
    if line["state"] == "uncommitted":
        told = f"{line['release']} serves, and nobody watches it; a boot starts {line['committed']}"
        return [f"{name}: {told}. To go on: fab deploy -H {name}; to go back: fab rollback -H {name}"]
    if last["state"] == "ended":
        return [f"{name}: the probation of {last['release']} was ended before its time; {line['committed']} serves"]
    if last["state"] in {"started", "probation"}:
        return [f"{name}: {last['action']} has no outcome: fab history -H {name} --verify"]
    return []


def releases(facts: Facts) -> list[dict[str, Any]]:
    """The releases of a host, the one deployed last first. good: it held its check once; bad: it never did."""
    deployed = {one.release: one for one in facts.actions if one.action == "deploy" and one.state == "done"}
    good = {one.release for one in facts.actions if one.state == "done" and one.action in {"deploy", "rollback"}}
    failed = {one.release for one in facts.actions if one.action == "deploy" and one.state in {"failed", "returned"}}
    bad = failed - good
    back = history.previous(facts.actions, facts.current, facts.release_ids) if facts.current else None
    # From what is not committed a rollback goes to what is.
    back = facts.current if facts.live != facts.current else back
    lines = []
    for release in facts.releases:
        name = str(release.get("id", ""))
        action = deployed.get(name)
        marks = [
            *(["live"] if name == facts.live else []),
            *(
                ["probation" if facts.probation is not None else "uncommitted"]
                if name == facts.live != facts.current
                else []
            ),
            *(["rollback"] if name == back else []),
            *(["good"] if name in good else []),
            *(["bad"] if name in bad else []),
            *(["dirty"] if release.get("dirty") else []),
        ]
        lines.append({
            "id": name, "marks": marks, "commit": release.get("commit"), "packages": release.get("packages"),
            "deployed": action.time if action else None, "by": _person(action.who) if action else None,
        })  # fmt: skip
    return sorted(lines, key=lambda line: str(line["deployed"] or ""), reverse=True)
