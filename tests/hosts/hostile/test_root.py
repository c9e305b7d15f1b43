"""Root's work on a host where the deploy account, or a former one, has planted files."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.promises.words import ROOTS_OWN
from tests.support.fleet import Fleet, deployed
from tests.support.hosts import MakeHosts
from tests.support.stand_ins import entries, write_inventory

ROOT = "/opt/apps/myapp"
SETUP = ("setup", "--as", "root")
WORDS = "what root alone may read"
QUICK = 30
"""Seconds that a verb may take on a busy machine; a verb that hung here never ended."""


@pytest.fixture(scope="module")
def fleet(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    """One host that serves."""
    made = deployed(module_hosts, tmp_path_factory.mktemp("root"), 1)
    made.sh(0, f"install -m 600 /dev/null /root/secret; echo '{WORDS}' >/root/secret; useradd -m other")
    made.sh(0, "cp -r /home/deploy/.ssh /home/other/ && chown -R other: /home/other/.ssh")
    return made


NEW = "{R}/aaaaaaaaaaaa"
HISTORY = "mv {O}/kept {O}/history.jsonl"
PLANTS = {
    "a pipe as a release.json": (f"mkdir {NEW}; mkfifo {NEW}/release.json", f"rm -r {NEW}"),
    "a pipe as a MANIFEST": (f"mkdir {NEW}; mkfifo {NEW}/MANIFEST", f"rm -r {NEW}"),
    "a link as a MANIFEST": (f"mkdir {NEW}; ln -s /root/secret {NEW}/MANIFEST", f"rm -r {NEW}"),
    "a way out of a MANIFEST": (
        f"mkdir -p {NEW}/code; printf '%064d  ../../../../../../root/secret\\n' 0 >{NEW}/MANIFEST", f"rm -r {NEW}",
    ),
    "a pipe that a MANIFEST names": (
        f"mkdir -p {NEW}/code; mkfifo {NEW}/code/pipe; printf '%064d  pipe\\n' 0 >{NEW}/MANIFEST", f"rm -r {NEW}",
    ),
    "a device that a MANIFEST names": (
        f"mkdir -p {NEW}/code; printf '%064d  ../../../../../../dev/zero\\n' 0 >{NEW}/MANIFEST", f"rm -r {NEW}",
    ),
    "a pipe as the history": ("mv {O}/history.jsonl {O}/kept; mkfifo {O}/history.jsonl", HISTORY),
    "a link as the history": ("mv {O}/history.jsonl {O}/kept; ln -s /root/secret {O}/history.jsonl", HISTORY),
    "a pipe in the code": ("mkfifo {O}/current/release/code/pipe", "rm {O}/current/release/code/pipe"),
    "a link for all releases": ("mv {R} {O}/kept; ln -s /root {R}", "rm {R}; mv {O}/kept {R}"),
}  # fmt: skip


@pytest.mark.promise(ROOTS_OWN, "a pipe, a link or a way out where root could read", part=1)
@pytest.mark.parametrize("plant", PLANTS)
def test_root_reads_what_the_deploy_account_owns_as_that_account(fleet: Fleet, plant: str) -> None:
    """Once: a pipe or a device that a MANIFEST named hung root's drift for good."""
    do, undo = (text.format(R=f"{ROOT}/releases", O=ROOT) for text in PLANTS[plant])
    fleet.sh(0, f"runuser -u deploy -- sh -c '{do}'")
    try:
        for verb in ("drift", "setup"):
            began = time.monotonic()
            ended = fleet.clone.fab(verb, "--as", "root", timeout=QUICK * 2)
            assert time.monotonic() - began < QUICK, verb
            assert ended.status in (0, 1), ended.both
            assert "Traceback" not in ended.both
            assert WORDS not in ended.both
    finally:
        fleet.sh(0, f"runuser -u deploy -- sh -c '{undo}'")
    fleet.clone.done(*SETUP)
    assert fleet.clone.fab("drift", "--as", "root").out.endswith("no drift\n")


@pytest.fixture
def by_root(fleet: Fleet) -> Iterator[Fleet]:
    """Let root log in to the same host."""
    assert fleet.clone.inventory
    deployers, (host,) = fleet.clone.inventory, entries(fleet.clone.inventory).values()
    changed = write_inventory(deployers.with_name("root.yaml"), {"shire01": {**host, "user": "root"}})
    fleet.clone.inventory = changed
    yield fleet
    fleet.clone.inventory = deployers


