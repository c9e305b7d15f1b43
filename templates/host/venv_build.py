"""Build the venv of a release and compile its code, with the host's own interpreter.

The interpreter runs without `site`. It is never the venv's, which would run code that wheels put there.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from typing import NoReturn

from . import programs, venv
from .descent import clear
from .exchange import exchange
from .flush import flush
from .folders import Folder
from .run import SIGNALS, Edited, Refused, Run

_SECONDS = 800
"""Limit for compiling all files, or for installing all wheels."""
_PLAIN = ("-I", "-S")
_QUIET = tuple((os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in range(3))
# As an import does it: loading compileall takes longer than a few files do. A file that does not compile is left out.
# The limits are those of build_venv.py.
_COMPILE = """
import os, resource, sys
from importlib.machinery import SourceFileLoader
memory, largest = 512 << 20, 4 << 20
hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
resource.setrlimit(resource.RLIMIT_DATA, (memory if hard < 0 else min(memory, hard), hard))
for top in sys.argv[1:]:
    for folder, _, names in os.walk(top):
        for name in names:
            path = os.path.join(folder, name)
            if name.endswith(".py") and not os.path.islink(path) and os.path.getsize(path) <= largest:
                try:
                    SourceFileLoader("", path).get_code("")
                except Exception:
                    pass
"""


class Compiling:
    """A process that writes the code's bytecode, which a sandboxed service could not. It runs none of the code."""

    def __init__(self, python: str, *folders: str) -> None:
        self._pid = 0
        if os.path.realpath(python) == os.path.realpath(sys.executable):
            # To start the same interpreter would take longer than a few files do.
            self._pid = os.fork() or _compile(*folders)
            return
        try:
            words = (python, *_PLAIN, "-c", _COMPILE, *folders)
            self._pid = os.posix_spawn(python, words, os.environ, file_actions=_QUIET)
        except OSError:
            # The slot will show that the interpreter is gone. Without bytecode a release only starts slowly.
            return

    def wait(self) -> None:
        """Wait for the end, and ignore a failure: a release without bytecode starts more slowly, but runs."""
        end = time.monotonic() + _SECONDS
        while self._pid and os.waitpid(self._pid, os.WNOHANG)[0] == 0:
            time.sleep(0.002)
            if time.monotonic() > end:
                os.kill(self._pid, signal.SIGKILL)
        self._pid = 0


def _compile(*folders: str) -> NoReturn:
    """Compile as another interpreter would, in a fork of this one."""
    try:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        nothing = os.open(os.devnull, os.O_RDWR)
        for descriptor in range(3):
            os.dup2(nothing, descriptor)
        # This may go on when the step has been killed: hold no lock of its.
        for descriptor in map(int, os.listdir("/proc/self/fd")):
            if descriptor > 2:
                with suppress(OSError):
                    os.close(descriptor)
        sys.argv[1:] = folders
        exec(_COMPILE, {})  # noqa: S102
    finally:
        os._exit(0)


def is_there(venvs: Folder, name: str) -> bool:
    """Return whether a venv is whole by the list that its build wrote."""
    path = f"{venvs.path}/{name}"
    try:
        with venvs.below(name) as folder:
            return folder.status(venv.LIST) is not None and venv.whole(path)
    except OSError:
        return False


def build(run: Run, venvs: Folder, wheels: Folder, part: Folder) -> None:
    """Build the venv of a release beside its place, then rename it. part: the release that is being staged."""
    name, python, made, former = run.step["venv"], run.step["python"], f".part-{run.id}", f".part-old-{run.id}"
    if part.status("tool") is None:
        raise Edited(run.step["release"])
    run.say("venv", f"building with {python}")
    clear(venvs, made)
    run.point("stage.venv")
    _fill(run, python, f"{venvs.path}/{made}", wheels, part)
    run.heed()
    with venvs.below(made) as folder:
        lines = sorted(line.encode("utf-8", "surrogateescape") for line in venv.files(folder.path))
        folder.overwrite(venv.LIST, b"".join(line + b"\n" for line in lines), 0o644)
        flush(folder.path)
    run.point("stage.built")
    # Move a damaged venv away only now: a release may run from it.
    if venvs.status(name):
        exchange(venvs, made, name)
        venvs.rename(made, former)
    else:
        venvs.rename(made, name)
    run.point("stage.venvs")
    clear(venvs, former)


def _fill(run: Run, python: str, path: str, wheels: Folder, part: Folder) -> None:
    tool = f"{part.path}/tool"
    final = f"{wheels.path.rpartition('/')[0]}/venvs/{run.step['venv']}"
    arguments = (f"{tool}/build_venv.py", f"{tool}/installer.zip", path, final, wheels.path, f"{part.path}/WHEELS")
    if not programs.run(python, *_PLAIN, *arguments, seconds=_SECONDS):
        raise Refused(f"{python} does not build the venv")
    with Folder.open(path) as folder, folder.below("bin") as scripts:
        gunicorn = scripts.status("gunicorn")
    if not (gunicorn and gunicorn.st_mode & 0o111):
        raise Refused("no wheel of the lock brings bin/gunicorn")
