"""An activation on a simulated host: the order of its steps, and the state after each failure."""

from __future__ import annotations

import re

import pytest

from tasks.engine.config.sections import Health
from tasks.engine.host import steps
from tasks.engine.host.steps import Activation
from tests.support.simulated_host import NEW, OLD, OOM, SERVICE, SimulatedHost, host, said_by_ss, simulated_host

__all__ = ["host", "simulated_host"]

DEPLOY = steps.activate(SERVICE, Activation("deploy", NEW, OLD))
STATES = "systemctl list-units --all --full --plain --no-legend"
RETIRED = "systemctl show myapp@blue.service --no-pager -p ActiveState -p NRestarts"
SHOWS = (
    "systemctl show --no-pager -p ActiveState -p SubState -p Job -p NRestarts -p Result -p ExecMainStatus"
    " -p ActiveEnterTimestampMonotonic"
)


def test_traffic_moves_after_the_check_and_the_old_slot_stops_after_the_commit(host: SimulatedHost) -> None:
    assert host.execute(DEPLOY) == 0
    looks = "systemctl show myapp@green.service --no-pager -p MainPID -p NRestarts -p ActiveState -p Result"
    asks = "curl http://myapp.example/readyz by run/myapp/green.sock"
    # It is done concurrently: its place among the others varies.
    beside = "systemctl start myapp-probation@green.service"
    assert beside in host.calls
    assert [call for call in host.calls if call != beside] == [
        f"{STATES} myapp@green.service myapp-probation@blue.service myapp-probation@green.service"
        " myapp@blue.service myapp.service myapp-hook@blue.service myapp-hook@green.service"
        " myapp-worker@green.service",
        "link apps/slots/green/release -> ../../releases/bbbbbbbbbbbb",
        "systemctl start myapp@green.service",
        "systemctl start --no-block myapp-worker@green.service",
        *(looks, asks, looks, asks, looks),
        f"{SHOWS} myapp-worker@green.service",
        "curl http://myapp.example/ and https://myapp.example/readyz as green and https://stranger.invalid/readyz",
        "systemctl start myapp-live@green.service",
        "curl https://myapp.example/readyz",
        "systemctl stop --no-block myapp-worker@blue.service",
        "systemctl start --no-block myapp-worker@green.service",
        "link apps/current -> slots/green",
        *("sync apps", "sync apps/slots/green"),
        # From here on the calls are the guard's.
        "ss blue.sock",
        "systemctl stop myapp@blue.service myapp@blue.socket",
        RETIRED,
    ]
    assert (host.serves(), host.slot("current"), host.running()) == (NEW, "green", {"green"})
    assert host.history() == [("deploy", NEW, "started"), ("deploy", NEW, "done")]
    assert host.transcript.ended
    assert host.leftovers() == []
    assert not (host.folder / "refused").exists()


def test_the_first_release_of_a_host_goes_to_slot_blue(simulated_host: SimulatedHost) -> None:
    simulated_host.release(NEW)
    assert simulated_host.execute(steps.activate(SERVICE, Activation("deploy", NEW, None))) == 0
    assert (simulated_host.serves(), simulated_host.slot("current"), simulated_host.running()) == (
        NEW,
        "blue",
        {"blue"},
    )
    assert "systemctl stop" not in " ".join(simulated_host.calls)


