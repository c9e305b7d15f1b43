"""Where the code of an application may be: `pythonpath` for every command of a release, on a real host."""

from __future__ import annotations

import shutil

from tests.support import echo_service
from tests.support.clone import Clone
from tests.support.front_door import ask
from tests.support.hosts import Hosts

ROOT = "/opt/apps/myapp"
MODULES = {
    "src/shop/__init__.py": "",
    "src/shop/names.py": "WHERE = __file__\n",
    "src/shop/web.py": "import echo\n\nfrom shop import names\n\napp = echo.app\n"
    'app.get("/where")(lambda: names.WHERE)\n',
    "src/shop/mark.py": "import sys\nfrom pathlib import Path\n\nfrom shop import names\n\n"
    'Path("/var/lib/myapp", sys.argv[1]).write_text(names.WHERE)\n',
}


def test_web_processes_jobs_hooks_and_run_find_what_is_below_a_folder_of_pythonpath(
    clone: Clone, one_host: Hosts
) -> None:
    machine = one_host[0]
    echo_service.deployed(clone, one_host)
    venv = machine.sh(f"readlink {ROOT}/current/release/venv").stdout
    for path, text in MODULES.items():
        clone.write(f"service/{path}", text)
    processes = {
        "worker": {"command": "sh -c 'python -m shop.mark worker && exec sleep infinity'"},
        "nightly": {"command": "python -m shop.mark nightly", "schedule": "yearly"},
    }
    hooks = {"before_activate": "python -m shop.mark hook"}
    echo_service.put(clone, app="shop.web:app", pythonpath=["src"], processes=processes, hooks=hooks)
    clone.done("deploy", "-H", "shire01")
    # No interpreter or wheel has changed, so no venv is built.
    assert machine.sh(f"readlink {ROOT}/current/release/venv").stdout == venv
    release = clone.release()
    place = f"{ROOT}/releases/{release}/code/src/shop/names.py"
    assert ask(machine.address, "/where").body.decode() == place
    clone.done("run", "-H", "shire01", "--", "python", "-m", "shop.mark", "run")
    started = machine.sh(
        "systemctl start myapp-nightly.service && until [ -s /var/lib/myapp/worker ]; do sleep 0.1; done"
    )
    assert started.returncode == 0, started.stderr
    for name in ("worker", "nightly", "hook", "run"):
        assert machine.sh(f"cat /var/lib/myapp/{name}").stdout.decode() == place


PROJECT = {
    "pyproject.toml": """\
[project]
name = "shop"
version = "1.5"
requires-python = ">=3.9"
dependencies = ["flask"]

[project.scripts]
shop-mark = "shop.mark:main"

[dependency-groups]
deploy = ["gunicorn"]

[build-system]
requires = ["uv_build"]
build-backend = "uv_build"

[tool.uv.build-backend]
module-root = ""
wheel-exclude = ["note.txt"]
""",
    "shop/__init__.py": "",
    "shop/note.txt": "",
    "shop/web.py": """\
import os
from importlib.metadata import version

from flask import Flask

app = Flask(__name__)
app.get("/healthz")(lambda: {"release": os.environ["RELEASE"]})
app.get("/where", endpoint="where")(lambda: f"{version('shop')} {__file__} one")
""",
    "shop/mark.py": """\
import sys
import time
from pathlib import Path


def main():
    Path("/var/lib/myapp", sys.argv[1]).write_text(__file__)
    while sys.argv[1] == "worker":
        time.sleep(9)
""",
}


def test_a_projects_own_wheel_is_in_the_release_and_a_change_of_the_code_builds_no_venv(
    clone: Clone, one_host: Hosts
) -> None:
    machine = one_host[0]
    clone.inventory = one_host.inventory
    shutil.rmtree(clone.root / "service")
    for path, text in PROJECT.items():
        clone.write(f"service/{path}", text)
    description = echo_service.description(
        app="shop.web:app", dependencies={"groups": ["deploy"]},
        processes={"worker": {"command": "shop-mark worker"},
                   "nightly": {"command": "shop-mark job", "schedule": "yearly"}},
        hooks={"before_activate": "shop-mark hook"},
    )  # fmt: skip
    clone.write("service/service.yaml", description)
    clone.done("lock")
    assert clone.done("plan", "-H", "shire01", "--json").json()["wheel_lacks"] == ["shop/note.txt"]
    told = clone.done("deploy", "-H", "shire01").both
    assert "the wheel of the project lacks files of its packages: shop/ (1 file)" in told
    first, home = clone.release(), f"{ROOT}/releases/{clone.release()}"
    assert ask(machine.address, "/where").body.decode() == f"1.5 {home}/site/shop/web.py one"
    clone.done("run", "-H", "shire01", "--", "shop-mark", "run")
    started = machine.sh(
        "systemctl start myapp-nightly.service; until [ -s /var/lib/myapp/worker ]; do sleep 0.1; done"
    )
    assert started.returncode == 0, started.stderr
    for name in ("worker", "job", "hook", "run"):
        assert machine.sh(f"cat /var/lib/myapp/{name}").stdout.decode() == f"{home}/site/shop/mark.py"
    # Nothing of it is in the venv, which other releases share, and its bytecode was made by the host.
    assert machine.sh(f"find {ROOT}/venvs -path '*shop*'").stdout == b""
    assert machine.sh(f"ls {home}/site/shop/__pycache__ | grep -c web").stdout == b"1\n"
    assert machine.sh(f"cd {home}/site && sha256sum --quiet --strict -c ../SITE").returncode == 0
    assert "no drift" in clone.done("drift", "-H", "shire01").out
    assert "UNCHANGED" in clone.done("deploy", "-H", "shire01").out

    venvs = machine.sh(f"ls -li {ROOT}/venvs").stdout
    clone.replace("service/shop/web.py", "one", "two")
    clone.done("deploy", "-H", "shire01")
    second = clone.release()
    assert ask(machine.address, "/where").body.decode() == f"1.5 {ROOT}/releases/{second}/site/shop/web.py two"
    assert machine.sh(f"ls -li {ROOT}/venvs").stdout == venvs
    clone.done("rollback", "-H", "shire01")
    assert ask(machine.address, "/where").body.decode() == f"1.5 {ROOT}/releases/{first}/site/shop/web.py one"

    machine.sh(f"touch {ROOT}/releases/{second}/site/more.py")
    refused = clone.fab("rollback", "-H", "shire01", "--to", second)
    assert (refused.status, f"release {second} is damaged on this host" in refused.both) == (1, True)

    clone.replace("service/shop/web.py", "two", "one")
    assert clone.release() == first
    machine.sh(f"echo edited >> {home}/site/shop/web.py")
    drift = clone.fab("drift", "-H", "shire01")
    assert drift.status == 1
    assert f"EDITED  {home}/site/shop/web.py" in drift.out
    assert f"EXTRA  {ROOT}/releases/{second}/site/more.py" in drift.out
    clone.done("deploy", "-H", "shire01")
    assert f"{home}/" not in clone.fab("drift", "-H", "shire01").out
    assert ask(machine.address, "/where").body.decode().endswith("one")
