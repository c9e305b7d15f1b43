"""lock: the dependencies, pinned with hashes for every Python and platform."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tasks.executor import ROOT, verb

if TYPE_CHECKING:
    from tasks.engine.release.relock import Change


@verb(
    upgrade="take the newest versions that fit together", package="packages to upgrade, with commas; no others change"
)
def lock(c: Any, upgrade: bool = False, package: str = "", json: bool = False) -> None:
    """Pin the dependencies with hashes.

    Writes service/requirements.txt from requirements.in or pyproject.toml,
    or with the versions of uv.lock or pylock.toml.
    """
    from tasks.engine.config import service
    from tasks.engine.release import relock
    from tasks.engine.report import output

    described = service.describe(service.load(ROOT / "service" / "service.yaml"))
    names = [name.strip() for name in package.split(",") if name.strip()]
    changes = relock.make(ROOT, described.python, described.dependencies, upgrade=upgrade, packages=names)
    if json:
        rows = [{"package": change.name, "from": list(change.before), "to": list(change.after)} for change in changes]
        output.document({"changes": rows})
        return
    for text in map(_line, changes) if changes else ("service/requirements.txt: nothing to change",):
        output.out().line(text)


def _line(change: Change) -> str:
    """Format one change."""
    before, after = ", ".join(change.before), ", ".join(change.after)
    if not before:
        return f"+ {change.name} {after}"
    return f"  {change.name} {before} -> {after}" if after else f"- {change.name} {before}"
