"""Named places where a run can be made to fail, die or stall: `FAILPOINT=activate.switch=die fab deploy -H shire01`.

For tests of the promises. Only the controller's environment can set the variable; without it, a place costs one
comparison. The places of the host are read from its program.
"""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Mapping

from tasks.engine.config.schema import nearest
from tasks.engine.errors import LoopError, UsageError

VARIABLE = "FAILPOINT"
ACTIONS = {
    "fail": "it ends there with an error",
    "die": "it is killed there (SIGKILL): no trap, no message",
    "stall": "it stays there for ever, and does nothing",
}
CONTROLLER = {
    "controller.connect": "before a host is connected to",
    "controller.facts": "a host has reported its facts",
    "controller.setup": "the setup as root is done",
    "controller.lock": "the run lock is held",
    "controller.send": "before the release is sent",
    "controller.staged": "the release is on the host",
    "controller.activate": "before a host is activated",
    "controller.activated": "a host has been activated",
    "controller.undo": "before the hosts that this run activated go back (undo)",
    "controller.end": "all hosts are done",
}
_PROGRAM = {
    "setup": ("setup", "handover", "files"),
    "hold": ("hold",),
    "hook": ("recover", "hook"),
    "stage": ("stage", "receive", "venv_build"),
    "activate": ("activate", "recover", "gate", "front_door", "attempt"),
    "undo": ("activate", "recover", "gate", "front_door", "attempt"),
    "probation": ("guard", "attempt", "prune"),
    "certify": ("certify",),
    "stop": ("stop",),
    "start": ("start",),
}
"""The places in the host's program: the first word of their names, and the modules that contain them."""
_CALL = re.compile(r'\.point\(f?"([\w.{}]+)"\)')


def names() -> tuple[str, ...]:
    """Return every place: the controller's first, then step by step in the order of the program's text."""
    from tasks.engine.host import templates

    places = list(CONTROLLER)
    for prefix, modules in _PROGRAM.items():
        points = [point for name in modules for point in _CALL.findall(templates.text(f"host/{name}.py"))]
        # A place that several steps share has the step's name filled in.
        points = [re.sub(r"\{[a-z.]+\}", prefix, point) for point in points]
        places += [point for point in points if point.startswith(f"{prefix}.")]
    return tuple(dict.fromkeys(places))


def setting(environ: Mapping[str, str], host: str) -> str:
    """Return the failpoint of one host as `NAME=ACTION`, empty for none; UsageError for one that does not exist."""
    text = environ.get(VARIABLE, "")
    if not text:
        return ""
    point, _, wanted = text.partition("@")
    step, _, action = point.partition("=")
    known = names()
    if step not in known:
        meant = nearest(step, known)
        raise UsageError(f"there is no failpoint {step!r}", where=VARIABLE,
                         next=f"{VARIABLE}={meant}=die" if meant else "fab failpoints")  # fmt: skip
    if action not in ACTIONS:
        raise UsageError(f"a failpoint can {', '.join(ACTIONS)}, not {action!r}", where=VARIABLE,
                         next=f"{VARIABLE}={step}=die")  # fmt: skip
    return point if wanted in ("", host) else ""


def reach(failpoint: str, point: str, host: str) -> None:
    """Perform the failpoint's action if it is set for this point of the controller."""
    reached, _, action = failpoint.partition("=")
    if reached != point:
        return
    if action == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if action == "stall":
        threading.Event().wait()
    raise LoopError(f"failpoint {point}", where=host, code="failpoint")
