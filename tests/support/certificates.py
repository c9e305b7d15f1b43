"""Certificates for tests, made by openssl as an operator would."""

from __future__ import annotations

import socket
import ssl
import subprocess
from pathlib import Path

from tests.support.front_door import NAME


class Authority:
    """A private CA below `folder`."""

    def __init__(self, folder: Path, days: int = 30) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.certificate, self._key = folder, folder / "ca.pem", folder / "ca.key"
        _openssl("req", "-x509", *_NEW_KEY, "-days", str(days), "-subj", "/CN=A test's own CA",
                 "-keyout", self._key, "-out", self.certificate)  # fmt: skip

    def issue(self, certificate: Path, key: Path, name: str = NAME, days: int = 30, revoked: str = "") -> None:
        """A new certificate with a new key for this name. revoked: address of a list of revoked certificates."""
        request, extensions = self.folder / "leaf.csr", self.folder / "leaf.ext"
        lists = f"crlDistributionPoints=URI:{revoked}\n" if revoked else ""
        extensions.write_text(f"subjectAltName=DNS:{name}\n{lists}")
        certificate.parent.mkdir(parents=True, exist_ok=True)
        _openssl("req", *_NEW_KEY, "-subj", f"/CN={name}", "-keyout", key, "-out", request)
        _openssl("x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self._key, "-CAcreateserial",
                 "-days", str(days), "-extfile", extensions, "-out", certificate)  # fmt: skip


_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def _openssl(*words: str | Path) -> None:
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)


def serial(address: str, authority: Path, name: str = NAME) -> str:
    """Return the serial number of the certificate that a client gets; it trusts this authority alone."""
    context = ssl.create_default_context(cafile=str(authority))
    with context.wrap_socket(socket.create_connection((address, 443), timeout=60), server_hostname=name) as connection:
        return str((connection.getpeercert() or {})["serialNumber"])
