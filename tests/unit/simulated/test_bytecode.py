"""The bytecode that a stage compiles, with a real Python."""

from __future__ import annotations

import hashlib
import struct
import sys

from tasks.engine.host import steps
from tasks.engine.host.steps import Staging
from tasks.engine.release import archive
from tests.support.simulated_host import NEW, SERVICE, SimulatedHost, simulated_host
from tests.unit.simulated.test_stage import VENV, manifest

__all__ = ["simulated_host"]

FILES = {"app.py": b"import lib\n", "lib/__init__.py": b"x = 1\n", "lib/two.py": b"print 2\n", "odd.py": b"\0\xff"}


def test_the_code_has_its_bytecode_and_what_is_no_python_has_none(simulated_host: SimulatedHost) -> None:
    simulated_host.venv(VENV)
    simulated_host.list_venv(simulated_host.root / "venvs" / VENV)
    extra = {f"code/{path}": data for path, data in FILES.items()}
    extra |= {"MANIFEST": manifest(FILES), "run/web": b"#!/bin/sh\n"}
    extra["LAUNCHERS"] = manifest({"run/web": extra["run/web"]})
    extra |= {"WHEELS": manifest({"a.whl": b"a"})}
    coming = f"1 {hashlib.sha256(b'a').hexdigest()} a.whl\n\na".encode()
    lists = {name: hashlib.sha256(extra[name]).hexdigest() for name in ("MANIFEST", "LAUNCHERS")}
    step = steps.stage(SERVICE, Staging(NEW, VENV, sys.executable, None, False, lists))
    assert simulated_host.execute(step, [coming, *archive.pack((), extra)]) == 0
    home = simulated_host.root / "releases" / NEW / "code"
    made = {path.relative_to(home).as_posix() for path in home.rglob("*.pyc")}
    tag = sys.implementation.cache_tag
    assert made == {f"__pycache__/app.{tag}.pyc", f"lib/__pycache__/__init__.{tag}.pyc"}
    # The bytecode is of this very source, which Python recognizes by time and size.
    source = (home / "lib/__init__.py").stat()
    head = (home / f"lib/__pycache__/__init__.{tag}.pyc").read_bytes()[:16]
    assert struct.unpack("<4sIII", head)[1:] == (0, int(source.st_mtime), source.st_size)
