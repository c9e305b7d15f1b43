"""The locks of a host: other accounts can neither open nor hold one, and a foreign holder is named."""

from __future__ import annotations

import pytest

from tests.promises.words import UNHINDERED
from tests.support.fleet import Fleet, fleet

__all__ = ["fleet"]

LOCKS = "/run/myapp/lock"
NAMES = ("run", "activate", "stage", "history", "guard")
TRIES = """
import fcntl, os, sys
for path in sys.argv[1:]:
    for how in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR | os.O_APPEND, os.O_WRONLY | os.O_CREAT):
        try:
            fcntl.flock(os.open(path, how), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except PermissionError:
            continue
        sys.exit(f"{path} can be held")
for change in (os.unlink, os.rmdir, lambda path: os.rename(path, path + ".away"), lambda path: os.mkdir(path + ".new")):
    for path in sys.argv[1:]:
        try:
            change(path)
        except OSError:
            continue
        sys.exit(f"{path} can be changed")
"""
# Takes a lock, and then becomes another account with the lock still open.
INHERITS = """
import fcntl, os, sys, time
lock = os.open(sys.argv[1], os.O_RDWR)
fcntl.flock(lock, fcntl.LOCK_EX)
os.setuid(int(sys.argv[2]))
print("held", flush=True)
time.sleep(600)
"""


@pytest.mark.promise(UNHINDERED, "it tries to open and to hold each lock")
@pytest.mark.parametrize("account", ["myapp", "nobody", "www-data"])
def test_nobody_else_can_open_a_lock(fleet: Fleet, account: str) -> None:
    """Once: any local user, and the service, could hold a lock and so stop every run."""
    paths = " ".join(f"{LOCKS}/{name}" for name in NAMES)
    asked = f"runuser -u {account} -- python3 - {paths}"
    told = fleet.hosts[0].sh(asked, TRIES.encode())
    assert told.returncode == 0, told.stderr
    modes = fleet.sh(0, f"stat -c '%n %a %U %G' {LOCKS} {paths}").splitlines()
    assert modes == [f"{LOCKS} 711 root root", *(f"{LOCKS}/{name} 600 deploy root" for name in NAMES)]


def held_by_a_stranger(fleet: Fleet, name: str) -> str:
    """Hold this lock by a process of the account nobody; return its pid."""
    fleet.sh(0, f"cat >/root/inherits.py <<'END'\n{INHERITS}END")
    fleet.sh(0, f"systemd-run -q --unit=stranger python3 /root/inherits.py {LOCKS}/{name} $(id -u nobody)")
    fleet.sh(0, f"while flock -n {LOCKS}/{name} true; do :; done")
    return fleet.sh(0, "systemctl show -p MainPID --value stranger").strip()


@pytest.mark.parametrize(
    ("name", "verb"),
    [("run", ("deploy",)), ("activate", ("stop",)), ("activate", ("deploy",)), ("activate", ("setup", "--as", "root"))],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_a_holder_that_should_not_be_is_named(fleet: Fleet, name: str, verb: tuple[str, ...]) -> None:
    fleet.edit()
    pid = held_by_a_stranger(fleet, name)
    try:
        ended = fleet.clone.fab(*verb)
    finally:
        fleet.sh(0, "systemctl stop stranger")
    assert ended.status == 1
    assert f"{LOCKS}/{name} is held by process {pid} of nobody, which is neither root nor deploy" in ended.out
    # The holder is no run that will end, so no run waits for it.
    assert "an abandoned run comes to its end" not in ended.out
    assert "Traceback" not in ended.both


def test_a_run_goes_on_with_what_a_boot_and_a_setup_make(fleet: Fleet) -> None:
    fleet.hosts[0].reboot()
    release = fleet.edit()
    fleet.clone.done("deploy")
    assert fleet.answering == [release]
    fleet.sh(0, f"rm -r {LOCKS}")
    ended = fleet.clone.fab("stop")
    assert ended.status == 1
    assert f"deploy cannot write to {LOCKS}/activate, which setup and each boot make: run fab setup" in ended.out
    fleet.clone.done("setup", "--as", "root")
    fleet.clone.done("restart")
    assert fleet.sh(0, "find /opt/apps/myapp -maxdepth 1 -name '.*' -type f") == ""
