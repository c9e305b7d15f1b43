"""Drift on a real host: every file of ours that was edited is named, and kept before it is overwritten."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.clone import Clone, make
from tests.support.front_door import release_of
from tests.support.hosts import Hosts, MakeHosts

NGINX = "/etc/nginx/conf.d/myapp.conf"
UNITS = "/etc/systemd/system"
COPIES = "/var/backups/integrators-loop/myapp"


@pytest.fixture(scope="module")
def deployed(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> tuple[Clone, Hosts]:
    hosts = module_hosts()
    clone = make(tmp_path_factory.mktemp("drift"), hosts.inventory)
    clone.replace("service/service.yaml", "settle: 2", "settle: 0.5")
    clone.done("deploy", "-H", "shire01")
    return clone, hosts


@pytest.fixture
def site(deployed: tuple[Clone, Hosts]) -> Iterator[tuple[Clone, Hosts]]:
    """The host without drift, before and after."""
    clone, hosts = deployed
    yield deployed
    sh(hosts, f"rm -rf {UNITS}/myapp*.d {UNITS}/myapp-stray.service {COPIES}")
    clone.done("setup", "-H", "shire01", "--overwrite")
    sh(hosts, f"systemctl daemon-reload; rm -rf {COPIES}")
    assert clone.fab("drift", "-H", "shire01").status == 0


def sh(hosts: Hosts, command: str) -> str:
    ended = hosts[0].sh(command)
    assert ended.returncode == 0, (command, ended.stdout, ended.stderr)
    return ended.stdout.decode()


def drift(clone: Clone, *words: str) -> dict[str, Any]:
    """Return path to finding."""
    document = clone.fab("drift", "-H", "shire01", "--json", *words).json()
    return {one["path"]: one for one in document["hosts"][0]["findings"]}


def kinds(clone: Clone, *words: str) -> dict[str, str]:
    return {path: one["kind"] for path, one in drift(clone, *words).items() if one["drift"]}


def test_a_host_as_we_left_it_has_no_drift(site: tuple[Clone, Hosts]) -> None:
    ended = site[0].fab("drift", "-H", "shire01")
    assert (ended.status, ended.out) == (
        0,
        "shire01  unreadable  /etc/sudoers.d/myapp: this account may not read it\nshire01  no drift\n",
    )


def test_every_kind_of_change_is_named(site: tuple[Clone, Hosts]) -> None:
    clone, hosts = site
    sh(
        hosts,
        f"sed -i 's/20m/21m/' {NGINX}; printf '# x\\n' >>/etc/sudoers.d/myapp; rm /etc/tmpfiles.d/myapp.conf;"
        f"mkdir {UNITS}/myapp@.service.d; printf '[Service]\\nNice=5\\n' >{UNITS}/myapp@.service.d/nice.conf;"
        f"printf '[Service]\\nExecStart=/bin/true\\n' >{UNITS}/myapp-stray.service;"
        f"rm {UNITS}/myapp-hook@.service; ln -s /dev/null {UNITS}/myapp-hook@.service; systemctl daemon-reload",
    )
    assert kinds(clone, "--as", "root") == {
        NGINX: "edited",
        "/etc/sudoers.d/myapp": "edited",
        "/etc/tmpfiles.d/myapp.conf": "missing",
        f"{UNITS}/myapp@.service.d/nice.conf": "drop-in",
        f"{UNITS}/myapp-stray.service": "extra",
        f"{UNITS}/myapp-hook@.service": "masked",
    }
    found = drift(clone)
    assert {
        f"{sign}    client_max_body_size {size}m;  # nginx.max_body" for sign, size in (("-", 20), ("+", 21))
    } <= set(found[NGINX]["diff"])
    assert "+Nice=5" in found[f"{UNITS}/myapp@.service.d/nice.conf"]["diff"]
    assert found[f"{UNITS}/myapp@.service.d/nice.conf"]["text"] == "it adds to myapp@blue.service, myapp@green.service"
    assert clone.fab("drift", "-H", "shire01").status == 1


def test_a_host_that_was_never_set_up_is_told_apart_from_one_without_drift(deployed: tuple[Clone, Hosts]) -> None:
    clone = deployed[0]
    clone.replace("service/service.yaml", "name: myapp ", "name: other ")
    try:
        ended = clone.fab("drift", "-H", "shire01")
    finally:
        clone.replace("service/service.yaml", "name: other ", "name: myapp ")
    assert (ended.status, "absent  /etc/other/setup: the host was never set up for other" in ended.out) == (0, True)


def test_a_unit_that_systemd_has_not_read_again_is_told(site: tuple[Clone, Hosts]) -> None:
    clone, hosts = site
    hook = f"{UNITS}/myapp-hook@.service.d"
    sh(hosts, f"mkdir {hook}; printf '[Service]\\nNice=5\\n' >{hook}/nice.conf; systemctl daemon-reload")
    assert kinds(clone) == {f"{hook}/nice.conf": "drop-in"}
    sh(hosts, f"rm -r {hook}; systemctl daemon-reload")
    sh(hosts, f"touch -d '+1 hour' {UNITS}/myapp.service")
    assert kinds(clone) == {f"{UNITS}/myapp.service": "stale"}
    sh(hosts, f"touch {UNITS}/myapp.service; systemctl daemon-reload")


def test_a_release_is_held_against_its_manifest_and_its_launchers(site: tuple[Clone, Hosts]) -> None:
    clone, hosts = site
    home = f"/opt/apps/myapp/releases/{release_of(hosts[0].address)}"
    sh(
        hosts,
        f"cp -a {home} /root/kept; rm {home}/code/service.yaml;"
        f"printf '# patched at night\\n' >>{home}/code/app/__init__.py;"
        f"touch '{home}/code/a b.py'; printf 'echo hi\\n' >>{home}/run/web; echo >>{home}/sbom.json;"
        f"rm {home}/venv; ln -s /tmp {home}/venv",
    )
    try:
        found = drift(clone)
    finally:
        sh(hosts, f"cp -a /root/kept/. {home}/; rm '{home}/code/a b.py' {home}/venv; cp -a /root/kept/venv {home}/")
    assert {path.removeprefix(home): one["kind"] for path, one in found.items() if one["drift"]} == {
        "/code/app/__init__.py": "edited",
        "/code/service.yaml": "missing",
        "/code/a b.py": "extra",
        "/run/web": "edited",
        "/sbom.json": "edited",
        "/venv": "linked",
    }
    assert found[f"{home}/code/app/__init__.py"]["diff"][-1] == "+# patched at night"
    assert found[f"{home}/run/web"]["diff"][-1] == "+echo hi"


def test_what_its_owner_has_closed_or_led_elsewhere_is_drift(site: tuple[Clone, Hosts]) -> None:
    clone, hosts = site
    root = "/opt/apps/myapp"
    home = f"{root}/releases/{release_of(hosts[0].address)}"
    for path, close, reopen in (
        (home, f"chmod 055 {home}", f"chmod 755 {home}"),
        (f"{root}/releases", f"chmod 050 {root}/releases", f"chmod 750 {root}/releases"),
    ):
        sh(hosts, close)
        try:
            assert kinds(clone, "--as", "root") == {path: "edited"}
        finally:
            sh(hosts, reopen)
    slot = sh(hosts, f"readlink {root}/current").strip()
    sh(hosts, f"mv {root}/{slot}/release {root}/kept; ln -s /srv {root}/{slot}/release")
    try:
        assert kinds(clone) == {f"{root}/{slot}/release": "linked"}
    finally:
        sh(hosts, f"rm {root}/{slot}/release; mv {root}/kept {root}/{slot}/release")


def test_hostile_bytes_of_an_edited_file_do_not_reach_the_terminal(site: tuple[Clone, Hosts]) -> None:
    clone, hosts = site
    sh(hosts, f"printf '# \\033[2J\\302\\233 \\342\\200\\256\\n' >>{NGINX}")
    out = clone.fab("drift", "-H", "shire01").out
    assert "+# \\x1b[2J\\x9b \\u202e" in out


def test_root_shows_nothing_that_the_deploy_account_has_only_linked_to(site: tuple[Clone, Hosts]) -> None:
    """Once: fab drift --as root showed the target of a planted link, even /etc/shadow."""
    clone, hosts = site
    hidden = "what root alone may read, and nobody else"
    sh(hosts, f"install -m 0600 /dev/null /root/secret; printf %s '{hidden}' >/root/secret")
    planted = sh(hosts, "readlink -f /opt/apps/myapp/current/release").strip() + "/code/planted"
    sh(hosts, f"runuser -u deploy -- ln -s /root/secret {planted}")
    try:
        shown = clone.fab("drift", "-H", "shire01", "--as", "root")
        assert planted in shown.both
        assert hidden not in shown.both
    finally:
        sh(hosts, f"rm {planted} /root/secret")


def test_a_newer_template_is_no_drift(site: tuple[Clone, Hosts]) -> None:
    clone, _ = site
    clone.replace("templates/nginx/proxy.conf", "Retry-After 120", "Retry-After 121")
    try:
        found = drift(clone)
        assert (found[NGINX]["kind"], found[NGINX]["drift"]) == ("outdated", False)
        assert clone.fab("drift", "-H", "shire01").status == 0
        plan = clone.done("plan", "-H", "shire01", "--json").json()["hosts"][0]["setup"]
        assert (plan["write"], plan["edited"]) == ([NGINX], [])
        ended = clone.done("setup", "-H", "shire01")
        assert "is kept as" not in ended.both
        assert hosts_copies(site) == ""
    finally:
        clone.replace("templates/nginx/proxy.conf", "Retry-After 121", "Retry-After 120")


def hosts_copies(site: tuple[Clone, Hosts]) -> str:
    return sh(site[1], f"find {COPIES} -type f 2>/dev/null || true")


@pytest.mark.parametrize("verb", ["setup", "deploy"])
def test_an_edited_file_is_announced_and_kept_before_it_is_overwritten(site: tuple[Clone, Hosts], verb: str) -> None:
    clone, hosts = site
    sh(hosts, f"sed -i 's/20m/21m/' {NGINX}")
    edited = sh(hosts, f"cat {NGINX}")
    plan = clone.done("plan", "-H", "shire01")
    assert f"write {NGINX}  (edited on the host: needs --overwrite, which keeps a copy)" in plan.out
    assert "setup (needs root)" in plan.out
    for sign, size in (("-", 21), ("+", 20)):
        assert f"{sign}    client_max_body_size {size}m;  # nginx.max_body\n" in plan.out
    refused = clone.fab(verb, "-H", "shire01")
    assert refused.status == 1
    assert f"edited on this host since setup wrote it: {NGINX}" in refused.out
    assert "--overwrite" in refused.out
    assert (sh(hosts, f"cat {NGINX}"), hosts_copies(site)) == (edited, "")
    ended = clone.done(verb, "-H", "shire01", "--overwrite")
    copy = hosts_copies(site).strip()
    assert copy.startswith(f"{COPIES}{NGINX}.2")
    assert f"{NGINX} was not as setup wrote it; a copy is kept as {copy}" in ended.both
    assert sh(hosts, f"cat {copy}") == edited
    assert sh(hosts, f"stat -c '%a %U:%G' {copy}") == "600 root:root\n"
    assert clone.fab("drift", "-H", "shire01").status == 0
    assert "is kept as" not in clone.done(verb, "-H", "shire01").both


def test_ten_copies_of_a_file_are_kept_at_most(site: tuple[Clone, Hosts]) -> None:
    clone, hosts = site
    folder = f"{COPIES}/etc/nginx/conf.d"
    sh(hosts, f"mkdir -p {folder}; for n in $(seq 10 30); do touch {folder}/myapp.conf.202601${{n}}T000000Z; done")
    sh(hosts, f"touch {folder}/other.conf.20260101T000000Z; sed -i 's/20m/21m/' {NGINX}")
    clone.done("setup", "-H", "shire01", "--overwrite")
    names = sh(hosts, f"ls {folder}").split()
    assert len(names) == 11
    assert "other.conf.20260101T000000Z" in names
    assert "myapp.conf.20260121T000000Z" not in names
    assert "myapp.conf.20260122T000000Z" in names


def test_a_nginx_that_refuses_the_new_file_leaves_the_edited_one(site: tuple[Clone, Hosts]) -> None:
    clone, hosts = site
    sh(hosts, f"sed -i 's/20m/21m/' {NGINX}; echo 'nonsense;' >/etc/nginx/conf.d/zz-broken.conf")
    try:
        ended = clone.fab("setup", "-H", "shire01", "--overwrite")
        assert ended.status == 1
        assert "21m" in sh(hosts, f"cat {NGINX}")
        assert kinds(clone) == {NGINX: "edited"}
    finally:
        sh(hosts, "rm /etc/nginx/conf.d/zz-broken.conf")


def test_what_the_deploy_account_may_not_read_is_told_and_root_reads_it(site: tuple[Clone, Hosts]) -> None:
    clone, hosts = site
    sh(hosts, "printf '# x\\n' >>/etc/sudoers.d/myapp")
    found = drift(clone)["/etc/sudoers.d/myapp"]
    assert (found["kind"], found["drift"]) == ("unreadable", False)
    assert drift(clone, "--as", "root")["/etc/sudoers.d/myapp"]["kind"] == "edited"
