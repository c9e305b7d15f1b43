"""The operator's CA: what it refuses to use, and what it signs."""

from __future__ import annotations

import base64
import re
import subprocess
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from tasks.engine.config.gateway import Tls
from tasks.engine.deploy import authority
from tasks.engine.errors import LoopError, UsageError
from tests.support.certificates import Authority

NAMES = ("myapp.example", "*.apps.example")
NOW = authority.now() + timedelta(hours=1)


def openssl(*words: str | Path) -> str:
    return subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A CA of 30 days."""
    return Authority(tmp_path_factory.mktemp("ca"))


def tls(folder: Path, days: int = 10, key: str = "ca.key") -> Tls:
    (folder / key).chmod(0o600)
    return Tls("ca", "ca.pem", key, days)


def request(folder: Path, name: str = "elsewhere.example") -> str:
    """Return what a host sends."""
    words = ("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    return openssl(*words, "-subj", f"/CN={name}", "-keyout", folder / "host.key")


def signed(made: Authority, folder: Path, days: int = 10) -> x509.Certificate:
    ours = authority.load(tls(made.folder, days), made.folder, NOW)
    return x509.load_pem_x509_certificate(ours.sign(request(folder), NAMES, NOW).chain)


def test_a_certificate_is_for_the_names_of_the_service_whatever_the_host_asks(made: Authority, tmp_path: Path) -> None:
    found = signed(made, tmp_path)
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [*NAMES]
    assert found.subject.rfc4514_string() == "CN=myapp.example"
    assert not found.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    usage = found.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert found.not_valid_after_utc == NOW + timedelta(days=10)
    (tmp_path / "leaf.pem").write_bytes(found.public_bytes(Encoding.PEM))
    assert "OK" in openssl("verify", "-CAfile", made.certificate, tmp_path / "leaf.pem")


def test_no_certificate_outlives_its_ca(made: Authority, tmp_path: Path) -> None:
    own = x509.load_pem_x509_certificate(made.certificate.read_bytes())
    assert signed(made, tmp_path, 800).not_valid_after_utc == own.not_valid_after_utc


@pytest.mark.parametrize(
    ("change", "days", "good"),
    [(None, 0, True), ("names", 0, False), ("authority", 0, False), (None, 5, True), (None, 7, False)],
    ids=["new", "other names", "another CA", "half over", "two thirds over"],
)
def test_a_good_certificate_is_known(
    made: Authority, tmp_path: Path, change: str | None, days: int, good: bool
) -> None:
    from_other = Authority(tmp_path / "other") if change == "authority" else made
    text = (
        authority.load(tls(from_other.folder), from_other.folder, NOW)
        .sign(request(tmp_path), NAMES, NOW)
        .chain.decode()
    )
    ours = authority.load(tls(made.folder), made.folder, NOW)
    assert ours.is_good(text, NAMES[:1] if change == "names" else NAMES, NOW + timedelta(days=days)) == good


@pytest.mark.parametrize("text", ["", "nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_what_a_host_makes_up_is_no_certificate_and_no_request(made: Authority, text: str) -> None:
    ours = authority.load(tls(made.folder), made.folder, NOW)
    assert not ours.is_good(text, NAMES, NOW)
    with pytest.raises(LoopError, match="did not send a request"):
        ours.sign(text, NAMES, NOW)


def test_a_version_that_does_not_exist_is_no_fault_of_ours(made: Authority, tmp_path: Path) -> None:
    """Once: the run of that host ended with "report this"."""
    ours = authority.load(tls(made.folder), made.folder, NOW)
    sent = request(tmp_path)
    with pytest.raises(LoopError, match="did not send a request"):
        ours.sign(_of_version_99(sent, b"\x02\x01\x00"), NAMES, NOW)
    assert not ours.is_good(_of_version_99(ours.sign(sent, NAMES, NOW).chain.decode(), b"\x02\x01\x02"), NAMES, NOW)


def _of_version_99(text: str, version: bytes) -> str:
    """Return the first block of a PEM text with another version in it."""
    head, body, foot = (part.strip() for part in re.split("(?<=-----)\n|\n(?=-----END)", text, maxsplit=2))
    raw = base64.b64decode(body).replace(version, version[:2] + b"\x63", 1)
    return f"{head}\n{base64.encodebytes(raw).decode()}{foot.splitlines()[0]}\n"


def refused(found: Tls, folder: Path, now: datetime = NOW) -> UsageError:
    with pytest.raises(UsageError) as caught:
        authority.load(found, folder, now)
    return caught.value


def test_a_ca_that_cannot_be_used_is_refused_with_its_file(made: Authority, tmp_path: Path) -> None:
    for name in ("ca.pem", "ca.key"):
        (tmp_path / name).write_bytes((made.folder / name).read_bytes())
    good, other = tls(tmp_path), Authority(tmp_path / "other")
    (tmp_path / "other.key").write_bytes((other.folder / "ca.key").read_bytes())
    openssl("pkey", "-in", tmp_path / "ca.key", "-aes256", "-passout", "pass:x", "-out", tmp_path / "locked.key")
    made.issue(tmp_path / "leaf.pem", tmp_path / "leaf.key")
    (tmp_path / "nonsense").write_text("nonsense")
    for found, where, message in (
        (good._replace(certificate="gone.pem"), "gone.pem", "cannot be read: No such file"),
        (good._replace(certificate="nonsense"), "nonsense", "no certificate in PEM"),
        (tls(tmp_path, key="nonsense"), "nonsense", "no private key in PEM"),
        (tls(tmp_path, key="locked.key"), "locked.key", "has a password"),
        (tls(tmp_path, key="other.key"), "ca.pem, other.key", "do not belong together"),
        (tls(tmp_path, key="leaf.key")._replace(certificate="leaf.pem"), "leaf.pem", "is not one of a CA"),
    ):
        error = refused(found, tmp_path)
        assert (error.where, message in error.message) == (where, True)
        assert error.next
    assert "holds until" in refused(good, tmp_path, NOW + timedelta(days=31)).message
    (tmp_path / "ca.key").chmod(0o640)
    error = refused(good, tmp_path)
    assert (error.where, error.next) == ("ca.key", "chmod 600 ca.key")
