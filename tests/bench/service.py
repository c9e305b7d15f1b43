"""The throughput of the service and of its nginx: ours, and the same application as common tutorials set it up."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from tasks.engine.sandbox import Machine
from tests.bench.ground import Ground
from tests.support.clone import Clone, make
from tests.support.stand_ins import write_inventory

CONNECTIONS, SECONDS = 16, 5
"""Clients, each of which sends one request after another, and for how many seconds."""
TEMPLATE = (4, 1)
SIZES = (TEMPLATE, (2, 1), (2, 2), (1, 4), (2, 4), (2, 8))
"""Workers and threads of ours: the template's, and others."""


@dataclass(frozen=True)
class Tutorial:
    """gunicorn on a TCP port with this many sync workers. own: nginx logs to a file, as its packages do."""

    number: int
    workers: int
    own: bool = False

    @property
    def name(self) -> str:
        """Return the name of its unit and its site."""
        return f"tutorial{self.number}"

    @property
    def title(self) -> str:
        """Return its title on the page."""
        return f"tutorial, {self.workers} x sync{', its own nginx site' if self.own else ''}"

    @property
    def port(self) -> int:
        """Return the port that gunicorn listens on."""
        return 8000 + self.number


OURS = "ours"
TUTORIALS = (Tutorial(1, 4), Tutorial(2, 2), Tutorial(3, 4, own=True))
"""Flask's documentation starts four workers."""
SMALL = {"small JSON": "/healthz", "a static file of 4 kB": "/static/site.css"}
"""What is asked of the template's service and of the last tutorial, whose nginx file is its own."""
TURNS = 5
"""How often in a round each is asked for it, a second at a time."""
_UNIT = """[Unit]
Description={name}
After=network.target

[Service]
User=myapp
WorkingDirectory=/opt/apps/myapp/current/release/code
Environment=SERVICE={name} RELEASE=tutorial HOST=h1 STATE_DIRECTORY=/var/lib/myapp PYTHONDONTWRITEBYTECODE=1
ExecStart=/opt/apps/myapp/current/release/venv/bin/gunicorn -w {workers} -b 127.0.0.1:{port} "app:create_app()"

[Install]
WantedBy=multi-user.target
"""
_STYLE = b"p { color: black }\n" * 220
_SITE = """server {{
  listen 443 ssl;
  server_name {name}.example;
  ssl_certificate /etc/myapp/tls/certificate.pem;
  ssl_certificate_key /etc/myapp/tls/key.pem;
  location /static/ {{
    alias /srv/static/;
  }}
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
    """rate: answers a second. tail: the 99th percentile in seconds."""

    rate: float
    tail: float


def measure(ground: Ground, folder: Path, rounds: int, say: Any) -> dict[str, Answers]:
    """Measure each in turn, round after round; return the medians."""
    folder.mkdir(parents=True)
    machine, entries = ground.machines[0], list(ground.inventory().items())[:1]
    clone = _with_static_file(make(folder, write_inventory(folder / "hosts.yaml", dict(entries))))
    clone.done("deploy", "-H", "all")
    machine.sh("mkdir -p /srv/static && cat >/srv/static/site.css", _STYLE)
    for tutorial in TUTORIALS:
        _set_up(machine, tutorial)
    found: dict[str, list[Answers]] = {}
    for number in range(1, rounds + 1):
        for title, name in _contenders(ground, clone):
            # Workers that load modules late do it now.
            ask(machine.address, name, 1)
            one = ask(machine.address, name, SECONDS)
            found.setdefault(title, []).append(one)
            say(f"Service, round {number}: {title:40} {one.rate:6.0f} answers/s, p99 {1000 * one.tail:5.1f} ms")
            if title == _title(*SIZES[0]):
                for what, path in SMALL.items():
                    for asked, answers in _in_turn(machine.address, path):
                        found.setdefault(f"{asked}: {what}", []).append(answers)
    return {
        title: Answers(median(one.rate for one in several), median(one.tail for one in several))
        for title, several in found.items()
    }


def _in_turn(address: str, path: str) -> Iterator[tuple[str, Answers]]:
    """Ask for a small answer of ours and of the tutorial's in turn, so that what else the machine does is alike."""
    for _ in range(TURNS):
        for title, name in ((OURS, "myapp.example"), (TUTORIALS[-1].title, f"{TUTORIALS[-1].name}.example")):
            yield title, ask(address, name, 1, path)


