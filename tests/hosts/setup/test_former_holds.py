"""A former deploy account tries to keep what it has made: bytecode that it can write, what it started, the journal."""

from __future__ import annotations

import pytest

from tests.hosts.setup.test_handover import ROOT, SETUP, handed_over
from tests.promises.words import PLAIN, ROOTS_OWN
from tests.support.fleet import Fleet, deployed
from tests.support.hosts import MakeHosts
from tests.support.hung_mount import DAEMON

DATA = "/var/lib/myapp"
EVIL = "/run/lock/evil.pyc"
# A link in the place of gunicorn's bytecode, to what says in the service's data that it ran; its source is what it was.
PLANT = f"""
import glob, importlib.util, os
from importlib import _bootstrap_external
source = glob.glob("{ROOT}/current/release/venv/lib/*/site-packages/gunicorn/__init__.py")[0]
text = open(source).read()
code = compile(text + "\\nopen('{DATA}/OWNED', 'a').write('x')\\n", source, "exec")
data = _bootstrap_external._code_to_hash_pyc(code, importlib.util.source_hash(text.encode()), False)
open("{EVIL}", "wb").write(data)
os.chmod("{EVIL}", 0o644)
place = importlib.util.cache_from_source(source)
os.unlink(place)
os.symlink("{EVIL}", place)
"""
# After the guard, which may be removing releases meanwhile.
LINKS = (
    f"flock -w 50 /run/myapp/lock/guard true; find {ROOT}/venvs {ROOT}/releases -lname '/run/*' ! -path '*/.part-old-*'"
)
# Says READY, as a release does, and writes for ever.
RUNS = f"""#!/usr/bin/python3
import os, socket, sys, time
if "NOTIFY_SOCKET" in os.environ:
    socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
while True:
    open("{DATA}/" + os.path.basename(sys.argv[0]) + "-of-former", "a").write("x")
    time.sleep(0.1)
"""
IDLE = f"""set -e
cd {ROOT}; idle=green; [ "$(readlink current)" = slots/blue ] || idle=blue
mkdir -p releases/former/run releases/former/code
for name in web hook worker nightly; do cp /srv/runs releases/former/run/$name; done
chmod -R 755 releases/former
ln -sfn ../../releases/former slots/$idle/release; : >slots/$idle/is-$idle; : >/run/myapp/try/$idle
sudo -n /usr/bin/systemctl start myapp@$idle.service
sudo -n /usr/bin/systemctl start myapp-hook@$idle.service >/dev/null 2>&1 &
ln -sfn slots/$idle current
sudo -n /usr/bin/systemctl start --no-block myapp-worker@$idle.service
"""


