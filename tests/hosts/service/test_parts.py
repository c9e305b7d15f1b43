"""Parts that `fab add` put into the service: their tests, style and memory, and what `metrics` does on a real host."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tasks.engine.parts import addition, catalogue
from tests.support.clone import ROOT, Clone, make, quicken
from tests.support.front_door import ask
from tests.support.git_repository import git
from tests.support.hosts import MakeHosts
from tests.support.local_gunicorn import Served, serving
from tests.support.packages import fetched
from tests.support.site import Site, Watch

NAMES = catalogue.names(ROOT)
ALONE = [
    name
    if name == "metrics"
    else pytest.param(name, marks=pytest.mark.further("test_its_own_tests_pass_with_it_alone"))
    for name in NAMES
    if name != "api"
]  # test_api_part.py has that

# Five of a hundred requests fail, after hours without an error.
ALERTS = """
rule_files: [%s]
evaluation_interval: 1m
tests:
- interval: 1m
  input_series:
  - {series: 'http_requests_total{job="myapp",route="/x",status="200"}', values: '0+100x600'}
  - {series: 'http_requests_total{job="myapp",route="/x",status="500"}', values: '0+0x300 0+5x300'}
  - {series: 'http_request_seconds_bucket{job="myapp",route="/x",le="0.5"}', values: '0+100x600'}
  - {series: 'http_request_seconds_count{job="myapp",route="/x"}', values: '0+100x600'}
  alert_rule_test:
  - {eval_time: 4h, alertname: ErrorsBurnTheBudgetFast, exp_alerts: []}
  - eval_time: 9h
    alertname: ErrorsBurnTheBudgetFast
    exp_alerts:
    - exp_labels: {job: myapp, severity: page}
      exp_annotations: {summary: "myapp: errors use up the budget of 30 days within 5 days or less"}
  - {eval_time: 9h, alertname: SlowAnswersBurnTheBudgetFast, exp_alerts: []}