def test_a_first_release_that_fails_leaves_nothing_behind(simulated_host: SimulatedHost) -> None:
    simulated_host.release(NEW)
    (simulated_host.folder / "answers" / NEW).write_text("500")
    assert simulated_host.execute(steps.activate(SERVICE, Activation("deploy", NEW, None))) == 1
    assert not (simulated_host.root / "current").exists()
    assert not (simulated_host.run_folder / "live").is_symlink()
    assert (simulated_host.running(), simulated_host.leftovers()) == (set(), [])
    (simulated_host.folder / "answers" / NEW).unlink()
    assert simulated_host.execute(steps.activate(SERVICE, Activation("deploy", NEW, None))) == 0
    assert simulated_host.serves() == NEW


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("refuse-myapp@green.service", "slot green did not start"),
        ("answers/500", "the health check did not hold in 5 s: answered 500, not 200"),
        ("answers/302", "answered 302, not 200"),
        ("answers/names", "answered for another release than bbbbbbbbbbbb"),
        ("restarts", "the service died during the health check"),
    ],
)
def test_a_candidate_that_fails_never_has_the_traffic(host: SimulatedHost, fault: str, told: str) -> None:
    """Once: a failed start was reported with the log lines of the start before it."""
    (host.folder / "journal").write_text("ImportError: no\n\x1b[31mred\n")
    (host.folder / "journal.systemd").write_text(
        "Starting myapp@green.service - myapp\nmyapp@green.service: Main process exited\n"
    )
    kind, _, value = fault.partition("/")
    if kind != "answers":
        (host.folder / kind).write_text("1")
    else:
        (host.folder / "answers" / (f"names-{NEW}" if value == "names" else NEW)).write_text(value)
    assert host.execute(DEPLOY) == 1
    assert told in (host.transcript.last("failed") or "")
    assert not [call for call in host.calls if call.startswith(("systemctl start myapp-live@", "link apps/current"))]
    assert (host.serves(), host.slot("current"), host.running()) == (OLD, "blue", {"blue"})
    assert host.history() == [("deploy", NEW, "started"), ("deploy", NEW, "failed")]
    assert host.transcript.all("journal") == ("ImportError: no", "\x1b[31mred")
    asked = [call for call in host.calls if call.startswith("journalctl ")]
    # An earlier start may have come in the same second.
    assert all(re.search(r" --since @[0-9]+\.[0-9]{2} ", call) for call in asked)
    assert [call.split()[-1] for call in asked[-2:]] == [
        "_SYSTEMD_UNIT=myapp@green.service", "UNIT=myapp@green.service"
    ]  # fmt: skip
    assert host.transcript.all("systemd") == ("myapp@green.service: Main process exited",)
    assert (host.leftovers(), host.state("myapp@green.service")) == ([], "inactive")


def test_a_worker_that_dies_while_it_is_checked_fails_the_candidate(host: SimulatedHost) -> None:
    children = host.folder / "proc/101/task/101/children"
    children.parent.mkdir(parents=True)
    children.write_text("201 202 ")
    (host.folder / "on-curl").write_text(f"printf '201 203 ' >{children}")
    assert host.execute(DEPLOY) == 1
    assert host.transcript.last("failed") == "a worker died during the health check"
    assert host.transcript.last("killed") == f"deploy {NEW}"
    assert (host.serves(), host.running()) == (OLD, {"blue"})


def test_a_worker_that_was_killed_for_want_of_memory_is_told_so(host: SimulatedHost) -> None:
    """The kernel's signal looks like that of the former release, which is not suspected then."""
    children = host.folder / "proc/101/task/101/children"
    children.parent.mkdir(parents=True)
    children.write_text("201 202 ")
    (host.folder / "on-curl").write_text(f"printf '201 203 ' >{children}")
    # Of another unit of the same name's beginning, and of this one.
    (host.folder / "journal.oom").write_text(OOM.format("myapp@blue.service") + OOM.format("myapp@green.service"))
    assert host.execute(DEPLOY) == 1
    killed = "a process of myapp@green.service was killed for want of memory (OOM). Raise limits.memory"
    assert (host.transcript.last("failed") or "").startswith(f"a worker died during the health check: {killed}")
    assert host.transcript.last("killed") is None


def test_a_worker_that_comes_while_it_is_checked_is_welcome(host: SimulatedHost) -> None:
    children = host.folder / "proc/101/task/101/children"
    children.parent.mkdir(parents=True)
    children.write_text("201 ")
    (host.folder / "on-curl").write_text(f"printf '201 202 ' >{children}")
    assert host.execute(DEPLOY) == 0


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        ("front", "<html>\n502", "the front door gives no right answer for the new release: answered 502, not 200"),
        ("front", f'{{"release": "{OLD}"}}\n200', "answered for another release than bbbbbbbbbbbb"),
        (
            "front-green",
            "curl: (52) Empty reply\n000",
            "the front door gives no right answer for the new release: no answer: curl: (52)",
        ),
        ("redirect", "000 ", "plain HTTP is not redirected to HTTPS: 000"),
        ("redirect", "200 ", "plain HTTP is not redirected to HTTPS: 200"),
        ("redirect", "301 https://evil.example/", "plain HTTP is not redirected to HTTPS"),
        ("stranger", f'{{"release" : "{OLD}"}}', "the service answers for any host name"),
    ],
)
def test_a_front_door_that_fails_for_the_candidate_never_has_the_traffic(
    host: SimulatedHost, file: str, content: str, told: str
) -> None:
    (host.folder / file).write_text(content)
    assert host.execute(DEPLOY) == 1
    assert told in (host.transcript.last("failed") or "")
    assert not [call for call in host.calls if call.startswith("systemctl start myapp-live@")]
    assert (host.serves(), host.slot("current"), host.running(), host.leftovers()) == (OLD, "blue", {"blue"}, [])


