"""Pebble, Let's Encrypt's CA for tests, on a host itself: it asks that host's nginx as a public CA would."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tasks.engine.sandbox import Machine
from tests.support import packages
from tests.support.certificates import Authority
from tests.support.waiting import until

PACKAGES = (
    *("python3-pkg-resources", "python3-six", "python3-cffi-backend", "python3-cryptography", "python3-openssl"),
    *("python3-josepy", "python3-certifi", "python3-charset-normalizer", "python3-idna", "python3-urllib3"),
    *("python3-chardet", "python3-requests", "python3-tz", "python3-rfc3339", "python3-acme", "python3-configargparse"),
    *("python3-configobj", "python3-parsedatetime", "python3-distro", "python3-certbot"),
    *("certbot", "pebble"),
)


def install(machine: Machine, folder: Path, names: Sequence[str]) -> None:
    """Install certbot and pebble; the host trusts pebble's address, and these names lead to the host."""
    packages.install(machine, *PACKAGES)
    authority = Authority(folder)
    authority.issue(authority.folder / "pebble.pem", authority.folder / "pebble.key", "localhost")
    machine.sh("mkdir /root/pebble")
    for path, source in {
        "/root/pebble/cert.pem": "pebble.pem",
        "/root/pebble/key.pem": "pebble.key",
        "/usr/local/share/ca-certificates/pebble.crt": "ca.pem",
    }.items():
        machine.sh(f"cat >{path}", (authority.folder / source).read_bytes())
    machine.sh(f"update-ca-certificates; echo '{machine.address} {' '.join(names)}' >>/etc/hosts")


def start(machine: Machine, port: int, seconds: int) -> None:
    """Start a CA whose certificates last so long."""
    settings = {
        "listenAddress": f"127.0.0.1:{port}",
        "managementListenAddress": f"127.0.0.1:{port + 1}",
        "certificate": "/root/pebble/cert.pem",
        "privateKey": "/root/pebble/key.pem",
        "httpPort": 80,
        "tlsPort": 443,
        "certificateValidityPeriod": seconds,
    }
    machine.sh(f"cat >/root/pebble/{port}.json", json.dumps({"pebble": settings}).encode())
    quick = (
        "-p Environment=PEBBLE_VA_NOSLEEP=1 -p Environment=PEBBLE_AUTHZREUSE=0 -p Environment=PEBBLE_WFE_NONCEREJECT=0"
    )
    machine.sh(f"systemd-run --unit=pebble-{port} {quick} pebble -config /root/pebble/{port}.json")
    until(lambda: machine.sh(f"curl -s {directory(port)}").returncode == 0)


def directory(port: int) -> str:
    """Return the CA's address for ACME."""
    return f"https://localhost:{port}/dir"


def root(machine: Machine, port: int) -> bytes:
    """Return the certificate that clients of its certificates trust."""
    return machine.sh(f"curl -sSf https://localhost:{port + 1}/roots/0").stdout
