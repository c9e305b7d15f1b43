"""setup, as root, in places where other accounts can write: it stops with a sentence before any change."""

from __future__ import annotations

import pytest

from tests.promises.words import ROOTS_OWN, TWO_RUNS
from tests.support.fleet import Fleet, fleet
from tests.support.stand_ins import entries, write_inventory

__all__ = ["fleet"]

ROOT = "/opt/apps/myapp"
BACKUPS = "/var/backups/integrators-loop"
SETUP = ("setup", "--as", "root")


def require_refusal(fleet: Fleet, *told: str) -> None:
    """Assert one clear sentence, and an unchanged host."""
    look = "find /etc -xdev -type f ! -name 'g*' -printf '%p %T@ %U\\n' | sort | sha256sum"
    before = fleet.sh(0, look)
    ended = fleet.clone.fab(*SETUP)
    assert (ended.status, ended.out.count("  FAILED  ")) == (1, 1), ended.both
    assert "Traceback" not in ended.both
    for text in told:
        assert text in ended.out
    assert fleet.sh(0, look) == before


@pytest.mark.promise(ROOTS_OWN, "a directory above ours that others can write in", part=1)
@pytest.mark.parametrize(
    ("place", "do", "undo"),
    [
        ("/opt/apps", "chmod o+w /opt/apps", "chmod o-w /opt/apps"),
        ("/opt/apps", "chown deploy /opt/apps", "chown root /opt/apps"),
        ("/opt", "chgrp deploy /opt && chmod g+w /opt", "chgrp root /opt && chmod g-w /opt"),
        ("/opt/elsewhere", "mv /opt/apps /opt/elsewhere && ln -s elsewhere /opt/apps && chmod o+w /opt/elsewhere",
         "rm /opt/apps && mv /opt/elsewhere /opt/apps && chmod o-w /opt/apps"),
        (BACKUPS, f"install -d -o deploy {BACKUPS}", f"rmdir {BACKUPS}"),
        (BACKUPS, f"runuser -u deploy -- ln -s /tmp/x /tmp/planted && mv /tmp/planted {BACKUPS}", f"rm {BACKUPS}"),
    ],
    ids=["others", "owner", "group", "behind a link", "the copies", "a link for the copies"],
)  # fmt: skip
def test_root_writes_only_below_what_is_roots_alone(fleet: Fleet, place: str, do: str, undo: str) -> None:
    """Once: setup wrote below directories that others could write in."""
    fleet.sh(0, do)
    try:
        require_refusal(fleet, f"{place} is not root's alone", f"chown root:root {place}")
    finally:
        fleet.sh(0, undo)
    fleet.clone.done(*SETUP)


@pytest.mark.promise(TWO_RUNS, "setup in the middle of a switch")
def test_setup_waits_for_nobody_and_says_who_is_at_work(fleet: Fleet) -> None:
    """Once: setup ran in the middle of another run's switch."""
    lock, who = "/run/myapp/lock/activate", '{"git":"Ann","host":"desk"}'
    line = f'{{"time":"2026-01-01T00:00:00Z","run":"r","action":"deploy","release":"abc","who":{who},"group":0}}'
    fleet.sh(0, f"echo '{line}' >{lock}; flock {lock} sleep 1000 </dev/null >/dev/null 2>&1 & echo $! >/run/holder; "
                f"while flock -n {lock} true; do :; done")  # fmt: skip
    try:
        require_refusal(fleet, "Ann (on desk) is at work here since 2026-01-01T00:00:00Z: deploy of abc")
    finally:
        fleet.sh(0, f"kill $(cat /run/holder) $(pgrep -P $(cat /run/holder)); until flock -n {lock} true; do :; done")
    fleet.clone.done(*SETUP)
    assert '"action":"setup"' in fleet.sh(0, f"cat {lock}; flock -n {lock} true")


@pytest.mark.promise(TWO_RUNS, "setup in the middle of a switch")
def test_a_verb_in_the_middle_of_setup_is_told_so(fleet: Fleet) -> None:
    fleet.clone.environment["FAILPOINT"] = "setup.files=stall"
    with fleet.clone.start(*SETUP) as process:
        del fleet.clone.environment["FAILPOINT"]
        assert process.stdout
        next(line for line in process.stdout if "stall" in line)
        ended = fleet.clone.fab("stop")
        fleet.sh(0, "pkill -9 -f '[s]tream = sys.stdin'")
        assert process.wait(60) == 1
    assert ended.status == 1
    assert "is at work here since" in ended.out
    assert ": setup  (" in ended.out
    # A killed process holds no lock.
    fleet.sh(0, "until flock -n /run/myapp/lock/activate true; do :; done")
    fleet.clone.done(*SETUP)


@pytest.mark.promise(ROOTS_OWN, "something planted in the place of the former lock of setup")
@pytest.mark.parametrize("plant", ["mkfifo {}", "mkdir {}", "ln -s /etc/shadow {}"], ids=["pipe", "directory", "link"])
def test_nothing_planted_where_the_lock_was_is_looked_at(fleet: Fleet, plant: str) -> None:
    former = f"{ROOT}/.activating"
    look = "stat -c '%s %Y %U %a' /etc/shadow"
    before = fleet.sh(0, look)
    fleet.sh(0, f"runuser -u deploy -- {plant.format(former)}")
    try:
        fleet.clone.done(*SETUP)
    finally:
        fleet.sh(0, f"rm -rf {former}")
    assert fleet.sh(0, look) == before


@pytest.mark.promise(ROOTS_OWN, "a hard link planted by an account that deploys no more")
def test_a_new_account_is_given_no_file_that_was_not_the_former_ones(fleet: Fleet) -> None:
    """Once: a change of the deploy account gave the new one files that the former had only linked to."""
    inventory = fleet.clone.inventory
    assert inventory
    (host,) = entries(inventory).values()
    fleet.sh(0, f"useradd -m other; echo keep >/etc/precious; ln /etc/precious {ROOT}/releases/planted")
    fleet.clone.inventory = write_inventory(inventory.with_name("other.yaml"), {"shire01": {**host, "user": "other"}})
    try:
        require_refusal(fleet, f"{ROOT}/releases/planted is neither deploy's nor other's")
        assert fleet.sh(0, "stat -c %U /etc/precious") == "root\n"
        fleet.sh(0, f"rm {ROOT}/releases/planted")
        fleet.clone.done(*SETUP)
        assert fleet.sh(0, f"find {ROOT} ! -user other") == ""
    finally:
        fleet.clone.inventory = inventory
    fleet.clone.done(*SETUP)
    assert fleet.sh(0, f"find {ROOT} ! -user deploy") == ""
