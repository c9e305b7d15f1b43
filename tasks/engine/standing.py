"""How a host stands, from its facts: the rows of `fab status` and `fab releases`. Pure."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from tasks.engine import history
from tasks.engine.facts import Facts
from tasks.engine.service import Service

HEADINGS = ("host", "state", "release", "slot", "up", "memory", "disk free", "certificate", "last action")


def of(host: str, service: Service, facts: Facts | None) -> dict[str, Any]:
    """One host as data; facts None: it was not reached."""
    if facts is None:
        return {"host": host, "reachable": False, "service": service.name, "release": None, "slot": None,
                "healthy": False, "state": "unreachable"}  # fmt: skip
    slot = facts.get("current") or None
    unit = f"slot.{slot}."
    began = facts.number(f"{unit}ActiveEnterTimestampMonotonic") // 1_000_000
    last = facts.actions[-1] if facts.actions else None
    return {
        "host": host,
        "reachable": True,
        "service": service.name,
        "release": facts.current,
        "slot": slot,
        "healthy": facts.healthy,
        "state": _state(facts),
        "up_seconds": facts.number("uptime") - began if began else None,
        "restarts": facts.number(f"{unit}NRestarts"),
        # systemd says [not set], or 2^64 - 1, where it does not count.
        "memory_bytes": memory if 0 < (memory := facts.number(f"{unit}MemoryCurrent")) < 2**63 else None,
        "disk_free_bytes": facts.number("free_bytes"),
        "certificate_days": _days_left(facts),
        "processes": {
            key.removeprefix("process."): value for key, value in facts.values.items() if key.startswith("process.")
        },
        "last_action": last.as_dict() if last else None,
    }


def _state(facts: Facts) -> str:
    slot = facts.get("current")
    if not slot:
        return "nothing deployed"
    if facts.get(f"slot.{slot}.ActiveState") != "active":
        return (
            "stopped" if facts.get(f"slot.{slot}.ActiveState") == "inactive" else facts.get(f"slot.{slot}.ActiveState")
        )
    return "healthy" if facts.healthy else "unhealthy"


def _days_left(facts: Facts) -> int | None:
    """Whole days until the certificate ends, by the host's own clock."""
    try:
        end = datetime.strptime(facts.get("certificate_end"), "%b %d %H:%M:%S %Y GMT").replace(tzinfo=timezone.utc)
    except ValueError:
        return None
    return int((end.timestamp() - facts.number("time")) // 86400)


def _age(seconds: int | None) -> str:
    """In the largest unit that says enough."""
    if seconds is None:
        return "-"
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def row(line: dict[str, Any]) -> tuple[str, ...]:
    """One line of the table."""
    if not line["reachable"]:
        return (line["host"], "UNREACHABLE", *("-" for _ in HEADINGS[2:]))
    state = line["state"] if line["state"] == "healthy" else line["state"].upper()
    memory, days, last = line["memory_bytes"], line["certificate_days"], line["last_action"]
    return (
        line["host"],
        state,
        line["release"] or "-",
        line["slot"] or "-",
        _age(line["up_seconds"]),
        f"{memory // 1_000_000} MB" if memory is not None else "-",
        f"{line['disk_free_bytes'] / 1e9:.1f} GB",
        f"{days} days" if days is not None else "-",
        f"{last['action']} {last['state']} {last['time']}" if last else "-",
    )


def releases(facts: Facts) -> list[dict[str, Any]]:
    """The releases of a host, the one deployed last first."""
    deployed = {one.release: one for one in facts.actions if one.action == "deploy" and one.state == "done"}
    failed = {one.release for one in facts.actions if one.state == "failed"} - set(deployed)
    back = history.previous(facts.actions, facts.current, facts.release_ids) if facts.current else None
    lines = []
    for release in facts.releases:
        name = str(release.get("id", ""))
        action = deployed.get(name)
        marks = [
            *(["live"] if name == facts.current else []),
            *(["rollback"] if name == back else []),
            *(["failed"] if name in failed else []),
            *(["uncommitted"] if release.get("dirty") else []),
        ]
        lines.append({
            "id": name, "marks": marks, "commit": release.get("commit"), "packages": release.get("packages"),
            "deployed": action.time if action else None,
            "by": (action.who.get("git") or action.who.get("user")) if action else None,
        })  # fmt: skip
    return sorted(lines, key=lambda line: str(line["deployed"] or ""), reverse=True)
