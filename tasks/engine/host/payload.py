"""Make a step's payload: for a stage the wheels and files that the host lacks, for setup root's files."""

from __future__ import annotations

import importlib.util
import io
import json
import re
import ssl
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tasks.engine import plain_file
from tasks.engine.errors import LoopError, UsageError
from tasks.engine.host import templates
from tasks.engine.host.launchers import listed
from tasks.engine.release import archive, sbom

if TYPE_CHECKING:
    from tasks.engine.config.gateway import Tls
    from tasks.engine.config.service import Service
    from tasks.engine.host.steps import Staging
    from tasks.engine.host.system_files import HostFile
    from tasks.engine.release.archive import Entry
    from tasks.engine.release.build import Release
    from tasks.engine.release.wheel_cache import Wheel
    from tasks.engine.release.wheelhouse import Wheelhouse

_PEM = 1000 * 1000
"""Bytes that a certificate with its chain, or a key, may have."""
_USER = re.compile(r"[^:\s]+:(\$[0-9a-z]+\$|\{SS?HA\})\S+")
"""A line of the file of basic_auth. nginx would accept a plain password, too, but that does not belong in a file."""
_IN_TLS = {"ca": "tls.ca.certificate"}
"""The place below `nginx` of a key of `Nginx.files` that has another name."""
_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]*-----END CERTIFICATE-----\r?\n?")
_PUBLIC = frozenset({"client_ca", "ca"})
"""Keys of `Nginx.files` whose files are certificates, which every account of the host may read."""
_PIECE = 128 * 1024
"""Bytes of a wheel in memory at a time."""


class Delivery(NamedTuple):
    """The contents that a host gets.

    same: paths that the host links from its releases; changed: the other paths of the release
    wheels_there, venv_there: present on the host
    """

    staging: Staging
    launchers: Mapping[str, str]
    wheelhouse: Wheelhouse
    same: frozenset[str]
    changed: tuple[str, ...]
    wheels_there: frozenset[str]
    venv_there: bool

    @property
    def wheels(self) -> tuple[Wheel, ...]:
        """The wheels that the host lacks."""
        return tuple(wheel for wheel in self.wheelhouse.wheels if wheel.filename not in self.wheels_there)


def staging(release: Release, delivery: Delivery, record: Mapping[str, object], service: Service) -> Iterator[bytes]:
    """Yield the payload of a stage: the wheels that the host lacks, then a tar."""
    extra = {f"run/{name}": text.encode() for name, text in delivery.launchers.items()}
    extra["LAUNCHERS"] = listed(delivery.launchers)
    extra["health"] = f"{service.health.path}\n{service.health.status}\n".encode()
    extra["MANIFEST"] = archive.manifest(release.tree.entries)
    if delivery.same:
        # A linked file has the mode of the release that it comes from.
        executable = sorted(entry.path for entry in release.tree.entries if entry.executable)
        extra["EXECUTABLE"] = "".join(f"{path}\n" for path in executable).encode()
    if release.site:
        extra["SITE"] = archive.manifest(release.site)
    extra["WHEELS"] = "".join(f"{wheel.sha256}  {wheel.filename}\n" for wheel in delivery.wheelhouse.wheels).encode()
    extra[sbom.NAME] = sbom.render(service.name, release.id, delivery.wheelhouse)
    extra["release.json"] = json.dumps(record, sort_keys=True).encode() + b"\n"
    if not delivery.venv_there:
        extra["tool/installer.zip"] = _installer()
        extra["tool/build_venv.py"] = templates.text("build_venv.py").encode()
    sent = [entry for entry in release.tree.entries if entry.path not in delivery.same]
    yield from _sent(delivery.wheels)
    placed = [entry._replace(path=f"code/{entry.path}") for entry in sent]
    placed += [entry._replace(path=f"site/{entry.path}") for entry in unlike_code(release)]
    yield from archive.pack(placed, extra)


def unlike_code(release: Release) -> list[Entry]:
    """Return the files of the site that must be sent: executable files, and those that the code lacks."""
    code = {(entry.source.name, entry.sha256) for entry in release.tree.entries}
    return [entry for entry in release.site if entry.executable or (entry.source.name, entry.sha256) not in code]


def _sent(wheels: Sequence[Wheel]) -> Iterator[bytes]:
    """Yield a line with size, digest and name of each wheel, an empty line, then the wheels one after the other.

    They come before the tar, and one by one, so that after a lost link the host keeps those that have arrived.
    """
    yield "".join(f"{wheel.size} {wheel.sha256} {wheel.filename}\n" for wheel in wheels).encode() + b"\n"
    for wheel in wheels:
        yield from _content(wheel)


def _content(wheel: Wheel) -> Iterator[bytes]:
    """Yield the bytes of a wheel, exactly as many as announced; the host checks the digest."""
    left = wheel.size
    try:
        with plain_file.opened(wheel.path) as stream:
            while left and (piece := stream.read(min(left, _PIECE))):
                left -= len(piece)
                yield piece
            changed = bool(left or stream.read(1))
    except OSError as error:
        raise _unreadable(wheel, error.strerror or str(error)) from error
    if changed:
        raise _unreadable(wheel, "it changed while it was sent")


def _unreadable(wheel: Wheel, why: str) -> LoopError:
    return LoopError(f"a wheel cannot be sent: {why}", where=str(wheel.path), next="run the command again",
                     code="wheel")  # fmt: skip


