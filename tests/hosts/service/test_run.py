"""`fab run`: a command in the place of a release, on a real host."""

from __future__ import annotations

import hashlib
import json
import random
import re
import shlex
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.promises.words import STUCK, UNHINDERED
from tests.support.clone import make, quicken
from tests.support.hosts import MakeHosts
from tests.support.site import ROOT, Site
from tests.support.terminal import answer

RUN = ("run", "-H", "shire01", "--")


@pytest.fixture(scope="module")
def site(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> Site:
    hosts = module_hosts(2)
    made = Site(make(tmp_path_factory.mktemp("run"), hosts.inventory), hosts[0])
    quicken(made.clone)
    made.clone.replace(
        "service/service.yaml", "processes:\n", "processes:\n  clock: {command: sleep 9999, env: {GREETING: tick}}\n"
    )
    made.clone.replace("templates/systemd/run-watchdog.conf", "WatchdogSec=30", "WatchdogSec=8")
    made.clone.replace("templates/systemd/run-seconds.conf", "RuntimeMaxSec=15", "RuntimeMaxSec=6")
    made.clone.done("deploy", "-H", "all")
    made.drained()
    return made


def started(site: Site, *words: str, **options: object) -> subprocess.Popen[bytes]:
    return site.clone.start(*RUN, *words, text=False, **options)  # type: ignore[return-value]


def piped(site: Site, data: bytes, *words: str) -> tuple[int, bytes, bytes]:
    with started(site, *words, stdin=subprocess.PIPE) as process:
        out, err = process.communicate(data, timeout=120)
    return process.returncode, out, err


_ASK = """
import json, os, socket, struct, sys
values = {"argv": ["sh", "-c", sys.argv[2]], "process": "web", "release": "", "term": "", "rows": 0, "columns": 0}
request, held = json.dumps(values).encode(), []
for _ in range(int(sys.argv[3])):
    held.append(socket.socket(socket.AF_UNIX))
    held[-1].connect(f"/run/myapp/{sys.argv[1]}.sock")
    held[-1].sendall(struct.pack(">cI", b"R", len(request)) + request)
for one in held:
    assert one.recv(1) == b"1"
    one.sendall(struct.pack(">cI", b"I", 1) + os.linesep.encode())
if not os.fork():
    for number in range(3):
        os.dup2(os.open(os.devnull, os.O_RDWR), number)
    for one in held:
        while one.recv(99):
            pass
"""


def ask(site: Site, socket: str, command: str, count: int) -> None:
    """Start commands that print a line and may read one, by that socket; keep their connections open."""
    site.sh(f"runuser -u deploy -- python3 -c {shlex.quote(_ASK)} {socket} {shlex.quote(command)} {count}")


def gone(site: Site, pattern: str) -> None:
    """Wait until no process of the service has this command line, and no command counts as running."""
    site.sh(f"while pgrep -u myapp -f {pattern} >/dev/null; do sleep 0.1; done")
    listed = "systemctl list-units --plain --no-legend --state=active,activating,deactivating 'myapp-run@*.service'"
    site.sh(f"while {listed} | grep -q .; do sleep 0.1; done")


def test_it_runs_as_the_service_in_its_sandbox_with_its_venv_and_environment(site: Site) -> None:
    release = site.answering
    shown = site.clone.done(
        *RUN, "sh", "-c", "id -un; pwd; command -v python; echo $GREETING $RELEASE $STATE_DIRECTORY"
    )
    assert shown.out.splitlines() == [
        "myapp", f"{ROOT}/releases/{release}/code", f"{ROOT}/releases/{release}/venv/bin/python",
        f"hello {release} /var/lib/myapp",
    ]  # fmt: skip
    site.clone.done(*RUN, "python", "-c", "import flask; open('/var/lib/myapp/made', 'w').close()")
    refused = site.clone.fab(*RUN, "touch", f"{ROOT}/releases/{release}/code/x")
    assert (refused.status, refused.out) == (1, "")
    assert "Read-only file system" in refused.err
    # It has no network, as the service has none, and no rights that sudo gave the deploy account.
    assert site.clone.fab(*RUN, "python", "-c", "import socket; socket.create_connection(('198.18.0.1', 22), 3)").status
    assert "myapp-run@" in site.clone.done(*RUN, "cat", "/proc/self/cgroup").out
    assert site.sh("journalctl -q -o cat -u 'myapp-run@*' | grep -c Traceback || :") == "0"


def test_it_gets_the_environment_of_the_process_that_is_named(site: Site) -> None:
    clock = ("run", "-H", "shire01", "--process", "clock", "--")
    assert site.clone.done(*clock, "printenv", "GREETING").out == "tick\n"
    assert site.sh("tr '\\0' '\\n' </proc/$(pgrep -u myapp -f 'sleep 9999')/environ | grep GREETING") == "GREETING=tick"
    unknown = site.clone.fab("run", "-H", "shire01", "--process", "no", "--", "true")
    assert (unknown.status, "name one of: web, clock" in unknown.err) == (125, True)


def test_each_stream_comes_apart_as_it_is_and_the_status_is_passed_through(site: Site) -> None:
    status, out, err = piped(site, b"", "sh", "-c", r"printf 'a\000\377b'; printf '\033[31mred' >&2; exit 7")
    assert (status, out, err) == (7, b"a\0\xffb", b"\x1b[31mred")
    assert site.clone.fab(*RUN, "sh", "-c", "kill -9 $$").status == 137
    assert site.clone.done(*RUN, "echo", "a  b", "$HOME", "'").out == "a  b $HOME '\n"
    missing = site.clone.fab(*RUN, "nothing-there")
    assert missing.status == 127
    assert "nothing-there" in missing.err


def test_input_of_any_size_is_passed_on_and_output_does_not_wait_for_it(site: Site) -> None:
    data = random.Random(5).randbytes(20_000_000)
    assert piped(site, data, "cat") == (0, data, b"")
    digest = hashlib.sha256(data).hexdigest().encode()
    assert piped(site, data, "sha256sum")[1].split()[0] == digest
    # A command that reads nothing, and ends, is not held up by what it was to read.
    assert piped(site, data, "true") == (0, b"", b"")


def test_output_comes_at_once(site: Site) -> None:
    with started(site, "sh", "-c", "echo first; read line; echo got $line", stdin=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdin
        assert process.stdout.readline() == b"first\n"
        process.stdin.write(b"word\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"got word\n"
        assert process.wait(60) == 0


def test_on_a_terminal_it_gets_one_of_that_kind_and_size(site: Site) -> None:
    words = [*RUN, "sh", "-c", "tty; stty size; echo $TERM; printf 'name? '; read name; echo hello $name"]
    ended = answer(site.clone, words, "name? ", "Bilbo")
    assert ended.status == 0, ended.out
    assert "/dev/pts/" in ended.out
    assert re.search(r"\b0 0\b|\b24 80\b", ended.out)
    assert ended.out.rstrip().endswith("hello Bilbo")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_reaches_the_command(site: Site, number: int) -> None:
    code = "import signal, sys; signal.signal(%d, lambda *_: sys.exit(9)); print('up', flush=True); signal.pause()"
    with started(site, "python", "-c", code % number) as process:
        assert process.stdout
        assert process.stdout.readline() == b"up\n"
        process.send_signal(number)
        assert process.wait(60) == 9


def test_a_command_whose_controller_is_gone_ends(site: Site) -> None:
    with started(site, "sh", "-c", "trap '' HUP; echo up; exec sleep 98765") as process:
        assert process.stdout
        assert process.stdout.readline() == b"up\n"
        process.kill()
    gone(site, "98765")


def test_a_command_that_reads_nothing_ends_with_its_controller_however_much_it_was_sent(site: Site) -> None:
    with (
        Path("/dev/zero").open("rb") as zeros,
        started(site, "sh", "-c", "echo up; exec sleep 98763", stdin=zeros) as process,
    ):
        assert process.stdout
        assert process.stdout.readline() == b"up\n"
        # The server has read all that it keeps for the command when no more can be sent to it.
        site.sh("until ss -Hx src /run/myapp/run.sock | awk '$3 > 0 {found = 1} END {exit !found}'; do sleep 0.1; done")
        process.kill()
    gone(site, "98763")


@pytest.mark.promise(STUCK, "a command that stops its own server", part=1)
def test_a_command_that_stops_its_server_is_named_and_ends(site: Site) -> None:
    stop = "echo up; read line; kill -STOP $PPID; exec sleep 98761"
    with started(site, "sh", "-c", stop, stdin=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdin
        assert process.stdout.readline() == b"up\n"
        process.stdin.write(b"\n")
        process.stdin.flush()
        site.sh("until ps -o stat= -u myapp | grep -q ^T; do sleep 0.1; done")
        unit = next(iter(json.loads(site.clone.done("status", "-H", "shire01", "--json").out)["hosts"][0]["commands"]))
        assert unit.startswith("myapp-run@")
        process.kill()
    gone(site, "98761")


@pytest.mark.promise(STUCK, "a health command that stops its own server", part=1)
def test_a_health_command_that_stops_its_server_ends(site: Site) -> None:
    ask(site, "health", "echo up; read line; kill -STOP $PPID; exec sleep 98764", 1)
    gone(site, "98764")


@pytest.mark.promise(STUCK, "as many commands as may run at once", part=1)
def test_when_no_more_commands_may_run_it_says_which_do_and_a_stop_ends_them(site: Site) -> None:
    ask(site, "run", "echo up; exec sleep 98762", 16)
    refused = site.clone.fab(*RUN, "true")
    assert refused.status == 125
    assert "no more than 16 commands may run at once" in refused.err
    assert refused.err.count("myapp-run@") >= 16
    doctor = site.clone.fab("doctor", "-H", "shire01")
    assert "myapp-run@" in doctor.both
    site.done("stop")
    assert site.sh("pgrep -u myapp || :") == ""
    site.done("start")
    site.clone.done(*RUN, "true")


def test_what_it_leaves_behind_is_ended_with_it(site: Site) -> None:
    assert site.clone.done(*RUN, "sh", "-c", "setsid sleep 87654 & echo $$").out.strip().isdigit()
    gone(site, "87654")


def test_it_runs_in_a_release_that_is_staged_and_while_the_service_is_stopped(site: Site) -> None:
    before = site.answering
    new = site.edit()
    site.done("deploy")
    shown = site.clone.done("run", "-H", "shire01", "--release", before, "--", "printenv", "RELEASE")
    assert shown.out == f"{before}\n"
    assert site.clone.done(*RUN, "printenv", "RELEASE").out == f"{new}\n"
    absent = site.clone.fab("run", "-H", "shire01", "--release", "0" * 12, "--", "true")
    assert (absent.status, "release 000000000000 is not on this host" in absent.err) == (125, True)
    site.done("stop")
    assert site.clone.done(*RUN, "printenv", "RELEASE").out == f"{new}\n"
    site.done("start")


def test_on_a_terminal_and_in_a_probation_it_is_the_release_that_has_the_traffic(site: Site) -> None:
    old = site.answering
    site.clone.replace("service/service.yaml", "probation: 0", "probation: 3600")
    try:
        new = site.edit()
        site.clone.done("deploy", "-H", "shire01")
        assert site.answering == new
        assert site.clone.done(*RUN, "printenv", "RELEASE").out == f"{new}\n"
        site.clone.done("rollback", "-H", "shire01")
        assert site.clone.done(*RUN, "printenv", "RELEASE").out == f"{old}\n"
    finally:
        site.clone.replace("service/service.yaml", "probation: 3600", "probation: 0")


def test_on_several_hosts_each_line_names_its_host(site: Site) -> None:
    ended = site.clone.fab("run", "-H", "all", "--", "sh", "-c", "hostname; echo oops >&2; test $(hostname) = shire01")
    assert sorted(ended.out.splitlines()) == ["shire01  shire01", "shire02  shire02"]
    assert sorted(ended.err.splitlines()) == ["shire01  oops", "shire02  oops"]
    assert ended.status == 1
    unnamed = site.clone.fab("run", "--", "true")
    assert (unnamed.status, "a command runs on one host, unless -H names more" in unnamed.err) == (125, True)


def test_a_failure_of_ours_is_125_with_a_reason(site: Site) -> None:
    assert site.clone.fab("run", "-H", "shire01").status == 125
    assert site.clone.fab("run", "-H", "nobody", "--", "true").status == 125
    site.sh("systemctl stop myapp-run.socket")
    try:
        closed = site.clone.fab(*RUN, "true")
        assert (closed.status, "systemctl status myapp-run.socket" in closed.err) == (125, True)
    finally:
        site.sh("systemctl start myapp-run.socket")
    site.clone.done(*RUN, "true")


@pytest.mark.promise(UNHINDERED, "the service, or another local user, connects to the socket of fab run")
@pytest.mark.parametrize("file", ["run.sock", "health.sock"])
@pytest.mark.parametrize("user", ["myapp", "nobody"])
def test_no_other_account_can_connect(site: Site, user: str, file: str) -> None:
    code = f"import socket; socket.socket(socket.AF_UNIX).connect('/run/myapp/{file}')"
    ended = site.machine.sh(f'runuser -u {user} -- python3 -c "{code}"')
    assert ended.returncode
    assert b"PermissionError" in ended.stderr


def test_a_client_that_sends_nonsense_or_nothing_is_let_go(site: Site) -> None:
    for data in ("", "R\\377\\377\\377\\377", "X\\0\\0\\0\\0", "R\\0\\0\\0\\002[]"):
        send = f"printf '{data}' | timeout 30 runuser -u deploy -- python3 -c \"{_CLIENT}\""
        assert site.machine.sh(send).returncode == 0
    site.sh("while systemctl -q list-units --plain --no-legend 'myapp-run@*.service' | grep -q .; do sleep 0.1; done")
    site.clone.done(*RUN, "true")


_CLIENT = (
    "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect('/run/myapp/run.sock'); "
    "s.sendall(sys.stdin.buffer.read()); s.settimeout(20)\\nwhile s.recv(99): pass"
).replace("\\n", "\n")


def test_remove_ends_a_command_that_runs(site: Site) -> None:
    with site.clone.start("run", "-H", "shire02", "--", "sh", "-c", "echo up; exec sleep 76543") as process:
        assert process.stdout
        assert process.stdout.readline() == "up\n"
        site.clone.done("remove", "-H", "shire02", "--yes", "--as", "root")
        began = time.monotonic()
        assert process.wait(60) == 125
        assert time.monotonic() - began < 50
