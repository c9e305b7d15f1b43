"""Install the certificate of the front door: self-signed, or the operator's own."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from . import files, programs
from .files import RootFiles
from .folders import Folder
from .kept import sha256
from .record import Record
from .run import Refused, Run

_PEM = re.compile(rb"-----BEGIN ([A-Z ]+)-----.*?-----END \1-----\n", re.DOTALL)


def paths(name: str) -> tuple[str, str]:
    """Return the paths of the certificate and of its key."""
    return f"/etc/{name}/tls/certificate.pem", f"/etc/{name}/tls/key.pem"


def operators_pair(name: str, sent: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the operator's certificate and key, by path; empty where the host makes one or needs none."""
    return {path: sent[key] for path, key in zip(paths(name), ("tls/certificate.pem", "tls/key.pem")) if key in sent}


def install(run: Run, record: Record, changes: RootFiles, given: Mapping[str, bytes], names: Sequence[str]) -> None:
    """Install the certificate for these names, unless the installed one is right. given: see `operators_pair`."""
    name = record.name
    certificate, key = paths(name)
    for path in (certificate, key):
        files.remove_parts(path)
    if given:
        require_usable(given[certificate], given[key], names)
        pair = dict(given)
        if all(files.has(path, data) for path, data in pair.items()):
            return
        run.say("certificate", "the operator's own")
    else:
        former = files.read(certificate)
        # A certificate without a key beside it is from `certificate_pair`: nginx cannot go on with it.
        whole = former is not None and not former.target and files.read(key) is not None
        if former and whole and not _lacking(former.data, names):
            return
        run.say("certificate", f"self-signed, for {', '.join(names)}")
        pair = dict(zip((certificate, key), self_signed(name, names)))
    for path, data in pair.items():
        record.add("tls", path, sha256(data).hexdigest())
    record.write(run.id)
    changes.replace({key: (pair[key], 0o600), certificate: (pair[certificate], 0o644)})


def make_default(run: Run, name: str) -> None:
    """Make the key and certificate, one file, that nginx shows for a name that no site has."""
    path = f"/etc/{name}/tls/nobody.pem"
    files.remove_parts(path)
    if files.read(path) is None:
        with Folder.open(f"/etc/{name}/tls") as folder:
            folder.replace(
                "nobody.pem", b"".join(self_signed("invalid", ("invalid",))), 0o600, f"nobody.pem.new-{run.id}"
            )


def self_signed(name: str, names: Sequence[str]) -> tuple[bytes, bytes]:
    """Return a self-signed certificate and its key. openssl writes both to a pipe: the key is in no temporary file."""
    alternatives = ",".join(f"DNS:{one}" for one in names)
    made = programs.ask(
        *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
        *("-days", "3650", "-subj", f"/CN={name}", "-addext", f"subjectAltName={alternatives}"),
        *("-keyout", "/dev/stdout", "-out", "/dev/stdout"),
    )
    blocks = {found[1]: found[0] for found in _PEM.finditer(made.output.encode())}
    key = next((block for label, block in blocks.items() if label.endswith(b"PRIVATE KEY")), None)
    if not made.well or key is None or b"CERTIFICATE" not in blocks:
        raise Refused("openssl did not make a certificate")
    return blocks[b"CERTIFICATE"], key


def _lacking(certificate: bytes, names: Sequence[str]) -> list[str]:
    """Return the names that the certificate is not for; of a wildcard, one name that it stands for is tried."""
    tried = ((name, name.replace("*", "any", 1)) for name in names)
    return [name for name, one in tried if "does match" not in _x509(certificate, "-checkhost", one).output]


def require_usable(certificate: bytes, key: bytes, names: Sequence[str]) -> None:
    """Raise Refused unless the certificate is for all these names, has not expired, and belongs to the key."""
    lacking = _lacking(certificate, names)
    if lacking:
        raise Refused(f"the certificate is not for {', '.join(lacking)}")
    if not _x509(certificate, "-checkend", "0").well:
        raise Refused("the certificate has expired")
    if not belongs(certificate, key):
        raise Refused("the certificate and the key do not belong together")


def belongs(certificate: bytes, key: bytes) -> bool:
    """Return whether a certificate is for a key."""
    public = programs.ask("openssl", "pkey", "-pubout", "-passin", "pass:", data=key)
    return public.well and _x509(certificate, "-pubkey").output == public.output


def make_key() -> bytes:
    """Return a new key, which openssl writes to a pipe."""
    made = programs.ask("openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:prime256v1")
    if not made.well:
        raise Refused("openssl did not make a key")
    return made.output.encode()


def _x509(certificate: bytes, *words: str) -> programs.Completed:
    return programs.ask("openssl", "x509", "-noout", *words, data=certificate)
