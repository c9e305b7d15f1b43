"""Whose a name is on this host: a first setup takes nothing that was there, and no clone another one's service."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from typing import Any

from . import accounts
from .record import Record
from .run import Refused, Run, utc_now

UNIT_FOLDERS = (
    *("/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system"),
    *("/usr/lib/systemd/system", "/lib/systemd/system"),
)
TMPFILES_FOLDERS = ("/etc/tmpfiles.d", "/run/tmpfiles.d", "/usr/lib/tmpfiles.d")


def directories(name: str, root: str) -> tuple[str, ...]:
    """The directories that a service has to itself, made by setup or by systemd."""
    return (f"/etc/{name}", root, f"/run/{name}", f"/var/lib/{name}", f"/var/cache/{name}")


def everything(name: str, root: str) -> set[tuple[str, str]]:
    """What setup makes for a service, as the record names it."""
    return {("user", name), *(("directory", path) for path in directories(name, root))}


def check(record: Record, step: Mapping[str, Any]) -> None:
    """Refused when the name of the service is somebody else's here; `take_over` passes another clone's service on."""
    _require_free(record, step)
    theirs = record.values.get("origin", "")
    if theirs and step["origin"] != theirs and not step["take_over"]:
        raise Refused(
            f"{step['name']} on this host is the service of another clone: {theirs}, set up by "
            f"{_person(record.values.get('by', ''))} at {record.values.get('since', 'an unknown time')}. "
            "Give this service another name in service.yaml, or say --take-over if it is to replace that one"
        )


def begin(run: Run, record: Record, step: Mapping[str, Any]) -> None:
    """Write down what is about to be made, before anything is."""
    name = step["name"]
    if not record.there:
        os.mkdir(f"/etc/{name}", 0o755)
    # A record of an earlier version names files alone.
    if record.account is None or accounts.made_by_setup(name):
        record.made = everything(name, step["root"])
    origin = step["origin"]
    if "by" not in record.values or origin != record.values.get("origin", ""):
        record.values.update({"by": run.who, "since": utc_now()})
    record.values["origin"] = origin
    if not origin:
        del record.values["origin"]
    record.values["reader"] = step["account"]
    for file in step["files"]:
        record.add("file", file["path"], file["sha256"])
    record.write(run.id)


def _require_free(record: Record, step: Mapping[str, Any]) -> None:
    """Refused when something that is not recorded as ours is in the way of what this setup makes."""
    name, found = record.name, list[str]()
    new = [file["path"] for file in step["files"] if file["path"] not in record.files]
    places = [place for path in new for place in _like(path)]
    # What remove has left of a record, for the sake of the data, names neither files nor an account.
    if record.account is None and not record.files:
        places += [path for path in directories(name, step["root"]) if ("directory", path) not in record.made]
        found += _accounts(record)
    found += [place for place in dict.fromkeys(places) if os.path.lexists(place)]
    if found:
        raise Refused(
            f"this host has something of the name {name} already, and setup did not make it: {', '.join(found[:5])}. "
            "Give the service, or the process, another name in service.yaml"
        )


def _accounts(record: Record) -> list[str]:
    """An account or a group of the service's name that setup did not make."""
    if ("user", record.name) in record.made:
        return []
    if accounts.find(record.name) is not None:
        return [f"an account {record.name}"]
    return [f"a group {record.name}"] if accounts.group_exists(record.name) else []


def _like(path: str) -> Iterable[str]:
    """Where else a file of this name would be the same to systemd: ours would hide it, or be hidden."""
    folder, file = os.path.split(path)
    for folders in (UNIT_FOLDERS, TMPFILES_FOLDERS):
        if folder in folders:
            return [f"{other}/{file}" for other in folders]
    return [path]


def _person(text: str) -> str:
    """Who wrote the record, in words."""
    try:
        who = json.loads(text)
        return f"{who.get('git') or who.get('user')} (on {who.get('host')})"
    except (ValueError, AttributeError):
        return "somebody"
