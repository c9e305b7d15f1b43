"""Follow a run to its end: pass each event to one view and to the log, and count them all."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tasks.engine.events import Event, Failed
from tasks.engine.misread import Misread
from tasks.engine.report import output, runs
from tasks.engine.report.lines import JsonLines, Pace, Plain, View, as_dict
from tasks.engine.report.summary import Tally


def follow(
    events: Iterable[Event], hosts: Sequence[str], run: str, place: Path, environ: Mapping[str, str], *, as_json: bool
) -> Tally:
    """Show the run as it happens, write all of it to a file below `place`, and return its tally."""
    tally, view, log = Tally(hosts), _view(hosts, environ, as_json=as_json), runs.open_log(place, run)
    pace = Pace()
    try:
        for event in events:
            tally.add(event)
            if log and pace.due(event):
                log.write(json.dumps({"time": round(time.time(), 3), **as_dict(event), **_trace(event)}) + "\n")
            view.show(event)
    finally:
        view.close(tally, log.name if log else None)
        if log:
            log.close()
        runs.save_left_behind(place, tally.left_behind)
    return tally


def _trace(event: Event) -> dict[str, str]:
    """Return the traceback of a misread answer, which only the log records."""
    return {"traceback": event.error.trace} if isinstance(event, Failed) and isinstance(event.error, Misread) else {}


def _view(hosts: Sequence[str], environ: Mapping[str, str], *, as_json: bool) -> View:
    if as_json:
        return JsonLines()
    if output.draws(sys.stdout, environ):
        from tasks.engine.report.screen import Screen

        return Screen(hosts)
    return Plain(hosts)
