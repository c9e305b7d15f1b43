"""failpoints: the named places at which a run can be made to fail, die or stall."""

from __future__ import annotations

from typing import Any

from tasks.executor import verb


@verb()
def failpoints(c: Any, json: bool = False) -> None:
    """List the failpoints, at which FAILPOINT breaks a run.

    FAILPOINT=NAME=fail|die|stall[@HOST] fab deploy ... breaks it there.
    """
    from tasks.engine.fleet import failpoints as engine
    from tasks.engine.report import output

    if json:
        output.document({"failpoints": list(engine.names()), "actions": engine.ACTIONS})
        return
    for name in engine.names():
        output.out().line(name)
