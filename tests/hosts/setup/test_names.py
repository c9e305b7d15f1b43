"""The name of a service: files of that name on a host stay, and remove takes only what setup made."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.promises.words import NEIGHBOURS
from tests.support.clone import FAB, Clone, make
from tests.support.echo_service import deployed, put
from tests.support.git_repository import git
from tests.support.hosts import Hosts, MakeHosts


@pytest.fixture(scope="module")
def host(module_hosts: MakeHosts) -> Hosts:
    return module_hosts()


def sh(host: Hosts, command: str) -> str:
    ended = host[0].sh(command)
    assert ended.returncode == 0, (command, ended.stderr)
    return ended.stdout.decode()


NAMES = {
    "apt": ("true", "/etc/apt"),
    "wireguard": ("install -d -m 700 /etc/wireguard", "/etc/wireguard"),
    "www-data": ("true", "an account www-data"),
    "backup": ("true", "an account backup"),
    "users": ("true", "a group users"),
    "getty": ("true", "/getty@.service"),
    "legacy": ("true", "/usr/lib/tmpfiles.d/legacy.conf"),
    "stored": ("mkdir -p /var/lib/stored", "/var/lib/stored"),
    "theirs": ("mkdir -p /opt/apps/theirs", "/opt/apps/theirs"),
    "site": ("touch /etc/nginx/conf.d/site.conf", "/etc/nginx/conf.d/site.conf"),
    "olddb": (
        "printf '#!/bin/sh\n' >/etc/init.d/olddb; chmod +x /etc/init.d/olddb; systemctl daemon-reload",
        "/run/systemd/generator.late/olddb.service",
    ),
    "byhand": ("systemd-run -q --unit=byhand sleep 1000", "/run/systemd/transient/byhand.service"),
}


@pytest.mark.promise(NEIGHBOURS, "a service of a name that the host has already", part=1)
@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_the_host_has_is_refused_and_nothing_is_touched(host: Hosts, tmp_path: Path, name: str) -> None:
    """Once: with `name: apt`, remove deleted /etc/apt; with `name: getty`, setup replaced a unit of systemd."""
    prepare, told = NAMES[name]
    sh(host, prepare)
    clone = put(make(tmp_path, host.inventory), name=name)
    look = "find /etc /opt /var/lib -xdev ! -path '/var/lib/systemd*' -printf '%p %m %u %g %T@\\n' | sort"
    before = sh(host, look)
    for verb in (("setup", "-H", "shire01", "--as", "root"), ("deploy", "-H", "shire01")):
        ended = clone.fab(*verb)
        assert ended.status == 1
        assert "setup did not make it" in ended.out, ended.out[-700:]
        assert told in ended.out
        assert sh(host, look) == before
    ended = clone.fab("remove", "-H", "shire01", "--yes", "--data")
    assert ended.status == 1
    assert "was not set up on this host" in ended.out
    assert sh(host, look) == before


@pytest.mark.promise(NEIGHBOURS, "remove takes what the record names", part=2)
def test_remove_leaves_the_data_and_its_account_and_the_next_setup_takes_them_again(
    host: Hosts, tmp_path: Path
) -> None:
    clone = deployed(make(tmp_path, host.inventory), host, name="shop", nginx=None, listen="127.0.0.1:8081")
    sh(host, "echo precious >/var/lib/shop/data; chown shop /var/lib/shop/data")
    ended = clone.done("remove", "-H", "shire01", "--yes")
    assert sh(host, "ls -d /opt/apps/shop /run/shop /etc/systemd/system/shop* 2>/dev/null || :") == ""
    assert "its data stays in /var/lib/shop" in ended.out
    assert sh(host, "cat /var/lib/shop/data; id -u shop") != ""
    clone.done("deploy", "-H", "shire01")
    assert sh(host, "cat /var/lib/shop/data") == "precious\n"
    nested = "i=0; while [ $i -lt 1500 ]; do mkdir d && cd -P d || exit 1; i=$((i + 1)); done"
    sh(host, f"runuser -u shop -- sh -c 'cd /var/lib/shop && {nested}'")
    clone.done("remove", "-H", "shire01", "--yes", "--data")
    assert sh(host, "ls -d /opt/apps/shop /run/shop /etc/shop /var/lib/shop 2>/dev/null || :") == ""
    assert host[0].sh("id shop").returncode != 0
    assert clone.fab("remove", "-H", "shire01", "--yes").status == 1


@pytest.mark.promise(NEIGHBOURS, "remove takes what the record names", part=2)
@pytest.mark.parametrize("before", ["secret", "data"])
def test_remove_takes_nothing_of_a_program_that_came_later(host: Hosts, tmp_path: Path, before: str) -> None:
    """Once: where only a secret or the data was ours, it stopped another's unit, and removed its directories."""
    name = f"barn{before}"
    clone = put(make(tmp_path, host.inventory), name=name, nginx=None, listen="127.0.0.1:8084", secrets=["API_TOKEN"])
    give = [str(FAB), "secrets.set", "API_TOKEN", "-H", "shire01"]
    subprocess.run(
        give, input=b"x", cwd=clone.root, env=clone.variables(), check=True, capture_output=True, timeout=300
    )
    if before == "data":
        clone.done("deploy", "-H", "shire01")
        clone.done("remove", "-H", "shire01", "--yes")
    unit = "[Service]\\nExecStart=/bin/sleep 1000\\nRuntimeDirectory=%%N\\n"
    sh(host, f"printf '{unit}' >/etc/systemd/system/{name}.service; systemctl daemon-reload; systemctl start {name}")
    sh(host, f"mkdir -p /opt/apps/{name}; touch /opt/apps/{name}/theirs /run/{name}/theirs /etc/{name}/theirs")
    removed = clone.done("remove", "-H", "shire01", "--yes", "--data")
    assert f"/etc/{name} has other files, and stays" in removed.both
    assert sh(host, f"systemctl is-active {name}; ls /opt/apps/{name} /run/{name} /etc/{name}").split()[0::2] == [
        "active", "theirs", "theirs", "theirs",
    ]  # fmt: skip
    sh(host, f"systemctl stop {name}; rm -r /etc/systemd/system/{name}.service /opt/apps/{name}")


