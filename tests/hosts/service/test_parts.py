"""A part that `fab add` put into the service: its tests, its style, and what it does on a real host."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.clone import ROOT, Clone, make, quicken
from tests.support.front_door import ask
from tests.support.hosts import MakeHosts
from tests.support.packages import fetched
from tests.support.site import Site, Watch

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


def checked(clone: Clone, libraries: Path, *words: str) -> None:
    """Run a checker of this project in the clone, with the part's own packages."""
    environment = {**os.environ, "PYTHONPATH": str(libraries), "MYPYPATH": str(libraries)}
    ended = subprocess.run(
        [sys.executable, "-m", *words], cwd=clone.root, env=environment, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_its_own_tests_pass_and_it_is_as_well_kept_as_the_rest(site: Site, tmp_path: Path) -> None:
    (pin,) = re.findall(r"^prometheus-client==\S+", site.read("service/requirements.txt"), re.MULTILINE)
    packages = ["pip", "install", "--quiet", "--no-deps", "--target", str(tmp_path), pin]
    subprocess.run([sys.executable, "-m", *packages], check=True)
    site.clone.write("pyproject.toml", (ROOT / "pyproject.toml").read_text())
    checked(site.clone, tmp_path, "ruff", "check", "service")
    checked(site.clone, tmp_path, "ruff", "format", "--check", "service")
    checked(site.clone, tmp_path, "mypy", "service/app")
    checked(site.clone, tmp_path, "pytest", "-q", "-p", "no:cacheprovider", "service/tests/test_metrics.py",
            "service/tests/test_auth.py", "service/tests/test_about.py", "service/tests/test_health.py")  # fmt: skip


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
