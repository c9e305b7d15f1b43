"""PyPA's installer fills a venv, also if wheels contain C headers, or the same file twice."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tasks.engine.host import payload, templates
from templates import build_venv
from templates.host import venv, venv_build
from tests.support import distributions
from tests.support.forks import ISOLATED, shared

MEMORY = 96 << 20
"""The builder's limit in tests of it: a tenth of the time to reach it."""


PRELOAD = "import compileall, concurrent.futures.process, concurrent.futures.thread, runpy, venv, zipfile"
BODY = "import runpy, sys; runpy.run_path(sys.argv[0], run_name='__main__')"


def build(
    folder: Path, how: tuple[str, ...] = (), memory: int | None = None, **wheels: dict[str, str]
) -> subprocess.CompletedProcess[bytes]:
    """Make a venv of this Python from such wheels, at `.part-x`. memory: the builder's limit, if not its own."""
    words = [*how, *prepared(folder, memory, **wheels)]
    if how:
        return subprocess.run([sys.executable, "-I", "-S", *words], capture_output=True)
    return subprocess.CompletedProcess(words, *shared(ISOLATED, PRELOAD, BODY).run(words, os.environ))


def prepared(folder: Path, memory: int | None = None, **wheels: dict[str, str]) -> list[str]:
    """Return the builder and its arguments, for a venv from such wheels."""
    places = folder / "wheels"
    places.mkdir()
    digests = {name: distributions.wheel(places, name, "1.0", files=files) for name, files in wheels.items()}
    listing = folder / "WHEELS"
    listing.write_text("".join(f"{digest}  {name}-1.0-py3-none-any.whl\n" for name, digest in digests.items()))
    archive, builder = folder / "installer.zip", folder / "build_venv.py"
    archive.write_bytes(payload._installer())
    builder.write_text(limited(templates.text("build_venv.py"), memory))
    part = folder / ".part-x"
    return [*map(str, (builder, archive, part, folder / "final", places, listing))]


def limited(text: str, memory: int | None) -> str:
    """Return the text of a program with another limit of memory."""
    assert text.count("512 << 20") == 1
    return text.replace("512 << 20", str(memory)) if memory else text


BARE = """
import multiprocessing.context, runpy, sys
def missing(*_, **__): raise OSError(38, "Function not implemented")
for name in ("Lock", "Queue", "SimpleQueue"): setattr(multiprocessing.context.BaseContext, name, missing)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""Runs it as on a host without shared semaphores: objects that need them cannot be made."""


@pytest.mark.parametrize("above", [0, 1], ids=["the build", "its run"])
def test_a_build_that_is_killed_leaves_no_process(tmp_path: Path, above: int) -> None:
    """Once: a build that was killed, as one of a stranger's wheel that takes too long, left its workers for ever."""
    words = prepared(tmp_path, one={f"one/m{number}.py": "" for number in range(60)})
    builder = tmp_path / "build_venv.py"
    text = builder.read_text()
    assert text.count("compileall.compile_file(") == 1
    builder.write_text(
        text.replace("compileall.compile_file(", "__import__('time').sleep(9) or compileall.compile_file(")
    )
    run = (sys.executable, "-I", "-S", "-c", "import subprocess, sys; subprocess.run(sys.argv[1:])")
    with subprocess.Popen([*run * above, sys.executable, "-I", "-S", *words]) as process:
        started = [str(process.pid)]
        while process.poll() is None and len(started) < above + 2:
            children = Path(f"/proc/{started[-1]}/task/{started[-1]}/children")
            started += children.read_text().split()[:1]
            time.sleep(0.01)
        process.kill()
    assert len(started) == above + 2
    end = time.monotonic() + 5
    while any(map(runs, started)) and time.monotonic() < end:
        time.sleep(0.01)
    assert not any(map(runs, started))


def runs(pid: str) -> bool:
    """Return whether a process has not ended: where no other process asks for its status, it stays as a zombie."""
    try:
        return ") Z" not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


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


@pytest.mark.parametrize("name", ["FILES", "FILES/x", "b/../FILES"])
def test_a_wheel_with_a_file_in_the_place_of_the_venvs_own_list_is_refused(tmp_path: Path, name: str) -> None:
    """Once: the build ended with "FILES: Is a directory", and no wheel was named."""
    ended = build(tmp_path, one={"one.py": "", f"one-1.0.data/data/{name}": "x", "b/__init__.py": ""})
    assert ended.returncode == 1
    assert "one-1.0-py3-none-any.whl is refused: " in ended.stderr.decode()
    assert "is in the place of the list of the venv's files" in ended.stderr.decode()
    assert build_venv.LIST == venv.LIST


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"a": "", "a/b": ""}, "NotADirectoryError: [Errno 20] "),
        ({"a/b": "", "a": ""}, "IsADirectoryError: [Errno 21] "),
        ({"one-1.0.dist-info/RECORD": "\n\x1b[2J,,\n"}, ""),
        ({"one-1.0.dist-info/WHEEL": "none"}, ""),
        ({"one-1.0.dist-info/entry_points.txt": "[console_scripts]\nx = [\n"}, ""),
    ],
    ids=["a file as a directory", "a directory as a file", "no list", "no metadata", "no entry point"],
)
def test_a_wheel_that_cannot_be_installed_is_refused_by_its_name(
    tmp_path: Path, files: dict[str, str], told: str
) -> None:
    ended = build(tmp_path, one={"one.py": "", **files})
    assert ended.returncode == 1
    last = ended.stderr.decode().splitlines()[-1]
    assert last.startswith(f"one-1.0-py3-none-any.whl is refused: {told}")
    assert last.isprintable()
    assert "Traceback" not in ended.stderr.decode()


