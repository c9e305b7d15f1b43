"""The health gate: a slot must answer correctly several times in a row, always from the same processes."""

from __future__ import annotations

import re
import time

from . import memory, run_units, units
from .folders import Folder
from .locks import PROC
from .probe import Probe
from .run import Failed, Run, now

_LONGEST = 5
"""Seconds an answer may take."""


class WebProcesses:
    """The main process and workers of a slot, and systemd's state of its unit. recycles: workers end by themselves."""

    def __init__(self, unit: str, *, recycles: bool) -> None:
        self._unit, self._recycles = unit, recycles
        self._seen: set[str] = set()
        self._seen_main = ""
        self._workers: set[str] = set()
        self.main = self.state = self.restarts = self.result = ""

    def ask_systemd(self) -> bool:
        """Update everything; return False if systemd does not answer."""
        shown = units.show(self._unit, "MainPID", "NRestarts", "ActiveState", "Result")
        if not shown:
            return False
        self.main, self.restarts = shown.get("MainPID", ""), shown.get("NRestarts", "")
        self.state, self.result = shown.get("ActiveState", ""), shown.get("Result", "")
        self._workers = set()
        self._read_workers()
        return True

    def update(self) -> None:
        """Update the workers. If they can be read, the main process still lives; ask systemd only if they cannot."""
        if not (self._seen_main and self._read_workers()):
            self.ask_systemd()

    def _read_workers(self) -> bool:
        try:
            with open(f"{PROC}/{self.main}/task/{self.main}/children", encoding="utf-8") as file:
                self._workers = set(file.read().split())
        except (OSError, ValueError):
            return False
        return True

    def all_there(self) -> bool:
        """Return True if each process of the last look is still there, and remember those that are there now.

        A worker may have gone if workers end by themselves. New ones are fine: workers are forked one by one.
        """
        present = {self.main, *self._workers}
        gone = self._seen - present
        if gone and (self._seen_main in gone or not self._recycles):
            return False
        self._seen, self._seen_main = present, self.main
        return True

    @property
    def same_main(self) -> bool:
        """True if the unit is active, was never restarted, and has its first main process."""
        return (self.state, self.restarts) == ("active", "0") and self._seen_main in {"", self.main}


def web_processes(probe: Probe, slot: str) -> WebProcesses:
    """Return the processes of a slot, not looked at yet."""
    service = probe.service
    with Folder.open(f"{service.root}/releases/{probe.release}") as release:
        return WebProcesses(service.slot(slot), recycles=_recycles(release))


def _recycles(release: Folder) -> bool:
    """Return True if workers end by themselves after a number of requests (gunicorn's max_requests)."""
    for path in ("run/web", "code/gunicorn.conf.py"):
        try:
            if re.search(b"max.requests", release.read(path, 1 << 20)):
                return True
        except OSError:
            continue
    return False


_NO_WSGI = re.compile(r"TypeError: [^ ]*\(\) missing 1 required positional argument: 'send'")
_EXITED = re.compile(r"Worker \(pid:\d+\) exited with code (\d+)")
_LOOK = 2
"""Seconds between two looks into the journal of a slot that answers 500."""


class Gate:
    """The health gate of one candidate. former: whether a former release runs, which can kill the candidate."""

    def __init__(self, run: Run, probe: Probe, slot: str, *, former: bool) -> None:
        self._run, self._probe, self._slot, self._former = run, probe, slot, former
        self._processes = web_processes(probe, slot)
        self._since = time.time()

    def await_healthy(self, started: float) -> None:
        """Wait for `passes` right answers in a row over `settle` seconds, or raise Failed. started: start time."""
        run, health = self._run, self._probe.service.health
        run.say("check", f"{self._probe.path} on slot {self._slot}")
        began, passes, first, reason = now(), 0, 0.0, "it was never asked"
        look = began
        # A socket whose service has died keeps its callers waiting, so begin with a short limit. But a service that was
        # slow to start, on a busy host, may be as slow to answer.
        limit = min(_LONGEST, 1 + int((began - started) * 2))
        while True:
            # If the controller is gone, this report ends the run now, not at the timeout.
            run.report("pass", str(passes))
            self._processes.update()
            self._require_same()
            answer = self._probe.slot(self._slot, limit)
            if answer.well:
                first = first if passes else now()
                passes += 1
                if passes >= health.passes and now() - first >= health.settle:
                    break
                run.pause(health.pause)
            else:
                passes, reason, limit = 0, answer.why, min(_LONGEST, limit + 1)
                if answer.status == "500" and now() >= look:
                    look = now() + _LOOK
                    self._require_wsgi(time.time() - (now() - started))
                run.pause(0.1)
            if now() - began >= health.timeout:
                raise Failed(f"the health check did not hold in {health.timeout} s: {reason}")
        self._processes.update()
        self._require_same()

    def _require_wsgi(self, since: float) -> None:
        """Raise Failed if the slot's journal says that gunicorn calls an ASGI application as a WSGI one."""
        unit = self._probe.service.slot(self._slot)
        lines = units.journal_lines(unit, "-n", "100", "--since", f"@{since:.2f}")
        if any(_NO_WSGI.search(line) for _, line in lines):
            raise Failed(
                "it is an ASGI application, and gunicorn runs it as WSGI: set worker_class in `processes: web:` "
                "of service.yaml (asgi, or uvicorn_worker.UvicornWorker)"
            )

    def unit_result(self) -> str:
        """Return systemd's Result of the slot, such as `signal`; empty if systemd does not answer."""
        return self._processes.result if self._processes.ask_systemd() else ""

    def _require_same(self) -> None:
        seen = self._processes
        if seen.restarts not in {"", "0"} or seen.state == "failed":
            raise self.failure("the service died during the health check")
        if not seen.all_there():
            raise self.failure("a worker died during the health check")

    def failure(self, why: str) -> Failed:
        """Return the failure for a process that has ended; report `killed` if the former release may have killed it.

        The former release has the same account as the candidate. This run has sent no signal.
        """
        for _ in range(20):
            # If a worker fails to boot, gunicorn exits by itself in the next moments: then no other process killed it.
            if self._processes.result in {"exit-code", "signal", "oom-kill"}:
                break
            self._run.pause(0.1)
            self._processes.ask_systemd()
        step, unit = self._run.step, self._probe.service.slot(self._slot)
        signalled = self._processes.result == "signal"
        if starved := memory.fault(unit, self._since, signalled=signalled):
            return Failed(f"{why}{starved}")
        if not signalled and (code := self._exit_code(unit)):
            return Failed(f"{why}: it exited with code {code}")
        if self._processes.result != "exit-code" and self._former and not step["stop_first"]:
            self._run.report("killed", f"{step['action']} {step['release']}")
        beside = run_units.beside(self._probe.service.name) if signalled else ""
        return Failed(f"{why}: a signal has ended it{beside}" if signalled else why)

    def _exit_code(self, unit: str) -> str:
        """Return the code with which a worker ended by itself, as gunicorn logs it; empty if a signal ended it."""
        lines = units.journal_lines(unit, "-n", "100", "--since", f"@{self._since:.2f}")
        codes = [found[1] for _, line in lines if (found := _EXITED.search(line))]
        return codes[0] if codes else ""
