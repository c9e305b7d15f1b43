"""Directories of `shared`: the service's data at a place in its code, over releases, prunes and what is planted."""

from __future__ import annotations

import pytest

from tests.support.clone import Clone, make
from tests.support.echo_service import APP, put
from tests.support.hosts import Hosts, MakeHosts

ROOT = "/opt/apps/myapp"
# Keeps a text in a file beside its code, as Django's MEDIA_ROOT or Flask's instance folder does.
ROUTES = """

import pathlib

MEDIA = pathlib.Path(__file__).parent / "media"


@app.get("/keep/<text>")
def keep(text):
    (MEDIA / text).write_text(text)
    return {}


@app.get("/kept")
def kept():
    return {"are": sorted(path.name for path in MEDIA.iterdir())}
"""


@pytest.fixture(scope="module")
def shire(module_hosts: MakeHosts) -> Hosts:
    return module_hosts()


@pytest.fixture(scope="module")
def clone_there(shire: Hosts, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    return make(tmp_path_factory.mktemp("shared"), shire.inventory)


def deploy(clone: Clone, number: int) -> str:
    """Deploy a release of this number; return its ID."""
    put(clone, shared=["media", "data/uploads"], keep=2)
    clone.write("service/echo.py", f"{APP}{ROUTES}\n# {number}\n")
    clone.done("deploy", "-H", "shire01")
    return clone.release()


def get(shire: Hosts, path: str) -> str:
    ended = shire[0].sh(f"curl -sSf --unix-socket /run/myapp/live/http.sock http://localhost{path}")
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.decode()


def test_what_a_release_has_written_there_is_there_for_every_other(clone_there: Clone, shire: Hosts) -> None:
    machine = shire[0]
    releases = [deploy(clone_there, 1)]
    assert '"are":[]' in get(shire, "/kept")
    get(shire, "/keep/one")
    assert machine.sh("stat -c '%a %U' /var/lib/myapp/media /var/lib/myapp/data/uploads").stdout == b"700 myapp\n" * 2
    assert machine.sh("cat /var/lib/myapp/media/one").stdout == b"one"
    releases += [deploy(clone_there, number) for number in (2, 3, 4)]
    get(shire, "/keep/two")
    # Two releases are kept: the first ones are pruned, and the guard has done so when its unit has ended.
    gone = f"until ! ls -d {ROOT}/releases/{releases[0]} {ROOT}/releases/{releases[1]} 2>/dev/null; do sleep 0.1; done"
    assert machine.sh(gone).returncode == 0
    assert '"are":["one","two"]' in get(shire, "/kept")
    clone_there.done("rollback", "-H", "shire01")
    assert '"are":["one","two"]' in get(shire, "/kept")
    assert deploy(clone_there, 4) == releases[3]
    # It is as it was sent: nothing is sent again, and it is no drift.
    assert "UNCHANGED" in clone_there.done("deploy", "-H", "shire01").out
    assert clone_there.fab("drift", "-H", "shire01").status == 0
    told = clone_there.done("run", "-H", "shire01", "--", "sh", "-c", "echo x >media/by-run && cat media/*").out
    assert told == "x\nonetwo"


def test_a_link_that_was_led_elsewhere_is_drift_and_the_next_deploy_makes_it_anew(
    clone_there: Clone, shire: Hosts
) -> None:
    release = deploy(clone_there, 5)
    link = f"{ROOT}/releases/{release}/code/media"
    assert shire[0].sh(f"rm {link} && ln -s /etc {link}").returncode == 0
    drifted = clone_there.fab("drift", "-H", "shire01")
    assert (drifted.status, f"{link}" in drifted.out) == (1, True)
    clone_there.done("deploy", "-H", "shire01")
    assert shire[0].sh(f"readlink {link}").stdout == b"/var/lib/myapp/media\n"
    assert clone_there.fab("drift", "-H", "shire01").status == 0


def test_no_link_of_the_services_leads_root_or_the_deploy_account_anywhere(clone_there: Clone, shire: Hosts) -> None:
    machine = shire[0]
    deploy(clone_there, 6)
    look = "find /etc/cron.d /root -printf '%p %m %u %T@\\n' | sort"
    before = machine.sh(look).stdout
    plant = "cd /var/lib/myapp && mv media kept && ln -s /etc/cron.d media && rm -rf data && ln -s /root data"
    assert machine.sh(f"runuser -u myapp -- sh -c '{plant}'").returncode == 0
    deploy(clone_there, 7)
    assert clone_there.fab("drift", "-H", "shire01").status == 0
    clone_there.done("setup", "-H", "shire01")
    assert machine.sh(look).stdout == before
    machine.sh("cd /var/lib/myapp && rm media data && mv kept media")
    clone_there.done("restart", "-H", "shire01")
    assert '"one"' in get(shire, "/kept")
    clone_there.done("remove", "-H", "shire01", "--yes")
    assert machine.sh("cat /var/lib/myapp/media/one").stdout == b"one"


def test_a_file_there_is_refused_by_name_before_any_contact(clone_there: Clone) -> None:
    put(clone_there, shared=["media"])
    clone_there.write("service/media/one.png", "x")
    ended = clone_there.fab("deploy", "-H", "shire01")
    assert ended.status == 2
    assert "service/media/one.png" in ended.err
    assert "media is `shared`" in ended.err
