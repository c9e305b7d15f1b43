"""Find the interpreters of this host that may run the service."""

from __future__ import annotations

import glob
import os
import re
import sys
from collections.abc import Iterator
from importlib import import_module

from . import programs, this_interpreter, trust
from .background import Background
from .fact_schema import Python

NAMES = ("python3", *(f"python3.{minor}" for minor in range(9, 16)))
_SECONDS = 20
_LONGEST = 4000
"""Characters kept of one fact of an interpreter."""
_LIBRARIES = ("lib", "lib64")
"""Where an interpreter looks for its standard library first, beside the directory that it lies in."""
_NAMED = re.compile(r"python(3\.[0-9]{1,2})$")
"""The name of an interpreter, with its version."""


def ask(named: str) -> tuple[Python, ...]:
    """Describe every interpreter: the one of hosts.yaml (`named`, a name or path) first, then the usual names."""
    calls = [Background(lambda path=path: _describe(path)) for path in _paths(named)]  # type: ignore[misc]
    return tuple(python for call in calls if (python := call.result()))


def _paths(named: str) -> list[str]:
    """Return their paths without duplicates: python3 is often a link to python3.11.

    A path that others can exchange hides no other one: its account could lead it to any interpreter.
    """
    paths: list[str] = []
    closed: list[str] = []
    for name in (named, *NAMES):
        path = name if name.startswith("/") else (name and programs.find(name))
        if not (path and os.access(path, os.X_OK)) or path in paths or any(_are_one(path, known) for known in closed):
            continue
        paths.append(path)
        if not _open_place(path):
            closed.append(path)
    return paths


def _are_one(path: str, other: str) -> bool:
    """Return whether two paths lead to one file; False if an account has just changed a link on the way."""
    try:
        return os.path.samefile(path, other)
    except OSError:
        return False


def _describe(path: str) -> Python | None:
    # Look before its start: it would run with our rights, and can say anything of itself.
    if place := _open_place(path):
        named = _NAMED.search(os.path.realpath(path))
        return Python(path, named[1] if named else "0", "", "", "", "", f"open {place}")
    facts = this_interpreter.describe(path) if _is_this_one(path) else _ask_other(path)
    if not {"path", "version"} <= facts.keys():
        return None
    # A script that starts another one names that one.
    if place := _open_place(facts["path"]):
        facts["flaws"] = f"open {place}"
    return Python(*(facts.get(field, "")[:_LONGEST] for field in Python._fields))


def _open_place(path: str) -> str:
    """Return where an account that is neither root nor ours can exchange an interpreter or its standard library."""
    places = (path, *_libraries(os.path.realpath(path)))
    return next(filter(None, map(trust.open_place, places)), "")


def _libraries(path: str) -> Iterator[str]:
    """Yield where the standard library of an interpreter may be, even if it is not there now: it may come back."""
    above, name = os.path.dirname(os.path.dirname(path)), os.path.basename(path)
    for library in (f"{above}/{library}" for library in _LIBRARIES):
        if "3." in name:
            yield f"{library}/{name}/os.py"
        else:
            # The name does not say which it is.
            yield library
            yield from (f"{place}/os.py" for place in glob.glob(f"{glob.escape(library)}/python3.*"))


def _is_this_one(path: str) -> bool:
    """Return True for the interpreter that runs this, unless it is in a venv: it need not be started."""
    beside = os.path.dirname(path)
    venv = any(os.path.lexists(f"{place}/pyvenv.cfg") for place in (beside, os.path.dirname(beside)))
    return not venv and os.path.samefile(path, sys.executable)


def _ask_other(path: str) -> dict[str, str]:
    """Return what another interpreter reports of itself; empty if it does not run."""
    text = f"{_source()}\nfor fact in describe(sys.executable).items(): print(*fact)\n"
    # Without `site` and the user's settings it starts in a third of the time. It may be in another account's directory,
    # by a link or by hosts.yaml.
    ended = programs.ask_without_rights(path, "-I", "-S", "-c", text, seconds=_SECONDS)
    pairs = (line.partition(" ") for line in ended.output.splitlines())
    return {key: value for key, _, value in pairs} if ended.well else {}


def _source() -> str:
    """Return the source of the module `this_interpreter`, from the loader that imported it."""
    module = import_module(".this_interpreter", __package__)
    text: str = module.__spec__.loader.get_source(module.__name__)  # type: ignore[union-attr]
    return text
