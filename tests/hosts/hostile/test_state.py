"""A host with foreign files and bad state: every verb works there, or gives the reason in a sentence."""

from __future__ import annotations

import pytest

from tests.promises.words import ACCESS, CALM
from tests.support.fleet import Fleet, deployed, undeployed
from tests.support.hosts import MakeHosts

ROOT = "/opt/apps/myapp"
RECORDS = ("{", "[]", "null", '{"id": "../../etc", "dirty": NaN}', '{"id": "$(reboot)"}', "[" * 40000, '{"id": "x"} {')
"""Contents for release.json."""
HISTORY = (
    '{"time":"2026-01-01T00:00:00Z","run":"r","action":"deploy","rel', "\\377\\001\\033[2J", "null", "[" * 40000,
    '{"time":NaN,"run":Infinity,"action":["deploy"],"release":{},"state":"started","who":[],"why":-Infinity}',
    '{"action":"deploy","state":"done","release":"$(reboot)","who":{"git":"\\033[31m"}}', "", "{{{{",
)  # fmt: skip
NAMES = ("a b", "$(reboot)", "-n", "*", "new\nline", "'", "\\", "\033[31m", ".hidden", "%s", "ü")


def litter(folder: str, *suffixes: str) -> str:
    """Return commands that make files, directories and links with every kind of name in a directory."""
    lines = [f"cd {folder}"]
    for number, name in enumerate(NAMES):
        for suffix in ("", *suffixes):
            path = "'./" + f"{name}{suffix}".replace("'", "'\\''") + "'"
            make = ("echo x >{}", "mkdir -p {}/deep", "ln -s /nowhere {}", "mkfifo {}", "ln -s . {}")
            lines.append(f"[ -e {path} ] || " + make[(number + len(suffix)) % len(make)].format(path))
    return "\n".join(lines)


def of_the_account() -> str:
    """Return commands that litter the deploy account's directory, and its part of /run."""
    places = [litter(f"{ROOT}/{place}") for place in ("releases", "venvs", "slots", "slots/blue", "slots/green")]
    places += [litter(f"{ROOT}/wheels", ".whl"), litter(ROOT), litter("/run/myapp/try"), litter("/run/myapp/ctl")]
    for number, record in enumerate(RECORDS):
        places.append(f"mkdir -p {ROOT}/releases/odd{number}")
        places.append(f"cat >{ROOT}/releases/odd{number}/release.json <<'END'\n{record}\nEND")
    places.append(f"mkdir -p {ROOT}/releases/odd-a/release.json {ROOT}/releases/odd-b")
    places.append(f"mkfifo {ROOT}/releases/odd-b/release.json")
    places += [f"printf '{line}\\n' >>{ROOT}/history.jsonl" for line in HISTORY]
    return "\n".join([*places, f'printf \'{{"time":"2026\' >>{ROOT}/history.jsonl'])


def of_root() -> str:
    """Return commands that litter root's directories."""
    return "\n".join(litter(place) for place in ("/etc/myapp", "/run/myapp", "/etc/myapp/tls"))


