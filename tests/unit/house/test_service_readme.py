"""What service/README.md says to type on one's own machine works as it stands there."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

from tests.support.clone import ROOT
from tests.support.waiting import until


def answers(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def test_a_wrapped_command_answers_on_the_readers_machine(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    start, token, ask = re.findall(
        r"^ +\$ (.*(?:service\.app|localhost).*)$", (ROOT / "service/README.md").read_text(), re.M
    )
    (tmp_path / "service").symlink_to(ROOT / "service")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    variables = {"PATH": path, "HOME": str(tmp_path), "FLASK_RUN_PORT": str(port), "PYTHONDONTWRITEBYTECODE": "1"}
    server = subprocess.Popen(["sh", "-c", f"exec {start.removesuffix(' &')}"], cwd=tmp_path, env=variables)
    try:
        until(lambda: answers(port))
        lines = f"{token}\n{ask.replace(':5000', f':{port}')}"
        ended = subprocess.run(["sh", "-ec", lines], cwd=tmp_path, env=variables, stdout=subprocess.PIPE, check=True)
    finally:
        server.terminate()
        server.wait()
    answer = json.loads(ended.stdout)
    assert (answer["command"], answer["exit_status"]) == ("disk-usage", 0)