@pytest.mark.promise(NEIGHBOURS, "a process whose unit the host has already")
def test_a_process_whose_unit_is_there_already_is_refused_whatever_the_operator_says(
    host: Hosts, tmp_path: Path
) -> None:
    clone = deployed(make(tmp_path, host.inventory), host, name="mill", nginx=None, listen="127.0.0.1:8083")
    sh(host, "printf '[Service]\\nExecStart=/bin/true\\n' >/etc/systemd/system/mill-theirs@.service")
    put(clone, name="mill", nginx=None, listen="127.0.0.1:8083", processes={"theirs": {"command": "sleep infinity"}})
    ended = clone.fab("setup", "-H", "shire01", "--overwrite")
    assert ended.status == 1
    assert "setup did not make it: /etc/systemd/system/mill-theirs@.service" in ended.out
    assert "/bin/true" in sh(host, "cat /etc/systemd/system/mill-theirs@.service")


@pytest.mark.promise(NEIGHBOURS, "remove takes what the record names", part=2)
def test_an_account_that_cannot_be_removed_is_still_known_as_ours(host: Hosts, tmp_path: Path) -> None:
    clone = deployed(make(tmp_path, host.inventory), host, name="inn", nginx=None, listen="127.0.0.1:8085")
    sh(host, "mkdir -p /var/lib/systemd/linger; touch /var/lib/systemd/linger/inn")
    sh(host, "systemd-run -q --unit=left -p User=inn sleep 600")
    sh(host, "printf '#!/bin/sh\nexit 8\n' >/usr/local/sbin/userdel; chmod 755 /usr/local/sbin/userdel")
    try:
        ended = clone.done("remove", "-H", "shire01", "--yes", "--data")
        assert "userdel did not remove the account inn" in ended.both
        assert sh(host, "ps -U inn -o pid= || :; ls /var/lib/systemd/linger") == ""
        assert "made user inn\n" in sh(host, "cat /etc/inn/setup")
    finally:
        sh(host, "rm /usr/local/sbin/userdel")
    # Neither the next setup nor the next remove takes the account for another owner's.
    clone.done("deploy", "-H", "shire01")
    clone.done("remove", "-H", "shire01", "--yes", "--data")
    assert host[0].sh("id inn").returncode != 0
    assert sh(host, "ls -d /etc/inn /var/lib/inn 2>/dev/null || :") == ""


