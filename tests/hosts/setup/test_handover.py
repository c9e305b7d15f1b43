"""A former deploy account tries to keep access: by an open file, or a process under another number."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.promises.words import PLAIN, ROOTS_OWN
from tests.support.fleet import Fleet, deployed
from tests.support.hosts import MakeHosts
from tests.support.stand_ins import entries, write_inventory

ROOT = "/opt/apps/myapp"
LOCKS = "/run/myapp/lock"
SETUP = ("setup", "--as", "root")
# Opens every file that the former account may write, gives its rights away, and writes on a signal.
KEEPS = f"""
import fcntl, os, sys, time
kept = []
for top in ("{ROOT}", "{LOCKS}"):
    for folder, _, files in os.walk(top):
        for file in files:
            if not os.path.islink(os.path.join(folder, file)):
                kept.append(os.open(os.path.join(folder, file), os.O_RDWR))
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
open("/srv/tries/kept", "w")
while not os.path.exists("/srv/tries/go"):
    time.sleep(0.05)
for descriptor in kept:
    os.pwrite(descriptor, b"#FORMER", 0)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pass  # another name of a file that it has locked
open("/srv/tries/written", "w").write(str(len(kept)))
time.sleep(600)
"""
# Makes a user namespace, in which it becomes one of its sub-uids; root writes the map, like newuidmap.
IN_A_NAMESPACE = """
import ctypes, os, time
assert ctypes.CDLL(None, use_errno=True).unshare(0x10000000) == 0
open("/srv/tries/unshared", "w").write(str(os.getpid()))
while not os.path.exists("/srv/tries/mapped"):
    time.sleep(0.05)
