"""Remains of a dead run: the host serves the old release or the new one, and the next run works."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from tests.promises.words import AGAIN, WHOLE
from tests.support.clone import make, quicken
from tests.support.hosts import MakeHosts
from tests.support.site import ROOT, Site, Watch

YAML = "service/service.yaml"


@pytest.fixture(scope="module")
def site(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> Site:
    hosts = module_hosts()
    made = Site(make(tmp_path_factory.mktemp("leftovers"), hosts.inventory), hosts[0])
    quicken(made.clone)
    made.clone.replace(YAML, "threads: 1}", "threads: 1}\n  clock: {command: sleep 1d}")
    # Twice, so that either slot has a release that could start.
    made.deploy()
    made.deploy()
    return made


def parts(site: Site) -> None:
    """Leave the remains of a dead stage."""
    site.sh(f"cd {ROOT} && runuser -u deploy -- mkdir -p releases/.part-x/code venvs/.part-x releases/.part-old-y")


def links(site: Site) -> None:
    """Leave the links of a rename that did not happen."""
    site.sh(f"cd {ROOT} && for at in . slots/green slots/blue; do ln -s nowhere $at/link.new-x; done")


def marks(site: Site) -> None:
    """Leave a candidate whose run died before it started."""
    site.sh("touch /run/myapp/try/blue /run/myapp/try/green")


def candidate(site: Site) -> None:
    """Leave a candidate that runs, without the traffic."""
    other = site.other
    site.sh(f"touch /run/myapp/try/{other} && systemctl start myapp@{other}.service")


def probation(site: Site) -> None:
    """Leave an uncommitted candidate that has the traffic."""
    candidate(site)
    site.sh(f"systemctl start myapp-live@{site.other}.service")


def broken_candidate(site: Site) -> None:
    """Leave a candidate that reached its start limit."""
    candidate(site)
    site.sh(
        f"systemctl kill -s KILL --kill-who=main myapp@{site.other}.service; systemctl stop myapp@{site.other}.socket"
    )


def nothing_live(site: Site) -> None:
    """Remove the link that directs the traffic."""
    site.sh("rm /run/myapp/live")


@pytest.mark.promise(AGAIN, "every leftover of a dead run", part=1)
@pytest.mark.parametrize(
    ("leave", "again"),
    [
        (marks, "the same"),
        (candidate, "the same"),
        (broken_candidate, "an edit"),
        (probation, "restart"),
        (probation, "the same"),
        (nothing_live, "an edit"),
    ],
)
def test_what_a_dead_run_left_is_put_in_order(site: Site, leave: Callable[[Site], None], again: str) -> None:
    """Once: a mark that permits the idle slot to start outlived its run."""
    release = site.clone.release() if site.clone.release() == site.answering else site.deploy()
    leave(site)
    if again == "an edit":
        release = site.deploy()
    else:
        site.done("restart" if again == "restart" else "deploy")
    assert site.answering == release
    site.settled()


@pytest.mark.promise(AGAIN, "parts and half-made links of a dead run")
def test_what_a_dead_run_left_in_the_directories_goes_with_the_next_deploy(site: Site) -> None:
    parts(site)
    links(site)
    site.deploy()
    site.settled()


@pytest.mark.promise(WHOLE, "the controller is killed at a step", part=1)
@pytest.mark.parametrize(
    "line",
    [
        "stage     send",
        "stage     staged",
        "activate  start",
        "activate  check",
        "activate  switch",
        "activate  committed",
    ],
)
def test_a_controller_that_is_killed_leaves_the_host_well(site: Site, line: str) -> None:
    """Once: after a killed controller the host went on checking, and the next run was told to wait."""
    old = site.answering
    new = site.edit()
    with Watch(site.machine.address) as watch:
        with site.clone.start("deploy", "-H", "shire01") as process:
            assert process.stdout
            seen = [text for text in iter(process.stdout.readline, "") if reached(text, line, process.send_signal)]
        assert seen, f"the deploy ended before {line!r}"
        assert process.returncode == -signal.SIGKILL
        site.sh("flock -w 60 /run/myapp/lock/activate true")
    assert watch.seen <= {old, new}
    serving = site.answering
    assert serving == (new if site.sh(f"readlink {ROOT}/current/release").endswith(new) else old)
    # Never a mixture: the further processes are those of the release that answers.
    main = site.main_of(f"myapp-clock@{site.slot}.service")
    assert site.sh(f"readlink /proc/{main}/cwd").split("/")[5] == serving
    assert ("deploy", new, "started") not in site.outcomes[-1:]
    site.done("deploy")
    assert site.answering == new
    site.settled()


def reached(text: str, line: str, send: Callable[[int], None]) -> bool:
    """Kill at the first line that contains these words."""
    if line not in text:
        return False
    send(signal.SIGKILL)
    return True
