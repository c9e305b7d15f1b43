"""Jobs of timers: the release that one still runs is kept, and the last result of each is shown."""

from __future__ import annotations

import pytest

from tests.support.clone import make
from tests.support.echo_service import description, put
from tests.support.hosts import MakeHosts
from tests.support.site import ROOT, Site

pytestmark = pytest.mark.long

# Its command line names no release.
LONG = {"long": {"command": "sleep 100000", "schedule": "yearly"}}


@pytest.fixture(scope="module")
def site(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> Site:
    hosts = module_hosts()
    made = Site(make(tmp_path_factory.mktemp("jobs"), hosts.inventory), hosts[0])
    put(made.clone, keep=2, processes=LONG).done("deploy", "-H", "shire01")
    made.drained()
    return made


def test_a_release_that_a_job_still_runs_is_kept_with_its_venv_until_it_ends(site: Site) -> None:
    """Once: a release from which a timer's job still ran was pruned with its venv."""
    first = site.deploy()
    venv = site.sh(f"readlink -f {ROOT}/releases/{first}/venv")
    site.sh("systemctl start --no-block myapp-long.service; until pgrep -u myapp -x sleep; do sleep 0.1; done")
    pid = site.sh("pgrep -u myapp -x sleep")
    # Later releases get another venv.
    site.sh(f"runuser -u deploy -- mv {venv} {venv}0")
    site.sh(f"runuser -u deploy -- ln -sfn ../../venvs/{venv.rpartition('/')[2]}0 {ROOT}/releases/{first}/venv")
    for _ in range(3):
        site.deploy()
    assert first in site.releases
    assert len(site.releases) == 3
    site.sh(f"test -d {venv}0")
    told = site.done("doctor").out
    assert f"release {first} stays beyond keep: 2, since something runs from it" in told
    assert f"find /proc/[0-9]*/fd -lname {ROOT}/releases/{first}" in told
    # Other processes may end meanwhile, which find reports.
    assert f"/proc/{pid}/fd/7" in site.sh(f"find /proc/[0-9]*/fd -lname {ROOT}/releases/{first} 2>/dev/null || :")
    site.sh("systemctl stop myapp-long.service")
    site.deploy()
    assert first not in site.releases
    assert site.machine.sh(f"test -e {venv}0").returncode == 1
    assert "stays beyond keep" not in site.done("doctor").out


def test_who_holds_every_release_exclusively_keeps_no_other_from_starting(site: Site) -> None:
    before = site.deploy()
    hold = f"for at in {ROOT}/releases/*; do flock -x $at sleep 600 & done; wait"
    site.sh(f"systemd-run -q --unit holder --uid myapp sh -c '{hold}'")
    try:
        after = site.deploy()
        site.done("rollback")
        assert site.answering == before
        assert {before, after} <= site.releases
    finally:
        site.sh("systemctl stop holder")


def jobs(site: Site, **commands: str) -> None:
    """Deploy such jobs, and let each run once."""
    processes = {name: {"command": command, "schedule": "yearly"} for name, command in commands.items()}
    site.clone.write("service/service.yaml", description(keep=2, processes=processes))
    site.deploy()
    for name in commands:
        site.machine.sh(f"systemctl start myapp-{name}.service")


def test_how_a_job_ended_is_shown_by_status_and_doctor(site: Site) -> None:
    """Once: no verb showed a failed job."""
    jobs(site, good="true", bad="sh -c 'exit 3'", killed="sh -c 'kill -9 $$'", idle="true")
    site.sh("systemctl reset-failed myapp-idle.service 2>/dev/null || true")
    told = site.fab("status", "--json").json()["hosts"][0]["jobs"]
    assert {name: (one["result"], one["exit_status"], one["running"]) for name, one in told.items()} == {
        "myapp-good.service": ("success", 0, False),
        "myapp-bad.service": ("exit-code", 3, False),
        "myapp-killed.service": ("signal", 9, False),
        "myapp-idle.service": ("success", 0, False),
    }
    assert all(0 <= one["ended_seconds"] < 600 for one in told.values())
    shown = site.done("status").out
    assert "2 FAILED" in shown
    assert "shire01: myapp-bad.service failed " in shown
    assert "(exit-code, 3): fab logs -H shire01 --process bad" in shown
    assert "myapp-good" not in shown
    examined = site.done("doctor").out
    assert "myapp-bad.service failed the last time it ran: exit-code, 3" in examined
    assert "fab logs -H shire01 --process killed" in examined
    jobs(site, good="true", bad="true")
    assert "FAILED" not in site.done("status").out
    assert site.done("doctor").out.startswith("shire01  ready\n")


def test_a_job_that_has_not_run_has_no_result(site: Site) -> None:
    site.clone.write(
        "service/service.yaml", description(processes={"never": {"command": "true", "schedule": "yearly"}})
    )
    site.deploy()
    (told,) = site.fab("status", "--json").json()["hosts"][0]["jobs"].values()
    assert told == {"result": None, "exit_status": None, "running": False, "running_seconds": None, "former": False,
                    "ended_seconds": None}  # fmt: skip


def test_a_job_that_does_not_end_is_named_once_another_release_serves_and_stop_ends_it(site: Site) -> None:
    """Once: a job of a former release ran on under the service's account, `fab stop` left it, and status said ok."""
    stubborn = "sh -c 'trap : TERM; while :; do sleep 0.1; done'"
    processes = {"stubborn": {"command": stubborn, "schedule": "yearly", "stop": 1}}
    site.clone.write("service/service.yaml", description(keep=2, processes=processes))
    site.deploy()
    site.sh("systemctl start --no-block myapp-stubborn.service; until pgrep -u myapp -x sleep; do sleep 0.1; done")
    assert site.fab("status", "--json").json()["hosts"][0]["jobs"]["myapp-stubborn.service"]["former"] is False
    assert "at work" not in site.done("doctor").out
    site.deploy()
    told = site.done("status").out
    assert "1 FORMER" in told
    assert "myapp-stubborn.service is at work, for" in told
    assert "systemctl stop myapp-stubborn.service" in site.done("doctor").out
    site.done("stop")
    assert site.sh("pgrep -u myapp || :") == ""
    site.done("start")