APT = """#!/bin/sh
# A mirror whose packages are known once their list was fetched.
case "$*" in
  *update) touch /run/fetched ;;
  *install*) test -e /run/fetched && mv /usr/bin/curl.away /usr/bin/curl ;;
esac
"""


def test_a_fresh_machine_gets_its_packages_after_the_lists_of_them(host: Hosts, tmp_path: Path) -> None:
    host[0].sh("tee /usr/local/sbin/apt-get >/dev/null && chmod 755 /usr/local/sbin/apt-get", APT.encode())
    sh(host, "mv /usr/bin/curl /usr/bin/curl.away")
    try:
        clone = put(make(tmp_path, host.inventory), name="fresh", nginx=None, listen="127.0.0.1:8084")
        assert "packages: curl" in clone.done("setup", "-H", "shire01").out
    finally:
        host[0].sh("rm -f /usr/local/sbin/apt-get; test ! -e /usr/bin/curl.away || mv /usr/bin/curl.away /usr/bin/curl")


def own_origin(clone: Clone, address: str) -> Clone:
    git(clone.root, "remote", "add", "origin", address)
    return clone


@pytest.mark.promise(NEIGHBOURS, "two clones of one name")
def test_another_clone_of_that_name_is_told_whose_service_it_would_replace(host: Hosts, tmp_path: Path) -> None:
    """Once: a clone without a git remote replaced the service of one that has a remote."""
    first = own_origin(make(tmp_path / "first", host.inventory), "https://ann:token@git.example/first.git?x=1")
    deployed(first, host, name="twice", nginx=None, listen="127.0.0.1:8082")
    assert "origin https://git.example/first.git\n" in sh(host, "cat /etc/twice/setup")
    other = own_origin(make(tmp_path / "other", host.inventory), "git@git.example:other.git")
    put(other, name="twice", nginx=None, listen="127.0.0.1:8082")
    before = sh(host, "cat /etc/twice/setup; readlink /opt/apps/twice/current")
    for verb in ("plan", "deploy", "setup"):
        ended = other.fab(verb, "-H", "shire01")
        assert ended.status == 1
        assert "the service of another clone: https://git.example/first.git, set up by" in ended.both
        assert "--take-over" in ended.both
    assert sh(host, "cat /etc/twice/setup; readlink /opt/apps/twice/current") == before
    other.done("deploy", "-H", "shire01", "--take-over")
    assert "origin git@git.example:other.git\n" in sh(host, "cat /etc/twice/setup")
    assert first.fab("deploy", "-H", "shire01").status == 1
    # A clone without a remote differs from the clone whose remote is in the record.
    git(first.root, "remote", "remove", "origin")
    for verb in ("plan", "deploy", "setup"):
        ended = first.fab(verb, "-H", "shire01")
        assert (ended.status, "the service of another clone: git@git.example:other.git" in ended.both) == (1, True)
    first.done("setup", "-H", "shire01", "--take-over")
    assert "origin" not in sh(host, "cat /etc/twice/setup")
    first.done("deploy", "-H", "shire01")
