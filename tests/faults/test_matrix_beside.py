"""Verbs without a new release, broken at every step: before_activate, stop and start."""

from __future__ import annotations

import pytest

from tests.faults import matrix
from tests.faults.matrix import HERE, YAML, Matrix, steps
from tests.promises.words import TWO_RUNS, WHOLE
from tests.support.hosts import MakeHosts

DEPLOY, STOP, START = ("deploy", *HERE), ("stop", "-H", "shire01"), ("start", "-H", "shire01")
STOPS, STARTS = steps("stop", "live", "stop", "stopped"), steps("start", "enable", "start", "started")
AT_WORK = "find /proc/[0-9]*/fd -lname /run/myapp/lock/activate 2>/dev/null | cut -d / -f 3 | sort -u"
"""The processes that hold the lock of a host."""


@pytest.fixture(scope="module")
def made(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> Matrix:
    """A matrix with a hook that does nothing."""
    made = matrix.served(module_hosts, tmp_path_factory.mktemp("beside"))
    made.site.clone.write(YAML, made.site.read(YAML) + "hooks: {before_activate: echo migrated}\n")
    made.site.deploy()
    return made


def require_broken(made: Matrix, words: tuple[str, ...], point: str) -> None:
    """Assert that the command fails without a traceback."""
    ended = matrix.run_broken(made.site, words, point)
    assert ended.status != 0, ended.both
    assert "Traceback" not in ended.both


@pytest.mark.promise(WHOLE, "before_activate is killed, fails or hangs at a step of it", part=1)
@pytest.mark.parametrize("action", ["die", "fail", "stall"])
@pytest.mark.parametrize("step", steps("hook", "recover", "returned", "idle", "start", "ended"))
def test_a_hook_breaks(made: Matrix, step: str, action: str) -> None:
    site, old, new = made.site, made.site.answering, made.site.edit()
    try:
        require_broken(made, DEPLOY, f"{step}={action}")
        if action == "stall":
            assert site.answering == old
        else:
            matrix.require_serving(site, old)
    finally:
        matrix.finish(site, DEPLOY, new)


@pytest.mark.promise(WHOLE, "stop is killed, or fails, at a step of it", part=1)
@pytest.mark.parametrize("action", ["die", "fail"])
@pytest.mark.parametrize("step", STOPS)
def test_a_stop_breaks(made: Matrix, step: str, action: str) -> None:
    """The service serves until it has stopped; the same command again stops it, and a start starts all of it."""
    site, release = made.site, made.site.answering
    try:
        require_broken(made, STOP, f"{step}={action}")
        running = site.sh("pgrep -u myapp || :")
        assert running == "" if step == "stop.stopped" else site.answering == release
        site.clone.done(*STOP)
        assert site.sh("pgrep -u myapp || :") == ""
    finally:
        matrix.finish(site, START, release)


@pytest.mark.promise(WHOLE, "start is killed, or fails, at a step of it", part=1)
@pytest.mark.parametrize("action", ["die", "fail"])
@pytest.mark.parametrize("step", STARTS)
def test_a_start_breaks(made: Matrix, step: str, action: str) -> None:
    site, release = made.site, made.site.answering
    site.clone.done(*STOP)
    try:
        require_broken(made, START, f"{step}={action}")
        running = site.sh("pgrep -u myapp || :")
        assert site.answering == release if step == "start.started" else running == ""
    finally:
        matrix.finish(site, START, release)


@pytest.mark.promise(TWO_RUNS, "a stop or a start hangs at a step, and its controller is killed", part=1)
@pytest.mark.parametrize("step", [*STOPS, *STARTS])
def test_a_stop_or_a_start_hangs(made: Matrix, step: str) -> None:
    """Neither has a run, so only an operator ends it; then the same command again finishes the job."""
    site, release = made.site, made.site.answering
    words = STOP if step.startswith("stop.") else START
    if words == START:
        site.clone.done(*STOP)
    try:
        require_broken(made, words, f"{step}=stall")
        running = set(site.sh("pgrep -u myapp || :").split())
        for again in (STOP, START):
            told = site.clone.fab(*again)
            assert told.status == 1, told.both
            assert "is at work here since" in told.out
            assert f": {words[0]} of {release}" in told.out
        # More workers, which are forked one by one, may have started.
        later = set(site.sh("pgrep -u myapp || :").split())
        assert running <= later
        assert bool(running) == bool(later)
    finally:
        site.sh(f"kill -9 $({AT_WORK})")
        site.clone.done(*words)
        matrix.finish(site, START, release)
