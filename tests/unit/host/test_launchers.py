"""The program that a unit execs, shown by running it."""

from __future__ import annotations

import ast
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from gunicorn.config import Config  # type: ignore[import-untyped]
from gunicorn.http.parser import RequestParser  # type: ignore[import-untyped]
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.engine.config.gateway import Nginx
from tasks.engine.config.service import Process, Service
from tasks.engine.host import launchers
from tests.support.site import ROOT
from tests.support.small_service import SERVICE

RELEASE = "0123456789ab"
VALUES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)


def run(text: str, folder: Path, shell: str, name: str = "worker") -> list[bytes]:
    """Run the launcher of this name with a stand-in for the program it execs; return arguments and environment."""
    home = folder / "home"
    (home / "code").mkdir(parents=True, exist_ok=True)
    program = folder / "show"
    program.write_text('#!/bin/sh\nprintf \'%s\\0\' "$PWD" "$@"\nenv -0\n')
    program.chmod(0o755)
    moved = text.replace(f"/opt/apps/myapp/releases/{RELEASE}", str(home))
    moved = moved.replace("exec python", f"exec {program}").replace(f"exec {home}/venv/bin/gunicorn", f"exec {program}")
    script = folder / "script"
    script.write_text(moved, encoding="utf-8")
    answer = subprocess.run([shutil.which(shell) or shell, str(script)], capture_output=True, check=True, env={})
    if name == "hook" or name.startswith("env."):
        return answer.stdout.split(b"\0")
    first, _, rest = answer.stdout.partition(b"\n")
    assert first == f"release {RELEASE}".encode()
    return rest.split(b"\0")


