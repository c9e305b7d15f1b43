"""PyPA's installer fills a venv, also if wheels contain C headers, or the same file twice."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tasks.engine.host import payload, templates
from tests.support import distributions


def build(folder: Path, how: tuple[str, ...] = (), **wheels: dict[str, str]) -> subprocess.CompletedProcess[bytes]:
    """Fill a venv of this Python with such wheels, at `.part-x`."""
    places = folder / "wheels"
    places.mkdir()
    digests = {name: distributions.wheel(places, name, "1.0", files=files) for name, files in wheels.items()}
    listing = folder / "WHEELS"
    listing.write_text("".join(f"{digest}  {name}-1.0-py3-none-any.whl\n" for name, digest in digests.items()))
    archive, builder = folder / "installer.zip", folder / "build_venv.py"
    archive.write_bytes(payload._installer())
    builder.write_text(templates.text("build_venv.py"))
    part = folder / ".part-x"
    subprocess.run([sys.executable, "-I", "-S", "-m", "venv", "--without-pip", part], check=True)
    command: list[str | Path] = [
        sys.executable,
        "-I",
        "-S",
        *how,
        builder,
        archive,
        part,
        folder / "final",
        places,
        listing,
    ]
    return subprocess.run(command, capture_output=True)


BARE = """
import multiprocessing.context, runpy, sys
def missing(*_, **__): raise OSError(38, "Function not implemented")
for name in ("Lock", "Queue", "SimpleQueue"): setattr(multiprocessing.context.BaseContext, name, missing)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""Runs it as on a host without shared semaphores: objects that need them cannot be made."""


@pytest.mark.parametrize("how", [(), ("-c", BARE)], ids=["processes", "a thread"])
def test_headers_have_a_place_and_of_two_equal_files_the_later_wheel_has_its_way(
    tmp_path: Path, how: tuple[str, ...]
) -> None:
    one = {"one-1.0.data/headers/one.h": "int one;\n", "one.py": "", "tests/__init__.py": "by = 'one'\n"}
    ended = build(tmp_path, how, one=one, two={"tests/__init__.py": "by = 'two'\n"})
    assert ended.returncode == 0, ended.stderr.decode()
    part, final = tmp_path / ".part-x", tmp_path / "final"
    part.rename(final)
    command: list[str | Path] = [final / "bin/python", "-c", "import tests, one; print(tests.by)"]
    # The bytecode is of the same file: both have the same size and time.
    told = subprocess.run(command, capture_output=True, check=True)
    assert told.stdout == b"two\n"
    assert [path.name for path in final.glob("include/site/python*/one/*")] == ["one.h"]
    assert str(part) not in (final / "pyvenv.cfg").read_text()


@pytest.mark.parametrize(
    "name",
    [
        "../../../../x",
        "{folder}/x",
        "a/../../../../../x",
        "one-1.0.data/data/../x",
        "one-1.0.data/scripts/../../x",
        "one-1.0.data/scripts/python/x",
    ],
)
def test_a_wheel_writes_nothing_outside_of_its_venv(tmp_path: Path, name: str) -> None:
    """Once: a wheel could write to any place that the deploy account may: its paths were followed out of the venv."""
    ended = build(tmp_path, one={"one.py": "", name.format(folder=tmp_path): "x"})
    assert ended.returncode == 1
    told = ended.stderr.decode()
    assert "one-1.0-py3-none-any.whl is refused: " in told
    assert "lies outside of the venv" in told
    assert "Traceback" not in told
    assert not list(tmp_path.rglob("x"))


@pytest.mark.parametrize("name", ["new\nline", "re\rturn", "one-1.0.data/data/\x7f", "one-1.0.data/scripts/\x9b"])
def test_a_wheel_with_a_control_character_in_a_name_is_refused(tmp_path: Path, name: str) -> None:
    ended = build(tmp_path, one={"one.py": "", name: "x"})
    assert ended.returncode == 1
    told = ended.stderr.decode()
    assert "one-1.0-py3-none-any.whl is refused: the name " in told
    assert ascii(name.rpartition("/")[2])[1:-1] in told
    assert "Traceback" not in told


def test_so_is_an_entry_point(tmp_path: Path) -> None:
    info = "[console_scripts]\na\x1bb = one:main\n"
    ended = build(tmp_path, one={"one.py": "", "one-1.0.dist-info/entry_points.txt": info})
    assert ended.returncode == 1
    assert rb"the name 'a\x1bb' holds a control character" in ended.stderr


def test_an_entry_point_writes_nothing_outside_of_its_venv(tmp_path: Path) -> None:
    info = "[console_scripts]\n../../x = one:main\n"
    ended = build(tmp_path, one={"one.py": "", "one-1.0.dist-info/entry_points.txt": info})
    assert ended.returncode == 1
    assert b"one-1.0-py3-none-any.whl is refused: '../../x' lies outside of the venv" in ended.stderr
    assert not (tmp_path / "x").exists()


def test_nothing_that_a_wheel_brings_is_run(tmp_path: Path) -> None:
    act = f"open({str(tmp_path / 'ran')!r}, 'w')\n"
    names = ("sitecustomize.py", "usercustomize.py", "gunicorn/__init__.py", "installer/__init__.py", "compileall.py")
    files = {"one.pth": f"import os; {act}", **dict.fromkeys(names, act)}
    program = f"#!/bin/sh\necho >'{tmp_path}/ran'\n"
    files |= {f"one-1.0.data/scripts/{name}": program for name in ("python", "python3", "activate")}
    assert build(tmp_path, one=files, two={"two.py": ""}).returncode == 0
    assert (tmp_path / ".part-x/bin/python").read_text() == program
    assert not (tmp_path / "ran").exists()
