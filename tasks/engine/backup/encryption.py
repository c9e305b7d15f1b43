"""Encrypt archives for a key of the operator's, by age (age-encryption.org). Its library, pyrage, is optional."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tasks.engine import plain_file
from tasks.engine.backup import unfinished
from tasks.engine.errors import UsageError

SUFFIX = ".age"


def recipient(text: str) -> Any:
    """Return the key to encrypt for, from `age1...`. Raises UsageError."""
    age = _library()
    try:
        return age.x25519.Recipient.from_str(text.strip())
    except age.RecipientError:
        message = "it is no public key of age"
        raise UsageError(message, where="--recipient", next="age-keygen prints one: age1...") from None


def identity(path: Path) -> Any:
    """Return the key to decrypt with, from a file of age-keygen. Raises UsageError."""
    age = _library()
    try:
        lines = plain_file.read(path).decode("utf-8", "replace").splitlines()
        (line,) = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
        return age.x25519.Identity.from_str(line)
    except OSError as error:
        raise UsageError(f"the key cannot be read: {error.strerror}", where=str(path), next="name another") from None
    except (ValueError, age.IdentityError):
        message = "it has no secret key of age"
        raise UsageError(message, where=str(path), next="--key FILE, as age-keygen writes it") from None


def encrypt(source: Path, target: Path, key: Any) -> None:
    """Write an encrypted copy; raises OSError."""
    with source.open("rb") as plain, unfinished.create(target) as sealed:
        _library().encrypt_io(plain, sealed, [key])


@contextmanager
def decrypted(path: Path, key: Any, aside: Path) -> Iterator[Path]:
    """Yield the path of a plain copy, which is there for the block. Raises UsageError if the key is another."""
    age = _library()
    aside.parent.mkdir(0o700, parents=True, exist_ok=True)
    unfinished.tidy(aside.parent)
    with unfinished.create(aside) as plain:
        try:
            try:
                with path.open("rb") as sealed:
                    age.decrypt_io(sealed, plain, [key])
                plain.flush()
            except (age.DecryptError, OSError) as error:
                message = f"it cannot be decrypted: {error}"
                raise UsageError(message, where=str(path), next="name the key that fits, or a whole file") from None
            yield aside
        finally:
            aside.unlink(missing_ok=True)


def _library() -> Any:
    try:
        import pyrage
    except ImportError:
        message = "encryption needs the package pyrage"
        raise UsageError(message, where=".venv", next=".venv/bin/pip install --group backup") from None
    return pyrage