def _with_static_file(clone: Clone) -> Clone:
    """Let nginx serve one file of the application."""
    path = clone.root / "service/app/static/site.css"
    path.parent.mkdir()
    path.write_bytes(_STYLE)
    clone.replace("service/service.yaml", "  tls: self-signed", "  static: {/static/: app/static}\n  tls: self-signed")
    return clone


def _contenders(ground: Ground, clone: Clone) -> Iterator[tuple[str, str]]:
    """Yield the title and name of each service in turn: ours in several sizes, deployed anew for each."""
    usual = (clone.root / "service/service.yaml").read_text()
    for workers, threads in SIZES:
        clone.replace("service/service.yaml", _size(*TEMPLATE), _size(workers, threads))
        clone.done("deploy", "-H", "all")
        ground.rest("myapp")
        yield _title(workers, threads), "myapp.example"
        clone.write("service/service.yaml", usual)
    for tutorial in TUTORIALS:
        yield tutorial.title, f"{tutorial.name}.example"


def _title(workers: int, threads: int) -> str:
    return f"{OURS}, {workers} x {threads}"


def _size(workers: int, threads: int) -> str:
    return f"{{workers: {workers}, threads: {threads}}}"


def _set_up(machine: Machine, tutorial: Tutorial) -> None:
    given = {"name": tutorial.name, "port": tutorial.port, "workers": tutorial.workers}
    site = _SITE.format(**given) if tutorial.own else _same_site(machine, tutorial)
    for text, path in ((_UNIT.format(**given), f"systemd/system/{tutorial.name}.service"),
                       (site, f"nginx/conf.d/{tutorial.name}.conf")):  # fmt: skip
        machine.sh(f"cat >/etc/{path}", text.encode())
    machine.sh(f"systemctl daemon-reload && systemctl start {tutorial.name} && systemctl reload nginx")
    asked = f"curl -sfk -o /dev/null --resolve {tutorial.name}.example:443:127.0.0.1 https://{tutorial.name}.example/"
    waited = machine.sh(f"for _ in $(seq 100); do {asked} && exit; sleep 0.1; done; exit 1")
    assert waited.returncode == 0, f"{tutorial.name} does not answer"


def _same_site(machine: Machine, tutorial: Tutorial) -> str:
    """Return our site with a port as its upstream in place of a socket."""
    ours = machine.sh("cat /etc/nginx/conf.d/myapp.conf").stdout.decode()
    text = re.sub(r"proxy_pass http:[^;]*;", f"proxy_pass http://127.0.0.1:{tutorial.port};", ours)
    assert text != ours
    return text.replace("myapp_", f"{tutorial.name}_").replace("myapp.example", f"{tutorial.name}.example")


def ask(address: str, name: str, seconds: int, path: str = "/") -> Answers:
    """Send requests from CONNECTIONS clients, each as soon as it has its answer."""
    words = ["wrk", "--latency", "-t", "1", "-c", str(CONNECTIONS), "-d", f"{seconds}s", "-H", f"Host: {name}"]
    told = subprocess.run([*words, f"https://{address}{path}"], capture_output=True, text=True, check=True).stdout
    assert "Non-2xx" not in told, told
    assert "Socket errors" not in told, told
    rate = re.search(r"Requests/sec: +([0-9.]+)", told)
    tail = re.search(r"99% +([0-9.]+)(us|ms|s)\n", told)
    assert rate, told
    assert tail, told
    return Answers(float(rate[1]), float(tail[1]) * {"us": 1e-6, "ms": 1e-3, "s": 1.0}[tail[2]])