@pytest.mark.parametrize("shell", ["dash", "bash"])
@given(values=st.lists(VALUES, min_size=1, max_size=4), word=VALUES)
@settings(max_examples=10, deadline=None)
def test_every_value_arrives_as_it_was(
    shell: str, values: list[str], word: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("run")
    env = tuple((f"V{number}", value) for number, value in enumerate(values))
    service = SERVICE._replace(
        env=env, processes=(SERVICE.processes[0], Process("worker", f"python {shlex.quote(word)}"))
    )
    found = run(launchers.render(service, RELEASE, "shire01", "27.0.1")["worker"], folder, shell)
    assert found[0] == str(folder / "home/code").encode()
    assert found[1] == word.encode()
    for name, value in (*env, ("SERVICE", "myapp"), ("RELEASE", RELEASE), ("HOST", "shire01")):
        assert f"{name}={value}".encode() in found


def test_every_launcher_has_the_folders_of_pythonpath_in_their_order(tmp_path: Path) -> None:
    service = SERVICE._replace(
        pythonpath=("src", "."), processes=(SERVICE.processes[0], Process("worker", "python -m jobs")),
        hooks=SERVICE.hooks._replace(before_activate="python -m jobs"),
    )  # fmt: skip
    texts = launchers.render(service, RELEASE, "shire01", "27.0.1")
    code = tmp_path / "home/code"
    for name in ("web", "worker"):
        assert f"PYTHONPATH={code}/src:{code}".encode() in run(texts[name], tmp_path, "dash")
    line = f"export PYTHONPATH={ROOT}/releases/{RELEASE}/code/src:{ROOT}/releases/{RELEASE}/code\n"
    assert all(line in texts[name] for name in ("web", "worker", "hook", "env.web", "env.worker"))
    assert "PYTHONPATH" not in "".join(launchers.render(SERVICE, RELEASE, "shire01", "27.0.1").values())


@pytest.mark.parametrize(
    ("drain", "timeout", "nginx", "seconds"),
    [(0, 30, True, 30), (29, 5, True, 30), (30, 45, True, 30), (300, 30, True, 300), (300, 30, False, 302)],
)
def test_every_launcher_knows_how_long_a_request_may_take(drain: int, timeout: int, nginx: bool, seconds: int) -> None:
    health = SERVICE.health._replace(timeout=timeout)
    service = SERVICE._replace(drain=drain, health=health, nginx=SERVICE.nginx if nginx else None)
    texts = launchers.render(service, RELEASE, "shire01", "27.0.1")
    assert all(f"export REQUEST_TIMEOUT={seconds}\n" in texts[name] for name in ("web", "env.web"))


def test_a_projects_own_wheel_comes_before_pythonpath_and_its_scripts_before_the_venvs(tmp_path: Path) -> None:
    service = SERVICE._replace(pythonpath=("lib",), hooks=SERVICE.hooks._replace(before_activate="shop migrate"))
    home = f"{ROOT}/releases/{RELEASE}"
    texts = launchers.render(service, RELEASE, "shire01", "27.0.1", site=True)
    for name in ("web", "hook", "env.web"):
        assert f"export PYTHONPATH={home}/site:{home}/code/lib\n" in texts[name]
        assert f"export PATH={home}/site/bin:{home}/venv/bin:" in texts[name]
    # As gunicorn reads it, which has put the working directory first.
    (tmp_path / "conf.py").write_text(texts["gunicorn.py"] + "\nprint(sys.path)\n")
    environment = {"PYTHONPATH": f"/working:{home}/site:/last"}
    shown = subprocess.run([sys.executable, "conf.py"], cwd=tmp_path, env=environment, capture_output=True, check=True)
    first, *others = ast.literal_eval(shown.stdout.decode())
    assert first == f"{home}/site"
    assert "/working" in others
    assert first not in others


def web(service: Service) -> list[str]:
    """Return the words of gunicorn's command line."""
    line = launchers.render(service, RELEASE, "shire01", "27.0.1")["web"].splitlines()[-1]
    return shlex.split(line.removeprefix("exec "))


def test_a_sync_worker_has_the_time_that_nginx_gives_a_request(tmp_path: Path) -> None:
    service = change(threads=1)._replace(nginx=Nginx(("myapp.example",), timeout=120))
    assert read(service, tmp_path)["timeout"] == 122


def read(service: Service, folder: Path, conf: str | None = None) -> dict[str, object]:
    """Return what gunicorn reads from the release's settings, with this gunicorn.conf.py of the application."""
    text = launchers.render(service, RELEASE, "shire01", "27.0.1")["gunicorn.py"]
    (folder / "gunicorn.conf.py").unlink(missing_ok=True)
    if conf is not None:
        (folder / "gunicorn.conf.py").write_text(conf)
    found: dict[str, object] = {}
    exec(text.replace(f"{ROOT}/releases/{RELEASE}/code", str(folder)), found)  # noqa: S102 - as gunicorn does
    return found


def change(**fields: object) -> Service:
    """Return the small service with these fields of `web`."""
    return SERVICE._replace(processes=(Process("web")._replace(**fields), *SERVICE.processes[1:]))  # type: ignore[arg-type]


def test_web_is_gunicorn_with_the_numbers_of_the_service(tmp_path: Path) -> None:
    assert web(SERVICE) == [
        f"{ROOT}/releases/{RELEASE}/venv/bin/gunicorn", "--config", f"{ROOT}/releases/{RELEASE}/run/gunicorn.py",
        "--no-control-socket", "--workers", "2", "--threads", "4", "app:create_app()",
    ]  # fmt: skip
    assert int(str(read(SERVICE, tmp_path)["graceful_timeout"])) > SERVICE.drain


def test_the_command_line_says_only_what_service_yaml_says() -> None:
    assert web(change())[4:] == ["app:create_app()"]
    asked = change(worker_class="uvicorn_worker.UvicornWorker", workers=3)
    assert web(asked)[4:-1] == ["--workers", "3", "--worker-class", "uvicorn_worker.UvicornWorker"]


@pytest.mark.parametrize(
    ("fields", "conf", "told"),
    [
        ({}, None, {"workers": 2, "threads": 4, "timeout": 30}),
        ({}, "workers = 5", {"workers": 5, "threads": 4}),
        ({}, "threads = 1", {"threads": 1, "timeout": 62}),
        ({}, "worker_class = 'gevent'", {"threads": 1, "worker_class": "gevent", "timeout": 30}),
        ({}, "worker_class = 'sync'", {"threads": 1, "timeout": 62}),
        ({}, "timeout = 7\nfrom pathlib import Path\nraw_env = [Path(__file__).name]",
         {"timeout": 7, "raw_env": ["gunicorn.conf.py"]}),
        ({"threads": 1}, "", {"timeout": 62}),
        ({"threads": 4}, "", {"timeout": 30}),
        ({"worker_class": "sync"}, "", {"timeout": 62}),
        ({"worker_class": "gevent"}, "timeout = 5", {"timeout": 5}),
    ],
)  # fmt: skip
def test_what_gunicorn_conf_py_says_counts_and_the_rest_is_ours(
    fields: dict[str, object], conf: str | None, told: dict[str, object], tmp_path: Path
) -> None:
    found = read(change(**fields)._replace(drain=60), tmp_path, conf)
    assert {name: found[name] for name in told} == told
    assert ("threads" in found) == ("threads" in told or ("timeout" in told and not fields))


@pytest.mark.parametrize(("drain", "seconds"), [(5, 30), (60, 62)])
def test_one_thread_is_gunicorns_sync_worker_which_may_take_as_long_as_a_drain(
    drain: int, seconds: int, tmp_path: Path
) -> None:
    assert read(change(workers=3, threads=1)._replace(drain=drain), tmp_path)["timeout"] == seconds


@pytest.mark.parametrize(("threads", "timeout", "seconds"), [(1, 90, 90), (4, 90, 90), (4, 5, 30)])
def test_a_worker_may_take_as_long_to_import_as_the_health_check_waits(
    threads: int, timeout: int, seconds: int, tmp_path: Path
) -> None:
    service = change(workers=3, threads=threads)._replace(health=SERVICE.health._replace(timeout=timeout))
    assert read(service, tmp_path)["timeout"] == seconds


@pytest.mark.parametrize(
    ("version", "told"), [("23.0.0", False), ("25.0.3", False), ("25.1.0", True), ("27.0.1", True)]
)
def test_only_a_gunicorn_that_has_a_control_socket_is_told_to_open_none(version: str, told: bool) -> None:
    assert ("--no-control-socket" in launchers.render(SERVICE, RELEASE, "h", version)["web"]) is told


SPOOFED = (
    b"GET /x/admin HTTP/1.1\r\nHost: a\r\nSCRIPT_NAME: /x\r\nPATH_INFO: /y\r\nX-Forwarded-Proto: https\r\n"
    b"X-Forwarded-Ssl: on\r\n\r\n"
)


@pytest.mark.parametrize(
    ("nginx", "conf", "scheme", "kept"),
    [
        (None, None, "http", []),
        (None, "secure_scheme_headers = {'X-FORWARDED-SSL': 'on'}\nforwarder_headers = 'PATH_INFO'", "https",
         ["PATH_INFO"]),
        (Nginx(("myapp.example",)), None, "https", []),
        (Nginx(("myapp.example",), path="/x"), None, "https", ["SCRIPT_NAME"]),
    ],
    ids=["listen", "listen, as the application says", "nginx", "nginx, below a path"],
)  # fmt: skip
def test_gunicorn_believes_what_nginx_says_and_nothing_of_a_client_of_listen(
    nginx: Nginx | None, conf: str | None, scheme: str, kept: list[str], tmp_path: Path
) -> None:
    """Once: a client of `listen:` set the path of the application, and said that it came by HTTPS."""
    gunicorn = Config()
    for key, value in read(SERVICE._replace(nginx=nginx), tmp_path, conf).items():
        if key in gunicorn.settings:
            gunicorn.set(key, value)
    # The peer of a Unix socket has no address.
    request = next(RequestParser(gunicorn, iter([SPOOFED]), ""))
    assert request.scheme == scheme
    assert [name for name, _ in request.headers if "_" in name] == kept


def test_without_its_code_a_launcher_starts_nothing(tmp_path: Path) -> None:
    text = launchers.render(SERVICE, RELEASE, "shire01", "27.0.1")["worker"]
    answer = subprocess.run(["sh", "-c", text.replace("/opt/apps", str(tmp_path))], capture_output=True, check=False)
    assert answer.returncode == 1


@pytest.mark.parametrize("shell", ["dash", "bash"])
def test_a_start_makes_home_and_the_shared_directories_and_leaves_what_is_there(shell: str, tmp_path: Path) -> None:
    service = SERVICE._replace(shared=("app/uploads", "media"))
    texts = launchers.render(service, RELEASE, "shire01", "27.0.1")
    assert texts["shared.list"] == "app/uploads\nmedia\n"
    assert "shared.list" not in launchers.render(SERVICE, RELEASE, "shire01", "27.0.1")
    data = tmp_path / "data"
    (data / "media").mkdir(parents=True)
    (data / "media/one").write_text("kept")
    for name in ("web", "worker", "nightly", "hook", "env.web"):
        text = texts[name].replace("/var/lib/myapp", str(data)).replace("exec python", "exec true")
        text = text.replace("exec flask", "exec true").replace('exec "$@"', "exec true")
        run(text.replace(f"exec {ROOT}/releases/{RELEASE}/venv/bin/gunicorn", "exec true"), tmp_path, shell, name=name)
        assert sorted(str(path.relative_to(data)) for path in data.rglob("*")) == [
            "app", "app/uploads", "home", "media", "media/one"
        ]  # fmt: skip
        assert (data / "home").stat().st_mode & 0o777 == 0o700
        (data / "home").rmdir()


def test_a_release_has_the_list_of_its_static_directories() -> None:
    assert SERVICE.nginx
    nginx = SERVICE.nginx._replace(static=(("/a/", "b"), ("/static/", "app/static")))
    texts = launchers.render(SERVICE._replace(nginx=nginx), RELEASE, "shire01", "27.0.1")
    assert texts["static.list"] == "/a/ b\n/static/ app/static\n"
    assert "run/static.list" in launchers.listed(texts).decode()
    assert "static.list" not in launchers.render(SERVICE, RELEASE, "shire01", "27.0.1")
