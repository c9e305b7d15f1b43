"""The part `jobs` on a real host: workers killed and releases changed in mid-job, in SQLite and in Redis."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.promises.words import NO_LOSS
from tests.support import packages
from tests.support.clone import make, quicken
from tests.support.front_door import ask
from tests.support.git_repository import git
from tests.support.hosts import MakeHosts
from tests.support.site import Site

pytestmark = pytest.mark.long

STATE = "/var/lib/myapp"
REDIS = "unix://:s3cret@/run/redis/redis.sock"
SERVER = "\\n".join(
    ("port 0", "unixsocket /run/redis/redis.sock", "unixsocketperm 777", "requirepass s3cret", "appendonly yes", "")
)
# A job notes its begin and its end. It goes on while there is a file `hold-NAME`, and fails while there is `fails`.
EXPORTS = """
from __future__ import annotations

import time
from pathlib import Path

from flask import Blueprint, Flask, current_app, request

from . import auth, jobs

pages = Blueprint("exports", __name__)


def init_app(app: Flask) -> None:
    app.register_blueprint(pages)


@jobs.job(retries=0)
def export(name: str) -> None:
    state = Path(current_app.config["STATE_DIRECTORY"])
    note(state / "begun", name)
    while (state / f"hold-{name}").exists():
        time.sleep(0.05)
    if (state / "fails").exists():
        raise OSError("no export")
    note(state / "done", name)


def note(path: Path, name: str) -> None:
    with path.open("a") as file:
        file.write(f"{name}\\n")


@pages.post("/exports")
@auth.role(auth.OPEN)
def add() -> dict[str, object]:
    name = request.get_json()["name"]
    export(name)
    return {"name": name}
