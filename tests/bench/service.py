"""What a service answers: ours, and the same application behind the same nginx as the common tutorials set it up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from tasks.engine.sandbox import Machine
from tests.bench.ground import Ground
from tests.clone import Clone, make
from tests.promises.load_http import Connection, Target
from tests.stand_ins import write_inventory

CONNECTIONS, SECONDS = 16, 5.0
"""How many clients ask, each one request after another, and for how long."""
SIZES = ((2, 4), (1, 1), (1, 4), (1, 8), (2, 1), (2, 8), (4, 4))
"""Workers and threads of ours: as the template has them, and others."""
TUTORIALS: Mapping[str, int] = {"tutorial, 2 x sync": 2, "tutorial, 5 x sync": 5}
"""As many workers as ours has, and as gunicorn's documentation counts for two processors."""
_UNIT = """[Unit]
Description={name}
After=network.target

[Service]
User=myapp
WorkingDirectory=/opt/apps/myapp/current/release/code
Environment=SERVICE={name} RELEASE=tutorial HOST=h1 PYTHONDONTWRITEBYTECODE=1
ExecStart=/opt/apps/myapp/current/release/venv/bin/gunicorn -w {workers} -b 127.0.0.1:{port} "app:create_app()"

[Install]
WantedBy=multi-user.target
"""
_SITE = """server {{
  listen 443 ssl;
  server_name {name}.example;
  ssl_certificate /etc/myapp/tls/certificate.pem;
  ssl_certificate_key /etc/myapp/tls/key.pem;
  location / {{
    proxy_pass http://127.0.0.1:{port};
    proxy_set_header Host $host;
    proxy_set_header X-Real-IP $remote_addr;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    proxy_set_header X-Forwarded-Proto $scheme;
  }}
}}
"""


@dataclass(frozen=True)
class Answers:
    """rate: answers a second. tail: seconds that the slowest hundredth took longer than."""

    rate: float
    tail: float


def measure(ground: Ground, folder: Path, rounds: int, say: Any) -> dict[str, Answers]:
    """Everybody in turn, round after round; the medians."""
    folder.mkdir(parents=True)
    machine, entries = ground.machines[0], list(ground.inventory().items())[:1]
    clone = make(folder, write_inventory(folder / "hosts.yaml", dict(entries)))
    clone.done("deploy", "-H", "all")
    for number, workers in enumerate(TUTORIALS.values(), 1):
        name = f"tutorial{number}"
        _set_up(machine, name, {"name": name, "port": 8000 + number, "workers": workers})
    found: dict[str, list[Answers]] = {}
    for number in range(1, rounds + 1):
        for title, name in _turns(ground, clone):
            target = Target(machine.address, 443, name, tls=True)
            # What workers load late they load now.
            asyncio.run(ask(target, 1.0))
            one = asyncio.run(ask(target, SECONDS))
            found.setdefault(title, []).append(one)
            say(f"Service, round {number}: {title:24} {one.rate:6.0f} answers/s, p99 {1000 * one.tail:4.0f} ms")
    return {
        title: Answers(median(one.rate for one in several), median(one.tail for one in several))
        for title, several in found.items()
    }


def _turns(ground: Ground, clone: Clone) -> Iterator[tuple[str, str]]:
    """Who is to be asked now, and by which name: ours in several sizes, deployed anew for each."""
    usual = (clone.root / "service/service.yaml").read_text()
    for workers, threads in SIZES:
        size = f"{{workers: {workers}, threads: {threads}}}"
        text = usual.replace("{workers: 2, threads: 4}", size).replace("probation: 30", "probation: 0")
        clone.write("service/service.yaml", text)
        clone.done("deploy", "-H", "all")
        ground.rest("myapp")
        yield f"ours, {workers} x {threads}", "myapp.example"
    clone.write("service/service.yaml", usual)
    for number, title in enumerate(TUTORIALS, 1):
        yield title, f"tutorial{number}.example"


def _set_up(machine: Machine, name: str, said: Mapping[str, object]) -> None:
    for text, path in ((_UNIT, f"/etc/systemd/system/{name}.service"), (_SITE, f"/etc/nginx/conf.d/{name}.conf")):
        machine.sh(f"cat >{path}", text.format(**said).encode())
    machine.sh(f"systemctl daemon-reload && systemctl start {name} && systemctl reload nginx")
    asked = f"curl -sfk -o /dev/null --resolve {name}.example:443:127.0.0.1 https://{name}.example/readyz"
    machine.sh(f"until {asked}; do sleep 0.1; done")


async def ask(target: Target, seconds: float) -> Answers:
    """As many clients as CONNECTIONS ask for the front page, each as soon as it has its answer."""
    connections = [await Connection.open(number, target) for number in range(CONNECTIONS)]
    took: list[float] = []
    end = time.perf_counter() + seconds

    async def client(connection: Connection) -> None:
        while (began := time.perf_counter()) < end:
            answer = await connection.ask("/", b"")
            assert answer.status == 200, answer
            took.append(time.perf_counter() - began)

    try:
        await asyncio.gather(*(client(connection) for connection in connections))
    finally:
        for connection in connections:
            connection.close()
    return Answers(len(took) / seconds, quantiles(took, n=100)[-1])
