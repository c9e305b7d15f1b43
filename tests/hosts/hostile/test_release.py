"""Hostile releases: one that delays its end forever, and one that kills every process of its successor."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.promises.words import STUCK
from tests.support.clone import STOP_MARGIN, hurried, make
from tests.support.hosts import MakeHosts
from tests.support.site import Site

CONF = "service/gunicorn.conf.py"
DRAIN, BOUND = 2, STOP_MARGIN
SECONDS = 300
"""Far more than the bound takes on a busy machine, and half of the ten minutes that the release asks for."""

# Ignores SIGTERM, and asks systemd each second for ten minutes more.
STUBBORN = """
import os, signal, socket, threading, time


def when_ready(server):
    def put_off():
        way = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        while True:
            way.sendto(b"EXTEND_TIMEOUT_USEC=600000000", os.environ.get("NOTIFY_SOCKET", "/run/systemd/notify"))
            time.sleep(1)

    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=put_off, daemon=True).start()
"""
# Once told its own worker, kills every other process of its account in another session.
MURDEROUS = """
import os, signal, threading, time


def when_ready(server):
    def hunt():
        while not os.path.exists("/var/lib/myapp/spared"):
            time.sleep(0.05)
        while True:
            me = os.getpid()
            with open("/var/lib/myapp/spared") as file:
                spared = file.read().split()
            for pid in range(max(2, me - 3000), me + 3000):
                try:
                    os.kill(pid, 0)
                    if os.getsid(pid) != os.getsid(0) and str(pid) not in spared:
                        os.kill(pid, signal.SIGKILL)
                except OSError:
                    pass
            time.sleep(0.05)

    threading.Thread(target=hunt, daemon=True).start()
"""


# Stops its server if told so, leaves its session, and kills every other process of its account once it may.
ESCAPING = """
import os, signal, sys, time

parent = os.getppid()
if "stop" in sys.argv:
    os.kill(parent, signal.SIGSTOP)
    if os.fork():
        os._exit(0)
    os.setsid()
print("up", flush=True)
while not os.path.exists("/var/lib/myapp/hunt"):
    time.sleep(0.05)
while True:
    for pid in range(max(2, parent - 3000), parent + 3000):
        try:
            if pid not in (os.getpid(), parent):
                os.kill(pid, signal.SIGKILL)
        except OSError:
            pass
    time.sleep(0.05)
