"""The program as a host gets it: one text that any system Python runs, or a report of the reason why none can."""

from __future__ import annotations

import ast
import io
import json
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

import pytest

from tasks.engine.fleet import step_errors
from tasks.engine.host import host_program, templates
from tasks.engine.host.protocol import Transcript
from tasks.engine.host.steps import HostStep
from tasks.engine.ssh.session import Run
from templates.host import kept_copies
from templates.host.folders import Folder
from templates.host.kept import digest
from templates.host.run import Run as HostRun
from tests.support import access_lists
from tests.support.ending import Ending
from tests.support.local_session import LocalShell

RUN = Run("20260101T000000-abc123", '{"user":"me"}')
ENDED = b'\nn {"report": "end", "text": "ok"}\n'
MISSING = f'\nn {{"report": "{host_program.MISSING}", "text": "missing"}}\n'.encode()


def step(**values: object) -> HostStep:
    head = {"program": host_program.digest(), "step": "drift", "name": "nothing-of-ours", "root": "/nonexistent"}
    rest = {"files": [], "certificate": "", "units": [], "lists": {}}
    return HostStep("drift", json.dumps({**head, **rest, **values}), 60)


def test_it_runs_without_a_file_and_reports() -> None:
    transcript = LocalShell().execute(step(files=["/etc/passwd", "/etc/none"]), RUN, lambda _: None)
    assert (transcript.exit, transcript.ended) == (0, True), transcript
    assert transcript.all("drift") == ("missing /etc/none",)
    assert [line.partition(" ")[0] for line in transcript.all("data")] == ["/etc/passwd"]


def test_every_module_is_sent_and_imported_at_the_start() -> None:
    names = {path.stem for path in (templates.FOLDER / "host").glob("*.py")} - {"loader"}
    assert set(templates.modules("host")) == names
    asked = "import sys, templates.host.main as main"
    asked += "; [main._module(step) for step in main.STEPS]"
    asked += "; print(*sorted(n for n in sys.modules if n.startswith('templates.host.')))"
    told = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True).stdout.split()
    assert {name.removeprefix("templates.host.") for name in told} == names - {"__init__"}


def test_a_step_imports_all_that_it_needs_before_it_does_anything() -> None:
    """A later import may fail: an upgrade of Python may come in the middle of a probation."""
    for path in (templates.FOLDER / "host").glob("*.py"):
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.FunctionDef):
                late = [node for node in ast.walk(function) if isinstance(node, (ast.Import, ast.ImportFrom))]
                assert not late, f"{path.name}: {function.name}"


def test_no_file_is_read_in_an_encoding_that_would_be_imported_then() -> None:
    """Every interpreter loads UTF-8, and may load no other codec."""
    for path in (templates.FOLDER / "host").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.keyword) and node.arg == "encoding":
                assert isinstance(node.value, ast.Constant), path
                assert node.value.value == "utf-8", path


def test_it_knows_nothing_but_the_standard_library() -> None:
    code = f"import sys; sys.path.insert(0, {str(Path.cwd())!r}); before = set(sys.modules)"
    code += "; import templates.host.main; print(*set(sys.modules) - before)"
    words = [sys.executable, "-I", "-S", "-c", code]
    told = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
    assert {name.partition(".")[0] for name in told} - set(sys.stdlib_module_names) == {"templates"}


@pytest.mark.parametrize("name", ["hold", "activate", "guard"])
def test_what_each_deploy_starts_loads_nothing_large_that_it_does_not_need(name: str) -> None:
    """OpenSSL takes 4 ms, tarfile 3 ms, the types of the facts 3 ms."""
    code = f"import sys; sys.path.insert(0, {str(Path.cwd())!r}); import templates.host.main as main"
    words = [sys.executable, "-I", "-S", "-c", f"{code}; main._module({name!r}); print(*sys.modules)"]
    told = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
    assert not {"hashlib", "tarfile", "shutil", "ctypes", "templates.host.fact_schema"} & set(told)


