"""A deployed clone on a host of its own, with short ways to look at both, and a client that never looks away."""

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
from tests.clone import Clone, Ended
from tests.front import ask, release_of

ROOT = "/opt/apps/myapp"


@dataclass
class Site:
    """A clone and the one host that it is deployed to."""

    clone: Clone
    machine: Machine
    _editions: int = 0

    def sh(self, command: str) -> str:
        """What a command prints as root on the host; it has to succeed."""
        ended = self.machine.sh(command)
        assert ended.returncode == 0, f"{command}: {ended.returncode}\n{(ended.stdout + ended.stderr).decode()}"
        return ended.stdout.decode().strip()

    @property
    def answering(self) -> str:
        """The release that a client sees."""
        return release_of(self.machine.address)

    @property
    def slot(self) -> str:
        """The committed slot."""
        return self.sh(f"readlink {ROOT}/current").rpartition("/")[2]

    @property
    def other(self) -> str:
        """The slot that is not."""
        return "green" if self.slot == "blue" else "blue"

    def show(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.sh(f"systemctl show -p {name} --value {unit}")

    @property
    def main_pid(self) -> str:
        """Of the committed slot."""
        return self.show(f"myapp@{self.slot}.service", "MainPID")

    @property
    def releases(self) -> set[str]:
        """The ids on the host, and whatever else lies between them."""
        return set(self.sh(f"ls -A {ROOT}/releases").split())

    @property
    def history(self) -> list[dict[str, Any]]:
        """What was recorded on the host."""
        return [json.loads(line) for line in self.sh(f"cat {ROOT}/history.jsonl").splitlines()]

    @property
    def outcomes(self) -> list[tuple[str, str, str]]:
        """Action, release and state of every line of the history."""
        return [(line["action"], line["release"], line["state"]) for line in self.history]

    def fab(self, verb: str, *words: str) -> Ended:
        """A verb on the host."""
        return self.clone.fab(verb, "-H", self.machine.name, *words)

    def done(self, verb: str, *words: str) -> Ended:
        """A verb on the host that has to succeed, and what the host does by itself after a commit."""
        ended = self.clone.done(verb, "-H", self.machine.name, *words)
        self.drained()
        return ended

    def drained(self) -> None:
        """Wait for the end of a former slot that drains, and of the prune that comes next."""
        until = "/run/myapp/ctl/probation/until"
        self.sh(f"! grep -qs ^drain {until} || flock -w 120 /run/myapp/lock/guard true")

    def edit(self) -> str:
        """Make the content of the service one that never was before; its id."""
        self._editions += 1
        self.clone.write("service/edition.txt", f"{self._editions}\n")
        return self.clone.release()

    def deploy(self) -> str:
        """Edit, and deploy; the id that answers now."""
        release = self.edit()
        self.done("deploy")
        assert self.answering == release
        return release

    @contextmanager
    def changed(self, path: str, text: str) -> Iterator[None]:
        """A file of the clone with another text, or a new one, for a while."""
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
        """A file of the clone."""
        return Path(self.clone.root / path).read_text()

    def settled(self) -> None:
        """Exactly the committed slot runs, nothing of a run is left, and it answers."""
        # The end of the former slot is the host's own work.
        self.sh("flock -w 120 /run/myapp/lock/guard true")
        self.sh("flock -w 60 /run/myapp/lock/activate true")
        assert self.sh(f"find {ROOT} /run/myapp '(' -name '.part-*' -o -name '*.new-*' -o -path '*/try/*' ')'") == ""
        assert self.sh("readlink /run/myapp/live") == self.slot
        states = {slot: self.show(f"myapp@{slot}.service", "ActiveState") for slot in (self.slot, self.other)}
        assert states == {self.slot: "active", self.other: "inactive"}
        assert self.answering == self.sh(f"readlink {ROOT}/current/release").rpartition("/")[2]


@dataclass
class Watch:
    """Asks the front door again and again while its block runs; every answer is kept, in order."""

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
        """The different answers."""
        return set(self.answers)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end.set()
        self._thread.join()