@pytest.fixture(scope="module")
def fleet(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    """One host that serves the second release of two, with litter."""
    made = deployed(module_hosts, tmp_path_factory.mktemp("litter"), 1)
    made.edit()
    made.clone.done("deploy")
    for command, text in (("runuser -u deploy -- sh -eu", of_the_account()), ("sh -eu", of_root())):
        ended = made.hosts[0].sh(command, text.encode())
        assert ended.returncode == 0, ended.stderr.decode()
    return made


# These verbs report extra files, a wrong history and a pending change.
FOUND = {"drift": 1, "history --verify": 1, "plan --check": 1}
VERBS = (
    "plan", "status", "status --json", "releases", "releases --json", "health", "history", "history --json",
    "history --verify", "doctor", "drift", "logs", "deploy", "rollback", "restart", "setup", "stop", "start",
    "maintenance on", "maintenance off", "plan --check",
)  # fmt: skip


FEW = ("plan", "status", "drift", "logs", "deploy", "setup", "maintenance on", "maintenance off")
FURTHER = pytest.mark.further("test_every_verb_works_on_a_littered_host")


@pytest.mark.parametrize("verb", [verb if verb in FEW else pytest.param(verb, marks=FURTHER) for verb in VERBS])
@pytest.mark.promise(CALM, "a host that is littered, verb by verb")
def test_every_verb_works_on_a_littered_host(fleet: Fleet, verb: str) -> None:
    release = fleet.edit() if verb == "deploy" else None
    if verb == "start":
        fleet.clone.done("stop")
    ended = fleet.clone.fab(*verb.split(), timeout=120)
    assert ended.status == FOUND.get(verb, 0), ended.both
    assert "Traceback" not in ended.both
    assert "\033[31m" not in ended.both
    if "--json" in verb:
        assert ended.json()["errors"] == []
    if verb == "stop":
        fleet.clone.done("start")
    assert not release or fleet.answering == [release]


@pytest.mark.promise(CALM, "a host on which root has left a directory among the venvs")
def test_what_cannot_be_swept_away_does_not_make_a_deploy_fail(fleet: Fleet) -> None:
    """Once: a finished deploy was reported as failed, because root had left a directory among the venvs."""
    fleet.sh(0, f"mkdir -p {ROOT}/venvs/roots/deep")
    try:
        release = fleet.edit()
        fleet.clone.done("deploy")
        assert fleet.answering == [release]
        fleet.sh(0, "flock -w 60 /run/myapp/lock/guard true")
        said = fleet.clone.done("logs", "-n", "100").out
        assert f"{ROOT}/venvs/.part-old-roots is not used any more, and cannot be removed" in said
        assert fleet.sh(0, "systemctl is-failed 'myapp-probation@*' || :") in {"", "inactive"}
    finally:
        fleet.sh(0, f"rm -rf {ROOT}/venvs/roots {ROOT}/venvs/.part-old-roots")


@pytest.mark.promise(CALM, "a host that is littered, verb by verb")
def test_a_littered_host_is_cleared(fleet: Fleet) -> None:
    fleet.clone.done("remove", "--yes")
    assert fleet.sh(0, f"ls -d {ROOT} /run/myapp /etc/myapp/* 2>/dev/null || :") == "/etc/myapp/setup\n"


GONE = "rm /etc/systemd/system/myapp-probation@.service && systemctl daemon-reload"


@pytest.mark.further("tests/hosts/setup/test_layouts.py::test_a_host_that_serves_is_moved_and_no_request_is_lost")
@pytest.mark.promise(ACCESS, "a host that was set up by an older version")
def test_a_host_of_an_older_version_is_told_before_anything_is_begun(
    hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Once: on a host that was set up by an older version a restart began, and its probation did not start."""
    fleet = undeployed(hosts, tmp_path_factory.mktemp("older"), 1)
    fleet.clone.replace("service/service.yaml", "\nprobation: 0 ", "\nprobation: 1 ")
    fleet.clone.done("deploy", "--wait")
    fleet.edit()
    fleet.clone.done("deploy", "--wait")
    fleet.sh(0, "sed -i -e /^layout/d -e /^account/d -e s/^user/account/ /etc/myapp/setup")
    before = fleet.history("shire01")
    for words in (("restart",), ("--dry", "restart"), ("rollback",), ("--dry", "rollback"), ("stop",), ("start",)):
        ended = fleet.clone.fab(*words)
        assert ended.status == 1, ended.both
        assert "an older version of this tool set the host up" in ended.both
        assert "next: fab setup -H shire01" in ended.both
    assert fleet.history("shire01") == before
    fleet.clone.done("setup")
    fleet.clone.done("restart", "--wait")
    fleet.sh(0, GONE)
    assert "write /etc/systemd/system/myapp-probation@.service" in fleet.clone.done("plan").out
    fleet.edit()
    fleet.clone.done("deploy", "--wait")