def test_a_secret_that_cannot_be_read_is_named(host: SimulatedHost) -> None:
    (host.folder / "check/green").unlink()
    assert host.execute(DEPLOY) == 1
    assert "the secret of this check, cannot be read: run fab setup" in (host.transcript.last("failed") or "")
    assert (host.serves(), host.running(), host.leftovers()) == (OLD, {"blue"}, [])


def test_a_front_door_that_fails_once_the_traffic_is_there_sends_it_back(host: SimulatedHost) -> None:
    (host.folder / "front-live").write_text("<html>\n502")
    assert host.execute(DEPLOY) == 1
    assert "the front door gives no right answer for the new release: answered 502" in (
        host.transcript.last("failed") or ""
    )
    moves = [call for call in host.calls if call.startswith("systemctl start myapp-live@")]
    assert moves == [f"systemctl start myapp-live@{slot}.service" for slot in ("green", "blue")]
    assert host.calls.index("systemctl start myapp-live@blue.service") < host.calls.index("ss green.sock")
    assert (host.serves(), host.slot("current"), host.running(), host.leftovers()) == (OLD, "blue", {"blue"}, [])


def test_one_pass_is_not_enough_before_the_settle_time_is_over(host: SimulatedHost) -> None:
    service = SERVICE._replace(health=Health("/readyz", 200, 5, 1, 3.0))
    assert host.execute(steps.activate(service, Activation("deploy", NEW, OLD))) == 0
    # A sleep is a second here, whatever its length: asked at 0, 1, 2 and 3.
    assert len([call for call in host.calls if call.endswith("by run/myapp/green.sock")]) == 4


def test_an_endless_answer_is_no_answer(host: SimulatedHost) -> None:
    (host.folder / "front").write_text("x" * 70000 + "\n200")
    assert host.execute(DEPLOY) == 1
    assert "the answer is longer than 64 kB" in (host.transcript.last("failed") or "")
    assert host.serves() == OLD


def test_the_old_slot_stops_only_when_its_queue_is_empty(host: SimulatedHost) -> None:
    (host.folder / "queues/blue.sock").write_text("3\n1\n0\n")
    assert host.execute(DEPLOY) == 0
    assert host.calls[-7:] == [
        "ss blue.sock",
        f"{STATES} myapp@blue.service",
        "ss blue.sock",
        f"{STATES} myapp@blue.service",
        "ss blue.sock",
        "systemctl stop myapp@blue.service myapp@blue.socket",
        RETIRED,
    ]


def test_a_queue_that_never_empties_is_given_up_after_the_drain_limit(host: SimulatedHost) -> None:
    (host.folder / "queues/blue.sock").write_text("3\n")
    assert host.execute(DEPLOY) == 0
    assert host.calls.count("ss blue.sock") == SERVICE.drain + 1
    assert (host.running(), host.serves()) == ({"green"}, NEW)


def test_what_a_stranger_has_bound_to_the_same_path_is_not_waited_for(host: SimulatedHost) -> None:
    path = host.run_folder / "blue.sock"
    own = said_by_ss(path)
    lines = [f"u_str LISTEN 3 5 {path} 1 * 0 <-> {at} peers: 9" for at in (f"{own}0", own.replace("ino:", "ino:1"))]
    (host.folder / "strangers").write_text("\n".join(lines) + "\n")
    (host.folder / "queues/blue.sock").write_text("1\n0\n")
    assert host.execute(DEPLOY) == 0
    assert host.calls.count("ss blue.sock") == 2
    assert (host.running(), host.serves()) == ({"green"}, NEW)


def test_a_kernel_that_does_not_tell_the_file_leaves_the_path(host: SimulatedHost) -> None:
    (host.folder / "file-blue.sock").write_text("")
    (host.folder / "queues/blue.sock").write_text("1\n0\n")
    assert host.execute(DEPLOY) == 0
    assert host.calls.count("ss blue.sock") == 2