@pytest.mark.promise(ROOTS_OWN, "a pipe or a link where root only looks", part=1)
@pytest.mark.parametrize("plant", ["a pipe as a release.json", "a link as the history", "a link for all releases"])
@pytest.mark.parametrize("verb", ["status", "history", "releases", "doctor", "restart --dry"])
def test_root_that_only_looks_reads_as_the_deploy_account(by_root: Fleet, verb: str, plant: str) -> None:
    do, undo = (text.format(R=f"{ROOT}/releases", O=ROOT) for text in PLANTS[plant])
    by_root.sh(0, f"runuser -u deploy -- sh -c '{do}'")
    word, _, option = verb.partition(" ")
    try:
        began = time.monotonic()
        ended = by_root.clone.fab(*([option] if option else []), word, "-H", "shire01", timeout=QUICK * 2)
        assert time.monotonic() - began < QUICK
        assert "Traceback" not in ended.both
        assert WORDS not in ended.both
    finally:
        by_root.sh(0, f"runuser -u deploy -- sh -c '{undo}'")
    found = by_root.clone.done("status", "--json", "-H", "shire01").json()["hosts"][0]
    assert (found["healthy"], found["slot"]) == (True, found["slot"] or "none")


def test_root_runs_no_copy_of_the_program_that_the_deploy_account_could_write(by_root: Fleet) -> None:
    place = by_root.sh(0, f"ls -d {ROOT}/.program/*").split()[0]
    by_root.sh(0, f"cp {place}/__main__.py /root/kept")
    by_root.sh(0, f'echo \'open("/root/pwned", "w")\' | runuser -u deploy -- tee {place}/__main__.py')
    try:
        by_root.clone.done("status", "-H", "shire01")
        assert by_root.sh(0, "test -e /root/pwned && echo yes || echo no") == "no\n"
    finally:
        by_root.sh(0, f"cat /root/kept >{place}/__main__.py")


RACE = f"""
mkdir -p {ROOT}/releases/race/etc
touch {ROOT}/releases/race/etc/shadow {ROOT}/releases/race/etc/passwd
cd {ROOT}/releases
while :; do mv race/etc race/kept; ln -s /etc race/etc; rm race/etc; mv race/kept race/etc; done
"""
JOURNAL = "runuser -u {} -- journalctl -q -n 1 _UID=0 2>/dev/null || :"


@pytest.mark.promise(ROOTS_OWN, "a former deploy account that moves directories while root gives them away", part=1)
@pytest.mark.parametrize("chance", ["first", "second", "third"])
def test_a_former_account_that_is_at_work_makes_root_change_nothing_of_roots(fleet: Fleet, chance: str) -> None:
    """A race: `make promises` tries it more often. Once: a former deploy account at work while its files were given
    away made root change the owner of any file; after a change of the deploy account the new one could not deploy
    before the next boot.
    """
    assert fleet.clone.inventory
    (host,) = entries(fleet.clone.inventory).values()
    look = "stat -c '%n %u %g %a' /etc/shadow /etc/passwd /etc"
    before = fleet.sh(0, look)
    inventory = fleet.clone.inventory
    users = {user: write_inventory(inventory.with_name(f"{user}-{chance}.yaml"), {"shire01": {**host, "user": user}})
             for user in ("other", "deploy")}  # fmt: skip
    try:
        for former, user in (("deploy", "other"), ("other", "deploy")):
            fleet.hosts[0].sh(f"runuser -u {former} -- sh -c '{RACE}' >/dev/null 2>&1 </dev/null & sleep 0.2")
            fleet.clone.inventory = users[user]
            ended = fleet.clone.fab(*SETUP)
            assert "Traceback" not in ended.both
            assert fleet.sh(0, look) == before
            # The former account has no process, and reads no journal.
            assert fleet.hosts[0].sh(f"pgrep -u {former}").stdout == b""
            assert fleet.sh(0, JOURNAL.format(former)) == ""
            fleet.sh(0, f"rm -rf {ROOT}/releases/race")
            fleet.clone.done(*SETUP)
            assert fleet.sh(0, f"find {ROOT} ! -user {user}") == ""
            assert fleet.sh(0, JOURNAL.format(user)) != ""
            # The new account finds no file of the former one in its way.
            assert fleet.sh(0, f"find /run/myapp -user {former}") == ""
            fleet.clone.done("restart")
            fleet.clone.done("status")
    finally:
        fleet.clone.inventory = inventory
        fleet.hosts[0].sh(f"rm -rf {ROOT}/releases/race")
        fleet.clone.fab(*SETUP)


