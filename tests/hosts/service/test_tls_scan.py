"""The gateway's TLS as testssl.sh sees it: with `hsts`, and a CA that it trusts."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tasks.engine.sandbox import sources
from tests.promises.words import SEALED
from tests.support import packages
from tests.support.certificates import Authority
from tests.support.clone import Clone, make
from tests.support.front_door import NAME
from tests.support.hosts import MakeHosts

# WARN is what the scanner says of itself: a test that it could not do, such as to resume a session where none is kept.
MEDIUM_OR_WORSE = {"MEDIUM", "HIGH", "CRITICAL", "FATAL"}
TLS = "  tls: self-signed "
OWN = "  hsts: 63072000\n  tls: {certificate: tls/a.pem, key: tls/a.key} "
CA = "  hsts: 63072000\n  tls: {ca: {certificate: tls/ca.pem, key: tls/ca.key}} "


# It takes minutes.
@pytest.mark.promise(SEALED, "testssl.sh tries what it knows", part=0)
@pytest.mark.parametrize("suite", [None, "trixie"])
def test_testssl_finds_nothing_of_medium_or_worse(hosts: MakeHosts, tmp_path: Path, suite: str | None) -> None:
    """The sample service, since headers of the application count, too."""
    if suite and sources.release()[0] != "debian":
        pytest.skip(f"{suite} is of Debian, and this machine is not")
    authority, made = Authority(tmp_path / "ca", days=400), hosts(1, suite)
    clone = make(tmp_path, made.inventory)
    authority.issue(clone.root / "tls/a.pem", clone.root / "tls/a.key", days=90, revoked="http://ca.example/list.crl")
    clone.replace("service/service.yaml", TLS, OWN)
    clone.done("deploy", "-H", "shire01")
    found = scanned(made[0].address, authority.certificate, tmp_path)
    assert worse(found) == []
    assert {"TLS1_3", "cert_chain_of_trust", "HSTS_time", "overall_grade"} <= {
        one["id"] for one in found if one["severity"] == "OK"
    }, "the scan was not whole"
    assert [one["finding"] for one in found if one["id"] == "overall_grade"] == ["A+"]
    keep(clone, authority)
    clone.replace("service/service.yaml", OWN, CA)
    clone.done("deploy", "-H", "shire01")
    # A certificate of `ca` names no list of revoked ones, which would have to be served, and signed anew all the time.
    found = scanned(made[0].address, authority.certificate, tmp_path, "--server-defaults")
    assert [line.partition(":")[0] for line in worse(found)] == ["cert_revocation"]


def keep(clone: Clone, authority: Authority) -> None:
    """Put the CA into the clone."""
    for name in ("ca.pem", "ca.key"):
        clone.write(f"tls/{name}", (authority.folder / name).read_text())
        (clone.root / "tls" / name).chmod(0o600)


def worse(found: list[dict[str, str]]) -> list[str]:
    """Return what is of medium severity or worse."""
    marked = (one for one in found if one["severity"] in MEDIUM_OR_WORSE)
    return [f"{one['id']}: {one['severity']} {one['finding']}" for one in marked]


def scanned(address: str, authority: Path, folder: Path, *words: str) -> list[dict[str, str]]:
    """Return what testssl.sh finds: on Debian that of trixie, 3.2 or newer, since an older one gives no grade."""
    tools, found = folder / "tools", folder / "found.json"
    suite = "trixie" if sources.release()[0] == "debian" else None
    for path in (*packages.fetched("testssl.sh", suite=suite), *packages.fetched("bsdextrautils")):
        subprocess.run(["dpkg", "-x", path, tools], check=True)
    # It insists on a program that asks DNS, and is told not to use it.
    (tools / "usr/bin/nslookup").write_text("#!/bin/sh\nexit 1\n")
    (tools / "usr/bin/nslookup").chmod(0o755)
    where = f"{tools / 'usr/bin'}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": where, "TESTSSL_INSTALL_DIR": str(tools / "etc/testssl")}
    asked = ["--nodns", "none", "--ip", address, "--add-ca", str(authority), "--warnings", "off", *words]
    shown = ["--quiet", "--color", "0", "--overwrite", "--jsonfile", str(found)]
    command = ["bash", str(tools / "usr/bin/testssl"), *asked, *shown, f"https://{NAME}/"]
    ended = subprocess.run(command, env=environment, capture_output=True, timeout=1800)
    assert ended.returncode < 200, ended.stdout.decode()
    told: list[dict[str, str]] = json.loads(found.read_text())
    return told
