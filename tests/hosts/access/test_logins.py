"""The environment of a login, before our code: shells, their output and settings, and accounts that run no command."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.promises.words import ACCESS
from tests.support import packages
from tests.support.fleet import Fleet, deployed
from tests.support.hosts import MakeHosts
from tests.support.ssh_access import sentence
from tests.support.stand_ins import entries

HOME = "/home/deploy"


def sshd(text: str, do: str = "true", undo: str = "true") -> tuple[str, str]:
    """Return the commands that apply these settings to the host's sshd, and remove them."""
    path, restart = "/etc/ssh/sshd_config.d/00-test.conf", "systemctl reset-failed ssh && systemctl restart ssh"
    return f"{do} && echo '{text}' >{path} && {restart}", f"{undo} && rm {path} && {restart}"


@pytest.fixture(scope="module")
def fleet(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    """One host that serves, with two more shells."""
    made = deployed(module_hosts, tmp_path_factory.mktemp("logins"), 1)
    packages.install(made.hosts[0], "tcsh", "libpcre2-32-0", "fish-common", "fish")
    return made


@contextmanager
def changed(fleet: Fleet, do: str, undo: str) -> Iterator[None]:
    """Change the host by these commands of root for the block."""
    fleet.sh(0, do)
    try:
        yield
    finally:
        fleet.sh(0, undo)


def require_working(fleet: Fleet) -> None:
    """Assert that a release arrives and serves, a command runs, and the journal is read."""
    release = fleet.edit()
    fleet.clone.done("deploy")
    assert fleet.answering == [release]
    # In one write: the login's output on the other stream may come between two.
    assert "shire01  here\n" in fleet.clone.done("exec", "--", "printf '\\nhere\\n'").out
    assert re.search("myapp@(blue|green): INFO Listening at", fleet.clone.done("logs", "-n", "50").out)


LINES = [
    "echo one two; false",
    "printf '%s\\n' 'a\\\\b' \"c d\" '$HOME' '`id`' '*'",
    "echo a\necho b",
    "echo hi!there '\"'",
]


@pytest.mark.promise(ACCESS, "a login shell that is no Bourne shell", part=1)
@pytest.mark.parametrize("shell", ["/usr/bin/fish", "/bin/tcsh", "/bin/dash"])
def test_any_login_shell_will_do_and_runs_a_command_as_ssh_would(fleet: Fleet, shell: str) -> None:
    with changed(fleet, f"usermod -s {shell} deploy", "usermod -s /bin/bash deploy"):
        require_working(fleet)
        for line in LINES:
            by_ssh = subprocess.run(
                [*ssh(fleet), line],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            ended = fleet.clone.fab("exec", "--json", "-H", "shire01", "--", line)
            (answer,) = ended.json()["hosts"]
            assert (answer["exit"], answer["output"]) == (by_ssh.returncode, by_ssh.stdout.splitlines()), line


def ssh(fleet: Fleet) -> list[str]:
    """Run OpenSSH's own client on the same host."""
    (entry,) = entries(fleet.hosts.inventory).values()
    loose = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]
    return ["ssh", "-F", "none", *loose, "-i", str(entry["identity"]), f"deploy@{entry['address']}"]


# Without a final newline, so that it precedes our first report on its line.
NOISE = {
    "lines": "echo hello; echo there >&2; trap 'echo bye' EXIT",
    "a piece of a line": "printf 'no end of line'; printf 'nor here' >&2",
    "binary": "head -c 5000 /dev/urandom; printf '\\0\\r\\033[2J@x \\377'; head -c 5000 /dev/urandom >&2",
    "a megabyte in a line": "head -c 1000000 /dev/zero | tr '\\0' x; head -c 100000 /dev/zero >&2",
    "a megabyte in lines": "yes $(printf %01000d 0) | head -c 1000000; yes $(printf %0500d 0) | head -c 1000000 >&2",
    "options": "set -u; set -o noclobber; umask 077; cd /; LC_ALL=xx; IFS=e; CDPATH=/; export LC_ALL IFS CDPATH",
}


@pytest.mark.promise(ACCESS, "a login that prints, and sets what it likes", part=2)
@pytest.mark.parametrize("noise", NOISE)
def test_what_a_login_prints_or_sets_changes_nothing(fleet: Fleet, noise: str) -> None:
    """Once: login output without a final newline hid our first report: a lock and a wrong clock went unnoticed."""
    write = f"tee {HOME}/.bashrc {HOME}/.profile >/dev/null <<'END'\n{NOISE[noise]}\nEND"
    with changed(fleet, write, f"rm {HOME}/.bashrc {HOME}/.profile"):
        doctor = fleet.clone.done("doctor").out
        assert doctor.startswith("shire01  ready\n")
        require_working(fleet)


PLACES = {
    "umask 077": (
        "echo 'session optional pam_umask.so umask=077' >>/etc/pam.d/sshd",
        "sed -i /umask=/d /etc/pam.d/sshd",
    ),
    "a /tmp that runs no programs": ("mount -t tmpfs -o noexec,nosuid tmpfs /tmp", "umount /tmp"),
    "no sftp": sshd(
        "", "sed -i 's/^Subsystem/#&/' /etc/ssh/sshd_config", "sed -i 's/^#Subs/Subs/' /etc/ssh/sshd_config"
    ),
    "no home": sshd(
        "AuthorizedKeysFile /etc/ssh/keys",
        f"install -m 644 {HOME}/.ssh/authorized_keys /etc/ssh/keys && mv {HOME} /home/away",
        f"mv /home/away {HOME}",
    ),
    "no bash": (
        "usermod -s /bin/sh deploy; mv /bin/bash /root/bash",
        "mv /root/bash /bin/bash; usermod -s /bin/bash deploy",
    ),
    "a `date` that is ten years off": (
        "install -m 755 /dev/stdin /usr/local/bin/date <<'END'\n"
        '#!/bin/sh\nexec /bin/date --date="10 years ago" "$@"\nEND',
        "rm /usr/local/bin/date",
    ),
}


@pytest.mark.promise(ACCESS, "a host that lacks what others have", part=2)
@pytest.mark.parametrize("place", PLACES)
def test_a_host_may_lack_what_others_have(fleet: Fleet, place: str) -> None:
    with changed(fleet, *PLACES[place]):
        require_working(fleet)


def bashrc(text: str) -> tuple[str, str]:
    """Return the commands that write this .bashrc for the account, and remove it."""
    return f"echo '{text}' >{HOME}/.bashrc", f"rm {HOME}/.bashrc"


NOTHING = {
    "nologin": (("usermod -s /usr/sbin/nologin deploy", "usermod -s /bin/bash deploy"), "currently not available"),
    "a password that has expired": (("chage -d 0 deploy", "chage -d 2020-01-01 deploy"), "Password change required"),
    "ForceCommand": (sshd("ForceCommand echo only this"), "only this"),
    "sftp alone": (sshd("ForceCommand internal-sftp"), "sftp connections only"),
    "ChrootDirectory": (sshd("ChrootDirectory /srv"), "No such file"),
    "a .bashrc that ends it": (bashrc("echo bye; exit 0"), "bye"),
    "a .bashrc that reads": (bashrc("read line; echo ate it"), "ate it"),
}


@pytest.mark.promise(ACCESS, "a login that runs nothing", part=2)
@pytest.mark.parametrize("case", NOTHING)
def test_a_login_that_runs_nothing_says_so_and_is_no_success(fleet: Fleet, case: str) -> None:
    """Once: fab exec reported success for a command that had never run."""
    (do, undo), told = NOTHING[case]
    with changed(fleet, do, undo):
        expected = ("deploy logged in, but the host ran none of our commands", told, "ForceCommand")
        sentence(fleet.clone, "exec", "--", "touch /tmp/ran", status=1, told=expected)
        assert fleet.hosts[0].sh("test -e /tmp/ran").returncode != 0
        for verb in ("doctor", "deploy"):
            sentence(fleet.clone, verb, status=1, told=expected)


MORE = ("wants more than a key of deploy", "AuthenticationMethods publickey")
CLOSED = {
    "/etc/nologin": (
        ("echo 'down until noon' >/etc/nologin", "rm /etc/nologin"),
        ("closed the connection during login as deploy", "down until noon"),
    ),
    "an account that has expired": (("chage -E 1 deploy", "chage -E -1 deploy"), ("Your account has expired",)),
    "DenyUsers": (sshd("DenyUsers deploy"), ("does not let deploy in with", "by hand: ssh -p 22 -i ")),
    "no such shell": (("usermod -s /bin/none deploy", "usermod -s /bin/bash deploy"), ("does not let deploy in with",)),
    "passwords only": (
        sshd("PubkeyAuthentication no\nPasswordAuthentication yes"),
        ("accepts no key for deploy, only: password",),
    ),
    "a password too": (sshd("AuthenticationMethods publickey,password\nPasswordAuthentication yes"), MORE),
    "a code too": (
        sshd("AuthenticationMethods publickey,keyboard-interactive\nKbdInteractiveAuthentication yes"),
        MORE,
    ),
}


@pytest.mark.promise(ACCESS, "an account that is not let in", part=2)
@pytest.mark.parametrize("case", CLOSED)
def test_who_is_not_let_in_is_told_what_the_host_says(fleet: Fleet, case: str) -> None:
    """Once: a host that asks for a code beside the key made us prompt on the terminal, for every host at once."""
    (do, undo), told = CLOSED[case]
    with changed(fleet, do, undo):
        sentence(fleet.clone, "deploy", status=3, told=told)
