"""Releases that must never serve: each is refused with its cause, while the old one keeps answering."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.promises.words import GATE
from tests.support.clone import Clone, make
from tests.support.front_door import ask, release_of
from tests.support.hosts import Hosts, MakeHosts
from tests.support.site import ROOT, Site, Watch
from tests.traffic.load import STOCK, Load, sent

DROP_IN = "/etc/systemd/system/myapp@.service.d"

ANSWER = """
import json, os, signal, threading, time

def app(environ, start_response):
    body = json.dumps({"release": os.environ["RELEASE"]}).encode()
    length = ("Content-Length", str(len(body)))
    start_response(STATUS, [("Content-Type", "application/json"), ("Location", "/healthz"), length])
    return [body]

STATUS = "200 OK"
"""

# The release's module, and a word of the cause that the screen must show.
BAD = {
    "a dependency is missing": ("import nosuchmodule", "No module named 'nosuchmodule'"),
    "it raises at import": ("raise RuntimeError('boom at import')", "RuntimeError: boom at import"),
    "it hangs at import": ("import time\ntime.sleep(3600)", "did not hold in 4 s: no answer"),
    "it ends at import": ("raise SystemExit('bad')", "a worker died during the health check: it exited with code 1"),
    "it has no such application": ("other = 1", "Failed to find attribute 'app'"),
    "its health check says 500": (ANSWER + "STATUS = '500 No'", "answered 500, not 200"),
    "its health check redirects": (ANSWER + "STATUS = '302 Found'", "answered 302, not 200"),
    "its health check is not there": (ANSWER + "STATUS = '404 No'", "answered 404, not 200"),
    "its health check says 204": (ANSWER + "STATUS = '204 Nothing'", "answered 204, not 200"),
    "another release answers": (
        ANSWER + "os.environ['RELEASE'] = '0123456789ab'",
        "answered for another release",
    ),
    "its answer has no end": (
        ANSWER + "def app(environ, start_response):\n"
        "    start_response('200 OK', [])\n"
        "    while True:\n        yield b'x' * 65536\n",
        "longer than 64 kB",
    ),
    "its answer trickles for ever": (
        ANSWER + "def app(environ, start_response):\n"
        "    start_response('200 OK', [])\n"
        "    while True:\n        time.sleep(0.2)\n        yield b'x'\n",
        "timed out",
    ),
    "its answer comes too late": (
        ANSWER + "answer = app\ndef app(*arguments):\n    time.sleep(8)\n    return answer(*arguments)\n",
        "did not hold in 4 s: no answer",
    ),
    "a worker dies while it is checked": (
        ANSWER + "threading.Timer(1, os._exit, [9]).start()",
        "a worker died during the health check: it exited with code 9",
    ),
    "every second answer is wrong": (
        ANSWER + "answer, count = app, iter(range(10 ** 6))\n"
        "def app(environ, start_response):\n"
        "    global STATUS\n"
        "    STATUS = '503 No' if next(count) % 2 else '200 OK'\n"
        "    return answer(environ, start_response)\n",
        "answered 503, not 200",
    ),
    "its own port is taken": (
        "import socket\nsocket.create_server(('127.0.0.1', 9999))",
        "Address already in use",
    ),
    "it leaves children behind": (
        ANSWER + "import subprocess\nsubprocess.Popen(['sleep', '1d'], start_new_session=True)\nSTATUS = '500 No'\n",
        "answered 500, not 200",
    ),
    "it eats all the memory that it may": (
        "eaten = []\nwhile True:\n    eaten.append(bytearray(1 << 22))",
        "MemoryError",
    ),
    # Like a kill for lack of memory: there is no memory controller here to set a real limit with.
    "a worker of it is killed while it boots": (
        "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)",
        "Perhaps out of memory?",
    ),
    "its main process is killed while it boots": (
        "import os, signal, time\nos.kill(os.getppid(), signal.SIGKILL)\ntime.sleep(3600)",
        "killed",
    ),
    "it answers 500 through nginx alone": (
        # nginx gives every request an id; the check on the slot's own socket has none.
        ANSWER.replace("STATUS,", "'500 No' if 'HTTP_X_REQUEST_ID' in environ else STATUS,"),
        "the front door gives no right answer for the new release: answered 500, not 200",
    ),
    "it ignores SIGTERM": (
        ANSWER + "STATUS = '500 No'\n"
        "import gunicorn.workers.base\n"
        "gunicorn.workers.base.Worker.handle_exit = lambda *_: None\n"
        "gunicorn.workers.base.Worker.handle_quit = lambda *_: None\n",
        "answered 500, not 200",
    ),
}


def _module(clone: Clone) -> None:
    """Make `release_under_test.py` the service, with a check that refuses quickly."""
    clone.replace("service/service.yaml", '"app:create_app()"', '"release_under_test:app"')
    clone.replace("service/service.yaml", "timeout: 30", "timeout: 4")
    clone.replace("service/service.yaml", "settle: 2", "settle: 1.5")
    clone.replace("service/service.yaml", "drain: 30", "drain: 2")
    # Its own network has every port free.
    clone.replace("service/service.yaml", "drain: 2", "needs: [host]\ndrain: 2")
    # One worker, so that `every second` is exact.
    clone.replace("service/service.yaml", "workers: 4, threads: 1", "workers: 1, threads: 4")
    clone.write("service/release_under_test.py", ANSWER)


@pytest.fixture(scope="module")
def site(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> Site:
    hosts = module_hosts()
    made = Site(make(tmp_path_factory.mktemp("bad"), hosts.inventory), hosts[0])
    _module(made.clone)
    made.done("deploy")
    made.sh("systemd-run -q --unit=squatter python3 -m http.server --bind 127.0.0.1 9999")
    made.sh("until ss -Hltn 'sport = :9999' | grep -q .; do sleep 0.05; done")
    made.sh(
        f"mkdir -p {DROP_IN} && printf '[Service]\\nLimitAS=1G\\n' >{DROP_IN}/memory.conf && systemctl daemon-reload"
    )
    return made


def deploy_refused(site: Site, fault: str) -> str:
    """Deploy a release with this fault; return the output, which has the cause and reports the host as unchanged."""
    text, cause = BAD[fault]
    old = site.answering
    with site.changed("service/release_under_test.py", text):
        bad = site.clone.release()
        ended = site.fab("deploy")
    assert ended.status == 1, ended.both
    assert cause in ended.out
    # It ended by its own fault; no run stopped it.
    assert "--stop-first" not in ended.out or fault not in (
        "its own port is taken",
        "it eats all the memory that it may",
        "it ends at import",
        "a worker dies while it is checked",
    )
    detail = [line for line in ended.out.splitlines() if line.startswith("    | ")]
    assert len(detail) <= 20
    assert f"serves now: release {old}" in ended.out
    assert bad != old
    site.settled()
    assert site.outcomes[-1] == ("deploy", bad, "failed")
    # Its child processes have ended with it.
    assert site.sh(f"grep -lsF RELEASE={bad} /proc/[0-9]*/environ || :") == ""
    return old


@pytest.mark.promise(GATE, "a bad release of each kind", part=2)
@pytest.mark.parametrize("fault", BAD)
def test_a_bad_release_is_refused_with_its_cause_and_never_answers(site: Site, fault: str) -> None:
    """Once: a release that failed only behind nginx was seen by users for a moment."""
    with Watch(site.machine.address) as watch:
        old = deploy_refused(site, fault)
    assert watch.seen == {old}


@pytest.mark.promise(GATE, "a bad release of each kind, under load", part=1)
@pytest.mark.parametrize("fault", BAD)
def test_a_bad_release_under_load_costs_nobody_a_request(site: Site, fault: str, tmp_path: Path) -> None:
    with sent(Load([site.machine.address], rate=50, turn=STOCK, kept=8, streams=0), tmp_path / "log") as load:
        old = deploy_refused(site, fault)
    assert load.history.faults() == []
    assert {one.release for one in load.history.requests} == {old}
    assert load.history.offered() > 25


def test_the_next_good_deploy_just_works(site: Site) -> None:
    with site.changed("service/release_under_test.py", "raise RuntimeError('boom')"):
        assert site.fab("deploy").status == 1
    release = site.edit()
    site.done("deploy")
    assert site.answering == release


@pytest.mark.further("tests/faults/test_hanging.py::test_an_old_release_that_hangs_is_ended_and_the_new_one_serves")
def test_a_master_that_ignores_sigterm_is_replaced_and_leaves_nothing_to_recover(site: Site) -> None:
    """Once: killing an old slot made the next deploy a recovery."""
    deaf = "import signal\n\n\ndef when_ready(server):\n    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    with site.changed("service/gunicorn.conf.py", deaf):
        site.deploy()
        site.edit()
    site.done("deploy")
    assert "did not end in good order" in site.sh("journalctl --sync; journalctl -q -o cat -t myapp-probation")
    site.settled()
    assert "UNCHANGED" in site.done("deploy").out


def test_a_bad_first_deploy_leaves_nothing_that_runs_and_the_next_one_works(clone: Clone, one_host: Hosts) -> None:
    clone.inventory = one_host.inventory
    machine = one_host[0]
    _module(clone)
    clone.write("service/release_under_test.py", "raise RuntimeError('boom at first')")
    ended = clone.fab("deploy", "-H", "shire01")
    assert ended.status == 1
    assert "RuntimeError: boom at first" in ended.out
    assert "serves now: nothing: no release is committed" in ended.out
    machine.reboot()
    assert machine.sh("pgrep -u myapp; ls /run/myapp/blue.sock /run/myapp/green.sock").stdout == b""
    assert machine.sh(f"test -e {ROOT}/current").returncode != 0
    assert machine.sh("systemctl is-system-running").stdout.strip() in {b"running", b"degraded"}
    assert ask(machine.address).status == 502
    clone.write("service/release_under_test.py", ANSWER)
    clone.done("deploy", "-H", "shire01")
    assert release_of(machine.address) == clone.release()
