"""A before_activate whose run was killed continues, and no other run begins beside it."""

from __future__ import annotations

import signal

import pytest

from tests.faults.matrix import YAML
from tests.support.clone import make, quicken
from tests.support.hosts import MakeHosts
from tests.support.site import Site

pytestmark = pytest.mark.sandbox

AT_WORK = "find /proc/[0-9]*/fd -lname '/run/myapp/lock/*' 2>/dev/null | cut -d / -f 3 | sort -u"


@pytest.fixture(scope="module")
def site(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> Site:
    hosts = module_hosts()
    made = Site(make(tmp_path_factory.mktemp("orphaned"), hosts.inventory), hosts[0])
    quicken(made.clone)
    made.deploy()
    return made


def test_no_run_begins_beside_it_and_each_says_what_to_do(site: Site) -> None:
    old, new = site.answering, site.edit()
    unit = f"myapp-hook@{site.other}.service"
    with site.changed(YAML, site.read(YAML) + "hooks: {before_activate: sleep 300}\n"):
        with site.clone.start("deploy", "-H", "shire01") as run:
            site.sh(f"timeout 60 sh -c 'until [ $(systemctl is-active {unit}) = activating ]; do sleep 0.1; done'")
            run.send_signal(signal.SIGKILL)
            # Some of them may be gone already, now that their controller is.
            site.sh(f'kill -9 $({AT_WORK}) 2>/dev/null; while [ "$({AT_WORK})" ]; do sleep 0.05; done')
        for verb in ("deploy", "restart"):
            ended = site.fab(verb)
            assert ended.status == 1
            assert f"still at work here, as {unit}: wait for its end" in ended.out
            assert "Traceback" not in ended.both
        assert site.answering == old
    assert "of an abandoned run" in site.done("restart", "--stop-first").out
    assert site.sh(f"systemctl is-active {unit} || :").strip() == "inactive"
    site.clone.write("service/edition.txt", "after it\n")
    site.done("deploy")
    assert site.answering == site.clone.release() != new
    site.settled()
