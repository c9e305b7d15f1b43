"""The rights of the deploy account: exact rules, a sandboxed service, a root that follows no link."""

from __future__ import annotations

import json
import time

import pytest

from tasks.engine.host import system_files
from tests.promises.words import ACCESS
from tests.support.fleet import Fleet, deployed
from tests.support.front_door import ask
from tests.support.hosts import MakeHosts
from tests.support.nasty_texts import ACCOUNTS
from tests.support.small_service import SERVICE

ROOT = "/opt/apps/myapp"
VERBS = ("start", "stop", "restart", "reset-failed", "enable", "disable", "kill -s KILL")


@pytest.fixture(scope="module")
def fleet(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    """One host, set up and deployed, whose deploy account keeps only the rules that setup wrote."""
    made = deployed(module_hosts, tmp_path_factory.mktemp("rights"), 1)
    made.sh(0, "find /etc/sudoers.d -type f ! -name myapp ! -name README -delete; visudo -c -q")
    return made


def as_deploy(fleet: Fleet, command: str) -> int:
    """Run a command as the deploy account; return its status."""
    return int(fleet.hosts[0].sh(f"runuser -u deploy -- {command} </dev/null").returncode)


@pytest.mark.promise(ACCESS, "an account with the exact rules alone")
def test_every_day_needs_the_exact_rules_only(fleet: Fleet) -> None:
    clone, first = fleet.clone, fleet.answering
    second = fleet.edit()
    clone.done("deploy")
    assert fleet.answering == [second]
    clone.done("rollback")
    assert fleet.answering == first
    clone.done("restart")
    clone.done("stop")
    assert clone.fab("status").status == 1
    clone.done("start")
    clone.done("stop", "--disable")
    clone.done("start")
    assert fleet.answering == first
    clone.done("status")
    clone.done("doctor")
    assert "Booting worker" in clone.done("logs", "-n", "50").out


def test_the_rules_are_whole_commands_and_nothing_like_them_passes(fleet: Fleet) -> None:
    fleet.sh(0, "visudo -c -q")
    rules = [line.strip() for line in fleet.sh(0, "sudo -l -U deploy").splitlines() if "NOPASSWD" in line]
    assert rules
    for rule in rules:
        assert rule.startswith("(root) NOPASSWD: /usr/bin/systemctl ")
        words = rule.removeprefix("(root) NOPASSWD: /usr/bin/systemctl ")
        if words in {"stop system-myapp_run.slice", "stop system-myapp_run-health.slice"}:
            continue
        verb, unit, names = words.partition(" myapp")
        assert verb in VERBS
        assert all(name.startswith("myapp") for name in f"{unit}{names}".split())
        assert not set("*?[]!\\") & set(rule)
    assert as_deploy(fleet, "sudo -n /usr/bin/systemctl start myapp.service") == 0
    for refused in (
        "systemctl start ssh.service",
        "systemctl start myapp.service ssh.service",
        "systemctl start --now myapp.service",
        "systemctl --root=/tmp start myapp.service",
        "systemctl stop myapp@blue.service",
        "systemctl kill myapp@blue.service",
        "systemctl kill -s KILL ssh.service",
        "systemctl start myapp@../ssh.service",
        "systemctl edit myapp.service",
        "systemctl daemon-reload",
        "systemctl status myapp.service",
        "systemctl",
        "bash",
        "visudo",
        "-u myapp id",
        "-e /etc/sudoers.d/myapp",
    ):
        assert as_deploy(fleet, f"sudo -n {refused}") != 0, refused


@pytest.mark.promise(ACCESS, "an account with the exact rules alone")
def test_a_change_that_needs_root_is_said_before_anything_happens(fleet: Fleet) -> None:
    before, actions = fleet.answering, len(fleet.history("shire01"))
    releases = fleet.sh(0, f"ls {ROOT}/releases")
    fleet.clone.replace("service/service.yaml", "\ndrain:", "\nneeds: [jit]\ndrain:")
    try:
        began = time.monotonic()
        fleet.clone.fab("plan")
        asked = time.monotonic()
        ended = fleet.clone.fab("deploy")
        took = time.monotonic() - asked
        assert ended.status == 1
        assert "this needs root once" in ended.out
        assert "/etc/systemd/system/myapp@.service" in ended.out
        assert "fab setup -H shire01 --as root" in ended.out
        assert "deploy ALL=(ALL) NOPASSWD: ALL" in ended.out
        # fab waits for no password: at worst it takes 5 s more than a look at the host; the rest is for a busy machine.
        assert took < asked - began + 15
        assert (fleet.answering, len(fleet.history("shire01"))) == (before, actions)
        assert fleet.sh(0, f"ls {ROOT}/releases") == releases
        assert "+MemoryDenyWriteExecute=no" in fleet.clone.done("plan").out
        assert fleet.clone.fab("doctor").status == 1

        fleet.clone.done("setup", "--as", "root")
        assert "needs root" not in fleet.clone.done("deploy").out
        assert fleet.answering == [fleet.clone.release()]
    finally:
        fleet.clone.replace("service/service.yaml", "\nneeds: [jit]", "")
        fleet.clone.done("setup", "--as", "root")


def test_full_sudo_just_does_it(fleet: Fleet) -> None:
    rule = "echo 'deploy ALL=(ALL) NOPASSWD: ALL' | install -m 440 /dev/stdin /etc/sudoers.d/zz-full"
    fleet.sh(0, rule)
    fleet.clone.replace("service/service.yaml", "\ndrain:", "\nneeds: [proc]\ndrain:")
    try:
        ended = fleet.clone.done("deploy")
        assert "write: /etc/systemd/system/myapp@.service" in ended.out
        assert fleet.sh(0, "systemctl show -p ProcSubset --value myapp@blue.service").strip() == "all"
    finally:
        fleet.clone.replace("service/service.yaml", "\nneeds: [proc]", "")
        fleet.clone.done("setup")
        fleet.sh(0, "rm /etc/sudoers.d/zz-full")


def test_the_unit_is_hardened_while_it_serves(fleet: Fleet) -> None:
    slot = fleet.sh(0, f"basename $(readlink {ROOT}/current)").strip()
    shown = fleet.sh(0, f"systemd-analyze security --no-pager myapp@{slot}.service | tail -n 1")
    assert ask(fleet.hosts[0].address).status == 200
    assert float(shown.split(":")[1].split()[0]) <= 1.0, shown
    # systemd's rating applies to the running process.
    for process in fleet.sh(0, f"systemctl show -p MainPID --value myapp@{slot}.service").split():
        status = fleet.sh(0, f"cat /proc/{process}/status")
        assert "NoNewPrivs:\t1" in status
        assert "CapEff:\t0000000000000000" in status
        assert "Seccomp:\t2" in status


def test_the_service_reads_its_release_and_writes_nothing_of_it(fleet: Fleet) -> None:
    fleet.sh(0, "install -m 600 /dev/null /etc/myapp/secret")
    service = "runuser -u myapp --"
    places = f"{ROOT} /etc/myapp /etc/systemd /run/myapp /etc/nginx"
    writable = fleet.sh(0, f"{service} find {places} -writable ! -type l ! -type s 2>/dev/null; true")
    assert writable == ""
    for secret in (
        "/etc/myapp/secret",
        "/etc/myapp/tls/key.pem",
        "/etc/myapp/check/live",
        "/etc/myapp/check/map",
        "/etc/shadow",
        "/etc/sudoers.d/myapp",
        "/home/deploy/.ssh/authorized_keys",
    ):
        assert fleet.hosts[0].sh(f"test -e {secret}").returncode == 0, secret
        assert fleet.hosts[0].sh(f"{service} cat {secret}").returncode != 0, secret
    owners = fleet.sh(
        0,
        f"find {ROOT} ! -user deploy; find /etc/myapp /etc/systemd/system/myapp* /etc/sudoers.d/myapp ! -user root"
        " ! '(' -path '/etc/myapp/check/*' -user deploy -perm 400 ')'",
    )
    assert owners == ""


# Paths that the account could replace by links; together, as long as one does not end the run early.
LINKS = [
    {"README": "/etc/precious/file"},
    {"history.jsonl": "/etc/precious/file", "current": "/etc/precious",
     "releases": "/etc/precious", "venvs": "/etc/precious", "wheels": "/etc/precious"},
    {"slots": "/etc/precious"},
    {"slots/blue": "/etc/precious"},
]  # fmt: skip


AS_ROOT = pytest.param(["--as", "root"], marks=pytest.mark.further("test_root_follows_no_link_of_the_deploy_account"))


@pytest.mark.parametrize("as_root", [AS_ROOT, []], ids=["as root", "with sudo"])
def test_root_follows_no_link_of_the_deploy_account(fleet: Fleet, as_root: list[str]) -> None:
    if not as_root:
        fleet.sh(0, "echo 'deploy ALL=(ALL) NOPASSWD: ALL' | install -m 440 /dev/stdin /etc/sudoers.d/zz-full")
    fleet.sh(
        0, f"rm -rf /etc/precious; mkdir /etc/precious && echo keep >/etc/precious/file && cp -a {ROOT} /root/kept"
    )
    look = "find /etc/precious -printf '%p %u %g %m %s %T@\\n'; cat /etc/precious/file"
    before = fleet.sh(0, look)
    try:
        for links in LINKS:
            for name, target in links.items():
                fleet.sh(0, f"runuser -u deploy -- sh -c 'rm -rf {ROOT}/{name}; ln -s {target} {ROOT}/{name}'")
            ended = fleet.clone.fab("setup", *as_root)
            assert "Traceback" not in ended.err
            assert fleet.sh(0, look) == before, f"{links}: {ended.both}"
            fleet.sh(0, f"rm -rf {ROOT} && cp -a /root/kept {ROOT}")
        # Nor can the account replace its own directory.
        assert fleet.hosts[0].sh(f"runuser -u deploy -- mv {ROOT} {ROOT}.away").returncode != 0
    finally:
        fleet.sh(0, f"rm -rf {ROOT} /etc/sudoers.d/zz-full && mv /root/kept {ROOT}")
    fleet.clone.done("restart")


def test_the_rules_of_an_account_are_that_accounts_alone(fleet: Fleet) -> None:
    others = ("other", "wheeler", "admin")
    adding = "; ".join(
        [f"getent passwd {name} >/dev/null || useradd --badname -M {name}" for name in (*ACCOUNTS, *others)]
    )
    fleet.sh(0, f"groupadd -f wheel; {adding}; usermod -aG wheel wheeler; mkdir -p /root/rules")
    for name in sorted(set(ACCOUNTS) - {"root"}):
        files = {
            file.path: file.text
            for file in system_files.render(SERVICE, system_files.HostTraits(name, "www-data", True))
        }
        text = files["/etc/sudoers.d/myapp"].encode()
        fleet.hosts[0].sh("install -m 440 /dev/stdin /root/rules/one", text)
        told = fleet.hosts[0].sh("visudo -c -s -f /root/rules/one")
        assert told.returncode == 0, (name, told.stdout + told.stderr)
        users = json.loads(fleet.sh(0, "cvtsudoers -f json /root/rules/one"))["User_Specs"]
        assert {json.dumps(user) for spec in users for user in spec["User_List"]} == {json.dumps({"username": name})}
        fleet.hosts[0].sh("install -m 440 /dev/stdin /etc/sudoers.d/tried", text)
        try:
            assert "/usr/bin/systemctl start myapp.service" in fleet.sh(0, f"sudo -l -U '{name}'")
            for other in others:
                assert "is not allowed to run sudo" in fleet.sh(0, f"sudo -l -U {other}")
        finally:
            fleet.sh(0, "rm /etc/sudoers.d/tried")


def test_who_removes_by_the_exact_rules_is_told_what_lets_it(fleet: Fleet) -> None:
    """Keep this test last: it removes the service from the host."""
    refused = fleet.clone.fab("remove", "-H", "shire01", "--yes")
    assert refused.status == 1, refused.both
    assert "next: either: the same command with --as root, or " in refused.out
    assert len(fleet.answering) == 1
    fleet.clone.done("remove", "-H", "shire01", "--yes", "--as", "root")
    assert fleet.hosts[0].sh(f"test -e {ROOT}").returncode != 0
