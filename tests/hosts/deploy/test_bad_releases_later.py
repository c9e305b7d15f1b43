"""Releases that pass their check and fail once they serve: their host takes them back."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.promises.words import HELD_BACK
from tests.support.probation_site import ProbationSite, site
from tests.traffic.load import STOCK, Load, sent

__all__ = ["site"]

# The release's addition, and the reason for taking it back.
LATE = {
    "a worker crashes after 5 s": ("import threading\nthreading.Timer(5, os._exit, [9]).start()", "a worker died"),
    "a worker crashes after 20 s": ("import threading\nthreading.Timer(20, os._exit, [9]).start()", "a worker died"),
    "it ends with its master after 5 s": (
        "import signal, threading\nthreading.Timer(5, os.kill, [os.getppid(), signal.SIGKILL]).start()",
        "the main process of the release died",
    ),
    "it says 500 after 5 s": (
        "answer, began = app, time.monotonic()\n"
        "def app(environ, start_response):\n"
        "    late = time.monotonic() - began > 5\n"
        "    return answer(environ, lambda status, *rest: start_response('500 No' if late else status, *rest))\n",
        "the health check of the release did not hold: answered 500",
    ),
    "it hangs after 5 s": (
        "answer, began = app, time.monotonic()\n"
        "def app(environ, start_response):\n"
        "    if time.monotonic() - began > 5:\n        time.sleep(30)\n"
        "    return answer(environ, start_response)\n",
        "the health check of the release did not hold: no answer",
    ),
    "it eats all its memory after 5 s": (
        "import resource, threading\n"
        "resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))\n"
        "def eat():\n"
        "    eaten = []\n"
        "    try:\n"
        "        while True:\n            eaten.append(bytearray(1 << 22))\n"
        "    except MemoryError:\n"
        "        os.kill(os.getpid(), 9)\n"
        "threading.Timer(5, eat).start()\n",
        "a worker died",
    ),
    "it leaves children behind and crashes after 5 s": (
        "import subprocess, threading\n"
        "subprocess.Popen(['sleep', '1d'], start_new_session=True)\n"
        "threading.Timer(5, os._exit, [9]).start()\n",
        "a worker died",
    ),
}


def deploy_taken_back(site: ProbationSite, fault: str) -> tuple[str, str]:
    """Deploy a release with this fault, and wait for the end; return the committed release and the bad one."""
    text, cause = LATE[fault]
    old = site.deploy_committed(60)
    site.edit()
    site.clone.write("service/under_test.py", site.read("service/under_test.py") + text)
    new = site.clone.release()
    ended = site.fab("deploy", "--wait")
    assert ended.status == 1, ended.both
    assert f"release {new} did not hold its probation: {cause}" in ended.out
    assert "The host went back by itself" in ended.out
    assert f"serves now: release {old}" in ended.out
    assert len([line for line in ended.out.splitlines() if line.startswith("    | ")]) <= 20
    assert cause in site.require_returned(old, new)
    assert site.sh(f"grep -lsF RELEASE={new} /proc/[0-9]*/environ || :") == ""
    return old, new


@pytest.mark.further("test_under_load_nobody_meets_it_once_it_is_taken_back")
@pytest.mark.promise(HELD_BACK, "a release that fails some seconds after its switch", part=1)
@pytest.mark.parametrize("fault", LATE)
def test_what_fails_later_is_taken_back_and_wait_tells_why(site: ProbationSite, fault: str) -> None:
    deploy_taken_back(site, fault)


@pytest.mark.promise(HELD_BACK, "a release that fails some seconds after its switch, under load", part=1)
@pytest.mark.parametrize("fault", LATE)
def test_under_load_nobody_meets_it_once_it_is_taken_back(site: ProbationSite, fault: str, tmp_path: Path) -> None:
    with sent(Load([site.machine.address], rate=50, turn=STOCK, kept=8, streams=0), tmp_path / "log") as load:
        old, new = deploy_taken_back(site, fault)
        load.quiet(2)
    made = load.history
    assert {one.release for one in made.requests if not one.lost} >= {old, new}
    (quiet,) = made.windows
    late = [one for one in made.requests if one.due >= quiet.since]
    assert late
    assert {(one.status, one.release) for one in late} == {(200, old)}
    # Lost requests were all with the bad release.
    began = min(one.start for one in made.requests if one.release == new)
    assert all(one.end >= began for one in made.lost)
