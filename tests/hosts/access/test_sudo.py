"""sudo for the deploy account, with each kind of refusal: at setup, and between deploys."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.promises.words import ACCESS
from tests.support.fleet import Fleet, deployed
from tests.support.hosts import MakeHosts
from tests.support.ssh_access import sentence

FULL = "deploy ALL=(ALL) NOPASSWD: ALL"
# PAM admits an account that sudo then refuses.
PAM = "/etc/pam.d/sshd"
LENIENT = f"sed -i.kept 's/@include common-account/account required pam_permit.so/' {PAM}"


@pytest.fixture(scope="module")
def served(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    """One host that serves, whose deploy account has a password."""
    made = deployed(module_hosts, tmp_path_factory.mktemp("sudo"), 1)
    made.sh(0, "echo deploy:secret | chpasswd; cp /usr/bin/sudo /root/sudo")
    return made


@pytest.fixture
def fleet(served: Fleet) -> Iterator[Fleet]:
    """The host of `served`; after the test sudo is restored."""
    yield served
    served.sh(0, "cp --remove-destination /root/sudo /usr/bin/sudo; chmod 4755 /usr/bin/sudo")
    served.sh(0, f"[ ! -e {PAM}.kept ] || mv {PAM}.kept {PAM}; chage -d 2020-01-01 -E -1 deploy")
    rules(served, FULL)


def rules(fleet: Fleet, text: str) -> None:
    """Write the account's sudoers rules beside those of setup."""
    fleet.sh(0, f"printf '%s\\n' '{text}' | install -m 440 /dev/stdin /etc/sudoers.d/deploy && visudo -c -q")


AS_ROOT = "fab setup -H shire01 --as root"
UNASKED = "this needs root once, and deploy may not use sudo without a password"
# The command as root, the sudoers rule, and the message of fab.
REFUSALS = {
    "it wants a password": ("true", "deploy ALL=(ALL) ALL", (UNASKED, FULL)),
    "it does not know the account": ("true", "", (UNASKED, FULL)),
    "other commands only": ("true", "deploy ALL=(ALL) NOPASSWD: /usr/bin/id", (UNASKED, FULL)),
    "other commands only, and nothing is asked": (
        "true",
        "Defaults !authenticate\ndeploy ALL=(ALL) /usr/bin/id",
        ("sudo refuses deploy: Sorry, user deploy is not allowed to execute", FULL),
    ),
    "it wants a terminal": (
        "true",
        f"Defaults requiretty\n{FULL}",
        ("sudo refuses deploy: sorry, you must have a tty", "Defaults:deploy !requiretty"),
    ),
    "the account has expired, and sshd does not mind": (
        f"{LENIENT}; chage -E 1 deploy",
        FULL,
        ("sudo refuses deploy: account validation failure", "chage -l deploy"),
    ),
    "it is not setuid": ("chmod 755 /usr/bin/sudo", FULL, ("must be owned by uid 0 and have the setuid", "chmod 4755")),
    "it is missing": ("rm /usr/bin/sudo", FULL, ("there is no sudo for deploy", "install sudo")),
}


@pytest.mark.promise(ACCESS, "sudo refuses the account", part=3)
@pytest.mark.parametrize("case", REFUSALS)
def test_what_sudo_says_is_told_with_the_way_on_and_nothing_was_done(fleet: Fleet, case: str) -> None:
    do, text, told = REFUSALS[case]
    rules(fleet, text)
    fleet.sh(0, do)
    seen = "cat /etc/systemd/system/myapp* /etc/nginx/conf.d/* /etc/sudoers.d/myapp | sha256sum; ls -A /run"
    before = fleet.sh(0, seen)
    sentence(fleet.clone, "setup", status=1, told=(*told, AS_ROOT))
    assert fleet.sh(0, seen) == before
    # No password was tried: where three wrong ones lock an account, fab must try none.
    assert "authentication failure" not in fleet.sh(0, "journalctl -q -o cat -t sudo")


@pytest.mark.promise(ACCESS, "sudo refuses the account", part=3)
def test_a_password_that_has_expired_is_none_that_sudo_asks_for(fleet: Fleet) -> None:
    fleet.sh(0, f"{LENIENT}; chage -d 0 deploy")
    fleet.clone.done("setup")


@pytest.mark.promise(ACCESS, "sudo refuses the account", part=3)
def test_as_root_helps_where_sudo_does_not(fleet: Fleet) -> None:
    rules(fleet, "")
    fleet.clone.done("setup", "--as", "root")
    fleet.clone.done("restart")


@pytest.mark.promise(ACCESS, "sudo refuses what it allowed yesterday")
@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", ("sudo says: a password is required", AS_ROOT)),
        ("Defaults requiretty", ("sudo says: sorry, you must have a tty", "Defaults:deploy !requiretty")),
    ],
    ids=["its rules are gone", "it wants a terminal now"],
)
def test_a_day_on_which_sudo_says_no_leaves_what_serves(fleet: Fleet, text: str, told: tuple[str, ...]) -> None:
    before = fleet.answering
    rules(fleet, text)
    if not text:
        fleet.sh(0, "mv /etc/sudoers.d/myapp /root/rules")
    try:
        doctor = fleet.clone.fab("doctor")
        assert doctor.status == 1
        assert "STOPS  sudo does not let deploy start and stop the service" in doctor.out
        for verb in ("restart", "stop"):
            ended = sentence(fleet.clone, verb, status=1, told=(*told, f"serves now: release {before[0]}", "healthy"))
            assert "fab logs" not in ended.out
        assert fleet.answering == before
    finally:
        if not text:
            fleet.sh(0, "mv /root/rules /etc/sudoers.d/myapp")


@pytest.mark.promise(ACCESS, "sudo wants a password")
def test_a_password_is_never_asked_for_nor_taken(fleet: Fleet) -> None:
    ended = fleet.clone.fab("--prompt-for-sudo-password", "setup")
    assert ended.status == 2
    assert "fab setup --as root" in ended.err
    rules(fleet, "deploy ALL=(ALL) ALL")
    fleet.clone.environment |= {"FABRIC_SUDO_PASSWORD": "secret"}
    try:
        sentence(fleet.clone, "setup", status=1, told=(UNASKED,))
    finally:
        del fleet.clone.environment["FABRIC_SUDO_PASSWORD"]
