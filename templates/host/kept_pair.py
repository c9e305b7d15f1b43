"""A certificate and key that this host keeps: nginx reads both in one file, so a rename changes them together.

/etc/NAME/tls/pair.pem has the chain and the key; certificate.pem the chain, for the health checks and for people.
"""

from __future__ import annotations

import os
import re
import stat

from . import certificate, files
from .files import RootFiles
from .run import Refused, Run

NAMES = ("pair.pem", "certificate.pem", ".unread")
_MOST = 1000 * 1000
_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n?", re.DOTALL)


def path(name: str) -> str:
    """Return the path of the pair."""
    return f"/etc/{name}/tls/pair.pem"


def changing(name: str) -> tuple[str, ...]:
    """Return the files that change without setup: an edit of them is none."""
    return (path(name), certificate.paths(name)[0]) if os.path.lexists(path(name)) else ()


def take(run: Run, changes: RootFiles, name: str, sources: tuple[str, str], names: list[str]) -> bytes:
    """Install the pair that another program of this host keeps; return its chain, which `publish` needs."""
    chain, key = map(_read, sources)
    certificate.require_usable(chain, key, names)
    _place(run, changes, name, chain, key)
    return chain


def _place(run: Run, changes: RootFiles, name: str, chain: bytes, key: bytes) -> None:
    files.remove_parts(path(name))
    pair = b"%b\n%b" % (chain, key)
    if not files.has(path(name), pair):
        run.say("certificate", "the one that this host keeps")
        changes.replace(path(name), pair, 0o600)


def publish(changes: RootFiles, name: str, chain: bytes) -> None:
    """Write the chain where all may read it, and the former certificate: until the reload nginx shows that one."""
    public = certificate.paths(name)[0]
    files.remove_parts(public)
    former = files.read(public)
    data = former.data if former and not former.target else b""
    if data.startswith(chain):
        return
    first = _CERTIFICATE.search(data)
    changes.replace(public, b"%b\n%b" % (chain, first[0] if first else b""), 0o644)


def tidy(changes: RootFiles, name: str, *, kept: bool) -> None:
    """Remove the key that nginx does not read any more. kept: nginx reads the pair."""
    changes.remove(certificate.paths(name)[1] if kept else path(name))


def _read(source: str) -> bytes:
    """Return a file of another program's. Links are followed; that account may put anything there."""
    try:
        descriptor = os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        raise Refused(f"{source} cannot be read: {error.strerror}") from None
    with os.fdopen(descriptor, "rb") as file:
        data = file.read(_MOST) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""
    if not data:
        raise Refused(f"{source} is no file, or an empty one")
    return data
