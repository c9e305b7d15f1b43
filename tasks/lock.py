"""`fab lock`: the dependencies, pinned with hashes for every Python and platform."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fabric import Connection, task

if TYPE_CHECKING:
    from tasks.engine.release.relock import Change

_ROOT = Path(__file__).resolve().parent.parent


@task(auto_shortflags=False)  # type: ignore[untyped-decorator]  # fabric has no types
def lock(c: Connection, upgrade: bool = False, package: str = "") -> None:
    """Lock the dependencies: write service/requirements.txt from requirements.in.

    --upgrade takes the newest versions that agree; --package A,B those of the named packages only.
    """
    from tasks.engine.config import service
    from tasks.engine.release import relock  # here, so that `fab --list` does not pay for it

    described = service.describe(service.load(_ROOT / "service" / "service.yaml"))
    names = [name.strip() for name in package.split(",") if name.strip()]
    changes = relock.make(_ROOT, described.python, upgrade=upgrade, packages=names)
    print("\n".join(map(_line, changes)) or "service/requirements.txt: nothing to change")


def _line(change: Change) -> str:
    """One change as a person reads it."""
    before, after = ", ".join(change.before), ", ".join(change.after)
    if not before:
        return f"+ {change.name} {after}"
    return f"  {change.name} {before} -> {after}" if after else f"- {change.name} {before}"
