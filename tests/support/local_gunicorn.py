"""The service of a clone under gunicorn on this machine, without a host: a client for it, the memory of its workers."""

from __future__ import annotations

import os
import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

from tests.support.clone import Clone
from tests.support.waiting import until

WORKERS = 1  # of two, one may get few requests at first, and is not warm when the other is


@dataclass
class Served:
    """A service that runs at a port of 127.0.0.1. token: of an admin; process: what began the workers."""

    port: int
    token: str
    process: int

    def ask(self, status: int, method: str, path: str, body: str = "", **headers: str) -> dict[str, str]:
        """Send a request, which must be answered with this status, and return the headers of the answer."""
        sent = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json", **headers}
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
            connection.request(method, path, body, {name.replace("_", "-"): value for name, value in sent.items()})
            answer = connection.getresponse()
            text = answer.read()
            assert answer.status == status, (method, path, answer.status, text)
            return dict(answer.getheaders())

    def memory(self) -> dict[str, int]:
        """Return the kilobytes that each worker has to itself, by its process id."""
        workers = Path(f"/proc/{self.process}/task/{self.process}/children").read_text().split()
        texts = {worker: Path(f"/proc/{worker}/status").read_text() for worker in workers}
        return {worker: int(re.findall(r"RssAnon:\s+(\d+) kB", text)[0]) for worker, text in texts.items()}


@contextmanager
def serving(clone: Clone, python: Path, state: Path) -> Iterator[Served]:
    """Run the service of the clone with its gunicorn.conf.py, the packages of this Python and this state directory."""
    folder = clone.root / "service"
    variables = {**os.environ, "STATE_DIRECTORY": str(state), "SERVICE": "myapp", "FLASK_APP": "app"}
    words = ["-m", "flask", "token", "create", "me", "--role", "admin"]
    made = subprocess.run([python, *words], cwd=folder, env=variables, stdout=subprocess.PIPE, text=True, check=True)
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        where = ["--bind", f"fd://{listener.fileno()}", "--workers", str(WORKERS)]
        process = subprocess.Popen(
            [python, "-m", "gunicorn", *where, "app:create_app()"],
            cwd=folder,
            env=variables,
            stdout=subprocess.DEVNULL,
            pass_fds=[listener.fileno()],
        )
        try:
            served = Served(listener.getsockname()[1], made.stdout.split()[-1], process.pid)
            until(lambda: len(served.memory()) == WORKERS)
            yield served
        finally:
            process.terminate()
            process.wait(30)
