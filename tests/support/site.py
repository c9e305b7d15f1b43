"""A deployed clone on a host of its own, with short ways to query both, and a client that asks continuously."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from tasks.engine.sandbox import Machine
from tests.support.clone import Clone, Ended
from tests.support.front_door import ask, release_of

ROOT = "/opt/apps/myapp"


@dataclass
class Site:
    """A clone and the one host that it is deployed to."""

    clone: Clone
    machine: Machine
    _editions: int = 0

    def sh(self, command: str) -> str:
        """Run a command as root on the host, which must succeed; return its output."""
        ended = self.machine.sh(command)
        assert ended.returncode == 0, f"{command}: {ended.returncode}\n{(ended.stdout + ended.stderr).decode()}"
        return ended.stdout.decode().strip()

    @property
    def answering(self) -> str:
        """Return the release that a client gets."""
        return release_of(self.machine.address)

    @property
    def slot(self) -> str:
        """Return the committed slot."""
        return self.sh(f"readlink {ROOT}/current").rpartition("/")[2]

    @property
    def other(self) -> str:
        """Return the other slot."""
        return "green" if self.slot == "blue" else "blue"

    def show(self, unit: str, name: str) -> str:
        """Return a property of a unit."""
        return self.sh(f"systemctl show -p {name} --value {unit}")

    @property
    def main_pid(self) -> str:
        """Return the main process id of the committed slot."""
        return self.show(f"myapp@{self.slot}.service", "MainPID")

    def main_of(self, unit: str) -> str:
        """Return the main process id of a unit, once its launcher has become the process that it starts."""
        main = f"$(systemctl show -p MainPID --value {unit})"
        self.sh(f"until grep -qsz ^RELEASE= /proc/{main}/environ; do sleep 0.05; done")
        return self.show(unit, "MainPID")

    def kill_until_restarted(self, unit: str, who: str = "main") -> None:
        """Send SIGKILL to a unit's main process, or to all; wait until systemd noticed that and started another.

        Right after the signal systemd still reports the former process, and the unit as active.
        """
        now = f"systemctl show -p MainPID --value {unit}"
        self.sh(f"""was=$({now}); systemctl kill -s KILL --kill-who={who} {unit}
        until main=$({now}); [ "$main" != 0 ] && [ "$main" != "$was" ] && systemctl is-active -q {unit}; do
          sleep 0.05
        done""")

    @property
    def releases(self) -> set[str]:
        """Return the ids of the releases on the host, with any other name among them."""
        return set(self.sh(f"ls -A {ROOT}/releases").split())

    @property
    def history(self) -> list[dict[str, Any]]:
        """Return the history recorded on the host."""
        return [json.loads(line) for line in self.sh(f"cat {ROOT}/history.jsonl").splitlines()]

    @property
    def outcomes(self) -> list[tuple[str, str, str]]:
        """Return action, release and state of every line of the history."""
        return [(line["action"], line["release"], line["state"]) for line in self.history]

    def fab(self, verb: str, *words: str) -> Ended:
        """Run a verb on the host."""
        return self.clone.fab(verb, "-H", self.machine.name, *words)

    def done(self, verb: str, *words: str) -> Ended:
        """Run a verb on the host, which must succeed, and wait for the host's own work after a commit."""
        ended = self.clone.done(verb, "-H", self.machine.name, *words)
        self.drained()
        return ended

    def await_guards(self) -> None:
        """Wait until no guard is at work, also none that was killed and that systemd is about to start again."""
        self.sh("flock -w 120 /run/myapp/lock/guard true")
        self.sh("while systemctl is-active 'myapp-probation@*' | grep -qE '^(de)?activ'; do sleep 0.1; done")

    def drained(self) -> None:
        """Wait until a former slot has drained, and for the prune after it."""
        until = "/run/myapp/ctl/probation/until"
        self.sh(f"! grep -qs ^drain {until} || flock -w 120 /run/myapp/lock/guard true")

    def token(self, name: str, role: str) -> str:
        """Make an API token as an operator does; return what is printed, which is the token alone."""
        words = ("flask", "token", "create", name, "--role", role)
        return self.clone.done("run", "-H", self.machine.name, "--", *words).out

    def edit(self) -> str:
        """Change the service to new content; return its id."""
        self._editions += 1
        self.clone.write("service/edition.txt", f"{self._editions}\n")
        return self.clone.release()

    def deploy(self) -> str:
        """Edit and deploy; return the id that answers now."""
        release = self.edit()
        self.done("deploy")
        assert self.answering == release
        return release

    @contextmanager
    def changed(self, path: str, text: str) -> Iterator[None]:
        """Give a file of the clone another text, or make a new one, for the block."""
        target = self.clone.root / path
        before = target.read_text() if target.exists() else None
        self.clone.write(path, text)
        try:
            yield
        finally:
            if before is None:
                target.unlink()
            else:
                target.write_text(before)

    def read(self, path: str) -> str:
        """Read a file of the clone."""
        return Path(self.clone.root / path).read_text()

    def settled(self) -> None:
        """Assert that exactly the committed slot runs and answers, and that no run has left anything."""
        # The host itself ends the former slot.
        self.await_guards()
        self.sh("flock -w 60 /run/myapp/lock/activate true")
        assert self.sh(f"find {ROOT} /run/myapp '(' -name '.part-*' -o -name '*.new-*' -o -path '*/try/*' ')'") == ""
        assert self.sh("readlink /run/myapp/live") == self.slot
        states = {slot: self.show(f"myapp@{slot}.service", "ActiveState") for slot in (self.slot, self.other)}
        assert states == {self.slot: "active", self.other: "inactive"}
        assert self.answering == self.sh(f"readlink {ROOT}/current/release").rpartition("/")[2]


@dataclass
class Watch:
    """Asks the front door repeatedly during its block; keeps every answer, in order."""

    address: str
    path: str = "/healthz"
    answers: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def _look(self) -> None:
        while not self._end.wait(0.05):
            try:
                answer = ask(self.address, self.path, timeout=30)
                self.answers.append(
                    str(answer.json()["release"]) if answer.status == 200 else f"status {answer.status}"
                )
            except (OSError, ValueError, KeyError) as error:
                self.answers.append(f"{type(error).__name__}: {error}")

    @property
    def seen(self) -> set[str]:
        """Return the different answers."""
        return set(self.answers)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end.set()
        self._thread.join()