def test_a_host_without_a_python_that_will_do_says_so(tmp_path: Path) -> None:
    text = host_program.STARTER.replace("/usr/bin/python3", str(tmp_path)).replace("/usr/local/bin/python3", "/none")
    program = zlib.compress(host_program.text().encode())
    sent = b"\n%d\n%snonce\nrun\n{}\n\n" % (len(program), program)
    ended = subprocess.run(["sh", "-c", text], input=sent, capture_output=True, check=False)
    assert ended.returncode == 1
    assert ended.stdout == b'\nnonce {"report": "python", "text": ""}\n'


@pytest.mark.parametrize("kept", [True, False])
def test_a_host_whose_pythons_will_not_do_names_them(tmp_path: Path, kept: bool) -> None:
    """A Python is too old, another does not start, and a file only looks like a Python."""
    texts = {
        "python3": "case $1 in -V) echo Python 3.6.8 ;; *) exit 1 ;; esac",
        "python3.8": "echo /lib/libc.so.6: version not found >&2; exit 1",
        "python3.8-config": "echo usage",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    text = host_program.STARTER.replace("/usr/bin/", f"{tmp_path}/").replace("/usr/local/bin/python3", "/none")
    (tmp_path / "__main__.py").touch()
    sent = f"{tmp_path}\nnonce\n" if kept else "\n4\ntextnonce\n"
    ended = subprocess.run(["sh", "-c", text], input=sent.encode(), capture_output=True, check=False)
    found = f"Python 3.6.8 ({tmp_path}/python3), /lib/libc.so.6: version not found ({tmp_path}/python3.8)"
    assert ended.stdout.decode() == f'\nnonce {{"report": "{host_program.LACKS}", "text": "{found}"}}\n'
    transcript = Transcript({host_program.LACKS: [found]}, exit=1)
    error = step_errors.explain(step(), transcript, "shire01", "deploy")
    assert (error.code, found in error.message, "apt-get install python3" in (error.next or "")) == (
        "no-python",
        True,
        True,
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a file of another account")
def test_root_starts_no_python_of_another_account(tmp_path: Path) -> None:
    """Such as one in a home, to which an administrator has made a link."""
    for name in ("python3", "python3.12"):
        (tmp_path / name).write_text(f"#!/bin/sh\necho {name} >>{tmp_path}/ran\nexit 1\n")
        (tmp_path / name).chmod(0o755)
    os.chown(tmp_path / "python3.12", 65534, -1)
    text = host_program.STARTER.replace("/usr/bin/", f"{tmp_path}/").replace("/usr/local/bin/python3", "/none")
    subprocess.run(["sh", "-c", text], input=b"\n4\ntextnonce\n", capture_output=True, check=False)
    assert set((tmp_path / "ran").read_text().split()) == {"python3"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a directory of another account")
def test_root_starts_no_python_through_a_directory_of_another_account() -> None:
    """Once: that account exchanged the file between the look at its owner and its start, and ran as root."""
    # Root alone can write above this directory, but in it another account can.
    with tempfile.TemporaryDirectory(dir="/run") as folder:
        place, theirs = Path(folder), Path(folder) / "theirs"
        theirs.mkdir()
        for path, name in ((place / "python3", "ours"), (theirs / "python", "theirs")):
            path.write_text(f"#!/bin/sh\necho {name} >>{place}/ran\nexit 1\n")
            path.chmod(0o755)
        (theirs / "link").symlink_to(place / "python3")
        os.chown(theirs, 65534, -1)
        (place / "loose").mkdir()
        (place / "loose").chmod(0o777)
        (place / "loose/python").write_bytes((theirs / "python").read_bytes())
        (place / "loose/python").chmod(0o755)
        (place / "python3.10").symlink_to(place / "loose/python")
        (place / "python3.11").symlink_to(theirs / "python")
        (place / "python3.12").symlink_to(theirs / "link")
        text = host_program.STARTER.replace("/usr/bin/", f"{place}/").replace("/usr/local/bin/python3", "/none")
        ended = subprocess.run(["sh", "-c", text], input=b"\n4\ntextnonce\n", capture_output=True, check=False)
        # The link of theirs leads to a Python of root's now, which is started by its own path.
        assert str(theirs) not in ended.stdout.decode()
        assert set((place / "ran").read_text().split()) == {"ours"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of a group")
def test_root_starts_no_python_that_a_group_or_a_list_lets_others_exchange() -> None:
    """Once: only the owner and the rights of all were looked at. On Debian 11 the group staff writes in /usr/local."""
    group = next(user.pw_gid for user in pwd.getpwall() if user.pw_uid != 0 and user.pw_gid != 0)
    with tempfile.TemporaryDirectory(dir="/run") as folder:
        place = Path(folder)
        for name, gid in (("python3", group), ("python3.11", 0), ("python3.12", 54321), ("python3.13", 0)):
            stand_in(place, name, f"echo {name} >>{place}/ran; exit 1")
            os.chown(place / name, 0, gid)
            (place / name).chmod(0o775)
        access_lists.let_write(place / "python3.11", 65534)
        text = host_program.STARTER.replace("/usr/bin/", f"{place}/").replace("/usr/local/bin/python3", "/none")
        subprocess.run(["sh", "-c", text], input=b"\n4\ntextnonce\n", capture_output=True, check=False)
        assert set((place / "ran").read_text().split()) == {"python3.12", "python3.13"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of another account")
def test_root_starts_no_python_whose_standard_library_another_account_can_exchange() -> None:
    """Once: only the way to the interpreter was looked at, and it imports the library at its start."""
    with tempfile.TemporaryDirectory(dir="/run") as folder:
        place = Path(folder)
        for name in ("python3.10", "python3.11", "python3.12", "python3.13", "python3.14"):
            for path in (place / name / "bin", place / name / f"lib/{name}"):
                path.mkdir(parents=True)
            stand_in(place / name / "bin", name, f"echo {name} >>{place}/ran; exit 1")
            (place / name / f"lib/{name}/os.py").touch()
            (place / "bin").mkdir(exist_ok=True)
            (place / "bin" / name).symlink_to(place / name / "bin" / name)
        os.chown(place / "python3.11/lib/python3.11", 65534, -1)
        os.chown(place / "python3.12/lib/python3.12/os.py", 65534, -1)
        # Root's own in the end, but by a link in a directory of another account.
        (place / "theirs").mkdir()
        (place / "theirs/link").symlink_to(place / "python3.10/lib/python3.10")
        os.chown(place / "theirs", 65534, -1)
        shutil.rmtree(place / "python3.13/lib/python3.13")
        (place / "python3.13/lib/python3.13").symlink_to("../../theirs/link")
        # Not there at the moment, in a directory of that account; and a name that does not say which library it is.
        (place / "python3.11/lib/python3.11/os.py").unlink()
        stand_in(place / "python3.14/bin", "python", f"echo python >>{place}/ran; exit 1")
        (place / "bin/python3.14").unlink()
        (place / "bin/python3.14").symlink_to(place / "python3.14/bin/python")
        os.chown(place / "python3.14/lib/python3.14/os.py", 65534, -1)
        text = host_program.STARTER.replace("/usr/bin/", f"{place}/bin/").replace("/usr/local/bin/python3", "/none")
        subprocess.run(["sh", "-c", text], input=b"\n4\ntextnonce\n", capture_output=True, check=False)
        assert set((place / "ran").read_text().split()) == {"python3.10"}


def test_where_no_copy_is_kept_no_python_is_started_before_the_program_is_sent(tmp_path: Path) -> None:
    """A first deploy meets that twice: with each start of a Python it takes 15 ms longer."""
    stand_in(tmp_path, "python3", f"touch {tmp_path}/started")
    text = host_program.STARTER.replace("/usr/bin/", f"{tmp_path}/").replace("/usr/local/bin/python3", "/none")
    asked = subprocess.run(["sh", "-c", text], input=f"{tmp_path}/none\nn\n".encode(), capture_output=True, check=False)
    assert (asked.returncode, asked.stdout) == (4, MISSING)
    assert not (tmp_path / "started").exists()


def run_starter(folder: Path, sent: str = "", path: str = "/usr/bin:/bin") -> str:
    """Return the output of a program that only the Pythons of this directory may run."""
    text = host_program.STARTER.replace("/usr/bin/", f"{folder}/").replace("/usr/local/bin/python3", "/none")
    program = zlib.compress((sent or "print('it runs')").encode())
    whole = b"\n%d\n%snonce\n" % (len(program), program)
    login = {"PATH": path}
    ended = subprocess.run(["sh", "-c", text], input=whole, stdout=subprocess.PIPE, env=login, check=False)
    return ended.stdout.decode().rstrip("\n")


def report_of_lacks(said: str) -> str:
    """Return the report on unusable Pythons."""
    told = json.loads(said.removeprefix("\nnonce "))
    assert told["report"] == host_program.LACKS
    return str(told["text"])


def stand_in(folder: Path, name: str, text: str) -> None:
    """Make a program of this name from a shell script."""
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


WHOLE = f'exec {sys.executable} "$@"'
ODD = {
    "there is none of that name": "rm $0",
    "its loader fails": "echo 'python3: error while loading shared libraries: libz.so.1' >&2; exit 127",
    "it ends with a traceback": "echo 'Traceback (most recent call last):'; echo 'ImportError: no _io'; exit 1",
    "it is too old": "case $1 in -V) echo Python 3.6.8 ;; *) exit 1 ;; esac",
    "it is a shim that leads nowhere": "echo 'pyenv: python3: command not found' >&2; exit 127",
    "it crashes": "kill -SEGV $$",
}


@pytest.mark.parametrize("odd", ODD)
def test_another_python_runs_it_where_the_first_will_not_do(tmp_path: Path, odd: str) -> None:
    """A second package may add only `python3.12`."""
    stand_in(tmp_path, "python3", ODD[odd])
    stand_in(tmp_path, "python3.12", WHOLE)
    if ODD[odd] == "rm $0":
        (tmp_path / "python3").unlink()
    assert run_starter(tmp_path) == "it runs"


@pytest.mark.parametrize(
    ("odd", "told"),
    [
        ("its loader fails", "python3: error while loading shared libraries: libz.so.1 ({}/python3)"),
        ("it ends with a traceback", "Traceback (most recent call last): ({}/python3: ImportError: no _io)"),
        ("it is a shim that leads nowhere", "pyenv: python3: command not found ({}/python3)"),
    ],
)
def test_a_python_that_will_not_do_is_named_with_what_is_wrong_with_it(tmp_path: Path, odd: str, told: str) -> None:
    stand_in(tmp_path, "python3", ODD[odd])
    assert report_of_lacks(run_starter(tmp_path)) == told.format(tmp_path)


def test_a_link_to_no_python_is_named(tmp_path: Path) -> None:
    (tmp_path / "python3").symlink_to("python3.11")
    assert f"not found ({tmp_path}/python3)" in run_starter(tmp_path)


def test_a_python_of_the_login_alone_is_never_run(tmp_path: Path) -> None:
    """A shim of pyenv may be first in its PATH: root must not run a file that the account can write."""
    (tmp_path / "shims").mkdir()
    (tmp_path / "bin").mkdir()
    for name in ("python", "python3"):
        stand_in(tmp_path / "shims", name, f"touch {tmp_path}/ran; {WHOLE}")
    stand_in(tmp_path / "bin", "python3", WHOLE)
    assert run_starter(tmp_path / "bin", path=f"{tmp_path}/shims:/usr/bin:/bin") == "it runs"
    assert not (tmp_path / "ran").exists()


def python_without(folder: Path, *modules: str) -> Path:
    """Copy the current interpreter without some of its standard library."""
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    (folder / "bin").mkdir()
    shutil.copy2(os.path.realpath(sys.executable), folder / "bin/python3")
    library = Path(os.__file__).parent
    (folder / "lib" / version).mkdir(parents=True)
    target = folder / "lib" / version
    (target / "lib-dynload").mkdir()
    for entry in (*library.iterdir(), *(library / "lib-dynload").iterdir()):
        if entry.name not in {"__pycache__", "lib-dynload"} and entry.name.partition(".")[0] not in modules:
            (target / entry.relative_to(library)).symlink_to(entry)
    return folder / "bin"


def test_hashlib_does_without_openssl_which_takes_time_to_load() -> None:
    text = "import sys; sys.modules['_hashlib'] = None; import hashlib; print(hashlib.sha256(b'').hexdigest()[:8])"
    assert subprocess.run([sys.executable, "-I", "-S", "-c", text], capture_output=True).stdout == b"e3b0c442\n"


MINIMAL = ("json", "tarfile", "shutil", "shlex", "secrets")
"""Modules that we import and Debian's package python3-minimal lacks."""


@pytest.mark.parametrize(
    ("modules", "told"),
    [(MINIMAL, "json"), (("encodings",), "encodings"), (("tarfile",), "tarfile"), (("_ctypes",), "_ctypes")],
)
def test_a_python_that_lacks_modules_is_named_with_the_first(
    tmp_path: Path, modules: tuple[str, ...], told: str
) -> None:
    folder = python_without(tmp_path, *modules)
    said = run_starter(folder)
    if "cannot open shared object" in said:
        pytest.skip("this interpreter cannot be copied")
    version = ".".join(map(str, sys.version_info[:3]))
    assert report_of_lacks(said).startswith(f"Python {version}")
    assert report_of_lacks(said).endswith(f"({folder}/python3: ModuleNotFoundError: No module named '{told}')")
    stand_in(folder, "python3.99", WHOLE)
    assert run_starter(folder) == "it runs"


def test_all_that_the_program_imports_is_tried_first() -> None:
    found = set()
    for path in (templates.FOLDER / "host").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                found.add(str(node.module).partition(".")[0])
        found |= set(re.findall(r'import_module\("(\w+)"\)', path.read_text()))
    # zlib: the starter inflates the program.
    assert (found | {"zlib"}) - {"__future__", "sys"} == set(host_program.NEEDS)


def test_the_names_of_files_are_utf_8_to_it_whatever_the_login_says(tmp_path: Path) -> None:
    asks = 'import os, sys; print(os.environ["LC_ALL"], sys.getfilesystemencoding())'
    (tmp_path / "host").mkdir()
    (tmp_path / "__main__.py").write_text(asks)
    words = ["sh", "-c", host_program.STARTER]
    login = {"LC_ALL": "de_DE.ISO-8859-1", "LANG": "de_DE.ISO-8859-1", "PATH": "/usr/bin:/bin"}
    ended = subprocess.run(words, input=f"{tmp_path}\n".encode(), capture_output=True, env=login, check=True)
    assert ended.stdout == b"C utf-8\n"


def kept(folder: Path) -> Path:
    """Return the copy of the program that a run has kept in a service's directory."""
    sources = {name: templates.text(f"host/{name}.py") for name in templates.modules("host")}
    run = HostRun(("n", RUN.id, RUN.who, ""), {}, io.BytesIO())
    return Path(kept_copies.keep(run, str(folder), sources))


def ask_copy(place: Path, shell: str = "sh") -> tuple[int, bytes]:
    """Let the copy there run a step; return its exit status and output."""
    text = f"{place}\nn\nrun\n{{}}\n\n{len(step().text)}\n{step().text}"
    ended = subprocess.run([shell, "-c", host_program.STARTER], input=text.encode(), capture_output=True, check=False)
    return ended.returncode, ended.stdout


@pytest.mark.parametrize("shell", ["dash", "bash"])
def test_a_copy_is_kept_once_and_run_in_place_of_what_is_sent(tmp_path: Path, shell: str) -> None:
    place = kept(tmp_path)
    assert place == tmp_path / kept_copies.FOLDER / host_program.digest()
    assert ask_copy(place, shell) == (0, ENDED)
    before = {path: path.stat().st_ino for path in place.rglob("*.py")}
    assert kept(tmp_path) == place
    assert {path: path.stat().st_ino for path in place.rglob("*.py")} == before


def input_of(*wanted: HostStep) -> bytes:
    """Return the input for these steps; the nonces are n0, n1 and so on."""
    return "".join(f"n{number}\nrun\n{{}}\n\n{len(one.text)}\n{one.text}" for number, one in enumerate(wanted)).encode()


def test_a_step_that_waits_is_followed_by_the_next_in_the_same_process(tmp_path: Path) -> None:
    asked = input_of(step(waits=True), step(waits=True, files=["/etc/none"]), step(), step())
    ended = subprocess.run(
        ["sh", "-c", host_program.STARTER],
        input=f"{kept(tmp_path)}\n".encode() + asked,
        capture_output=True,
        check=True,
    )
    said = [line.partition(" ") for line in ended.stdout.decode().split("\n") if line]
    assert [(nonce, json.loads(text)["report"]) for nonce, _, text in said] == [
        *(("n0", "end"), ("n1", "drift"), ("n1", "end"), ("n2", "end"))
    ]


def test_no_step_follows_one_that_failed(tmp_path: Path) -> None:
    asked = input_of(step(step="nothing", waits=True), step())
    ended = subprocess.run(
        ["sh", "-c", host_program.STARTER],
        input=f"{kept(tmp_path)}\n".encode() + asked,
        capture_output=True,
        check=False,
    )
    assert (ended.returncode, b"n1 " in ended.stdout) == (1, False)
    assert b'"report": "refused"' in ended.stdout


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_program_that_waits_for_a_step(tmp_path: Path, number: signal.Signals) -> None:
    words = [sys.executable, "-I", "-S", str(kept(tmp_path) / "__main__.py")]
    with Ending[bytes](words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(input_of(step(waits=True)))
        process.stdin.flush()
        assert process.stdout.readline() + process.stdout.readline() == ENDED.replace(b"n ", b"n0 ")
        # A report ends just before the program listens to signals again.
        while process.poll() is None:
            process.send_signal(number)
            time.sleep(0.01)
        assert process.returncode in {-number, 129}


@pytest.mark.parametrize("modules", [("json",), ("tarfile",)])
def test_a_copy_whose_python_has_lost_modules_asks_for_the_program_anew(
    tmp_path: Path, modules: tuple[str, ...]
) -> None:
    """The program sent then finds another Python, or reports the fault of each one."""
    place = kept(tmp_path)
    python = python_without(tmp_path, *modules) / "python3"
    (place / "python").write_text(f"{python}\n")
    asked = step(step="stage").text
    text = f"{place}\nn\nrun\n{{}}\n\n{len(asked)}\n{asked}"
    ended = subprocess.run(["sh", "-c", host_program.STARTER], input=text.encode(), capture_output=True, check=False)
    told = json.loads(ended.stdout.decode().removeprefix("\nn "))
    assert told == {"report": host_program.MISSING, "text": f"{python}: No module named '{modules[0]}'"}
    assert ended.returncode
    # Without a controller no run sends it.
    words = [str(python), "-I", "-S", str(place / "__main__.py"), "status"]
    by_hand = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert "Traceback" not in by_hand.stderr
    assert modules == ("tarfile",) or f"{place} cannot be run: {python}: No module named 'json'" in by_hand.stderr


def test_a_copy_that_is_damaged_says_so_to_who_runs_it_by_hand(tmp_path: Path) -> None:
    place = kept(tmp_path)
    (place / "host/run.py").write_text("raise SystemExit(7)\n")
    words = [sys.executable, "-I", "-S", str(place / "__main__.py"), "status"]
    ended = subprocess.run(words, stdin=subprocess.PIPE, capture_output=True, text=True, check=False, timeout=60)
    assert (ended.returncode, f"{place} cannot be run: damaged" in ended.stderr) == (1, True)


def test_a_copy_names_the_python_that_ran_it_last(tmp_path: Path) -> None:
    place = kept(tmp_path)
    (place / "python").write_text("/usr/bin/python3.8\n")
    assert kept(tmp_path) == place
    assert (place / "python").read_text() == f"{Path(sys.executable).resolve()}\n"


@pytest.mark.parametrize("fault", ["edited", "extra", "missing"])
def test_a_copy_that_is_not_what_its_digest_says_is_never_run_and_made_anew(tmp_path: Path, fault: str) -> None:
    place = kept(tmp_path)
    if fault == "edited":
        (place / "host/run.py").write_text("raise SystemExit(7)\n")
    elif fault == "extra":
        (place / "host/json.py").write_text("raise SystemExit(7)\n")
    else:
        (place / "__main__.py").unlink()
    status, told = ask_copy(place)
    assert status == 4
    assert told.startswith(f'\nn {{"report": "{host_program.MISSING}"'.encode())
    if fault == "missing":
        shutil.rmtree(place)
    assert ask_copy(kept(tmp_path)) == (0, ENDED)


@pytest.mark.parametrize("named", ["/none/python3\n", "", "no newline", "/etc/passwd\n"])
def test_a_copy_runs_by_another_interpreter_where_that_which_made_it_is_gone(tmp_path: Path, named: str) -> None:
    place = kept(tmp_path)
    assert (place / "python").read_text() == f"{Path(sys.executable).resolve()}\n"
    (place / "python").write_text(named)
    assert ask_copy(place) == (0, ENDED)


@pytest.mark.skipif(os.geteuid() != 0, reason="this gives a directory away, which takes root")
def test_a_copy_of_somebody_else_is_never_run(tmp_path: Path) -> None:
    place = kept(tmp_path)
    os.chown(place, 65534, -1)
    assert ask_copy(place) == (4, MISSING)


def test_a_copy_is_run_where_it_lies_and_nowhere_that_its_path_can_be_led(tmp_path: Path) -> None:
    """An account that can write above it could redirect the path between the check and the start."""
    place = kept(tmp_path)
    (tmp_path / "link").symlink_to(place)
    (tmp_path / "folder").symlink_to(tmp_path)
    for led in (tmp_path / "link", tmp_path / "folder" / kept_copies.FOLDER / place.name):
        status, told = ask_copy(led)
        assert (status, told) == (4, MISSING)


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_a_copy_is_run_only_by_whom_it_and_all_around_it_belong_to(tmp_path: Path, depth: int) -> None:
    if os.geteuid() != 0:
        pytest.skip("this has to give a directory away, which takes root")
    place = kept(tmp_path)
    os.chown([place, *place.parents][depth], 65534, -1)
    assert ask_copy(place) == (4, MISSING)


def test_a_copy_has_the_form_that_controllers_of_other_versions_check(tmp_path: Path) -> None:
    """Once: a module got another name, and `fab drift` of either version failed on the copy of the other."""
    place = kept(tmp_path)
    assert (place / "__main__.py").read_bytes() == (place / "host/kept.py").read_bytes()
    (place / "host/kept.py").rename(place / "host/other.py")
    renamed = place.rename(place.parent / kept_digest(place / "host"))
    with Folder.open(str(place.parent)) as copies:
        assert not kept_copies.whole(copies, renamed.name)


def kept_digest(folder: Path) -> str:
    """Return the name of a copy that has the modules of this directory."""
    return digest({path.stem: path.read_text() for path in folder.iterdir()})


def test_as_many_versions_are_kept_as_controllers_may_take_turns(tmp_path: Path) -> None:
    for age, name in enumerate(["a" * 12, "b" * 12, "c" * 12, ".part-x"]):
        (tmp_path / kept_copies.FOLDER / name).mkdir(parents=True)
        os.utime(tmp_path / kept_copies.FOLDER / name, (age, age))
    kept(tmp_path)
    left = {path.name for path in (tmp_path / kept_copies.FOLDER).iterdir()}
    assert left == {"b" * 12, "c" * 12, host_program.digest()}


@pytest.mark.parametrize("failpoint", ["setup.packages=fail", ""])
def test_setup_is_for_root_and_says_so(failpoint: str) -> None:
    """Run setup as the account nobody, whichever account runs the tests."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another account")
    session = LocalShell(become=("setpriv", "--reuid=nobody", "--clear-groups"))
    wanted = step()._replace(text=step().text.replace('"drift"', '"setup"'))
    transcript = session.execute(wanted, RUN._replace(failpoint=failpoint), lambda _: None)
    assert (transcript.exit, transcript.last("refused")) == (1, "setup needs root")