os.setgid(1)
os.setuid(1)
ctypes.CDLL(None).prctl(15, b"subordinate")
time.sleep(600)
"""
FILES = (
    f"find {ROOT} -type f ! -path '*/.program/*' ! -name README ! -name history.jsonl ! -name MANIFEST ! -name FILES "
    "-printf '%P %s %T@ %n\\n' | sort"
)
SUMS = f"find {ROOT} -type f ! -path '*/.program/*' -exec sha256sum {{}} + | sort"


@pytest.fixture(scope="module")
def fleet(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    """One host with another account that serves the second release of two, which share files."""
    made = deployed(module_hosts, tmp_path_factory.mktemp("handover"), 1)
    made.edit()
    made.clone.done("deploy")
    made.sh(0, "install -d -m 777 /srv/tries; useradd -m other; cp -r /home/deploy/.ssh /home/other/")
    made.sh(0, "chown -R other: /home/other/.ssh")
    return made


@contextmanager
def handed_over(fleet: Fleet) -> Iterator[None]:
    """Name the other account in the inventory for the block; then the first account gets all of it again."""
    inventory = fleet.clone.inventory
    assert inventory
    (host,) = entries(inventory).values()
    fleet.clone.inventory = write_inventory(inventory.with_name("other.yaml"), {"shire01": {**host, "user": "other"}})
    try:
        yield
    finally:
        fleet.clone.inventory = inventory
        fleet.clone.done(*SETUP)
        assert fleet.sh(0, f"find {ROOT} ! -user deploy") == ""


@pytest.mark.promise(ROOTS_OWN, "a command of fab run that a former deploy account has under way")
def test_a_former_account_keeps_no_command_and_can_run_none(fleet: Fleet) -> None:
    words = ("run", "-H", "shire01", "--", "sh", "-c", "echo up; exec sleep 65432")
    files = ("run.sock", "health.sock")
    connects = [f"import socket; socket.socket(socket.AF_UNIX).connect('/run/myapp/{file}')" for file in files]
    with fleet.clone.start(*words) as process:
        assert process.stdout
        assert process.stdout.readline() == "up\n"
        with handed_over(fleet):
            fleet.clone.done(*SETUP)
            assert process.wait(60) == 125
            assert fleet.sh(0, "pgrep -u myapp -f 65432 || :") == ""
            for connect in connects:
                assert "PermissionError" in fleet.sh(0, f'runuser -u deploy -- python3 -c "{connect}" 2>&1 || :')
                fleet.sh(0, f'runuser -u other -- python3 -c "{connect}"')


def start_program(fleet: Fleet, program: str, account: str, ready: str) -> None:
    """Run the program as the account until it makes the file READY."""
    fleet.sh(0, f"rm -f {ready}; cat >/srv/tries/program.py <<'END'\n{program}END")
    fleet.sh(0, f"systemd-run -q --collect --unit=former-{account} -p User={account} python3 /srv/tries/program.py")
    fleet.sh(0, f"timeout 20 sh -c 'until [ -e {ready} ]; do sleep 0.05; done'")


@pytest.mark.further("tests/hosts/hostile/test_root.py::test_a_former_account_keeps_nothing")
@pytest.mark.promise(ROOTS_OWN, "files that a former deploy account has open when they are given away")
def test_what_a_former_account_has_open_is_nothing_that_counts(fleet: Fleet) -> None:
    """Once: a former deploy account kept release files and locks open for writing, in a process that was not ended."""
    start_program(fleet, KEEPS, "root", "/srv/tries/kept")
    try:
        before = fleet.sh(0, FILES)
        with handed_over(fleet):
            fleet.clone.done(*SETUP)
            assert fleet.sh(0, f"find {ROOT} ! -user other") == ""
            # Every file but the lists is unchanged: names, sizes, times, and how many releases share it.
            assert fleet.sh(0, FILES) == before
            sums = fleet.sh(0, SUMS)
            fleet.sh(0, "touch /srv/tries/go; timeout 20 sh -c 'until [ -s /srv/tries/written ]; do sleep 0.05; done'")
            assert int(fleet.sh(0, "cat /srv/tries/written")) > 100
            assert fleet.sh(0, SUMS) == sums
            assert "FORMER" not in fleet.sh(0, f"cat {LOCKS}/*")
            fleet.sh(0, f"stat -c '%n %a %U %G' {LOCKS}/* | grep -vq ' 600 other root' && exit 1 || :")
            # The former account holds no lock of the new one.
            fleet.clone.done("restart")
    finally:
        fleet.sh(0, "systemctl stop former-root; rm -f /srv/tries/go /srv/tries/written /srv/tries/kept")


@pytest.mark.further("tests/hosts/hostile/test_root.py::test_a_former_account_keeps_nothing")
@pytest.mark.promise(ROOTS_OWN, "processes of a former deploy account under the number of a sub-uid")
def test_a_process_of_a_sub_uid_is_one_of_its_account(fleet: Fleet) -> None:
    """Once: a former deploy account kept processes under the number of a sub-uid, in a user namespace of its own."""
    fleet.sh(0, "printf 'deploy:700000:1000\\nother:701000:1000\\n' >/etc/subuid")
    fleet.sh(0, "rm -f /srv/tries/mapped")
    start_program(fleet, IN_A_NAMESPACE, "deploy", "/srv/tries/unshared")
    pid = fleet.sh(0, "until [ -s /srv/tries/unshared ]; do sleep 0.05; done; cat /srv/tries/unshared")
    maps = "printf '0 %s 1\\n1 {0} 1000\\n' $({1} deploy) >/proc/{2}/{3}_map"
    fleet.sh(0, f"{maps.format(900000, 'id -u', pid, 'uid')}; {maps.format(900000, 'id -g', pid, 'gid')}")
    fleet.sh(0, "touch /srv/tries/mapped; timeout 20 sh -c 'until pgrep -x subordinate; do sleep 0.05; done'")
    for number in (700500, 701500):
        fleet.sh(0, f"systemd-run -q --collect --unit=of-{number} setpriv --reuid={number} --clear-groups --regid=100 "
                    f"sleep 600; timeout 20 sh -c 'until pgrep -U {number}; do sleep 0.05; done'")  # fmt: skip
    assert fleet.sh(0, "ps -o uid= -p $(pgrep -x subordinate)").split() == ["900000"]
    try:
        with handed_over(fleet):
            fleet.clone.done(*SETUP)
            # One process is in a namespace of the former account, one of a sub-uid; another account's is left alone.
            assert fleet.sh(0, "pgrep -x subordinate || pgrep -U 700500 || :") == ""
            assert fleet.sh(0, "pgrep -U 701500") != ""
    finally:
        fleet.sh(0, "systemctl stop of-701500 former-deploy 2>/dev/null; rm -f /etc/subuid")


@pytest.mark.promise(ROOTS_OWN, "a disk without room for the copies of a hand-over")
def test_a_disk_without_room_is_refused_before_anything_changes_hands(fleet: Fleet) -> None:
    fleet.sh(0, f"size=$(du -sk {ROOT} | cut -f1); mkdir -p /mnt/small && mount -t tmpfs -o size=$((size + 9000))k "
                "none /mnt/small && cp -a /opt/apps/. /mnt/small/ && mount --bind /mnt/small /opt/apps")  # fmt: skip
    look = f"find {ROOT} -printf '%P %u %i\\n' | sort"
    before = fleet.sh(0, look)
    try:
        with handed_over(fleet):
            try:
                ended = fleet.clone.fab(*SETUP)
                assert (ended.status, "make room on that disk, or remove what is not ours" in ended.out) == (1, True)
                assert fleet.sh(0, look) == before
            finally:
                fleet.sh(0, "umount -l /opt/apps /mnt/small")
    finally:
        fleet.clone.done("restart")


@pytest.mark.promise(ROOTS_OWN, "a setup that is killed while it gives everything to another account", part=1)
@pytest.mark.parametrize("step", ["copied", "given"])
def test_a_hand_over_that_was_killed_is_finished_by_the_next(fleet: Fleet, step: str) -> None:
    with handed_over(fleet):
        fleet.clone.environment["FAILPOINT"] = f"setup.{step}=die"
        assert fleet.clone.fab(*SETUP).status == 1
        del fleet.clone.environment["FAILPOINT"]
        assert fleet.sh(0, f"ls -A {ROOT} | grep handover") != ""
        fleet.clone.done(*SETUP)
        assert fleet.sh(0, f"find {ROOT} ! -user other; ls -A {ROOT} | grep handover || :") == ""
        fleet.clone.done("restart")


@pytest.mark.further("tests/hosts/hostile/test_root.py::test_a_former_account_keeps_nothing")
@pytest.mark.promise(ROOTS_OWN, "directories without an end in the place that a former account had in /run")
def test_what_is_nested_without_an_end_in_run_is_removed(fleet: Fleet) -> None:
    """Once: directories nested 1,500 deep below /run kept a new deploy account from being set up."""
    nested = "i=0; while [ $i -lt 1500 ]; do mkdir d && cd -P d || exit 1; i=$((i + 1)); done"
    fleet.sh(0, f"runuser -u deploy -- sh -c 'cd /run/myapp/try && {nested}'")
    with handed_over(fleet):
        began = time.monotonic()
        fleet.clone.done(*SETUP)
        assert time.monotonic() - began < 60
        assert fleet.sh(0, "find /run/myapp -name '.former*' -o -user deploy") == ""


def test_a_copy_of_the_program_is_not_handed_on(fleet: Fleet) -> None:
    """A copy that the former account changed would run as the next account, or as root where root deploys."""
    fleet.clone.done("restart")
    place = fleet.sh(0, f"ls -d {ROOT}/.program/*").split()[0]
    script = "'#!/bin/sh\\nid >/srv/tries/ran\\nexec /usr/bin/python3 \"$@\"\\n'"
    fleet.sh(0, f"printf {script} >/srv/tries/python; chmod 755 /srv/tries/python")
    planted = f"echo /srv/tries/python >{place}/python; echo 'raise SystemExit(7)' >{place}/json.py"
    fleet.sh(0, f'runuser -u deploy -- sh -c "{planted}"')
    with handed_over(fleet):
        fleet.clone.done(*SETUP)
        assert fleet.sh(0, f"ls -A {ROOT}/.program 2>/dev/null || :") == ""
        fleet.clone.done("status")
        fleet.clone.done("restart")
        assert fleet.sh(0, "ls /srv/tries/ran 2>/dev/null || :") == ""


# Edits a file together with its line, if it has one.
EDITS = f"""
import hashlib, os, sys
for path, listed in (("code/app/health.py", "MANIFEST"), ("run/web", "LAUNCHERS")):
    home = os.path.realpath("{ROOT}/current/release")
    text = open(os.path.join(home, path), "rb").read()
    edited = text.replace(b"exec ", b": PLANTED; exec ", 1) if path == "run/web" else text + b"# PLANTED\\n"
    lines = open(os.path.join(home, listed)).read()
    before, after = (hashlib.sha256(one).hexdigest() for one in (text, edited))
    assert before in lines
    open(os.path.join(home, path), "wb").write(edited)
    open(os.path.join(home, listed), "w").write(lines.replace(before, after))
