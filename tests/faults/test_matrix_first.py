"""The first deploy of a host, broken at each step of root's part and of the rest."""

from __future__ import annotations

import pytest

from tests.faults import matrix
from tests.faults.matrix import CANDIDATE, COMMIT, HERE, SWITCH, steps
from tests.promises.words import AGAIN, WHOLE
from tests.support.hosts import MakeHosts
from tests.support.site import ROOT, Site
from tests.support.state_check import TEMPORARY

SETUP: tuple[str, ...] = (
    "packages",
    "accounts",
    "directories",
    "certificate",
    "files",
    "file",
    "written",
    "units",
    "tmpfiles",
)
SETUP += ("reloaded", "enabled", "listen", "nginx", "record", "recorded")
AFTER = (*steps("stage", "venv", "venvs", "renamed"), *steps("activate", *CANDIDATE, *SWITCH, *COMMIT))
# Nothing served before, so there is no traffic to move back.
POINTS = [f"{step}={action}" for step in (*steps("setup", *SETUP), *AFTER) for action in ("die", "fail")]
WORDS = ("deploy", *HERE)


@pytest.fixture(scope="module")
def site(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> Site:
    return matrix.undeployed(module_hosts, tmp_path_factory.mktemp("first"))


def make_bare(site: Site) -> None:
    """Restore the host as it was before the first setup."""
    if site.sh("test -e /etc/myapp/setup && echo there || :"):
        site.done("remove", "--yes", "--data")


def require_nothing_or_new(site: Site, new: str) -> None:
    """Assert that the new release serves, or none: then none of its processes runs, and nginx is as sound as before."""
    site.sh("nginx -t")
    if site.sh(f"readlink {ROOT}/current || :"):
        matrix.require_serving(site, new)
    else:
        site.sh("! test -e /run/myapp/lock/activate || flock -w 90 /run/myapp/lock/activate true")


def run_hung(site: Site, step: str, end: str = ":") -> None:
    """Let a first deploy hang there, and kill its controller; after `end` the same command finishes it."""
    make_bare(site)
    new = site.edit()
    try:
        assert "Traceback" not in matrix.run_broken(site, WORDS, f"{step}=stall").both
        site.sh("nginx -t")
    finally:
        site.sh(end)
        matrix.finish(site, WORDS, new)


@pytest.mark.further("tests/faults/test_matrix.py::test_the_program_hangs_and_the_controller_is_killed")
@pytest.mark.promise(AGAIN, "the program of a host's first deploy hangs at a step of it", part=1)
@pytest.mark.parametrize("step", AFTER)
def test_a_first_deploy_hangs(site: Site, step: str) -> None:
    """Its controller is killed, and the next run ends the rest. Once: on a host that is a container no message named a
    run at work, or one that hung with its controller gone.
    """
    run_hung(site, step)


@pytest.mark.promise(WHOLE, "root's part of a host's first deploy hangs at a step, and is ended by hand", part=1)
@pytest.mark.parametrize("step", steps("setup", *SETUP))
def test_a_setup_hangs(site: Site, step: str) -> None:
    """Its controller is killed, and only an operator ends it. Once: a setup that was killed with its files written, and
    run again, reported success without a reload of nginx.
    """
    run_hung(site, step, "pkill -9 -f '[s]tream = sys.stdin'")


@pytest.mark.promise(WHOLE, "the host's program is killed, or fails, at a step of its first deploy", part=1)
@pytest.mark.parametrize("point", POINTS)
def test_a_first_deploy_breaks(site: Site, point: str) -> None:
    make_bare(site)
    new = site.edit()
    try:
        ended = matrix.run_broken(site, WORDS, point)
        assert "Traceback" not in ended.both
        assert ended.status != 0 or point.startswith("activate."), ended.both
        if point.endswith("=fail"):
            assert f"failpoint {point.removesuffix('=fail')}" in ended.both
        require_nothing_or_new(site, new)
    finally:
        matrix.finish(site, WORDS, new)
    site.sh("systemctl is-enabled myapp.service nginx.service")


@pytest.mark.promise(AGAIN, "root's part is killed, and run again", part=1)
@pytest.mark.parametrize("step", SETUP)
def test_setup_is_killed_and_leaves_nothing(site: Site, step: str) -> None:
    """Setup changes certificate and nginx file of a serving site whose name changes. Once: a killed setup left
    its directory with a private key below /run, and half-written files below /etc.
    """
    if not site.sh(f"readlink {ROOT}/current || :"):
        site.deploy()
    release = site.answering
    site.sh("rm -f /etc/nginx/conf.d/myapp.conf /etc/systemd/system/myapp@.service")
    matrix.run_broken(site, ("setup", "-H", "shire01"), f"setup.{step}=die")
    site.done("setup")
    assert site.sh(TEMPORARY) == ""
    matrix.require_serving(site, release)
