"""add: a part of templates/parts, put into the service as code that then belongs to the owner of the service."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from tasks.executor import ROOT, agreed, verb

if TYPE_CHECKING:
    from tasks.engine.parts.addition import Addition


@verb(part="name of a part; without one, all are listed", yes="do it without asking")
def add(c: Any, part: str, yes: bool = False, json: bool = False) -> None:
    """Add a part to the service, as code that is then yours.

    fab add          list the parts, and when you need each
    fab add metrics  show what it changes, ask, do it, and lock

    Overwrites nothing: a file that is there and differs is refused. Undo:
    git checkout service && git clean -fd service
    """
    from tasks.engine.parts import addition, catalogue
    from tasks.engine.report import output

    if part == "list":
        _list(json)
        return
    plan = addition.plan(ROOT, catalogue.with_required(ROOT, part))
    if not json:
        for line in _lines(plan):
            output.out().line(line)
    if not plan.is_there:
        _ask(part, yes)
        addition.make(ROOT, plan)
        _lock(part)
    if json:
        output.document({"part": part, "made": sorted(plan.made), "changed": sorted(plan.changed)})
    elif not plan.is_there:
        output.out().line(f"next: {plan.part.next}; more in templates/parts/{part}/README.md")


def _list(json: bool) -> None:
    from tasks.engine.parts import catalogue
    from tasks.engine.report import output

    parts = [catalogue.load(ROOT, name) for name in catalogue.names(ROOT)]
    if json:
        rows = [{"part": part.name, "about": part.about, "when": part.when} for part in parts]
        output.document({"parts": rows})
        return
    for line in output.table([("part", "what", "for you if"), *((part.name, part.about, part.when) for part in parts)]):
        output.out().line(line)


def _lines(plan: Addition) -> list[str]:
    if plan.is_there:
        return [f"{plan.part.name} is there already: nothing to change"]
    return [
        f"{plan.part.name}: {plan.part.about}",
        *(f"  with  {part.name}: {part.about}" for part in plan.required),
        *(f"  new   {path}" for path in plan.made),
        *(f"  line  {line}" for line in plan.lines),
        "  then  fab lock",
    ]


def _ask(part: str, yes: bool) -> None:
    """Ask once; refuse without a terminal."""
    from tasks.engine.errors import UsageError
    from tasks.engine.release import git

    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError("there is no terminal to ask on", where="--yes", next=f"to add it: fab add {part} --yes")
    if git.read(ROOT).dirty:
        sys.stderr.write("service/ has changes that are not committed: an undo by git would take them, too\n")
    if not agreed("go on?"):
        raise UsageError("nothing was done", where="add", next=f"fab add {part}")


def _lock(part: str) -> None:
    """Lock what the service requires now; LoopError, after all else is done, if the lock cannot be made."""
    from tasks.engine.config import service
    from tasks.engine.errors import LoopError
    from tasks.engine.release import relock

    described = service.describe(service.load(ROOT / "service" / "service.yaml"))
    try:
        relock.make(ROOT, described.python, described.dependencies)
    except LoopError as error:
        raise LoopError(
            f"{part} is added, but not locked: {error.message}", where=error.where, next="fab lock", detail=error.detail
        ) from error
