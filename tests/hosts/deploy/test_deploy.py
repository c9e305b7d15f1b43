"""The main loop on a real host: from a clone to an answer over HTTPS, and later deploys."""

from __future__ import annotations

import hashlib
import json
import os
import shlex

import pytest

from tests.promises.words import PLAIN
from tests.support import distributions
from tests.support.clone import Clone, make, quicken
from tests.support.front_door import release_of
from tests.support.hosts import Hosts, MakeHosts
from tests.support.site import ROOT, Site, Watch


@pytest.fixture(scope="module")
def site(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> Site:
    hosts = module_hosts()
    made = Site(make(tmp_path_factory.mktemp("deploy"), hosts.inventory), hosts[0])
    quicken(made.clone)
    made.deploy()
    return made


def paths(site: Site, *folders: str) -> str:
    """Return every path below, with inode and time: files rebuilt or sent again show."""
    return site.sh(f"cd {ROOT} && find {' '.join(folders)} -printf '%p %i %T@ (%l)\\n' | sort")


def test_a_pristine_host_serves_after_one_deploy(clone: Clone, one_host: Hosts) -> None:
    clone.inventory = one_host.inventory
    ended = clone.done("deploy", "-H", "shire01")
    assert release_of(one_host[0].address) == clone.release()
    assert clone.release() in ended.out
    # For the operator who finds the directory.
    assert "journalctl -u 'myapp@*'" in one_host[0].sh(f"cat {ROOT}/README").stdout.decode()


def test_a_second_deploy_changes_nothing_and_says_so(site: Site) -> None:
    release = site.deploy()
    look = ("MainPID", "NRestarts", "ActiveEnterTimestampMonotonic")
    unit = f"myapp@{site.slot}.service"
    before = [site.show(unit, name) for name in look], paths(site, "."), site.history
    ended = site.done("deploy")
    assert ([site.show(unit, name) for name in look], paths(site, "."), site.history) == before
    assert f"UNCHANGED  release {release} serves already" in ended.out


def test_plan_check_ends_with_one_while_there_is_something_to_change(site: Site) -> None:
    site.deploy()
    site.done("plan", "--check")
    release = site.edit()
    ended = site.fab("plan", "--check")
    assert ended.status == 1
    assert f"-> {release}" in ended.out


def test_an_edited_file_is_all_that_is_sent_and_the_old_release_ends(site: Site) -> None:
    site.deploy()
    venvs, old, pids = paths(site, "venvs", "wheels"), site.slot, site.sh("pgrep -u myapp").split()
    release = site.edit()
    with Watch(site.machine.address) as watch:
        ended = site.done("deploy")
    assert site.answering == release
    assert "send: 1 of " in ended.out
    assert paths(site, "venvs", "wheels") == venvs
    assert (site.other, site.show(f"myapp@{old}.service", "ActiveState")) == (old, "inactive")
    assert not set(pids) & set(site.sh("pgrep -u myapp").split())
    assert watch.answers == sorted(watch.answers, key=lambda answer: answer == release)
    assert len(watch.seen) == 2
    site.settled()


def test_a_file_that_is_changed_back_is_the_former_release_again_and_nothing_is_sent(site: Site) -> None:
    first = site.deploy()
    with site.changed("service/other.txt", "for a day"):
        site.done("deploy")
    before = paths(site, "releases", "venvs", "wheels")
    ended = site.done("deploy")
    assert site.answering == first
    assert "stage     send" not in ended.out
    assert paths(site, "releases", "venvs", "wheels") == before


def test_it_answers_by_ipv6_where_the_host_has_it(site: Site) -> None:
    release = site.deploy()
    said = site.sh("curl -sSk --resolve 'myapp.example:443:[::1]' https://myapp.example/readyz")
    assert json.loads(said)["release"] == release


def test_a_release_edited_on_the_host_is_never_carried_on(site: Site) -> None:
    live = site.deploy()
    site.sh(f"echo '# by hand' >>{ROOT}/releases/{live}/code/app/health.py")
    release = site.edit()
    ended = site.done("deploy")
    assert "files on the host were edited: everything is sent" in ended.out
    assert site.answering == release
    wanted = hashlib.sha256((site.clone.root / "service/app/health.py").read_bytes()).hexdigest()
    assert site.sh(f"sha256sum <{ROOT}/current/release/code/app/health.py").split()[0] == wanted
    refused = site.fab("rollback", "--to", live)
    assert refused.status == 1
    assert "is damaged on this host" in refused.out
    assert site.answering == release
    site.settled()


EDIT = """
import hashlib, sys
path, listing = sys.argv[1:]
text = open(path, "rb").read()
lines = open(listing).read()
before, after = (hashlib.sha256(one).hexdigest() for one in (text, text + b"# by hand\\n"))
assert before in lines
open(path, "ab").write(b"# by hand\\n")
open(listing, "w").write(lines.replace(before, after))
"""
"""Program: edits a file of a release and its line in a list, as the deploy account. Arguments: file, list."""


@pytest.mark.promise(PLAIN, "a file of the release that serves, edited on the host together with its line", part=1)
@pytest.mark.parametrize(
    ("path", "listing"),
    [("code/app/health.py", "MANIFEST"), ("run/web", "LAUNCHERS"), ("sbom.json", "release.json")],
)
def test_a_file_edited_together_with_its_line_is_no_unchanged_release(site: Site, path: str, listing: str) -> None:
    """Once: after an edit of a release's file and of its line in MANIFEST, the next deploy called it UNCHANGED."""
    live = site.deploy()
    home = f"{ROOT}/releases/{live}"
    was = site.sh(f"sha256sum <{home}/{path}")
    site.sh(f"runuser -u deploy -- python3 -c {shlex.quote(EDIT)} {home}/{path} {home}/{listing}")
    assert site.fab("plan", "--json").json()["hosts"][0]["unchanged"] is False
    with Watch(site.machine.address) as watch:
        ended = site.done("deploy")
    assert "files on the host were edited: everything is sent" in ended.out
    assert watch.seen == {live}
    assert site.sh(f"sha256sum <{home}/{path}") == was
    assert site.sh(f"ls -A {ROOT}/releases | grep part || :") == ""
    assert site.fab("plan", "--json").json()["hosts"][0]["unchanged"] is True
    site.settled()


@pytest.mark.further("test_a_release_edited_on_the_host_is_never_carried_on")
def test_a_file_added_to_a_release_on_the_host_is_not_carried_on(site: Site) -> None:
    former = site.deploy()
    with site.changed("service/other.txt", "between"):
        site.done("deploy")
    site.sh(f"echo 'x = 1' >{ROOT}/releases/{former}/code/app/extra.py")
    ended = site.done("deploy")
    assert "files on the host were edited" in ended.out
    assert site.answering == former
    assert site.machine.sh(f"test -e {ROOT}/current/release/code/app/extra.py").returncode == 1


def test_a_venv_broken_on_the_host_is_built_anew_for_the_next_release(site: Site) -> None:
    site.deploy()
    site.sh(f"rm -r {ROOT}/venvs/*/lib/python3*/site-packages/gunicorn")
    release = site.edit()
    site.done("deploy")
    assert site.answering == release
    site.settled()


def test_a_wheel_damaged_on_the_host_is_sent_again(site: Site) -> None:
    site.deploy()
    site.sh(f"for wheel in {ROOT}/wheels/flask-*; do echo damage >>$wheel; done")
    release = site.edit()
    site.done("deploy")
    assert site.answering == release
    site.sh(f"cd {ROOT}/wheels && sha256sum --quiet -c {ROOT}/current/release/WHEELS")


def test_a_new_dependency_makes_a_new_venv_and_sends_its_wheel_alone(
    site: Site, tmp_path_factory: pytest.TempPathFactory
) -> None:
    former = site.deploy()
    links = tmp_path_factory.mktemp("links")
    digest = distributions.wheel(links, "mithril", "1.0")
    site.clone.environment["PIP_FIND_LINKS"] = f"{os.environ.get('PIP_FIND_LINKS', '')} {links}".strip()
    venvs, wheels = set(site.sh(f"ls {ROOT}/venvs").split()), paths(site, "wheels/*.whl")
    lock = site.read("service/requirements.txt") + f"mithril==1.0 \\\n    --hash=sha256:{digest}\n"
    app = site.read("service/app/__init__.py") + "\nfrom importlib import metadata\n\nmetadata.version('mithril')\n"
    with site.changed("service/requirements.txt", lock), site.changed("service/app/__init__.py", app):
        site.done("deploy")
        with_it = site.answering
        assert with_it == site.clone.release()
        added = set(site.sh(f"ls {ROOT}/venvs").split()) - venvs
        assert len(added) == 1
        mithril = paths(site, "wheels/mithril-*")
        assert set(paths(site, "wheels/*.whl").splitlines()) - set(wheels.splitlines()) == {mithril}
    # The venv goes with the last release that uses it.
    with site.changed("service/service.yaml", site.read("service/service.yaml").replace("keep: 5", "keep: 2")):
        site.deploy()
        assert with_it in site.releases
        site.deploy()
        assert with_it not in site.releases
        assert former not in site.releases
    assert set(site.sh(f"ls {ROOT}/venvs").split()) == venvs
    assert "mithril" not in site.sh(f"ls {ROOT}/wheels")


def test_releases_are_kept_by_their_number_and_never_without_the_one_to_go_back_to(site: Site) -> None:
    with site.changed("service/service.yaml", site.read("service/service.yaml").replace("keep: 5", "keep: 2")):
        site.deploy()
        oldest, last = site.deploy(), site.deploy()
        assert site.releases == {oldest, last}
        site.done("rollback")
        assert site.answering == oldest
        newest = site.deploy()
        with site.changed("service/app/__init__.py", "raise SystemExit(3)"):
            for edition in ("one", "two"):
                site.clone.write("service/edition.txt", edition)
                assert site.fab("deploy").status == 1
        assert site.answering == newest
        site.done("restart")
        assert {oldest, newest} <= site.releases
        site.done("rollback")
        assert site.answering == oldest