KEPT = f"""
import ctypes, os, struct, threading, time
for place in ("{ROOT}/slots", "{ROOT}/venvs", "{ROOT}/releases"):
    for folder, _, files in os.walk(place):
        for path in (folder, *(os.path.join(folder, file) for file in files)):
            if not os.path.islink(path):
                os.chmod(path, 0o777)
everybody = 0xFFFFFFFF
entries = [(1, 7, everybody), (2, 7, os.getuid()), (4, 5, everybody), (16, 7, everybody), (32, 5, everybody)]
rights = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
os.setxattr("{ROOT}/slots/blue", "system.posix_acl_access", rights)
threading.Thread(target=time.sleep, args=(600,)).start()
# The first thread ends, and the process looks like a zombie.
ctypes.CDLL(None).syscall(60, 0)
"""


@pytest.mark.promise(ROOTS_OWN, "rights, locks and processes that a former deploy account tries to keep")
def test_a_former_account_keeps_nothing(fleet: Fleet) -> None:
    """Once: a former deploy account kept threads, a lock, mode bits, access lists, and what it had below /run."""
    assert fleet.clone.inventory
    inventory = fleet.clone.inventory
    (host,) = entries(inventory).values()
    fleet.hosts[0].sh("cat >/home/deploy/keep.py", KEPT.encode())
    fleet.hosts[0].sh("runuser -u deploy -- python3 /home/deploy/keep.py >/dev/null 2>&1 </dev/null & sleep 1")
    fleet.hosts[0].sh(
        "runuser -u deploy -- flock /run/myapp/lock/activate sleep 600 >/dev/null 2>&1 </dev/null & sleep 1"
    )
    fleet.sh(0, "runuser -u deploy -- mkdir -p /run/myapp/try/green/x")
    fleet.clone.inventory = write_inventory(inventory.with_name("kept.yaml"), {"shire01": {**host, "user": "other"}})
    try:
        fleet.clone.done(*SETUP)
        assert fleet.sh(0, "ps -eLo user= | grep -cx deploy || :") == "0\n"
        assert fleet.sh(0, f"find {ROOT} ! -type l -perm /022") == ""
        assert fleet.sh(0, f"python3 -c 'import os; print(os.listxattr(\"{ROOT}/slots/blue\"))'") == "[]\n"
        fleet.clone.done("restart")
        deeper = "i=0; while [ $i -lt 100 ]; do mkdir d && cd d || exit 1; i=$((i + 1)); done"
        fleet.sh(0, f"runuser -u other -- sh -c 'mkdir {ROOT}/nested && cd {ROOT}/nested && {deeper}'")
        fleet.clone.inventory = inventory
        ended = fleet.clone.fab(*SETUP)
        assert (ended.status, "is nested too deep to be a release: remove it" in ended.out) == (1, True)
        fleet.sh(0, f"rm -rf {ROOT}/nested")
    finally:
        fleet.clone.inventory = inventory
        fleet.clone.done(*SETUP)


@pytest.mark.promise(ROOTS_OWN, "words of the deploy account in a line that root logs")
def test_root_logs_no_word_that_the_deploy_account_wrote(fleet: Fleet) -> None:
    plant = "mkdir \\<0\\>forged; touch \\<0\\>forged/is-blue; mv current kept; ln -s \\<0\\>forged current"
    fleet.sh(0, f"runuser -u deploy -- sh -c 'cd {ROOT} && {plant}'")
    try:
        fleet.sh(0, "systemctl restart myapp.service")
        said = fleet.sh(0, "journalctl --sync; journalctl -u myapp.service -o export -n 20")
        assert "committed slot: blue" in said
        assert "forged" not in said
    finally:
        fleet.sh(0, f"cd {ROOT}; rm -r current *forged; mv kept current; systemctl restart myapp.service")


def test_releases_and_history_are_for_the_deploy_account_and_the_service(fleet: Fleet) -> None:
    fleet.sh(0, f"mv {ROOT}/history.jsonl {ROOT}/kept")
    fleet.clone.done("restart")
    fleet.sh(0, f"cat {ROOT}/history.jsonl >>{ROOT}/kept && rm {ROOT}/kept")
    fleet.clone.done("maintenance", "on")
    state = f"{ROOT}/maintenance/state.json"
    assert fleet.sh(0, f"stat -c %a {state}") == "600\n"
    # As former versions made them.
    fleet.sh(0, f"chmod 755 {ROOT}/venvs {ROOT}/wheels; chgrp deploy {ROOT}/venvs {ROOT}/wheels; chmod 644 {state}")
    fleet.clone.done(*SETUP)
    for path in (f"{ROOT}/releases", f"{ROOT}/venvs", f"{ROOT}/wheels", f"{ROOT}/history.jsonl", state):
        assert (
            fleet.hosts[0].sh(f"runuser -u nobody -- ls {path}/ || runuser -u nobody -- cat {path}").returncode != 0
        ), path
    fleet.clone.done("restart")
    fleet.clone.done("maintenance", "off")
