"""Where the code of an application may be: `pythonpath` for every command of a release, on a real host."""

from __future__ import annotations

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
