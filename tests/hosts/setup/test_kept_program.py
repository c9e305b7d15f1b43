"""The copy of the host's program on a real host: checked before each use, rebuilt if damaged, watched by drift."""

from __future__ import annotations

import json
import shlex

import pytest

from tasks.engine.host import host_program
from tests.support.clone import make, quicken
from tests.support.hosts import MakeHosts
from tests.support.site import ROOT, Site

pytestmark = pytest.mark.sandbox

PLACE = host_program.place(ROOT)


@pytest.fixture(scope="module")
def site(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> Site:
    hosts = module_hosts()
    made = Site(make(tmp_path_factory.mktemp("kept"), hosts.inventory), hosts[0])
    quicken(made.clone)
    made.deploy()
    return made


def test_it_is_the_deploy_accounts_and_nobody_else_can_write_there(site: Site) -> None:
    assert set(site.sh(f"stat -c '%U %a' {ROOT}/.program {PLACE} {PLACE}/host").splitlines()) == {"deploy 755"}
    assert site.sh(f"find {PLACE} -type f ! -perm 0644 -name '*.py'") == ""


@pytest.mark.parametrize(
    "fault", ["echo 'raise SystemExit(7)' >>{}/host/activate.py", "rm {}/host/change_lock.py", "rm -r {}"]
)
def test_what_is_damaged_is_never_run_and_is_sent_anew(site: Site, fault: str) -> None:
    site.sh(fault.format(PLACE))
    assert PLACE in site.fab("drift").out or fault == "rm -r {}"
    site.done("restart")
    site.sh(f"test -f {PLACE}/host/change_lock.py && ! grep -q SystemExit.7 {PLACE}/host/activate.py")
    assert PLACE not in site.fab("drift").out


def test_another_interpreter_in_its_place_is_drift(site: Site) -> None:
    """Once: drift did not notice that another interpreter would run the copy of the program."""
    was = site.sh(f"cat {PLACE}/python")
    script = "'#!/bin/sh\\nexec /usr/bin/python3 \"$@\"\\n'"
    site.sh(f"printf {script} >/srv/python3.11 && chmod 755 /srv/python3.11")
    site.sh(f"runuser -u deploy -- sh -c 'echo /srv/python3.11 >{PLACE}/python'")
    for words in ((), ("--as", "root")):
        ended = site.fab("drift", *words)
        assert (ended.status, f"EDITED  {PLACE}/python: it names no interpreter" in ended.out) == (1, True)
    # As drift's message advises.
    site.sh(f"rm -r {PLACE}")
    site.done("restart")
    assert site.sh(f"cat {PLACE}/python") == was
    assert f"{PLACE}" not in site.fab("drift").out


def test_every_verb_sends_it_where_it_is_gone(site: Site) -> None:
    for words in (("maintenance", "on"), ("maintenance", "off"), ("stop",), ("start",)):
        site.sh(f"rm -rf {PLACE}")
        site.clone.done(*words, "-H", "shire01")
    site.deploy()
    site.sh(f"test -f {PLACE}/host/change_lock.py")


def test_a_guard_runs_from_it(site: Site) -> None:
    assert f"{PLACE}/__main__.py" in site.sh("cat /run/myapp/ctl/probation/script")


def typed(words: str) -> str:
    """Return what root types, as HOST.md has it."""
    return f"sudo setsid -w runuser -u deploy -- python3 -I -S {PLACE}/__main__.py {words} </dev/null 2>&1 | cat -v"


def by_hand(site: Site, words: str) -> str:
    return site.sh(typed(words))


# Run in the place of the program: look for a terminal, and type into it.
INTRUDER = """
import fcntl, os, termios
found = [f"stream {number}" for number in (0, 1, 2) if os.isatty(number)]
try:
    found.append(f"/dev/tty {os.open('/dev/tty', os.O_RDWR)}")
except OSError:
    pass
for number in range(64):
    try:
        for letter in "\\ntouch /root/typed\\n":
            fcntl.ioctl(number, termios.TIOCSTI, letter.encode())
    except OSError:
        continue
    found.append(f"typed at {number}")
print("a terminal:", found or "none", os.getuid())
print("\\x1b]0;title\\7")
"""


@pytest.mark.parametrize("pty", ["use_pty", "!use_pty"])
def test_a_program_that_the_deploy_account_wrote_gets_no_terminal_of_root(site: Site, pty: str) -> None:
    """Once: it typed into root's shell, where the kernel allows that and sudo makes no terminal of its own."""
    site.sh(f"echo 'Defaults {pty}' >/etc/sudoers.d/pty; cp -p {PLACE}/__main__.py /root/kept")
    try:
        assert "service      myapp on " in site.sh(f"script -qec {shlex.quote(typed('status'))} /dev/null")
        site.machine.sh(f"cat >{PLACE}/__main__.py", INTRUDER.encode())
        told = site.sh(f"script -qec {shlex.quote(typed('status'))} /dev/null")
        assert f"a terminal: none {site.sh('id -u deploy')}" in told
        assert "^[]0;title^G" in told
    finally:
        site.sh(f"cp -p /root/kept {PLACE}/__main__.py; rm /root/kept /etc/sudoers.d/pty")
    site.sh("! test -e /root/typed")


def test_an_operator_goes_back_by_hand_and_sees_what_is_run(site: Site) -> None:
    first = site.deploy()
    second = site.deploy()
    site.sh("rm -f /run/myapp/ctl/probation/script")
    step = json.loads(by_hand(site, f"plan {first}"))
    assert (step["action"], step["release"], step["expect"]) == ("rollback", first, [second])
    told = by_hand(site, f"activate {first} --verbose")
    assert "+ sudo -n /usr/bin/systemctl start myapp-live@" in told
    assert f"step committed {first}" in told
    assert site.answering == first
    assert site.history[-1]["who"]["user"] == "deploy"
    site.sh(f"sudo -u deploy python3 -I -S {PLACE}/__main__.py plan {second} >/tmp/step.json")
    assert f"step committed {second}" in by_hand(site, "run /tmp/step.json")


def test_by_hand_nothing_begins_while_a_controller_is_at_work(site: Site) -> None:
    """Once: it took the controller's run for one without a controller, and ended it."""
    first = site.deploy()
    second = site.deploy()
    holder = json.dumps({"run": "r1", "action": "deploy", "who": {"user": "frodo"}})
    site.sh(f"printf %s {shlex.quote(holder)} >/run/myapp/lock/run")
    words = f"sudo -u deploy python3 -I -S {PLACE}/__main__.py activate {first}"
    ended = site.machine.sh(f"flock /run/myapp/lock/run {words}")
    assert (ended.returncode, b"frodo" in ended.stdout) == (75, True)
    assert site.answering == second
    site.sh('echo \'{"step": "activate"}\' >/tmp/half.json')
    ended = site.machine.sh(words.replace(f"activate {first}", "run /tmp/half.json"))
    assert (ended.returncode, b"is not a step" in ended.stderr) == (1, True)


def test_an_operator_is_told_how_the_host_stands_and_what_to_type(site: Site) -> None:
    first = site.deploy()
    second = site.deploy()
    before = site.outcomes
    # As the README in it advises.
    command = site.sh(f"grep ^Status: {ROOT}/README").partition(":")[2].partition("(says")[0]
    told = site.sh(f"cd {ROOT} && {command}")
    assert "Traceback" not in told
    line = dict(one.split(None, 1) for one in told.splitlines())
    assert line["live"].startswith(f"{second} on slot {site.slot} since 20")
    assert "(deploy by " in line["live"]
    assert (line["committed"], line["health"]) == (
        f"{second}, which a boot starts",
        "healthy; slot: ok; front door: ok",
    )
    assert (line["probation"], line["maintenance"], line["lock"]) == ("none", "off", "free")
    assert {f"myapp@{site.slot}.service active", f"myapp@{site.other}.service inactive", "nginx.service active"} <= {
        one.split(None, 1)[1] for one in told.splitlines() if one.startswith("unit")
    }
    assert line["history"].split()[1:4] == ["deploy", second, "done"]
    assert f"kept         {first} since" in told
    site.sh("systemctl stop nginx; mkdir /opt/apps/myapp/maintenance")
    try:
        assert "next         as root: systemctl start nginx" in by_hand(site, "status")
    finally:
        site.sh("systemctl start nginx")
    told = by_hand(site, "status")
    assert "maintenance  ON: clients get 503" in told
    site.sh(dict(one.split(None, 1) for one in told.splitlines())["next"].partition(": ")[2])
    # Its output goes back.
    command = by_hand(site, "status").rpartition("Back to the release before: ")[2]
    assert site.outcomes == before
    assert f"step committed {first}" in site.sh(command)
    assert site.answering == first


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("python3 -I -S {}/__main__.py status", "sudo setsid -w runuser -u deploy -- /usr/bin/python3"),
        ("sudo -u deploy python3 -I -S {}/__main__.py status x", "plan RELEASE"),
        ("python3 -I -S {}/__main__.py plan x", "__main__.py plan x </dev/null 2>&1 | cat -v"),
        ("sudo -u deploy python3 -I -S {}/__main__.py help", "plan RELEASE"),
        ("sudo -u deploy python3 -I -S {}/__main__.py run /etc/hostname", "is not a step"),
        ("sudo -u deploy python3 -I -S {}/__main__.py run /none", "/none: No such file"),
        ("sudo -u deploy python3 -I -S {}/__main__.py activate 000000000000", "is not on this host"),
    ],
)
def test_a_mistake_by_hand_is_said_and_changes_nothing(site: Site, command: str, told: str) -> None:
    before = site.outcomes
    ended = site.machine.sh(command.format(PLACE))
    text = (ended.stdout + ended.stderr).decode()
    assert ended.returncode != 0
    assert told in text
    assert "Traceback" not in text
    assert site.outcomes == before
