"""`fab` in a fork of one process that has loaded its libraries, for all tests in which no start of it counts.

Loading takes two thirds of the processor time of a `fab` that asks a host. A fork has nothing else of a former run:
it loads the clone's own `tasks` anew.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.support.forks import Forks, shared

ROOT = Path(__file__).resolve().parents[2]
# What stays of our own modules is in the cache of `re`: their patterns. Compiling those takes half of their loading.
PRELOAD = f"""
import importlib, pkgutil, sys
sys.path[:1] = [{str(ROOT)!r}]
from fabric.main import program
import tasks
for found in pkgutil.walk_packages(tasks.__path__, "tasks."):
    importlib.import_module(found.name)
for name in [name for name in sys.modules if name.partition(".")[0] in ("tasks", "templates")]:
    del sys.modules[name]
sys.path[0] = {str(Path(sys.executable).parent)!r}
del name, found, tasks
"""
BODY = "from fabric.main import program\nprogram.run()"


def forks() -> Forks:
    """Return the process that every `fab` of this one's tests is a fork of."""
    return shared((sys.executable,), PRELOAD, BODY)