@pytest.fixture(scope="module")
def fleet(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    """One host that serves, with a worker and a job, and has another account, which was let read the journals."""
    made = deployed(module_hosts, tmp_path_factory.mktemp("holds"), 1)
    made.clone.replace("service/service.yaml", "  web: {", "  worker: {command: sleep infinity}\n"
                       "  nightly: {command: 'true', schedule: yearly}\n  web: {")  # fmt: skip
    made.clone.done("deploy")
    made.sh(0, "useradd -m -G systemd-journal other; cp -r /home/deploy/.ssh /home/other/")
    made.sh(0, "chown -R other: /home/other/.ssh; chmod 1777 /run/lock")
    return made


def plant(fleet: Fleet) -> None:
    fleet.sh(0, f"cat >/srv/plant.py <<'END'\n{PLANT}END\nrunuser -u deploy -- python3 /srv/plant.py")
    assert fleet.sh(0, LINKS) != ""


def finding(fleet: Fleet, kind: str) -> list[str]:
    found = fleet.clone.fab("drift", "--json").json()["hosts"][0]["findings"]
    return [one["path"] for one in found if one["kind"] == kind]


@pytest.mark.promise(PLAIN, "a link in the place of bytecode, in a venv and in a release")
def test_bytecode_that_is_a_link_is_drift_and_is_made_anew(fleet: Fleet) -> None:
    plant(fleet)
    assert [path for path in finding(fleet, "linked") if path.endswith(".pyc")] == fleet.sh(0, LINKS).split()
    refused = fleet.clone.fab("restart")
    assert (refused.status, "the venv of release" in refused.out) == (1, True)
    fleet.clone.done("deploy")
    assert fleet.sh(0, LINKS) == ""
    home = f"{ROOT}/releases/{fleet.answering[0]}/code"
    planted = f"$(find {home}/app -name '__init__*.pyc')"
    fleet.sh(0, f"runuser -u deploy -- ln -sf {EVIL} {planted}")
    assert finding(fleet, "extra") == fleet.sh(0, LINKS).split() != []
    fleet.clone.done("deploy")
    assert fleet.sh(0, LINKS) == ""
    fleet.clone.done("drift")


@pytest.mark.promise(PLAIN, "an interpreter of another account in a venv")
def test_a_venv_that_leads_to_a_python_of_somebody_else_is_drift(fleet: Fleet) -> None:
    link = fleet.sh(0, f"readlink -f {ROOT}/current/release/venv").strip() + "/bin/python3"
    was = fleet.sh(0, f"readlink {link}").strip()
    fleet.sh(0, "install -m 755 -o other $(readlink -f /usr/bin/python3) /srv/python3")
    fleet.sh(0, f"ln -sfn /srv/python3 {link}")
    try:
        assert link.removesuffix("3") in finding(fleet, "linked")
    finally:
        fleet.sh(0, f"ln -sfn {was} {link}; chown -h deploy: {link}; rm /srv/python3; rm {ROOT}/venvs/*/FILES")
        fleet.edit()
        fleet.clone.done("deploy")


@pytest.mark.further("test_bytecode_that_is_a_link_is_drift_and_is_made_anew")
@pytest.mark.promise(ROOTS_OWN, "bytecode that a former deploy account goes on writing")
def test_what_a_former_account_goes_on_writing_is_not_run(fleet: Fleet) -> None:
    plant(fleet)
    with handed_over(fleet):
        ended = fleet.clone.done(*SETUP)
        assert "deploy now: deploy made the live release" in ended.both
        fleet.sh(0, f"rm -f {DATA}/OWNED")
        fleet.edit()
        fleet.clone.done("deploy")
        fleet.clone.done("restart")
        assert fleet.sh(0, f"{LINKS}; ls -I home {DATA}") == ""
        # By now the guard has pruned the releases that nothing compares any more.
        fleet.clone.done("drift", "--as", "root")


@pytest.mark.further("test_a_link_in_the_place_of_a_release_or_a_venv_is_drift_and_is_not_handed_over")
@pytest.mark.promise(ROOTS_OWN, "a slot that a former deploy account has led out of its directory")
def test_a_slot_that_leads_elsewhere_is_refused_at_a_hand_over(fleet: Fleet) -> None:
    slot = fleet.sh(0, f"readlink {ROOT}/current").strip()
    was = fleet.sh(0, f"readlink {ROOT}/{slot}/release").strip()
    fleet.sh(0, f"runuser -u deploy -- ln -sfn /run/lock/evil/{'0' * 12} {ROOT}/{slot}/release")
    with handed_over(fleet):
        refused = fleet.clone.fab(*SETUP)
        assert (refused.status, f"{ROOT}/{slot}/release is a symbolic link" in refused.out) == (1, True)
        fleet.sh(0, f"ln -sfn {was} {ROOT}/{slot}/release; chown -h other: {ROOT}/{slot}/release")
        fleet.clone.done(*SETUP)
        fleet.clone.done("deploy")


@pytest.mark.promise(ROOTS_OWN, "a link in the place of a release, and of a venv", part=1)
@pytest.mark.parametrize("place", ["releases", "venvs"])
def test_a_link_in_the_place_of_a_release_or_a_venv_is_drift_and_is_not_handed_over(fleet: Fleet, place: str) -> None:
    """Once: it was no drift, a deploy changed nothing, and a former account went on writing what it leads to."""
    path = fleet.sh(0, f"readlink -f {ROOT}/current/release{'/venv' if place == 'venvs' else ''}").strip()
    moves = f"mv {path} {ROOT}/{place}/.moved && ln -s .moved {path}"
    fleet.sh(0, f"runuser -u deploy -- sh -c '{moves}'")
    assert finding(fleet, "linked") == [path]
    fleet.clone.done("deploy")
    fleet.clone.done("drift")
    fleet.sh(0, f"rm -r {ROOT}/{place}/.moved; runuser -u deploy -- sh -c '{moves}'")
    with handed_over(fleet):
        refused = fleet.clone.fab(*SETUP)
        assert (refused.status, f"{path} is a symbolic link" in refused.out) == (1, True)
        fleet.sh(0, f"rm {path}; mv {ROOT}/{place}/.moved {path}")
        fleet.clone.done(*SETUP)
        fleet.clone.done("deploy")


@pytest.mark.promise(ROOTS_OWN, "a slot, a hook, a worker and a job that a former deploy account has started")
def test_what_a_former_account_has_started_is_ended_and_what_serves_goes_on(fleet: Fleet) -> None:
    serves = fleet.answering
    # The guard of the last deploy stops the idle slot.
    fleet.sh(0, "flock -w 60 /run/myapp/lock/guard true")
    fleet.sh(0, f"printf %s '{RUNS}' >/srv/runs; chmod 755 /srv/runs")
    fleet.sh(0, f"cat >/srv/idle.sh <<'END'\n{IDLE}END\nrunuser -u deploy -- sh /srv/idle.sh")
    fleet.sh(0, "systemctl start --no-block myapp-nightly")
    live = fleet.sh(0, "readlink /run/myapp/live").strip()
    of_former = f"ls {DATA} | grep -c of-former || :"
    fleet.sh(0, f"timeout 30 sh -c 'until [ $({of_former}) = 4 ]; do sleep 0.05; done'")
    main = fleet.sh(0, f"systemctl show -p MainPID myapp@{live}")
    with handed_over(fleet):
        ended = fleet.clone.done(*SETUP)
        assert "started under the former account" in ended.both
        fleet.sh(0, f"rm {DATA}/*-of-former; sleep 1")
        assert int(fleet.sh(0, of_former)) == 0
        assert fleet.sh(0, f"readlink {ROOT}/current; ls /run/myapp/try").split() == [f"slots/{live}"]
        assert (fleet.answering, fleet.sh(0, f"systemctl show -p MainPID myapp@{live}")) == (serves, main)
        assert fleet.sh(0, f"systemctl is-active myapp-worker@{live}").strip() == "active"
        fleet.edit()
        fleet.clone.done("deploy")


@pytest.mark.further("tests/hosts/hostile/test_root.py::test_a_former_account_keeps_nothing")
@pytest.mark.promise(ROOTS_OWN, "a file system that never answers, which an account mounts over its directory")
def test_an_account_that_mounts_over_its_directory_is_replaced(fleet: Fleet) -> None:
    """Once: root's drift never ended, setup said `Permission denied`, and remove said that nothing was left."""
    fleet.sh(0, f"rm -f /dev/fuse; mknod -m 666 /dev/fuse c 10 229; cat >/srv/daemon.py <<'END'\n{DAEMON}END")
    fleet.sh(0, f"setsid python3 /srv/daemon.py {ROOT} $(id -u deploy) $(id -g deploy) >/srv/said 2>&1 </dev/null &")
    fleet.sh(0, "timeout 20 sh -c 'until grep mounted /srv/said; do sleep 0.05; done'")
    serves = fleet.answering
    told = fleet.clone.fab("drift", "--as", "root")
    assert (told.status, "fab setup --as root takes it away" in told.both) == (1, True)
    with handed_over(fleet):
        ended = fleet.clone.done(*SETUP)
        assert f"unmount: {ROOT}, a file system of the account" in ended.out
        assert (fleet.answering, fleet.sh(0, "grep -c fuse /proc/mounts || :").strip()) == (serves, "0")
        fleet.clone.done("deploy")


# A process of a third account that has a journal open, since the former account gave it that.
READER = """
import glob, os, time
file = os.open(glob.glob("/*/log/journal/*/system.journal")[0], os.O_RDONLY)
os.setuid(65534)
time.sleep(300)
"""
READS = "runuser -u {0} -- {1} -q -n 1 -o cat _UID=0 2>/dev/null || :"


@pytest.mark.promise(ROOTS_OWN, "a setgid program by which a former deploy account keeps the journal")
def test_a_former_account_reads_no_journal(fleet: Fleet) -> None:
    fleet.sh(
        0, "runuser -u deploy -- sh -c 'cp /usr/bin/journalctl ~/j; chgrp systemd-journal ~/j && chmod 2755 ~/j' || :"
    )
    assert fleet.sh(0, READS.format("deploy", "journalctl")) != ""
    # Of a file that comes later, too.
    fleet.sh(0, "journalctl --rotate; logger -t later rotated; journalctl --sync")
    assert fleet.sh(0, "runuser -u deploy -- journalctl -q -n 1 -o cat -t later").strip() == "rotated"
    assert "systemd-journal" not in fleet.sh(0, "id -nG deploy")
    fleet.sh(0, f"cat >/srv/reader.py <<'END'\n{READER}END\n(setsid python3 /srv/reader.py &) >/dev/null 2>&1")
    fleet.sh(0, "timeout 20 sh -c 'until pgrep -U nobody -f /srv/reader.py; do sleep 0.05; done'")
    with handed_over(fleet):
        fleet.clone.done(*SETUP)
        fleet.sh(0, "logger read-on; journalctl --sync")
        assert fleet.sh(0, "grep -ac read-on /proc/$(pgrep -fx 'python3 /srv/reader.py')/fd/3 || :").strip() == "0"
        assert fleet.sh(0, READS.format("deploy", "/home/deploy/j")) == ""
        assert fleet.sh(0, READS.format("deploy", "journalctl")) == ""
        fleet.clone.done("deploy")
        assert "later" not in fleet.clone.done("logs", "-n", "5").err
    # It was in the group before any setup.
    assert "systemd-journal" in fleet.sh(0, "id -nG other")


@pytest.mark.promise(ROOTS_OWN, "the group that an older version put the deploy account in")
def test_the_group_of_an_older_version_is_taken_back(fleet: Fleet) -> None:
    fleet.sh(0, "usermod -aG systemd-journal deploy; sed -i '/^reader /d' /etc/myapp/setup")
    ended = fleet.clone.done(*SETUP)
    assert "deploy leaves the group systemd-journal" in ended.both
    assert "systemd-journal" not in fleet.sh(0, "id -nG deploy")
    assert fleet.sh(0, READS.format("deploy", "journalctl")) != ""


@pytest.mark.promise(ROOTS_OWN, "the journal after a remove")
def test_a_remove_takes_the_journal(fleet: Fleet) -> None:
    assert fleet.sh(0, READS.format("deploy", "journalctl")) != ""
    fleet.clone.done("remove", "--data", "--yes")
    assert fleet.sh(0, READS.format("deploy", "journalctl")) == ""
