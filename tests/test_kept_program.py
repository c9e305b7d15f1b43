"""The copy of the host's program on a real host: checked before each use, made anew if damaged, watched by drift."""

from __future__ import annotations

import pytest

from tasks.engine import host_program
from tests.clone import make, quicken
from tests.hosts import MakeHosts
from tests.site import ROOT, Site

pytestmark = pytest.mark.sandbox

PLACE = host_program.place(ROOT)


@pytest.fixture(scope="module")
def site(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> Site:
    hosts = module_hosts()
    made = Site(make(tmp_path_factory.mktemp("kept"), hosts.inventory), hosts[0])
    quicken(made.clone)
    made.deploy()
    return made


def test_it_is_the_deploy_accounts_and_nobody_else_can_write_there(site: Site) -> None:
    assert set(site.sh(f"stat -c '%U %a' {ROOT}/.program {PLACE} {PLACE}/host").splitlines()) == {"deploy 755"}
    assert site.sh(f"find {PLACE} -type f ! -perm 0644 -name '*.py'") == ""


@pytest.mark.parametrize(
    "fault", ["echo 'raise SystemExit(7)' >>{}/host/activate.py", "rm {}/host/turns.py", "rm -r {}"]
)
def test_what_is_damaged_is_never_run_and_is_sent_anew(site: Site, fault: str) -> None:
    site.sh(fault.format(PLACE))
    assert PLACE in site.fab("drift").out or fault == "rm -r {}"
    site.done("restart")
    site.sh(f"test -f {PLACE}/host/turns.py && ! grep -q SystemExit.7 {PLACE}/host/activate.py")
    assert PLACE not in site.fab("drift").out


def test_a_guard_runs_from_it(site: Site) -> None:
    assert f"{PLACE}/__main__.py" in site.sh("cat /run/myapp/ctl/probation/script")
