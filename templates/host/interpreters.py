"""The interpreters of this host, of which one may run the service."""

from __future__ import annotations

import os
import sys
from importlib import import_module

from . import interpreter, programs
from .beside import Beside
from .told import Python

NAMES = ("python3", *(f"python3.{minor}" for minor in range(9, 16)))
_SECONDS = 20
_LONGEST = 4000
"""Letters of a word about one."""


def ask(named: str) -> tuple[Python, ...]:
    """Every interpreter by its usual names, and the one of hosts.yaml, by name or path, first; all asked at once."""
    asked = [Beside(lambda path=path: _describe(path)) for path in _paths(named)]  # type: ignore[misc]
    return tuple(found for one in asked if (found := one.result()))


def _paths(named: str) -> list[str]:
    """Each once: python3 and python3.11 are mostly one."""
    found: list[str] = []
    for name in (named, *NAMES):
        path = name if name.startswith("/") else (name and programs.find(name))
        if path and os.access(path, os.X_OK) and not any(os.path.samefile(path, known) for known in found):
            found.append(path)
    return found


def _describe(path: str) -> Python | None:
    words = interpreter.describe(path) if _is_this_one(path) else _words_of(path)
    if not {"path", "version"} <= words.keys():
        return None
    return Python(*(words.get(field, "")[:_LONGEST] for field in Python._fields))


def _is_this_one(path: str) -> bool:
    """Whether it is the interpreter that runs this, and no venv: then nothing has to be started."""
    beside = os.path.dirname(path)
    venv = any(os.path.lexists(f"{place}/pyvenv.cfg") for place in (beside, os.path.dirname(beside)))
    return not venv and os.path.samefile(path, sys.executable)


def _words_of(path: str) -> dict[str, str]:
    """What another interpreter says of itself; nothing where it does not run."""
    text = f"{_source()}\nfor one in describe(sys.executable).items(): print(*one)\n"
    # Without `site` and the user's settings it starts in a third of the time.
    told = programs.ask(path, "-I", "-S", "-c", text, seconds=_SECONDS)
    pairs = (line.partition(" ") for line in told.output.splitlines())
    return {key: value for key, _, value in pairs} if told.well else {}


def _source() -> str:
    """The text of the module that describes an interpreter, from whatever has loaded it."""
    module = import_module(".interpreter", __package__)
    text: str = module.__spec__.loader.get_source(module.__name__)  # type: ignore[union-attr]
    return text
