"""failpoints: the named places where a run can be made to fail, die or stall."""

from __future__ import annotations

from typing import Any

from tasks.executor import verb


@verb()
def failpoints(c: Any, json: bool = False) -> None:
    """List the steps at which FAILPOINT=STEP=fail|die|stall[@HOST] breaks a run: to try what the promises say."""
    from tasks.engine.fleet import failpoints as engine
    from tasks.engine.report import output

    if json:
        output.document({"failpoints": list(engine.names()), "actions": engine.ACTIONS})
        return
    for name in engine.names():
        output.out().line(name)