def test_a_directory_that_is_named_like_an_activate_script_is_left_as_it_is(tmp_path: Path) -> None:
    ended = build(tmp_path, one={"one.py": "", "one-1.0.data/data/bin/activate.d/x": "x"})
    assert ended.returncode == 0, ended.stderr.decode()


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


def test_an_activate_that_is_no_text_is_left_as_it_is(tmp_path: Path) -> None:
    """Once: the build ended in a traceback."""
    scripts = tmp_path / ".part-x/bin"
    scripts.mkdir(parents=True)
    (tmp_path / ".part-x/pyvenv.cfg").write_text(f"command = -m venv {tmp_path}/.part-x\n")
    (scripts / "activate").write_bytes(b"\xff\xfe\0" + str(tmp_path / ".part-x").encode())
    build_venv.rename_in_texts(str(tmp_path / ".part-x"), str(tmp_path / "final"))
    assert (scripts / "activate").read_bytes() == b"\xff\xfe\0" + str(tmp_path / "final").encode()
    assert (tmp_path / ".part-x/pyvenv.cfg").read_text() == f"command = -m venv {tmp_path}/final\n"


PEAK = """
import atexit, os, resource, runpy, sys
def told():
    if os.getpid() == ours:
        with open("/proc/self/status") as status:
            own = [int(line.split()[1]) for line in status if line.startswith("VmHWM:")]
        print(max(*own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) << 10)
ours = os.getpid()
atexit.register(told)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""Runs it, and prints the most memory that it or a process of it took."""
HUNGRY = f"x = [{'a,' * 400_000}]\n"
"""Python that takes 450 MB to compile, and that a wheel packs into a few kB."""


def test_python_that_takes_more_memory_than_there_is_stays_without_bytecode(tmp_path: Path) -> None:
    """Once: a wheel of 15 kB took over 4 GB of the host, in each of eight processes."""
    ended = build(tmp_path, ("-c", PEAK), MEMORY, one={"hungry.py": HUNGRY, "one.py": "a = 1\n"})
    assert ended.returncode == 0, ended.stderr.decode()
    assert int(ended.stdout) < 1.5 * MEMORY
    assert {path.name.split(".")[0] for path in tmp_path.rglob("*.pyc")} == {"one"}


def test_a_file_of_python_without_end_is_not_compiled_and_runs(tmp_path: Path) -> None:
    ended = build(tmp_path, one={"long.py": "#" * (5 << 20) + "\nprint('it runs')\n", "one.py": "a = 1\n"})
    assert ended.returncode == 0, ended.stderr.decode()
    assert {path.name.split(".")[0] for path in tmp_path.rglob("*.pyc")} == {"one"}
    (tmp_path / ".part-x").rename(tmp_path / "final")
    told = subprocess.run([tmp_path / "final/bin/python", "-c", "import long"], capture_output=True, check=True)
    assert told.stdout == b"it runs\n"


@pytest.mark.parametrize("name", ["RECORD", "WHEEL", "entry_points.txt", "more/entry_points.txt"])
def test_a_file_of_dist_info_that_is_too_large_is_refused_by_its_name(tmp_path: Path, name: str) -> None:
    """Once: a wheel of 1.5 MB took over 3 GB of the host, and then said nothing of itself."""
    path = f"one-1.0.dist-info/{name}"
    ended = build(tmp_path, one={"one.py": "", path: " " * 12_000_000})
    assert ended.returncode == 1
    assert f"one-1.0-py3-none-any.whl is refused: {path} has 12 MB, and may have 10" in ended.stderr.decode()


def test_a_wheel_that_takes_more_memory_than_there_is_is_refused_by_its_name(tmp_path: Path) -> None:
    record = "".join(f"{number},,\n" for number in range(1_000_000))
    ended = build(tmp_path, ("-c", PEAK), MEMORY, one={"one.py": "", "one-1.0.dist-info/RECORD": record})
    assert ended.returncode == 1
    assert "one-1.0-py3-none-any.whl is refused: to install it takes more than 96 MB of memory" in ended.stderr.decode()
    assert int(ended.stdout) < 1.5 * MEMORY


def test_a_process_that_dies_leaves_files_without_bytecode_and_a_venv(tmp_path: Path) -> None:
    """The kernel kills the process that takes the most memory, or Python overflows its stack."""
    dies = "import compileall\ncompileall.compile_file = lambda *_, **__: os.kill(os.getpid(), 9)\n"
    files = {f"m{number}.py": "" for number in range(100)}
    ended = build(
        tmp_path,
        ("-c", PEAK.replace("sys.argv =", f"{dies}sys.argv =")),
        one=files,
        two={"two.py": "print('it runs')\n"},
    )
    assert ended.returncode == 0, ended.stderr.decode()
    (tmp_path / ".part-x").rename(tmp_path / "final")
    told = subprocess.run([tmp_path / "final/bin/python", "-c", "import two"], capture_output=True, check=True)
    assert told.stdout == b"it runs\n"


def test_code_of_a_release_is_compiled_within_the_same_limits(tmp_path: Path) -> None:
    (tmp_path / "hungry.py").write_text(HUNGRY)
    (tmp_path / "long.py").write_text("#" * (5 << 20))
    (tmp_path / "one.py").write_text("a = 1\n")
    program = f"{PEAK.partition('sys.argv = ')[0]}\n{limited(venv_build._COMPILE, MEMORY)}"
    command: list[str | Path] = [sys.executable, "-I", "-S", "-c", program, tmp_path]
    ended = subprocess.run(command, capture_output=True, check=True)
    assert int(ended.stdout) < 1.5 * MEMORY
    assert {path.name.split(".")[0] for path in tmp_path.rglob("*.pyc")} == {"one"}
