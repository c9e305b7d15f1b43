"""A certificate and key that this host keeps: nginx reads both in one file, so a rename changes them together.

/etc/NAME/tls/pair.pem has the chain and the key; certificate.pem the chain, for the health checks and for people.
"""

from __future__ import annotations

import os
import re
from typing import BinaryIO

from . import accounts, certificate, files, small_file
from .files import RootFiles
from .run import Refused, Run

MODES = frozenset({"on_host", "ca", "acme"})
NAMES = ("pair.pem", "certificate.pem", "next.pem", ".unread", ".seen", ".reloaded")
_MOST, _SECONDS = 1000 * 1000, 30
_HEAD = 100
"""Bytes that the process which reads a file may report beside it."""
# Match base64 alone: with `.*` a block that was cut would reach into the next one, which may be the key.
_KEY = re.compile(rb"-----BEGIN ([A-Z ]*PRIVATE KEY)-----[A-Za-z0-9+/=\s]*-----END \1-----\r?\n?")
_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]*-----END CERTIFICATE-----\r?\n?")


def path(name: str) -> str:
    """Return the path of the pair."""
    return f"/etc/{name}/tls/pair.pem"


def unchecked(name: str) -> tuple[str, ...]:
    """Return the files that change without setup: a change of them does not count as an edit by a person."""
    return (path(name), certificate.paths(name)[0]) if os.path.lexists(path(name)) else ()


def first(data: bytes) -> bytes:
    """Return the first certificate of a file; empty if it has none."""
    found = _CERTIFICATE.search(data)
    return found[0].strip() + b"\n" if found else b""


def key_of(pair: bytes) -> bytes:
    """Return the key of a pair; empty if it has none."""
    found = _KEY.search(pair)
    return found[0] if found else b""


def take(run: Run, changes: RootFiles, name: str, sources: tuple[str, str], names: list[str]) -> bytes:
    """Install the pair that another program of this host keeps; return its chain, which `publish` needs."""
    # Many programs keep both in one file, and every account may read the chain.
    chain, key = b"".join(_CERTIFICATE.findall(_read(sources[0]))), key_of(_read(sources[1]))
    for path, found, what in zip(sources, (chain, key), ("certificate", "private key")):
        if not found:
            raise Refused(f"{path} has no {what} in PEM")
    certificate.require_usable(chain, key, names)
    place(run, changes, name, chain, key, f"from {sources[0]}")
    return chain


def begin(run: Run, changes: RootFiles, name: str, names: list[str]) -> None:
    """Make a self-signed pair, with which nginx starts until that of the operator's CA, or certbot's, is there."""
    if files.read(path(name)) is None or f"/etc/{name}/take-certificate" in changes.leftovers:
        place(run, changes, name, *certificate.self_signed(name, names), "self-signed, until another one is there")


def place(run: Run, changes: RootFiles, name: str, chain: bytes, key: bytes, origin: str) -> None:
    """Write the pair. origin: where it comes from, for the operator."""
    files.remove_parts(path(name))
    pair = b"%b\n%b" % (chain, key)
    if not files.has(path(name), pair):
        run.say("certificate", origin)
        changes.replace({path(name): (pair, 0o600)})


def publish(changes: RootFiles, name: str, chain: bytes) -> None:
    """Write certificate.pem: the chain, then the former certificate, since nginx shows that one until the reload."""
    public = certificate.paths(name)[0]
    files.remove_parts(public)
    former = files.read(public)
    data = former.data if former and not former.target else b""
    if data.startswith(chain):
        return
    changes.replace({public: (b"%b\n%b" % (chain, first(data)), 0o644)})


def tidy(changes: RootFiles, name: str, *, kept: bool) -> None:
    """Remove what nginx does not read any more. kept: nginx reads the pair."""
    public, key = certificate.paths(name)
    changes.remove(key if kept else path(name))
    pair, there = files.read(path(name)), files.read(public)
    if kept and pair and there and first(pair.data) != first(there.data):
        # certificate.pem is of another pair than nginx reads: once that file is gone, the next plan sees it missing.
        changes.remove(public)


def _read(source: str) -> bytes:
    """Return a file of another program. Links are followed; the account of that program may put anything there."""

    def work(output: BinaryIO) -> None:
        try:
            output.write(_content(source))
        except OSError as error:
            # In words alone: the path is named below.
            raise RuntimeError(error.strerror or str(error)) from None

    try:
        data = accounts.within(work, _SECONDS, _MOST + _HEAD)
    except OSError as error:
        raise Refused(f"{source} cannot be read: {error.strerror}") from None
    if not data:
        raise Refused(f"{source} is no file, or an empty one")
    if len(data) == _MOST:
        raise Refused(f"{source} has a megabyte or more")
    return data


def _content(source: str) -> bytes:
    """Return the first bytes of a regular file, nothing of anything else."""
    file = small_file.opened(source)
    if file is None:
        return b""
    with file:
        return file.read(_MOST) or b""