"""


@pytest.fixture(scope="module")
def site(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> Site:
    hosts = module_hosts()
    made = Site(make(tmp_path_factory.mktemp("parts"), hosts.inventory), hosts[0])
    quicken(made.clone)
    made.clone.done("add", "metrics", "--yes")
    made.deploy()
    return made


def checked(clone: Clone, *words: str | Path) -> None:
    """Run a checker in the clone."""
    ended = subprocess.run([sys.executable, "-m", *words], cwd=clone.root, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Clone, Path]:
    """A clone with all parts, and the Python of a venv that has its lock, pytest and hypothesis alone."""
    folder = tmp_path_factory.mktemp("whole")
    clone = make(folder)
    for name in NAMES:
        clone.done("add", name, "--yes")
    clone.write("pyproject.toml", (ROOT / "pyproject.toml").read_text())
    python = folder / "venv/bin/python"
    checked(clone, "uv", "venv", "--quiet", "--python", sys.executable, folder / "venv")
    for words in (("--require-hashes", "-r", "service/requirements.txt"), ("pytest", "hypothesis")):
        checked(clone, "uv", "pip", "install", "--quiet", "--python", python, *words)
    return clone, python


@pytest.mark.packages
def test_all_parts_together_are_as_well_kept_as_the_rest(whole: tuple[Clone, Path]) -> None:
    clone, python = whole
    checked(clone, "ruff", "check", "service")
    checked(clone, "ruff", "format", "--check", "service")
    checked(clone, "mypy", "--python-executable", python, "service/app")


@pytest.mark.packages
@pytest.mark.parametrize("name", ALONE)
def test_its_own_tests_pass_with_it_alone(whole: tuple[Clone, Path], name: str, tmp_path: Path) -> None:
    clone = make(tmp_path)
    # Without a lock: the venv has what all parts require.
    addition.make(clone.root, addition.plan(clone.root, catalogue.with_required(clone.root, name)))
    clone.write("pyproject.toml", (ROOT / "pyproject.toml").read_text())
    tried(clone, whole[1], name)


@pytest.mark.packages
def test_all_their_tests_pass_together(whole: tuple[Clone, Path]) -> None:
    tried(*whole, "auth", "about", "health", *NAMES)


@pytest.mark.further("test_all_their_tests_pass_together")
@pytest.mark.packages
def test_the_part_jobs_keeps_jobs_in_redis_as_it_does_in_sqlite(whole: tuple[Clone, Path], tmp_path: Path) -> None:
    with redis(tmp_path) as url:
        tried(*whole, "jobs", JOBS_TEST_URL=url)


def tried(clone: Clone, python: Path, *modules: str, **environment: str) -> None:
    """Run tests of the clone's service, which must pass."""
    tests = [f"service/tests/test_{module}.py" for module in modules]
    words = [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
    ended = subprocess.run(words, cwd=clone.root, env={**os.environ, **environment}, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def asked_of_everything(served: Served, number: int) -> None:
    """Send ten requests: of each kind that the core and the parts answer, and of each that they refuse."""
    notes = "/api/v1/notes"
    for path in ("/", "/readyz", "/metrics", f"{notes}?limit=5"):
        served.ask(200, "GET", path)
    written = served.ask(201, "POST", notes, '{"text": "a"}', Idempotency_Key=f"k{number}")
    served.ask(204, "DELETE", written["Location"], If_Match=written["ETag"])
    served.ask(200, "POST", "/commands/disk-usage", '{"path": "/"}')
    served.ask(422, "POST", notes, '{"text": ""}')
    served.ask(404, "GET", f"/nowhere/{number}")
    served.ask(401, "GET", notes, Authorization=f"Bearer {number}")


def grown(served: Served, rounds: int, warming: int) -> int:
    """Return the most kilobytes that a worker has more after so many rounds of ten requests than when it was warm."""
    for number in range(warming):
        asked_of_everything(served, number)
    warm = served.memory()
    for number in range(warming, warming + rounds):
        asked_of_everything(served, number)
    after = served.memory()
    assert after.keys() == warm.keys()
    return max(after[worker] - warm[worker] for worker in warm)


@pytest.mark.packages
@pytest.mark.promise("The service's memory stays flat", "an hour of requests, ten a second, within minutes")
def test_the_memory_stays_flat(whole: tuple[Clone, Path], tmp_path: Path, request: pytest.FixtureRequest) -> None:
    # Python's allocator takes some thousand requests to settle: a short run sees the rest of that.
    hour = request.config.getoption("promises") == "all"
    with serving(*whole, tmp_path) as served:
        assert grown(served, *((2700, 900) if hour else (40, 30))) < 512


@pytest.mark.packages
def test_memory_that_is_kept_of_each_request_is_found(whole: tuple[Clone, Path], tmp_path: Path) -> None:
    clone, _ = whole
    finish = "def _finish(response: Response) -> Response:\n"
    # More than malloc takes from what it has: a shorter text may lie where others were, and nothing grows.
    leaking = f"kept = []\n\n\n{finish}    kept.append('x' * 200_000 + request.path)\n"
    clone.replace("service/app/access.py", finish, leaking)
    try:
        with serving(*whole, tmp_path) as served:
            assert grown(served, rounds=10, warming=10) > 1024
    finally:
        clone.replace("service/app/access.py", leaking, finish)


@contextmanager
def redis(folder: Path) -> Iterator[str]:
    """Run a Redis that listens on a socket alone; yield its URL."""
    for package in fetched("redis-server", "redis-tools", "libjemalloc2", "liblzf1", "libatomic1"):
        subprocess.run(["dpkg", "-x", package, folder], check=True)
    (libraries,) = folder.glob("usr/lib/*-linux-gnu")
    environment = {**os.environ, "LD_LIBRARY_PATH": str(libraries)}
    with tempfile.TemporaryDirectory() as short:  # the path of a socket has at most 107 bytes
        words = [folder / "usr/bin/redis-server", "--port", "0", "--unixsocket", f"{short}/socket", "--save", ""]
        server = [*map(str, words), "--dir", short]
        with subprocess.Popen(server, env=environment, stdout=subprocess.DEVNULL) as process:
            try:
                while not Path(short, "socket").exists():
                    assert process.poll() is None
                    time.sleep(0.05)
                yield f"unix://{short}/socket"
            finally:
                process.kill()


def counted(site: Site, token: str) -> float:
    """Return how many GET of /healthz are counted, by whichever worker answers."""
    answer = ask(site.machine.address, "/metrics", headers={"Authorization": f"Bearer {token}"})
    assert answer.status == 200
    (line,) = re.findall(
        r'http_requests_total\{method="GET",route="/healthz",status="200"\} (\S+)', answer.body.decode()
    )
    return float(line)


def test_no_count_falls_or_is_lost_over_workers_switches_and_crashes(site: Site) -> None:
    token = site.token("prometheus", "reader").strip()
    for _ in range(20):
        ask(site.machine.address)
    counts = [counted(site, token)]
    assert counts[0] >= 20
    for change in (site.deploy, lambda: site.done("rollback"), lambda: site.kill_until_restarted(f"myapp@{site.slot}")):
        with Watch(site.machine.address):
            change()
        counts.append(counted(site, token))
        assert [counted(site, token) for _ in range(8)] == [counts[-1]] * 8
    assert counts == sorted(counts)
    assert counts[-1] > counts[0]


def test_without_a_token_there_are_no_numbers(site: Site) -> None:
    assert ask(site.machine.address, "/metrics").status == 401


def test_promtool_takes_the_alert_rules_and_they_fire_when_they_should(site: Site, tmp_path: Path) -> None:
    (package,) = fetched("prometheus")
    subprocess.run(["dpkg", "-x", package, tmp_path], check=True)
    rules = site.clone.root / "service/monitoring/alerts.yaml"
    (tmp_path / "test.yaml").write_text(ALERTS % rules)
    for word, file in (("check", rules), ("test", tmp_path / "test.yaml")):
        ended = subprocess.run([tmp_path / "usr/bin/promtool", word, "rules", file], capture_output=True, text=True)
        assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.further("test_no_count_falls_or_is_lost_over_workers_switches_and_crashes")
def test_all_parts_are_deployed_together_and_taken_out_again(site: Site) -> None:
    for name in NAMES:
        site.clone.done("add", name, "--yes")
    site.deploy()
    bearer = {"Authorization": f"Bearer {site.token('all', 'reader').strip()}"}
    paths = ("/readyz", "/api/v1/notes", "/metrics")
    assert [ask(site.machine.address, path, headers=bearer).status for path in paths] == [200] * 3
    assert "database" in {check["name"] for check in ask(site.machine.address, "/readyz").json()["checks"]}
    assert site.sh("systemctl is-active 'myapp-worker@*'") == "active"
    git(site.clone.root, "checkout", "-q", ".")
    git(site.clone.root, "clean", "-qfd", "service")
    quicken(site.clone)
    site.deploy()
    assert [ask(site.machine.address, path, headers=bearer).status for path in paths] == [200, 404, 404]
    assert site.sh("systemctl list-units --all --plain --no-legend 'myapp-worker*'") == ""
    assert {"database.sqlite", "api.sqlite", "jobs.sqlite"} <= set(site.sh("ls /var/lib/myapp").split())
