"""A fleet whose service logs what a test tells it to, and a reader that follows the output of `fab`."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from tasks.engine.sandbox import Machine
from tests.support import echo_service as echo
from tests.support.clone import Clone
from tests.support.hosts import Hosts

# A process of the service that does, once, what a file in its state directory asks for.
ACTOR = """
import os
import time

GO = os.environ["STATE_DIRECTORY"] + "/go"


def say(text):
    os.write(1, text if isinstance(text, bytes) else (text + chr(10)).encode())


while True:
    try:
        with open(GO) as file:
            text = file.read()
    except FileNotFoundError:
        time.sleep(0.02)
        continue
    os.unlink(GO)
    exec(text, {"say": say, "time": time})
"""


def deployed(clone: Clone, hosts: Hosts) -> Clone:
    """Deploy the acting service to all hosts, with journals that drop no lines."""
    for machine in hosts:
        machine.sh(
            "mkdir -p /etc/systemd/journald.conf.d && cd /etc/systemd/journald.conf.d && "
            "printf '[Journal]\\nRateLimitIntervalSec=0\\n' >all.conf && systemctl restart systemd-journald"
        )
    clone.inventory = hosts.inventory
    clone.write("service/actor.py", ACTOR)
    echo.put(clone, processes={"web": {"workers": 1}, "actor": {"command": "python -m actor"}})
    clone.done("deploy", "-H", "all", "--canary", str(len(hosts.machines)))
    return clone


def act(machine: Machine, code: str) -> None:
    """Start an act."""
    machine.sh("cat >/var/lib/myapp/.go && mv /var/lib/myapp/.go /var/lib/myapp/go", stdin=code.encode())


def acted(machine: Machine, code: str, end: str) -> None:
    """Act, and wait until this word is newly in the journal."""
    act(machine, f"{code}\nsay({end!r})\n")
    machine.sh(f"timeout 60 journalctl -f -n all -o cat -u 'myapp-actor@*' | grep -m1 -x {end} && journalctl --sync")


class Reader:
    """Reads lines as they arrive, and measures the memory of the process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.out: list[str] = []
        self.err: list[str] = []
        self.sizes: list[tuple[float, int]] = []
        self._news = threading.Condition()
        self._threads = []
        for stream, lines in ((process.stdout, self.out), (process.stderr, self.err)):
            assert stream is not None
            self._threads.append(threading.Thread(target=self._read, args=(stream, lines), daemon=True))
            self._threads[-1].start()

    def _read(self, stream: IO[str], lines: list[str]) -> None:
        for line in stream:
            with self._news:
                lines.append(line.rstrip("\n"))
                self._news.notify_all()

    def until(self, what: Callable[[], bool], seconds: float = 60) -> None:
        """Wait for a condition; fail with the lines read so far."""
        deadline = time.monotonic() + seconds
        with self._news:
            while not what():
                assert self.process.poll() is None, f"it ended with {self.process.returncode}: {self.err[-5:]}"
                assert time.monotonic() < deadline, f"not within {seconds} s: {self.out[-5:]} {self.err[-5:]}"
                self._news.wait(0.2)
                self.sizes.append((time.monotonic(), resident(self.process.pid)))

    def saw(self, word: str) -> Callable[[], bool]:
        """Return a condition: some line contains this word."""
        return lambda: any(word in line for line in [*self.out, *self.err])

    def stop(self) -> None:
        """Interrupt, like Ctrl-C."""
        self.process.send_signal(2)
        self.process.wait(60)
        # Their readers are closed after this.
        for thread in self._threads:
            thread.join(60)


def resident(pid: int) -> int:
    """Return the bytes of memory that the process has now."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS:"))
