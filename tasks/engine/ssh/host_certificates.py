"""Check a host's certificate as OpenSSH does: its signer, its host names, its dates. Pure."""

from __future__ import annotations

import base64
import re
from collections.abc import Collection
from datetime import datetime, timezone
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.serialization import SSHCertificate

_FOREVER = 2**64 - 1


def flaw(kind: str, blob: bytes, name: str, authorities: Collection[bytes], now: float) -> str | None:
    """Return why the certificate does not vouch for this host; None if it does.

    kind, blob: as the host sent them; authorities: public keys; now: seconds since 1970.
    """
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import SSHCertificateType, load_ssh_public_identity

    try:
        shown: SSHCertificate = load_ssh_public_identity(f"{kind} ".encode() + base64.b64encode(blob))  # type: ignore[assignment]
        signer = _signer(shown)
        shown.verify_cert_signature()
    except (ValueError, TypeError, OverflowError, InvalidSignature, UnsupportedAlgorithm):
        return "it is damaged, or of a kind that is not known here"
    if signer not in authorities:
        return "another authority has signed it"
    if _signed_with_sha1(shown, blob):
        return "its signature is SHA-1"
    if shown.type is not SSHCertificateType.HOST:
        return "it is a person's, not a host's"
    if shown.critical_options:
        return f"it has options that are not known here: {b', '.join(shown.critical_options).decode(errors='replace')}"
    if not any(fits(principal.decode("utf-8", "replace"), name) for principal in shown.valid_principals):
        names = b", ".join(shown.valid_principals).decode("utf-8", "replace")
        return f"it is for {names or 'no host'}, not for {name}"
    if now < shown.valid_after:
        return f"it is not valid before {_date(shown.valid_after)}"
    if now >= shown.valid_before and shown.valid_before != _FOREVER:
        return f"it has expired, {_date(shown.valid_before)}"
    return None


def _signer(shown: SSHCertificate) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    line = shown.signature_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return base64.b64decode(line.split()[1])


def _signed_with_sha1(shown: SSHCertificate, blob: bytes) -> bool:
    """Return whether the signature uses SHA-1: the blob ends with the algorithm's name, a length, the signature."""
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    signer = shown.signature_key()
    return isinstance(signer, RSAPublicKey) and blob[: -(4 + -(-signer.key_size // 8))].endswith(b"ssh-rsa")


def fits(pattern: str, name: str) -> bool:
    """Match a pattern with `*` and `?`, as OpenSSH matches host names."""
    plain = re.escape(pattern.lower()).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(plain, name.lower(), re.DOTALL) is not None


def _date(seconds: int) -> str:
    try:
        return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    except (ValueError, OverflowError, OSError):
        return "in a time that no calendar has"
