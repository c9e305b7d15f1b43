"""The gateway's TLS as testssl.sh sees it: with `hsts`, and a CA that it trusts."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.promises.words import SEALED
from tests.support import packages
from tests.support.certificates import Authority
from tests.support.clone import make
from tests.support.echo_service import deployed
from tests.support.front_door import NAME
from tests.support.hosts import MakeHosts

FINE = {"OK", "INFO", "LOW"}
# No matter of the gateway: Debian's openssl has no engines; a CA of these tests lists no revoked certificates; the echo
# service sets no headers. The client chooses among strong ciphers, as Mozilla's profile has it: newer versions agree.
NOT_OURS = {"engine_problem", "cert_revocation", "security_headers", "cipher_order"}


# It takes minutes.
@pytest.mark.promise(SEALED, "testssl.sh tries what it knows", part=0)
def test_testssl_finds_nothing_of_medium_or_worse(hosts: MakeHosts, tmp_path: Path) -> None:
    authority, made = Authority(tmp_path / "ca"), hosts()
    clone = make(tmp_path)
    (clone.root / "tls").mkdir()
    authority.issue(clone.root / "tls/a.pem", clone.root / "tls/a.key", days=90)
    tls = {"certificate": "tls/a.pem", "key": "tls/a.key"}
    deployed(clone, made, nginx={"server_name": NAME, "hsts": 63072000, "tls": tls})
    found = scanned(made[0].address, authority.certificate, tmp_path)
    good = {one["id"] for one in found if one["severity"] == "OK"}
    assert {"TLS1_3", "cert_chain_of_trust", "HSTS_time"} <= good, "the scan was not whole"
    worse = [one for one in found if one["severity"] not in FINE and one["id"] not in NOT_OURS]
    assert [f"{one['id']}: {one['severity']} {one['finding']}" for one in worse] == []


def scanned(address: str, authority: Path, folder: Path) -> list[dict[str, str]]:
    """Return what testssl.sh of the controller's suite finds."""
    for path in packages.fetched("testssl.sh", "bsdextrautils"):
        subprocess.run(["dpkg", "-x", path, folder / "tools"], check=True)
    # It insists on a program that asks DNS, and is told not to use it.
    (folder / "tools/usr/bin/nslookup").write_text("#!/bin/sh\nexit 1\n")
    (folder / "tools/usr/bin/nslookup").chmod(0o755)
    where = f"{folder / 'tools/usr/bin'}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": where, "TESTSSL_INSTALL_DIR": str(folder / "tools/etc/testssl")}
    words: list[str | Path] = [
        "bash",
        folder / "tools/usr/bin/testssl",
        "--nodns",
        "none",
        "--ip",
        address,
        "--add-ca",
        authority,
    ]
    words += ["--quiet", "--color", "0", "--warnings", "off", "--jsonfile", folder / "found.json", f"https://{NAME}/"]
    ended = subprocess.run(words, env=environment, capture_output=True, timeout=1800)
    assert ended.returncode < 200, ended.stdout.decode()
    found: list[dict[str, str]] = json.loads((folder / "found.json").read_text())
    return found