@cache
def _installer() -> bytes:
    """Return PyPA's `installer` of this environment as a zip: pure Python, so it runs on any host."""
    spec = importlib.util.find_spec("installer")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    folder = Path(next(iter(spec.submodule_search_locations)))
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in sorted(folder.rglob("*")):
            # The launchers for Windows make up most of its size.
            if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".exe":
                name = zipfile.ZipInfo(str(path.relative_to(folder.parent)))
                packed.writestr(name, path.read_bytes(), zipfile.ZIP_DEFLATED)
    return target.getvalue()


def setup(service: Service, files: tuple[HostFile, ...], readme: str, root: Path) -> Iterator[bytes]:
    """Yield the tar that setup reads: root's files by path, and the operator's certificate."""
    extra = {file.path.lstrip("/"): file.text.encode() for file in files}
    extra["README"] = readme.encode()
    tls = service.nginx.tls if service.nginx else None
    if tls and tls.mode == "files":
        extra["tls/certificate.pem"] = certificates(root, tls.certificate, "certificate")
        extra["tls/key.pem"] = read(root, tls.key, "key")
    return archive.pack((), extra)


def maintenance(files: Mapping[str, bytes]) -> Iterator[bytes]:
    """Yield the tar that maintenance unpacks."""
    return archive.pack((), files)


def certified(chain: bytes) -> Iterator[bytes]:
    """Yield the tar with the certificate that the operator's CA has issued."""
    return archive.pack((), {"tls/certificate.pem": chain})


def certificate(service: Service, root: Path) -> bytes | None:
    """Return the operator's own certificate; None if the host makes one or needs none."""
    tls = service.nginx.tls if service.nginx else None
    return certificates(root, tls.certificate, "certificate") if tls and tls.mode == "files" else None


def given(service: Service, root: Path) -> dict[str, str]:
    """Return the texts of the operator's other files for nginx, by key."""
    texts = {}
    for key, name in (service.nginx.files if service.nginx else {}).items():
        try:
            read_file = certificates if key in _PUBLIC else read
            texts[key] = read_file(root, name, key, _IN_TLS.get(key, key)).decode()
        except UnicodeDecodeError:
            fix = f"save it as UTF-8, or correct nginx.{_IN_TLS.get(key, key)} in service/service.yaml"
            raise UsageError("this is no text in UTF-8", where=name, next=fix) from None
    return texts


def check_given(service: Service, root: Path) -> None:
    """Raise UsageError unless nginx can use the operator's files, as far as this can be told here."""
    texts = given(service, root)
    names = service.nginx.files if service.nginx else {}
    if "basic_auth" in texts:
        _check_users(root / names["basic_auth"], names["basic_auth"], texts["basic_auth"])
    if "client_ca" in texts:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cadata=texts["client_ca"])
        except ssl.SSLError as error:
            fix = "correct nginx.client_ca in service/service.yaml; it is one or more certificates in PEM"
            message = f"nginx could not use this CA: {error.reason or error}"
            raise UsageError(message, where=names["client_ca"], next=fix) from error


def _check_users(path: Path, name: str, text: str) -> None:
    """Raise UsageError unless these are lines of names and hashed passwords, which only their owner may read."""
    if path.stat().st_mode & 0o077:
        raise UsageError("other accounts of this machine may read the passwords", where=name, next=f"chmod 600 {name}")
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line and not line.startswith("#")]
    wrong = next((number for number, line in lines if not _USER.fullmatch(line)), None)
    if wrong is not None or not lines:
        where = name if wrong is None else f"{name}:{wrong}"
        how = 'echo "NAME:$(openssl passwd -apr1)"'
        raise UsageError("expected lines NAME:HASH, each a hashed password", where=where, next=f"make one by {how}")


def check(tls: Tls, root: Path) -> None:
    """Raise UsageError unless the operator's certificate and key can be read and belong together."""
    certificates(root, tls.certificate, "certificate")
    read(root, tls.key, "key")
    certificate, key = (root / (name or "") for name in (tls.certificate, tls.key))
    try:
        # An encrypted key would ask for its password: nginx could not, so it is refused.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=lambda: "")
    except ssl.SSLError as error:
        mixed = error.reason == "KEY_VALUES_MISMATCH"
        raise UsageError(
            "the certificate and the key do not belong together"
            if mixed
            else f"nginx could not use this certificate and key: {error.reason or error}",
            where=f"{tls.certificate}, {tls.key}",
            next="correct nginx.tls in service/service.yaml; both are PEM, the key without a password",
        ) from error


def read(root: Path, name: str | None, what: str, key: str = "") -> bytes:
    """Return a file of the operator's for nginx. key: that of service.yaml, by default of the certificate."""
    path = root / (name or "")
    try:
        return plain_file.read(path, _PEM)
    except OSError as error:
        raise UsageError(
            f"the {what} cannot be read: {error.strerror}",
            where=str(name),
            next=f"correct nginx.{key or f'tls.{what}'} in service/service.yaml",
        ) from error


def certificates(root: Path, name: str | None, what: str, key: str = "") -> bytes:
    """Return the certificates of a file, and nothing else of it: many keep the private key in the same file.

    key: see `read`
    """
    found = _CERTIFICATE.findall(read(root, name, what, key))
    if not found:
        fix = f"correct nginx.{key or f'tls.{what}'} in service/service.yaml; it is one or more certificates in PEM"
        raise UsageError("the file has no certificate in PEM", where=str(name), next=fix)
    return b"".join(found)
