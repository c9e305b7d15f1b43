"""Keep setup from taking files, directories or accounts that it did not make, and the service of another clone."""

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
    # What generators make of /etc/init.d and the like, and what systemd-run and portablectl make.
    *(
        "/run/systemd/generator",
        "/run/systemd/generator.early",
        "/run/systemd/generator.late",
        "/run/systemd/transient",
    ),
    *("/etc/systemd/system.attached", "/run/systemd/system.attached"),
    *("/etc/systemd/system.control", "/run/systemd/system.control"),
)
TMPFILES_FOLDERS = ("/etc/tmpfiles.d", "/run/tmpfiles.d", "/usr/lib/tmpfiles.d")


def directories(name: str, root: str) -> tuple[str, ...]:
    """Return the directories of one service alone, made by setup or by systemd."""
    return (f"/etc/{name}", root, f"/run/{name}", f"/var/lib/{name}", f"/var/cache/{name}")


def logs(name: str) -> tuple[str, str]:
    """Return the log directory of a service that has one, as the record names it."""
    return "directory", f"/var/log/{name}"


def everything(name: str, root: str) -> set[tuple[str, str]]:
    """Return all that setup makes for a service, in the terms of the record."""
    return {("user", name), *(("directory", path) for path in directories(name, root))}


def check(record: Record, step: Mapping[str, Any]) -> None:
    """Raise Refused if the service's name is taken on this host; `take_over` accepts the service of another clone."""
    _require_free(record, step)
    recorded = record.values.get("origin", "")
    if recorded and step["origin"] != recorded and not step["take_over"]:
        raise Refused(
            f"{step['name']} on this host is the service of another clone: {recorded}, set up by "
            f"{_person(record.values.get('by', ''))} at {record.values.get('since', 'an unknown time')}. "
            "Give this service another name in service.yaml, or say --take-over if it is to replace that one"
        )


def complete(record: Record, root: str) -> None:
    """Add what setup has made to a record of an earlier version, which has only files. root: the directory."""
    if not record.made and accounts.made_by_setup(record.name):
        record.made = everything(record.name, root)


def begin(run: Run, record: Record, step: Mapping[str, Any]) -> None:
    """Record what setup is about to make, before it makes anything."""
    name = step["name"]
    if not record.there:
        os.mkdir(f"/etc/{name}", 0o755)
    if record.account is None:
        record.made |= everything(name, step["root"])
    complete(record, step["root"])
    if step["logs"]:
        record.made.add(logs(name))
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
    """Raise Refused if something that setup would make exists, and is not recorded as ours."""
    name, taken = record.name, list[str]()
    new = [file["path"] for file in step["files"] if file["path"] not in record.files]
    paths = [like for path in new for like in _like(path)]
    # A record that remove kept with the data lists neither files nor an account.
    if record.account is None and not record.files:
        paths += [path for path in directories(name, step["root"]) if ("directory", path) not in record.made]
        taken += _accounts(record)
    taken += [path for path in dict.fromkeys(paths) if os.path.lexists(path)]
    if taken:
        raise Refused(
            f"this host has something of the name {name} already, and setup did not make it: {', '.join(taken[:5])}. "
            "Give the service, or the process, another name in service.yaml"
        )
    if step["logs"] and logs(name) not in record.made and os.path.lexists(logs(name)[1]):
        raise Refused(
            f"{logs(name)[1]} is there, and setup did not make it: move it away, or remove logs from needs in "
            "service.yaml"
        )


def _accounts(record: Record) -> list[str]:
    """Return the account or the group of the service's name, if setup did not make it."""
    if ("user", record.name) in record.made:
        return []
    if accounts.find(record.name) is not None:
        return [f"an account {record.name}"]
    return [f"a group {record.name}"] if accounts.group_exists(record.name) else []


def _like(path: str) -> Iterable[str]:
    """Return every path at which systemd reads a file of this name: one of them hides the others."""
    folder, file = os.path.split(path)
    for folders in (UNIT_FOLDERS, TMPFILES_FOLDERS):
        if folder in folders:
            return [f"{other}/{file}" for other in folders]
    return [path]


def _person(text: str) -> str:
    """Format the record's `by`: the person, and the machine."""
    try:
        who = json.loads(text)
        return f"{who.get('git') or who.get('user')} (on {who.get('host')})"
    except (ValueError, AttributeError):
        return "an unknown user"