"""


@pytest.fixture(scope="module")
def served(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """One host that serves a good release, with a worker."""
    hosts = module_hosts()
    made = Site(hurried(make(tmp_path_factory.mktemp("hostile"), hosts.inventory)), hosts[0])
    made.clone.replace("service/service.yaml", "settle: 2", "settle: 0.5")
    made.clone.replace("service/service.yaml", "drain: 30", f"drain: {DRAIN}")
    made.clone.replace(
        "service/service.yaml", "threads: 1}", "threads: 1}\n  worker: {command: sleep infinity, stop: 2}"
    )
    made.clone.replace("templates/host/process_units.py", "_COMMAND = 10", "_COMMAND = 4")
    made.clone.replace("templates/systemd/run-seconds.conf", "RuntimeMaxSec=15", "RuntimeMaxSec=6")
    made.done("deploy")
    return made


@pytest.fixture
def site(served: Site) -> Iterator[Site]:
    """The host of `served`; after the test a good release serves again."""
    good = served.read(CONF)
    yield served
    served.clone.write(CONF, good)
    served.edit()
    served.done("deploy", "--stop-first")


def deploy_hostile(site: Site, text: str) -> tuple[str, str]:
    """Deploy a good release, then one with this code; return both."""
    good = site.deploy()
    site.sh("rm -f /var/lib/myapp/spared")
    with site.changed(CONF, site.read(CONF) + text):
        bad = site.deploy()
    spared = "systemctl show -p MainPID --value 'myapp-worker@*' >/var/lib/myapp/.spared"
    site.sh(f"{spared}; mv /var/lib/myapp/.spared /var/lib/myapp/spared")
    return good, bad


def count_killed(site: Site) -> int:
    """Return the number of journal lines about a slot killed for its late end."""
    return int(
        site.sh("journalctl --sync; journalctl -q -o cat -t myapp-probation | grep -c 'did not stop within' || :")
    )


@pytest.mark.promise(STUCK, "a release that puts off its end for ever", part=1)
@pytest.mark.parametrize("verb", ["deploy", "rollback", "restart", "stop", "setup", "remove"])
def test_the_end_of_a_slot_has_a_bound(site: Site, verb: str) -> None:
    good, bad = deploy_hostile(site, STUBBORN)
    before = count_killed(site)
    began = time.monotonic()
    if verb in {"stop", "restart", "remove"}:
        ended = site.fab(verb, *(["--yes"] if verb == "remove" else []))
    else:
        # The next release has the hostile slot for its former one, and waits for its end.
        good = site.edit() if verb != "rollback" else good
        site.clone.done("rollback" if verb == "rollback" else "deploy", "-H", "shire01")
        ended = site.fab("setup" if verb == "setup" else "restart")
    assert ended.status == 0, ended.both
    assert time.monotonic() - began < SECONDS, ended.both
    if verb == "stop":
        assert f"the service did not stop within {DRAIN + BOUND} s, and was killed" in ended.out
        assert site.sh("pgrep -u myapp || :") == ""
        site.done("start")
    if verb == "remove":
        assert f"myapp, which did not stop within {DRAIN + BOUND} s" in ended.out
        assert site.sh("pgrep -u myapp || :") == ""
        return
    if verb == "restart":
        site.drained()
    if verb != "stop":
        assert count_killed(site) == before + 1
        assert site.answering == (bad if verb == "restart" else good)


@pytest.mark.promise(STUCK, "a release that kills its successor", part=1)
def test_a_release_that_kills_its_successor_is_stopped_first_by_the_operators_word(site: Site) -> None:
    good, bad = deploy_hostile(site, MURDEROUS)
    worker = site.show(f"myapp-worker@{site.slot}.service", "MainPID")
    refused = site.fab("rollback")
    assert refused.status == 1
    assert f"fab rollback --to {good} -H shire01 --stop-first" in refused.out
    assert site.answering == bad
    ended = site.done("rollback", "--stop-first")
    assert "--stop-first: what serves is killed before its successor starts" in ended.out
    assert "no request was answered for" in ended.out
    site.settled()
    assert site.answering == good
    assert site.show(f"myapp-worker@{site.slot}.service", "MainPID") not in {"0", worker}
    assert site.sh(f"systemctl is-active myapp-worker@{site.slot}.service") == "active"


@pytest.mark.promise(STUCK, "a release that kills its successor", part=1)
def test_a_deploy_over_it_names_the_way_and_goes_it(site: Site) -> None:
    _, bad = deploy_hostile(site, MURDEROUS)
    new = site.edit()
    refused = site.fab("deploy")
    assert refused.status == 1
    assert "fab deploy -H shire01 --stop-first" in refused.out
    assert site.answering == bad
    site.done("deploy", "--stop-first")
    site.settled()
    assert site.answering == new


@pytest.mark.further("tests/hosts/service/test_run.py::test_a_health_command_that_stops_its_server_ends")
@pytest.mark.promise(STUCK, "a health command that leaves its unit's hands", part=1)
def test_a_health_command_that_stops_its_server_is_over_when_the_deploy_is(served: Site) -> None:
    good = served.deploy()
    manifest = served.read("service/service.yaml")
    health = manifest.replace("timeout: 30 ", "timeout: 12 ").replace(
        "command: sleep infinity", 'command: sleep infinity, health: {command: "python -m h stop"}'
    )
    with served.changed("service/h.py", ESCAPING), served.changed("service/service.yaml", health):
        refused = served.fab("deploy")
    assert refused.status == 1, refused.both
    assert "the health command of myapp-worker" in refused.out
    assert served.sh("pgrep -u myapp -f 'h [s]top' || :") == ""
    assert served.answering == good


@pytest.mark.promise(STUCK, "a command of a release that kills its successor", part=1)
def test_stop_first_ends_the_commands_of_the_former_release(served: Site) -> None:
    served.sh("rm -f /var/lib/myapp/hunt")
    with served.changed("service/h.py", ESCAPING):
        served.deploy()
        with served.clone.start("run", "-H", "shire01", "--", "python", "-m", "h") as process:
            assert process.stdout
            assert process.stdout.readline() == "up\n"
            served.sh("touch /var/lib/myapp/hunt")
            new = served.edit()
            try:
                ended = served.done("deploy", "--stop-first")
                assert process.wait(60) == 125
            finally:
                process.kill()
    assert served.answering == new, ended.both
    served.settled()
    assert served.sh("pgrep -u myapp -f 'm [h]' || :") == ""


@pytest.mark.promise(STUCK, "what was stopped first comes back where its successor fails", part=1)
@pytest.mark.parametrize("fault", ["the release is bad", "activate.posted=die", "activate.switch=fail"])
def test_what_was_stopped_first_serves_again_if_its_successor_fails(served: Site, fault: str) -> None:
    old = served.answering
    if "=" in fault:
        served.clone.environment["FAILPOINT"] = fault
        served.edit()
        try:
            ended = served.fab("deploy", "--stop-first")
        finally:
            del served.clone.environment["FAILPOINT"]
    else:
        with served.changed("service/app/broken.py", ""), served.changed(CONF, "raise RuntimeError('boom')\n"):
            ended = served.fab("deploy", "--stop-first")
    assert ended.status in {1, 3}, ended.both
    served.settled()
    assert served.answering == old
    assert served.sh(f"systemctl is-active myapp-worker@{served.slot}.service") == "active"


def test_no_probation_follows_where_nothing_is_up_to_go_back_to(served: Site) -> None:
    served.clone.replace("service/service.yaml", "\nprobation: 0", "\nprobation: 60")
    try:
        served.edit()
        ended = served.done("deploy", "--stop-first")
    finally:
        served.clone.replace("service/service.yaml", "\nprobation: 60", "\nprobation: 0")
    assert "on probation" not in ended.out
    served.settled()
