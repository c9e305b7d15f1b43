"""Derive the state of a host from its facts: the rows of `fab status` and `fab releases`. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from tasks.engine.config.service import Service
from tasks.engine.errors import LoopError, Unreachable, UsageError
from tasks.engine.host import history, layout, maintenance_page
from tasks.engine.host.facts import Facts
from templates.host.fact_schema import Job, Process, Slot

HEADINGS = (
    "host",
    "state",
    "release",
    "age",
    "slot",
    "up",
    "workers",
    "processes",
    "jobs",
    "memory",
    "free",
    "cert",
    "last action",
)
# Columns that a narrow terminal drops, in this order.
_DROPPED = ("up", "slot", "workers", "cert", "memory", "free", "jobs", "processes", "last action", "age")
# Characters of the last action that stay before a column is dropped: its author may have a long name.
_LAST_ACTION = 20
CERTIFICATE_DAYS = 21
FREE_BYTES = 500_000_000
"""Free bytes below which a host is mentioned."""


def describe(host: str, service: Service, facts: Facts | None, error: LoopError | None = None) -> dict[str, Any]:
    """Return the state of one host as plain data. facts: None without an answer; error: its reason."""
    if facts is None:
        return _unanswered(host, service, error)
    serves, survey = facts.state.slots.get(facts.slot, Slot()), facts.survey
    last = facts.actions[-1] if facts.actions else None
    memory_bytes, counted = memory(serves)
    return {
        "host": host,
        "reachable": True,
        "service": service.name,
        "release": facts.live_release,
        "slot": facts.slot or None,
        "committed": facts.committed_release,
        "probation_seconds": facts.probation,
        "healthy": facts.healthy,
        "state": _state(facts),
        "maintenance": maintenance_page.state(facts),
        "bypass": maintenance_page.bypass(service) or None,
        "time": facts.machine.time,
        "age_seconds": _age_of(facts),
        "up_seconds": survey.uptime - serves.began if serves.began else None,
        "restarts": serves.restarts or 0,
        "workers": serves.workers,
        "workers_wanted": next((process.workers for process in service.processes if process.name == "web"), None),
        "memory_bytes": memory_bytes,
        "memory_counted": counted,
        "disk_free_bytes": survey.free_bytes,
        "certificate_days": days_left(facts),
        "certificate_fault": survey.certificate_fault or None,
        "certificate_differs": survey.certificate_differs,
        "processes": _processes(facts),
        "jobs": {unit: job_result(facts, unit) for unit in layout.jobs(service)},
        "commands": {unit: max(0, survey.uptime - began) for unit, began in survey.commands.items()},
        "oom_kills": dict(survey.oom_kills),
        "last_action": last.as_dict() if last else None,
    }


def _unanswered(host: str, service: Service, error: LoopError | None) -> dict[str, Any]:
    """Return the state of a host that has given no facts."""
    reached = error is not None and not isinstance(error, (Unreachable, UsageError))
    state = ("no python" if error and error.code == "no-python" else "unknown") if reached else "unreachable"
    return {"host": host, "reachable": reached, "service": service.name, "release": None, "slot": None,
            "healthy": False, "state": state}  # fmt: skip


def _processes(facts: Facts) -> dict[str, dict[str, Any]]:
    """Return the state of each unit beside `web` and each timer. fault: why it is not up, or does not stay up."""
    down, uptime = facts.down, facts.survey.uptime
    lines = {}
    for unit, state in facts.state.processes.items():
        process = facts.survey.processes.get(unit, Process())
        lines[unit] = {
            "state": state,
            "restarts": process.restarts or 0,
            "up_seconds": max(0, uptime - process.began) if process.began and state == "active" else None,
            "fault": down.get(unit) or ("is failed" if state == "failed" else None),
        }
    return lines


def job_result(facts: Facts, unit: str) -> dict[str, Any]:
    """Return the last result of a job: `result` in systemd's words, None for one that has not run since the boot.

    former: it runs, and began before the release that serves
    """
    job, survey = facts.survey.jobs.get(unit, Job()), facts.survey
    running, serves = job.state == "activating", facts.state.slots.get(facts.slot, Slot())
    began = job.began if running else None
    # systemd reports success for a unit that has never run.
    return {
        "result": (job.result or None) if job.ended or job.result != "success" else None,
        "exit_status": job.exit_status or 0 if job.ended else None,
        "running": running,
        "running_seconds": max(0, survey.uptime - began) if began else None,
        "former": bool(began and serves.began and began < serves.began),
        "ended_seconds": max(0, survey.uptime - job.ended) if job.ended else None,
    }


def failed_jobs(jobs: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return the jobs whose last run failed, each with systemd's result and the exit status or the signal."""
    return {
        unit: f"{job['result']}, {job['exit_status']}" if job["exit_status"] else str(job["result"])
        for unit, job in jobs.items()
        if job["result"] not in {"success", None}
    }


