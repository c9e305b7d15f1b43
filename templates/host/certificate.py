"""Install the certificate of the front door: self-signed, or the operator's own."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

from . import files, programs
from .files import RootFiles
from .folders import Folder
from .record import Record
from .run import Refused, Run

_PEM = re.compile(rb"-----BEGIN ([A-Z ]+)-----.*?-----END \1-----\n", re.DOTALL)


def paths(name: str) -> tuple[str, str]:
    """Return the paths of the certificate and of its key."""
    return f"/etc/{name}/tls/certificate.pem", f"/etc/{name}/tls/key.pem"


def operators_pair(name: str, sent: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the operator's certificate and key, by path; empty where the host makes one or needs none."""
    return {path: sent[key] for path, key in zip(paths(name), ("tls/certificate.pem", "tls/key.pem")) if key in sent}


def install(run: Run, record: Record, changes: RootFiles, given: Mapping[str, bytes], server_name: str) -> None:
    """Install the certificate, unless the installed one is right. given: see `operators_pair`."""
    name = record.name
    certificate, key = paths(name)
    for path in (certificate, key):
        files.remove_parts(path)
    if given:
        _require_usable(given[certificate], given[key], server_name)
        pair = dict(given)
        if all(files.has(path, data) for path, data in pair.items()):
            return
        run.say("certificate", "the operator's own")
    else:
        former = files.read(certificate)
        if former is not None and not former.target and _is_for(former.data, server_name):
            return
        run.say("certificate", f"self-signed, for {server_name}")
        pair = dict(zip((certificate, key), _self_signed(name, server_name)))
    for path, data in pair.items():
        record.add("tls", path, hashlib.sha256(data).hexdigest())
    record.write(run.id)
    changes.replace(key, pair[key], 0o600)
    changes.replace(certificate, pair[certificate], 0o644)


def make_default(run: Run, name: str) -> None:
    """Make the key and certificate, one file, that nginx shows for a name that no site has."""
    path = f"/etc/{name}/tls/nobody.pem"
    files.remove_parts(path)
    if files.read(path) is None:
        with Folder.open(f"/etc/{name}/tls") as folder:
            folder.replace(
                "nobody.pem", b"".join(_self_signed("invalid", "invalid")), 0o600, f"nobody.pem.new-{run.id}"
            )


def _self_signed(name: str, server_name: str) -> tuple[bytes, bytes]:
    """Return a new certificate and key. openssl writes both to a pipe, so the key is in no temporary file."""
    made = programs.ask(
        *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
        *("-days", "3650", "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{server_name}"),
        *("-keyout", "/dev/stdout", "-out", "/dev/stdout"),
    )
    blocks = {found[1]: found[0] for found in _PEM.finditer(made.output.encode())}
    key = next((block for label, block in blocks.items() if label.endswith(b"PRIVATE KEY")), None)
    if not made.well or key is None or b"CERTIFICATE" not in blocks:
        raise Refused("openssl did not make a certificate")
    return blocks[b"CERTIFICATE"], key


def _is_for(certificate: bytes, server_name: str) -> bool:
    return "does match" in _x509(certificate, "-checkhost", server_name).output


def _require_usable(certificate: bytes, key: bytes, server_name: str) -> None:
    if not _is_for(certificate, server_name):
        raise Refused(f"the certificate is not for {server_name}")
    if not _x509(certificate, "-checkend", "0").well:
        raise Refused("the certificate has expired")
    if _x509(certificate, "-pubkey").output != programs.ask("openssl", "pkey", "-pubout", data=key).output:
        raise Refused("the certificate and the key do not belong together")


def _x509(certificate: bytes, *words: str) -> programs.Ended:
    return programs.ask("openssl", "x509", "-noout", *words, data=certificate)
