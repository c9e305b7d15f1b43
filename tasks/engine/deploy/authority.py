"""The operator's own CA, kept on the controller: check it, and sign a host's request with it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tasks.engine.errors import LoopError, UsageError
from tasks.engine.host import payload

if TYPE_CHECKING:
    from cryptography.x509 import AuthorityKeyIdentifier, Certificate, CertificateSigningRequest

    from tasks.engine.config.gateway import Tls

_LONGEST_CN = 64
_EARLY = timedelta(hours=1)
"""A certificate is valid from this long ago, since clocks differ."""


class Issued(NamedTuple):
    """A new certificate: its chain in PEM, and the days for which it is valid."""

    chain: bytes
    days: int


class Authority:
    """A CA. Its key stays in memory. certificates: its own, then those of the CAs above it."""

    def __init__(self, certificates: Sequence[Certificate], key: object, days: int) -> None:
        self._certificates, self._key, self._days = certificates, key, days

    @property
    def name(self) -> str:
        """The CA's name, as its certificate has it."""
        return self._certificates[0].subject.rfc4514_string()

    def sign(self, request: str, names: Sequence[str], now: datetime) -> Issued:
        """Return a certificate for these names and for the key of a host's request; LoopError if this is no request.

        What else the request asks for is ignored.
        """
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec, rsa
        from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

        own, asked = self._certificates[0], _parse_request(request)
        start = max(now - _EARLY, own.not_valid_before_utc)
        end = min(now + timedelta(days=self._days), own.not_valid_after_utc)
        key = asked.public_key()
        common = [x509.NameAttribute(NameOID.COMMON_NAME, names[0])] if len(names[0]) <= _LONGEST_CN else []
        usage = dict.fromkeys(("content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
                               "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"), False)  # fmt: skip
        usage["key_encipherment"] = isinstance(key, rsa.RSAPublicKey)
        made = (
            x509.CertificateBuilder(own.subject, x509.Name(common), key, x509.random_serial_number(), start, end)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=not common)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.KeyUsage(digital_signature=True, **usage), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(_key_identifier(own), critical=False)
        )
        # Keys of other kinds (Ed25519, Ed448) sign with a hash of their own.
        signed_with = (
            hashes.SHA256() if isinstance(self._key, (ec.EllipticCurvePrivateKey, rsa.RSAPrivateKey)) else None
        )
        certificate = made.sign(self._key, signed_with)  # type: ignore[arg-type]
        # Clients have the root.
        above = [one for one in self._certificates if one.subject != one.issuer]
        chain = b"".join(one.public_bytes(serialization.Encoding.PEM) for one in (certificate, *above))
        return Issued(chain, (end - now).days)

    def is_good(self, text: str, names: Sequence[str], now: datetime) -> bool:
        """Return whether this CA has issued the certificate, for these names, and a third of its time is left."""
        from cryptography import x509
        from cryptography.exceptions import InvalidSignature

        try:
            found = x509.load_pem_x509_certificate(text.encode())
            found.verify_directly_issued_by(self._certificates[0])
            there = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound, x509.InvalidVersion):
            return False
        left, whole = found.not_valid_after_utc - now, found.not_valid_after_utc - found.not_valid_before_utc
        return there.get_values_for_type(x509.DNSName) == [*names] and left > whole / 3


def load(tls: Tls, root: Path, now: datetime) -> Authority:
    """Return the CA of service.yaml; UsageError unless it can issue certificates now."""
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

    where = f"{tls.certificate}, {tls.key}"
    certificate, secret = (_read(root, tls, what) for what in ("certificate", "key"))
    try:
        certificates = x509.load_pem_x509_certificates(certificate)
    except ValueError:
        raise _wrong(tls.certificate, "this is no certificate in PEM", "name the CA's certificate") from None
    try:
        key = serialization.load_pem_private_key(secret, None)
    except TypeError:
        message = "the CA's key has a password, and nobody can be asked for it"
        raise _wrong(tls.key, message, f"openssl pkey -in {tls.key} -out ca.key && chmod 600 ca.key") from None
    except ValueError:
        raise _wrong(tls.key, "this is no private key in PEM", "name the CA's key") from None
    own = certificates[0]
    form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    if own.public_key().public_bytes(*form) != key.public_key().public_bytes(*form):
        raise _wrong(where, "the CA's certificate and its key do not belong together", "name two that do")
    if not _may_sign(own):
        raise _wrong(tls.certificate, "this certificate is not one of a CA", "make one with basicConstraints CA:TRUE")
    if not own.not_valid_before_utc <= now < own.not_valid_after_utc:
        raise _wrong(tls.certificate, f"the CA holds until {own.not_valid_after_utc:%Y-%m-%d}, and not now", "renew it")
    return Authority(certificates, key, tls.days)


def now() -> datetime:
    """Return the time."""
    return datetime.now(timezone.utc).replace(microsecond=0)


def _may_sign(certificate: Certificate) -> bool:
    from cryptography import x509

    try:
        if not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            return False
        return certificate.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    except x509.ExtensionNotFound as missing:
        return missing.oid != x509.BasicConstraints.oid
    except ValueError:
        return False


def _key_identifier(certificate: Certificate) -> AuthorityKeyIdentifier:
    from cryptography import x509

    try:
        known = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(certificate.public_key())  # type: ignore[arg-type]
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(known)


def _parse_request(text: str) -> CertificateSigningRequest:
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        request = x509.load_pem_x509_csr(text.encode())
        if request.is_signature_valid:
            return request
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion):
        pass
    raise LoopError("the host did not send a request for a certificate", code="request",
                    next="run the command again")  # fmt: skip


def _read(root: Path, tls: Tls, what: str) -> bytes:
    name = getattr(tls, what)
    data = payload.read(root, name, f"CA's {what}", f"tls.ca.{what}")
    if what == "key" and (root / name).stat().st_mode & 0o077:
        raise UsageError("other accounts of this machine may read the CA's key", where=name, next=f"chmod 600 {name}")
    return data


def _wrong(where: str | None, message: str, fix: str) -> UsageError:
    return UsageError(message, where=str(where), next=f"{fix} (nginx.tls.ca in service/service.yaml)")
