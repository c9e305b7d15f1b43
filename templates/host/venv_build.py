"""Build the venv of a release and compile its code, with the host's own interpreter.

The interpreter runs without `site`. It is never the venv's, which would run code that wheels put there.
"""

from __future__ import annotations

import subprocess

from . import programs, venv
from .descent import clear
from .exchange import exchange
from .flush import flush
from .folders import Folder
from .run import Edited, Refused, Run

_SECONDS = 800
"""Limit for compiling all files, or for installing all wheels."""
_PLAIN = ("-I", "-S")
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
        self._process: subprocess.Popen[bytes] | None = None
        try:
            quiet = subprocess.DEVNULL
            command = (python, *_PLAIN, "-c", _COMPILE, *folders)
            self._process = subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet)
        except OSError:
            # The slot will show that the interpreter is gone. Without bytecode a release only starts slowly.
            return

    def wait(self) -> None:
        """Wait for the end, and ignore a failure: a release without bytecode starts more slowly, but runs."""
        if self._process:
            try:
                self._process.wait(_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


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