"""


@pytest.fixture(scope="module", params=["sqlite", "redis"])
def site(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Site:
    hosts = module_hosts()
    made = Site(make(tmp_path_factory.mktemp("jobs"), hosts.inventory), hosts[0])
    quicken(made.clone)
    made.clone.done("add", "jobs", "--yes")
    made.clone.replace("service/app/parts.py", "import jobs", "import exports, jobs")
    made.clone.replace("service/app/parts.py", "(jobs,)", "(jobs, exports)")
    made.clone.write("service/app/exports.py", EXPORTS)
    made.clone.replace("service/service.yaml", "timeout: 30 ", "timeout: 15 ")
    made.clone.replace("service/service.yaml", "  GREETING:", '  JOBS_SILENCE: "3"\n  GREETING:')
    made.clone.replace("service/service.yaml", '"flask jobs work"', '"flask jobs work --threads 2", stop: 5')
    if request.param == "redis":
        packages.install(made.machine, *packages.lacking(made.machine, "redis-server"))
        made.sh(f"printf '{SERVER}' >>/etc/redis/redis.conf && systemctl restart redis-server && chmod 755 /run/redis")
        made.clone.replace("service/service.yaml", "keep: 5", "secrets: [JOBS_URL]\nkeep: 5")
        made.clone.done("secrets.set", "JOBS_URL", "-H", made.machine.name, "--from", f"echo {REDIS}")
    made.deploy()
    return made


def post(site: Site, name: str) -> bool:
    """Ask for an export; return True if that was acknowledged."""
    body, headers = json.dumps({"name": name}).encode(), {"Content-Type": "application/json"}
    return ask(site.machine.address, "/exports", timeout=60, body=body, headers=headers).status == 200


@contextmanager
def asking(site: Site) -> Iterator[list[str]]:
    """Ask for exports all the time; yield the names of those that were acknowledged. Any other answer is a failure."""
    end = threading.Event()
    kept: list[str] = []
    wrong: list[str] = []

    def work() -> None:
        for number in itertools.count():
            if end.wait(0.05):
                return
            (kept if post(site, f"many-{number}") else wrong).append(f"many-{number}")

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield kept
    finally:
        end.set()
        thread.join()
    assert wrong == []


def held(site: Site, name: str) -> str:
    """Ask for an export that goes on until it is let go; wait for its begin, and return its name."""
    site.sh(f"touch {STATE}/hold-{name}")
    assert post(site, name)
    noted(site, "begun", name)
    return name


def let_go(site: Site, name: str) -> None:
    site.sh(f"rm {STATE}/hold-{name}")
    noted(site, "done", name)


def noted(site: Site, what: str, name: str) -> None:
    """Wait until an export has begun, or is done."""
    site.sh(f"timeout 60 sh -c 'until grep -qsx {name} {STATE}/{what}; do sleep 0.1; done'")


def count(site: Site, what: str, name: str) -> int:
    return int(site.sh(f"grep -cx {name} {STATE}/{what} || :"))


def flask(site: Site, *words: str) -> str:
    return site.done("run", "--", "flask", "jobs", *words).out


def worker(site: Site) -> str:
    return f"myapp-worker@{site.slot}.service"


@pytest.mark.promise(NO_LOSS, "workers killed, and releases changed, in mid-job", part=1)
def test_no_job_is_lost(site: Site) -> None:
    with asking(site) as kept:
        _killed(site)
        _deployed(site)
        _stopped_in_the_end(site)
        site.done("rollback")
    site.sh(f"timeout 60 sh -c 'until [ $(sort -u {STATE}/done | grep -c many-) -ge {len(kept)} ]; do sleep 0.2; done'")
    assert set(kept) <= set(site.sh(f"cat {STATE}/done").split())
    assert json.loads(flask(site, "status")) == {"queued": 0, "scheduled": 0, "under_way": 0, "dead": 0}


def _killed(site: Site) -> None:
    name = held(site, "killed")
    site.kill_until_restarted(worker(site), "all")
    let_go(site, name)
    assert count(site, "done", name) == 1


def _deployed(site: Site) -> None:
    """A job that ends in time is done by the worker that began it."""
    name = held(site, "deployed")
    was = site.slot
    site.edit()
    site.done("deploy")
    assert site.slot != was
    let_go(site, name)
    assert (count(site, "begun", name), count(site, "done", name)) == (1, 1)


def _stopped_in_the_end(site: Site) -> None:
    """A job that does not is begun again by the new one."""
    name, before = held(site, "stopped"), worker(site)
    site.edit()
    site.done("deploy")
    site.sh(f"timeout 60 sh -c 'while systemctl is-active -q {before}; do sleep 0.1; done'")
    assert worker(site) != before
    site.sh(f"timeout 60 sh -c 'until [ $(grep -cx {name} {STATE}/begun) = 2 ]; do sleep 0.1; done'")
    let_go(site, name)


@pytest.mark.parametrize("site", ["sqlite"], indirect=True)
def test_a_job_that_failed_can_be_run_again(site: Site) -> None:
    site.sh(f"touch {STATE}/fails")
    assert post(site, "failing")
    noted(site, "begun", "failing")
    while not (shown := flask(site, "dead")):
        pass
    assert "no export" in shown
    site.sh(f"rm {STATE}/fails")
    flask(site, "retry", shown.split()[0])
    noted(site, "done", "failing")
    assert flask(site, "dead") == ""


@pytest.mark.parametrize("site", ["sqlite"], indirect=True)
def test_a_release_whose_worker_does_not_find_its_queue_does_not_hold(site: Site) -> None:
    was = site.answering
    jobs = site.read("service/app/jobs.py").replace("huey.under_way.result_store_size()", "huey.under_way.nothing()")
    with site.changed("service/app/jobs.py", jobs):
        refused = site.fab("deploy")
    assert refused.status == 1
    assert "the queue of jobs does not answer" in refused.both
    assert site.answering == was


@pytest.mark.parametrize("site", ["sqlite"], indirect=True)
def test_the_part_can_be_taken_out_again(site: Site) -> None:
    site.sh(f"touch {STATE}/kept")
    git(site.clone.root, "checkout", "-q", "service")
    git(site.clone.root, "clean", "-fdq", "service")
    quicken(site.clone)
    site.deploy()
    assert site.sh("systemctl list-units --all --plain --no-legend 'myapp-worker*'") == ""
    assert site.sh("pgrep -u myapp -f 'flask jobs' || :") == ""
    site.sh(f"ls {STATE}/kept")