path = os.path.join("{ROOT}/current/release/venv/lib", os.listdir("{ROOT}/current/release/venv/lib")[0])
path += "/site-packages/flask/__init__.py"
status = os.stat(path)
text = open(path, "rb").read()
with open(path, "r+b") as file:
    file.write(b"#PLANTED" + text[8:])
os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
"""
PLANTED = f"grep -rl PLANTED --include='*.py' --include=web {ROOT}/releases/{{}}/ {ROOT}/releases/{{}}/venv/ || :"


@pytest.mark.promise(PLAIN, "files of a release and of a venv, edited with their lines by a former deploy account")
def test_nothing_that_a_former_account_could_edit_is_taken_over(fleet: Fleet) -> None:
    """The served release is rebuilt, with its venv; no rollback leads to an older one."""
    former = fleet.edit()
    fleet.clone.done("deploy")
    served = fleet.edit()
    fleet.clone.done("deploy")
    fleet.sh(0, f"cat >/srv/tries/edits.py <<'END'\n{EDITS}END\nrunuser -u deploy -- python3 /srv/tries/edits.py")
    edited = fleet.sh(0, PLANTED.format(served, served)).split()
    assert len(edited) == 3, edited
    with handed_over(fleet):
        fleet.clone.done(*SETUP)
        missing = [one["path"] for one in fleet.clone.fab("drift", "--json").json()["hosts"][0]["findings"]
                   if one["kind"] == "missing"]  # fmt: skip
        assert f"{ROOT}/releases/{served}/MANIFEST" in missing
        refused = fleet.clone.fab("rollback", "--to", former)
        assert (refused.status, "a former deploy account put it there" in refused.out) == (1, True)
        # The release that serves can be restarted.
        fleet.clone.done("restart")
        assert fleet.answering == [served]
        fleet.clone.done("deploy")
        assert fleet.answering == [served]
        assert fleet.sh(0, PLANTED.format(served, served)) == ""
        fleet.clone.done("drift")
        ended = fleet.clone.done("deploy")
        assert "UNCHANGED" in ended.out.upper()
