"""`fab` in a fork of one process that has loaded it, for all tests in which no start of it counts.

Loading takes nine tenths of the processor time of a `fab` that contacts no host. A fork has nothing else of a former
run, and loads our own modules anew where the clone has others (`own_modules`).
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.support.forks import Forks, shared

ROOT = Path(__file__).resolve().parents[2]
PRELOAD = f"""
import sys
sys.path[:1] = [{str(ROOT)!r}]
from fabric.main import program
from tests.support.own_modules import OwnModules
own = OwnModules({str(ROOT)!r})
sys.path[0] = {str(Path(sys.executable).parent)!r}
"""
BODY = """
import os, __main__
__main__.own.settle(os.getcwd())
from fabric.main import program
program.run()
"""


def forks() -> Forks:
    """Return the process that every `fab` of this one's tests is a fork of."""
    return shared((sys.executable,), PRELOAD, BODY)
