"""The host's program, run by an operator on the host without a controller:

python3 -I -S /opt/apps/NAME/.program/DIGEST/__main__.py status             the state of the service, and what to do
python3 -I -S /opt/apps/NAME/.program/DIGEST/__main__.py plan RELEASE       print the step of `activate RELEASE`
python3 -I -S /opt/apps/NAME/.program/DIGEST/__main__.py activate RELEASE   with checks and undo, without a probation
python3 -I -S /opt/apps/NAME/.program/DIGEST/__main__.py run FILE           perform a step as `plan` prints it

It is for the deploy account. Any other user types, with one of these lines in the place of COMMAND:

sudo setsid -w runuser -u ACCOUNT -- COMMAND </dev/null 2>&1 | cat -v

The deploy account can write this program, so the line gives the program no terminal, through which it could type as
you. With --verbose it prints each program before starting it.
"""

from __future__ import annotations

import json
import os
import pwd
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from . import programs
from .folders import Folder
from .run import utc_now

LAST = ".activate.json"
"""The step of the last activation, beside the copies of the program. `activate` and `status` reuse its settings."""
_AS_ACCOUNT = "sudo setsid -w runuser -u {} -- {} </dev/null 2>&1 | cat -v"
"""Root leaves its terminal before it becomes the account: without one a process cannot type there (TIOCSTI)."""
_MOST = 1 << 20
_ARGUMENTS = {"status": 0, "plan": 1, "activate": 1, "run": 1}
"""Number of arguments of each verb."""
_HISTORY = 200
"""Lines of the history in which `status` looks for the previous release, beside earlier switches (`stores.history`)."""


class Command(NamedTuple):
    """The four head lines of a run (see `Run`), and its step."""

    head: tuple[str, str, str, str]
    step: Mapping[str, Any]


def parse(words: Sequence[str], place: str) -> Command | None:
    """Return the command to run; None if `plan` has printed it; SystemExit for a mistake. place: path of the copies."""
    programs.verbose = "--verbose" in words
    verb, *arguments = [word for word in words if word != "--verbose"] or [""]
    if _ARGUMENTS.get(verb) != len(arguments):
        sys.stderr.write(f"{__doc__}")
        sys.exit(2)
    owner = os.stat(place).st_uid
    if os.geteuid() != owner:
        # Root is refused, too: it would run a program that another account can write.
        sys.exit(f"this is for the account that deploys here: {_AS_ACCOUNT.format(_name(owner), _line(*words))}")
    step = _step(verb, arguments, place)
    if verb == "plan":
        print(json.dumps(step, indent=2))  # noqa: T201
        return None
    os.umask(0o022)
    who = json.dumps({"user": _name(os.getuid()), "host": os.uname().nodename})
    run = f"{utc_now().translate(str.maketrans('', '', '-:Z'))}-byhand"
    return Command(("", run, who, ""), step)


def command(*words: str) -> str:
    """Return the command that calls this program with other words, in the way that it was called now."""
    line = _line(*words)
    return _AS_ACCOUNT.format(_name(os.geteuid()), line) if "SUDO_USER" in os.environ else line


def _line(*words: str) -> str:
    return shlex.join((sys.executable, "-I", "-S", sys.argv[0], *words))


def _name(uid: int) -> str:
    return pwd.getpwuid(uid).pw_name


def _step(verb: str, arguments: Sequence[str], place: str) -> dict[str, Any]:
    if verb == "status":
        status = {"step": "status", "wanted": "", "history": _HISTORY, "wait": 0, "watch": 0}
        return {**_read(f"{place}/{LAST}"), **status}
    return _read(arguments[0]) if verb == "run" else activation(place, arguments[0])


def activation(place: str, release: str) -> dict[str, Any]:
    """Return the step that activates a release of this host: the last activation's, with this release."""
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
        sys.exit(f"{path} is not a step: {error}")
    if not isinstance(step, dict) or not {"step", "name", "root"} <= step.keys():
        sys.exit(f"{path} is not a step")
    return step
