"""A venv is filled by PyPA's installer, also where wheels bring C headers, or the same file twice."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tasks.engine import payload, templates
from tests import distributions

BARE = """
import multiprocessing.context, runpy, sys
def missing(*_, **__): raise OSError(38, "Function not implemented")
for name in ("Lock", "Queue", "SimpleQueue"): setattr(multiprocessing.context.BaseContext, name, missing)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""Runs it as on a host without shared semaphores: what is made of them cannot be made."""


@pytest.mark.parametrize("how", [(), ("-c", BARE)], ids=["processes", "a thread"])
def test_headers_have_a_place_and_of_two_equal_files_the_later_wheel_has_its_way(
    tmp_path: Path, how: tuple[str, ...]
) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    one = {"one-1.0.data/headers/one.h": "int one;\n", "one.py": "", "tests/__init__.py": "by = 'one'\n"}
    digests = {
        "one": distributions.wheel(wheels, "one", "1.0", files=one),
        "two": distributions.wheel(wheels, "two", "1.0", files={"tests/__init__.py": "by = 'two'\n"}),
    }
    listing = tmp_path / "WHEELS"
    listing.write_text("".join(f"{digest}  {name}-1.0-py3-none-any.whl\n" for name, digest in digests.items()))
    archive, builder = tmp_path / "installer.zip", tmp_path / "build_venv.py"
    archive.write_bytes(payload._installer())
    builder.write_text(templates.text("build_venv.py"))
    part, final = tmp_path / ".part-x", tmp_path / "final"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", part], check=True)
    command: list[str | Path] = [part / "bin/python", "-I", *how, builder, archive, part, final, wheels, listing]
    subprocess.run(command, check=True)
    part.rename(final)
    command = [final / "bin/python", "-c", "import tests, one; print(tests.by)"]
    # Its bytecode is of the same file: both have the same size and time.
    told = subprocess.run(command, capture_output=True, check=True)
    assert told.stdout == b"two\n"
    assert [path.name for path in final.glob("include/site/python*/one/*")] == ["one.h"]
    assert str(part) not in (final / "pyvenv.cfg").read_text()