def memory(slot: Slot) -> tuple[int | None, str | None]:
    """Return bytes, and their source: systemd, or the sum of the processes' pss or rss."""
    # systemd reports 2^64 - 1 where it does not count.
    for size, counted in ((slot.memory, "systemd"), (slot.pss, "pss"), (slot.rss, "rss")):
        if size and size < 2**63:
            return size, counted
    return None, None


def _state(facts: Facts) -> str:
    slot = facts.slot
    if not slot:
        return "nothing deployed"
    if facts.silent:
        return "unknown"
    if (state := facts.slot_state(slot)) != "active":
        return "stopped" if state == "inactive" else state
    if not facts.healthy:
        return "unhealthy"
    if facts.unwatched:
        return "uncommitted"
    return "healthy" if facts.probation is None else "probation"


def days_left(facts: Facts) -> int | None:
    """Return the whole days until the certificate ends, by the host's own clock."""
    try:
        end = datetime.strptime(facts.survey.certificate_end, "%b %d %H:%M:%S %Y GMT").replace(tzinfo=timezone.utc)
    except ValueError:
        return None
    return int((end.timestamp() - facts.machine.time) // 86400)


def _age_of(facts: Facts) -> int | None:
    """Return the seconds since the live release was activated, by the host's own clock."""
    activated = [
        item for item in facts.actions if item.release == facts.live_release and item.action in {"deploy", "rollback"}
    ]
    times = [item.time for item in activated if item.state in {"done", "probation"}]
    return _since(times[-1], facts.machine.time) if times else None


def _since(time: str, now: int) -> int | None:
    try:
        moment = datetime.strptime(time, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
    except ValueError:
        return None
    return max(0, now - int(moment.timestamp()))


def _workers(running: int | None, wanted: int | None) -> str:
    """Return `running/wanted`; without service.yaml's number, gunicorn.conf.py may have it."""
    if running is None:
        return "-"
    return str(running) if wanted is None else f"{running}/{wanted}"


def duration(seconds: int | None) -> str:
    """Format seconds in the largest unit that gives at least 2."""
    if seconds is None:
        return "-"
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def _answered(line: Mapping[str, Any]) -> bool:
    """Return True if the host sent its facts."""
    return "time" in line


def mark_differing(lines: Sequence[dict[str, Any]]) -> None:
    """Mark each answering host whose release differs from the most common one; the first wins among equals."""
    counts = Counter(line["release"] for line in lines if _answered(line))
    most = counts.most_common(1)[0][0] if counts else None
    for line in lines:
        line["differs"] = _answered(line) and line["release"] != most


def row(line: Mapping[str, Any]) -> tuple[str, ...]:
    """Return one row of the table."""
    if not _answered(line):
        return (line["host"], line["state"].upper(), *("-" for _ in HEADINGS[2:]))
    state = line["state"] if line["state"] == "healthy" else line["state"].upper()
    memory, days, workers = line["memory_bytes"], line["certificate_days"], line["workers"]
    return (
        line["host"],
        "MAINTENANCE" if state == "healthy" and line["maintenance"] is not None else state,
        f"{line['release'] or '-'}{' !' if line.get('differs') else ''}",
        duration(line["age_seconds"]),
        line["slot"] or "-",
        duration(line["up_seconds"]),
        _workers(workers, line["workers_wanted"]),
        _processes_up(line["processes"]),
        _jobs(line["jobs"]),
        f"{'' if line['memory_counted'] == 'systemd' else '~'}{memory // 1_000_000} MB" if memory is not None else "-",
        f"{line['disk_free_bytes'] / 1e9:.1f} GB",
        f"{days} d" if days is not None else "-",
        _last(line),
    )


def _processes_up(processes: Mapping[str, Mapping[str, Any]]) -> str:
    """Return `well/all` of the processes beside `web`."""
    faults = [process["fault"] for unit, process in processes.items() if not unit.endswith(".timer")]
    return f"{faults.count(None)}/{len(faults)}" if faults else "-"


def _jobs(jobs: Mapping[str, Mapping[str, Any]]) -> str:
    if bad := len(failed_jobs(jobs)):
        return f"{bad} FAILED"
    former = sum(bool(job["former"]) for job in jobs.values())
    return f"{former} FORMER" if former else "ok" if jobs else "-"


def former_jobs(jobs: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    """Return the jobs at work that began before the release that serves, each with its seconds."""
    return {unit: job["running_seconds"] for unit, job in jobs.items() if job["former"]}


def _last(line: Mapping[str, Any]) -> str:
    """Format the last action with its age and its author."""
    last = line["last_action"]
    if not last:
        return "-"
    state = "" if last["state"] in {"done", "probation"} else f" {last['state'].upper()}"
    return f"{last['action']}{state} {duration(_since(last['time'], line['time']))} ago, {_person(last['who'])}"


def _person(who: Mapping[str, str]) -> str:
    return str(who.get("git") or who.get("user") or "-")


def table(lines: Sequence[Mapping[str, Any]], width: int | None) -> list[tuple[str, ...]]:
    """Return headings and rows, with as many columns as fit the width, the last action cut to it; None: all."""
    rows = [HEADINGS, *(row(line) for line in lines)]
    seldom = {name: HEADINGS.index(name) for name in ("processes", "jobs")}
    kept = [name for name in HEADINGS if name not in seldom or any(cells[seldom[name]] != "-" for cells in rows[1:])]
    for name in ("", *_DROPPED):
        kept = [heading for heading in kept if heading != name]
        columns = [HEADINGS.index(heading) for heading in kept]
        fits = [tuple(cells[column] for column in columns) for cells in rows]
        widths = [max(map(len, cells)) for cells in zip(*fits, strict=True)]
        over = 0 if width is None else sum(widths) + 2 * len(widths) - 2 - width
        room = widths[-1] - over
        if over > 0 and kept[-1] == "last action" and room >= _LAST_ACTION:
            return [(*rest, last if len(last) <= room else f"{last[: room - 3]}...") for *rest, last in fits]
        if over <= 0:
            break
    return fits


def notes(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the facts that an operator should not miss and that the table has no room for."""
    answered = [line for line in lines if _answered(line)]
    texts = []
    if any(line.get("differs") for line in answered):
        texts.append("! the hosts do not all serve the same release")
    for source, pages in (("pss", "shared pages divided"), ("rss", "shared pages counted in each")):
        if any(line["memory_counted"] == source for line in answered):
            texts.append(f"~ memory is the sum over the processes ({pages}): systemd does not count it there")
    for line in answered:
        name = line["host"]
        if line["maintenance"] is not None:
            texts.append(
                f"{name}: maintenance is on {maintenance_page.describe(line['maintenance'], line['bypass'] or '')}"
            )
        texts += _certificate(line)
        if line["disk_free_bytes"] < FREE_BYTES:
            texts.append(f"{name}: only {line['disk_free_bytes'] // 1_000_000} MB are free")
        processes = line["processes"].items()
        texts += [f"{name}: {unit} {process['fault']}" for unit, process in processes if process["fault"]]
        for unit, why in failed_jobs(line["jobs"]).items():
            process = unit.removeprefix(f"{line['service']}-").removesuffix(".service")
            ago = duration(line["jobs"][unit]["ended_seconds"])
            texts.append(f"{name}: {unit} failed {ago} ago ({why}): fab logs -H {name} --process {process}")
        texts += [f"{name}: {unit} is at work, for {duration(age)}, and began before the release that serves"
                  for unit, age in former_jobs(line["jobs"]).items()]  # fmt: skip
        texts += [
            f"{name}: processes of {unit} were killed for want of memory (OOM), {times} in the last 24 h: raise "
            "limits.memory in service.yaml, start fewer workers, or give the host more memory"
            for unit, times in line["oom_kills"].items()
        ]
        texts += [f"{name}: {unit} is at work, for {duration(age)}" for unit, age in line["commands"].items()]
        texts += _outcome(line, line["last_action"] or {"state": "done"})
    return texts


def _certificate(line: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with the certificate."""
    name, days = line["host"], line["certificate_days"]
    if days is not None and days < CERTIFICATE_DAYS:
        yield f"{name}: the certificate {'has ended' if days < 0 else f'ends in {days} days'}"
    if line["certificate_fault"]:
        yield f"{name}: nginx does not get the new certificate: {line['certificate_fault']}"
    if line["certificate_differs"]:
        yield f"{name}: nginx shows another certificate than its file has: fab doctor -H {name}"


def _outcome(line: Mapping[str, Any], last: Mapping[str, Any]) -> list[str]:
    """Return a note about the last action, unless it simply succeeded."""
    name, left = line["host"], line["probation_seconds"]
    if left is not None:
        back = f"if the release fails, the host goes back to {line['committed']}"
        return [f"{name}: {line['release']} is on probation, {left} s more; {back}"]
    if last["state"] == "returned":
        failure = f"{last['release']} did not hold its probation: {last.get('why') or 'see the journal'}"
        return [f"{name}: {failure}. The host went back to {line['committed']} by itself"]
    if line["state"] == "uncommitted":
        danger = f"{line['release']} serves, but no guard watches it; a boot starts {line['committed']}"
        return [f"{name}: {danger}. To go on: fab deploy -H {name}; to go back: fab rollback -H {name}"]
    if last["state"] == "ended":
        return [f"{name}: the probation of {last['release']} was ended before its time; {line['committed']} serves"]
    if last["state"] in {"started", "probation"}:
        return [f"{name}: {last['action']} has no outcome: fab history -H {name} --verify"]
    return []


def releases(facts: Facts) -> list[dict[str, Any]]:
    """Return the releases of a host, the last deployed first. good: was committed once; bad: failed, and never was."""
    deploys = [action for action in facts.actions if action.action == "deploy"]
    deployed = {action.release: action for action in deploys if action.state == "done"}
    rollbacks = {action.release for action in facts.actions if action.state == "done" and action.action == "rollback"}
    good = {*deployed, *rollbacks}
    bad = {action.release for action in deploys if action.state in {"failed", "returned"}} - good
    back = (
        history.previous(facts.actions, facts.committed_release, facts.release_ids) if facts.committed_release else None
    )
    # A rollback of an uncommitted release returns to the committed one.
    back = facts.committed_release if facts.live_release != facts.committed_release else back
    lines = []
    for release in facts.releases:
        name = str(release.get("id", ""))
        action = deployed.get(name)
        marks = [
            *(["live"] if name == facts.live_release else []),
            *(
                ["probation" if facts.probation is not None else "uncommitted"]
                if name == facts.live_release != facts.committed_release
                else []
            ),
            *(["rollback"] if name == back else []),
            *(["good"] if name in good else []),
            *(["bad"] if name in bad else []),
            *(["dirty"] if release.get("dirty") else []),
        ]
        lines.append({
            "id": name, "marks": marks, "commit": release.get("commit"), "packages": release.get("packages"),
            "built": release.get("built"),
            "deployed": action.time if action else None, "by": _person(action.who) if action else None,
        })  # fmt: skip
    return sorted(lines, key=lambda line: str(line["deployed"] or ""), reverse=True)
