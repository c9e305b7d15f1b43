"""The program in the hands of an operator on the host, when no controller is there:

python3 -I -S /opt/apps/NAME/.program/DIGEST/__main__.py status             how the service stands, and what to do
python3 -I -S /opt/apps/NAME/.program/DIGEST/__main__.py plan RELEASE       the step that would be run, as JSON
python3 -I -S /opt/apps/NAME/.program/DIGEST/__main__.py activate RELEASE   run it: a rollback, with checks and undo
python3 -I -S /opt/apps/NAME/.program/DIGEST/__main__.py run FILE           a step that `fab plan --steps` has printed

As the deploy account: sudo -u ACCOUNT ... With --verbose each program that is started is shown first.
"""

from __future__ import annotations

import json
import os
import pwd
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from . import programs
from .folders import Folder
from .run import utc_now

LAST = ".activate.json"
"""The step of the last activation, beside the copies of the program: what this host has to know to do one by itself."""
_MOST = 1 << 20
_REST = {"status": 0, "plan": 1, "activate": 1, "run": 1}
"""How many words follow each verb."""
_HISTORY = 200
"""Lines of it that tell which release was there before."""


class Asked(NamedTuple):
    """What to run: the four lines of a run, and its step. step: None where it was only to be shown."""

    head: tuple[str, str, str, str]
    step: Mapping[str, Any]


def asked(words: Sequence[str], place: str) -> Asked | None:
    """What the words of a command line mean; None where all is done. place: of the copies. SystemExit for a mistake."""
    programs.verbose = "--verbose" in words
    verb, *rest = [word for word in words if word != "--verbose"] or [""]
    if _REST.get(verb) != len(rest):
        sys.stderr.write(f"{__doc__}")
        sys.exit(2)
    owner = os.stat(place).st_uid
    if os.geteuid() != owner:
        # Root, too: it would run what another account can write.
        sys.exit(f"this is for the account that deploys here: sudo -u {pwd.getpwuid(owner).pw_name} ...")
    step = _step(verb, rest, place)
    if verb == "plan":
        print(json.dumps(step, indent=2))  # noqa: T201
        return None
    os.umask(0o022)
    who = json.dumps({"user": pwd.getpwuid(os.getuid()).pw_name, "host": os.uname().nodename})
    run = f"{utc_now().translate(str.maketrans('', '', '-:Z'))}-byhand"
    return Asked(("", run, who, ""), step)


def _step(verb: str, rest: Sequence[str], place: str) -> dict[str, Any]:
    if verb == "status":
        asked = {"step": "status", "wanted": "", "history": _HISTORY, "wait": 0, "watch": 0}
        return {**_read(f"{place}/{LAST}"), **asked}
    return _read(rest[0]) if verb == "run" else activation(place, rest[0])


def activation(place: str, release: str) -> dict[str, Any]:
    """The step that brings the traffic to a release of this host: the last one, about another release."""
    step = _read(f"{place}/{LAST}")
    root = step["root"]
    with Folder.open(root) as folder:
        current = folder.link("current")
        serves = folder.link(f"{current}/release").rpartition("/")[2] if current else ""
    return {**step, "action": "rollback", "release": release, "expect": [serves], "probation": 0, "stop_first": False}


def _read(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            step = json.loads(file.read(_MOST))
    except OSError as error:
        sys.exit(f"{path}: {error.strerror}")
    except ValueError as error:
        sys.exit(f"{path}: this is no step: {error}")
    if not isinstance(step, dict) or "step" not in step:
        sys.exit(f"{path}: this is no step")
    return step
