"""The deploying account: plain root, one without sudo, one whose sudo asks, and shells that print."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.promises.words import ACCESS
from tests.support.clone import Clone
from tests.support.fleet import Fleet, undeployed
from tests.support.front_door import release_of
from tests.support.hosts import Hosts, MakeHosts
from tests.support.ssh_access import SECONDS
from tests.support.stand_ins import entries, write_inventory

ROOT = "/opt/apps/myapp"


def pristine(hosts: MakeHosts, folder: Path) -> Fleet:
    return undeployed(hosts, folder, 1)


@pytest.mark.promise(ACCESS, "root itself, and no sudo")
def test_plain_root_deploys_and_everything_is_roots(clone: Clone, one_host: Hosts, tmp_path: Path) -> None:
    (host,) = entries(one_host.inventory).values()
    clone.inventory = write_inventory(tmp_path / "root.yaml", {"shire01": {**host, "user": "root"}})
    (machine,) = one_host.machines
    machine.sh("chmod 000 /usr/bin/sudo /usr/sbin/visudo")
    clone.done("deploy")
    assert release_of(machine.address) == clone.release()
    assert machine.sh(f"find {ROOT} ! -user root").stdout == b""
    assert machine.sh("systemctl show -p User --value myapp@blue.service").stdout == b"myapp\n"
    assert machine.sh("test -e /etc/sudoers.d/myapp").returncode != 0
    clone.done("restart")
    assert clone.done("doctor").out.startswith("shire01  ready\n")


@pytest.mark.promise(ACCESS, "an account without sudo")
def test_an_account_without_sudo_deploys_after_root_has_set_the_host_up(hosts: MakeHosts, tmp_path: Path) -> None:
    fleet = pristine(hosts, tmp_path)
    fleet.sh(0, "find /etc/sudoers.d -type f ! -name README -delete")
    before = fleet.sh(0, "ls -A /etc/systemd/system /etc/nginx/conf.d /opt /etc/sudoers.d")
    began = time.monotonic()
    ended = fleet.clone.fab("deploy")
    assert time.monotonic() - began < SECONDS
    assert ended.status == 1
    assert "deploy ALL=(ALL) NOPASSWD: ALL" in ended.out
    assert "fab setup -H shire01 --as root" in ended.out
    assert fleet.sh(0, "ls -A /etc/systemd/system /etc/nginx/conf.d /opt /etc/sudoers.d") == before

    fleet.clone.done("setup", "--as", "root")
    assert "(ALL" not in fleet.sh(0, "sudo -l -U deploy")
    fleet.clone.done("deploy")
    assert fleet.answering == [fleet.clone.release()]
    assert fleet.sh(0, f"find {ROOT} ! -user deploy") == ""


@pytest.mark.promise(ACCESS, "a login that prints, and sets what it likes", part=2)
def test_a_login_shell_may_talk_and_trap_and_need_not_be_bash(hosts: MakeHosts, tmp_path: Path) -> None:
    fleet = pristine(hosts, tmp_path)
    noise = "echo 'forged {\"report\": \"end\"}'; printf 'no end of line'"
    noise += "; trap 'echo bye' EXIT DEBUG; cd /tmp; umask 077; set -u"
    fleet.sh(0, f"cat >/home/deploy/.bashrc <<'END'\n{noise}\nEND\ncp /home/deploy/.bashrc /home/deploy/.profile")
    fleet.clone.done("deploy")
    assert fleet.answering == [fleet.clone.release()]
    fleet.clone.done("status")
    fleet.sh(0, "rm /home/deploy/.bashrc /home/deploy/.profile; usermod -s /bin/dash deploy")
    new = fleet.edit()
    fleet.clone.done("deploy")
    assert fleet.answering == [new]
    fleet.sh(0, "usermod -s /usr/sbin/nologin deploy")
    refused = fleet.clone.fab("status")
    assert refused.status == 1
    assert "Traceback" not in refused.err
    assert "not available" in refused.err


def test_the_rules_of_an_account_go_when_root_deploys_in_its_place(hosts: MakeHosts, tmp_path: Path) -> None:
    fleet = pristine(hosts, tmp_path)
    fleet.clone.done("setup")
    fleet.sh(0, "test -s /etc/sudoers.d/myapp")
    assert fleet.clone.inventory
    (host,) = entries(fleet.clone.inventory).values()
    fleet.clone.inventory = write_inventory(tmp_path / "root.yaml", {"shire01": {**host, "user": "root"}})
    fleet.clone.done("setup")
    fleet.sh(0, "test ! -e /etc/sudoers.d/myapp && visudo -c -q")


@pytest.mark.further("tests/hosts/setup/test_handover.py::test_nothing_that_a_former_account_could_edit_is_taken_over")
def test_another_account_takes_over_what_the_former_one_owned_and_nothing_it_planted(
    clone: Clone, one_host: Hosts, tmp_path: Path
) -> None:
    clone.inventory = one_host.inventory
    clone.done("deploy")
    (machine,) = one_host.machines
    (host,) = entries(one_host.inventory).values()
    clone.inventory = write_inventory(tmp_path / "root.yaml", {"shire01": {**host, "user": "root"}})
    plant = f"echo mine >/root/notes && mv {ROOT}/README {ROOT}/kept && su deploy -c 'ln -s /root/notes {ROOT}/README'"
    assert machine.sh(plant).returncode == 0
    ended = clone.fab("setup")
    assert ended.status == 1
    assert f"{ROOT}/README is a symbolic link, and none of ours" in ended.out
    assert machine.sh("cat /root/notes").stdout == b"mine\n"
    machine.sh(f"rm {ROOT}/README")
    clone.done("setup")
    assert machine.sh(f"find {ROOT} ! -user root").stdout == b""
    clone.done("restart")
    assert release_of(machine.address) == clone.release()
