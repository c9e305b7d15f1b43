"""doctor: findings that would stop a deploy, each with its fix, and a status for scripts."""

from __future__ import annotations

import re

from tests.support.clone import Clone
from tests.support.echo_service import deployed, put
from tests.support.front_door import release_of
from tests.support.hosts import Hosts


def findings(clone: Clone, status: int) -> dict[str, str]:
    """Return the findings that stop a deploy: text to fix."""
    ended = clone.fab("doctor", "-H", "shire01", "--json")
    assert ended.status == status, ended.both
    (host,) = ended.json()["hosts"]
    assert [bool(one["mend"]) for one in host["findings"]] == [True] * len(host["findings"])
    return {one["text"]: one["mend"] for one in host["findings"] if one["stops"]}


def test_a_pristine_host_is_ready_for_who_has_sudo(clone: Clone, one_host: Hosts) -> None:
    clone.inventory = one_host.inventory
    put(clone)
    ended = clone.done("doctor", "-H", "shire01")
    assert "note" in ended.out
    assert "the next deploy sets it up" in ended.out
    one_host[0].sh("rm /etc/sudoers.d/*")
    (mend,) = findings(clone, 1).values()
    assert "--as root" in mend
    clone.done("setup", "-H", "shire01", "--as", "root")
    assert clone.done("doctor", "-H", "shire01").out.startswith("shire01  ready\n")
    clone.done("deploy", "-H", "shire01")


def test_a_host_that_was_set_up_is_ready_and_told_how_it_is_kept(clone: Clone, one_host: Hosts) -> None:
    deployed(clone, one_host)
    told = clone.done("doctor", "-H", "shire01").out
    assert told.startswith("shire01  ready\n")
    for text in (r"fine   security: systemd rates the slot 0\.[0-3] ", "fine   network: isolation is in force",
                 "fine   memory: a second release fits", "fine   clock: within [1-9] s",
                 r"fine   disk: 3 more releases fit: a release takes [0-9]+ MB, a venv [0-9]+ MB",
                 "fine   certificate: valid for 3[0-9]{3} days", "open   upgrades: no security updates"):  # fmt: skip
        assert re.search(f"^shire01  {text}", told, re.MULTILINE), told
    one_host[0].sh("touch /run/reboot-required")
    told = clone.done("doctor", "-H", "shire01").out
    assert "note   the host needs a reboot: /run/reboot-required is there" in told


def test_each_fault_is_named_with_what_mends_it(clone: Clone, one_host: Hosts) -> None:
    machine = one_host[0]
    deployed(clone, one_host)
    machine.sh("systemctl stop nginx")
    (fault,) = (text for text in findings(clone, 1) if "nginx" in text)
    assert findings(clone, 1)[fault] == "on the host: systemctl start nginx"
    machine.sh("systemctl start nginx")
    conf = "/etc/nginx/conf.d/myapp.conf"
    machine.sh(f"sed -i.kept 's/listen 443/listen 127.0.0.1:443/' {conf} && systemctl restart nginx")
    put(clone, nginx={"server_name": ["localhost", "myapp.example"]})
    told = clone.done("doctor", "-H", "shire01").out
    assert f"port 443 of {machine.address} does not answer from this machine: Connection refused" in told
    assert re.search(rf"localhost leads to \S*127\.0\.0\.1.*, and this host is {machine.address}\n", told)
    assert "myapp.example" not in told
    machine.sh(f"mv {conf}.kept {conf} && systemctl restart nginx")
    put(clone, python=">=3.29")
    (fault,) = findings(clone, 1)
    assert re.search(r"no Python on the host fits >=3.29; it has /usr/bin/python3 \(3\.\d+", fault)
    assert clone.fab("deploy", "-H", "shire01").status == 1
    put(clone)
    served = release_of(machine.address)
    machine.sh("mount -t tmpfs -o size=100m tmpfs /opt/apps")
    (fault,) = (text for text in findings(clone, 1) if "MB are free" in text)
    machine.sh("umount /opt/apps")
    assert findings(clone, 0) == {}
    assert release_of(machine.address) == served


def test_a_worker_that_does_not_run_is_noted(clone: Clone, one_host: Hosts) -> None:
    deployed(clone, one_host, processes={"worker": {"command": "sleep infinity"}})
    one_host[0].sh("systemctl stop 'myapp-worker@*'")
    ended = clone.done("doctor", "-H", "shire01")
    assert "myapp-worker@blue.service is inactive" in ended.out
