"""Archives that are encrypted for a key of age."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tasks.engine.backup import encryption
from tasks.engine.errors import UsageError

age = pytest.importorskip("pyrage")


@pytest.fixture
def key(tmp_path: Path) -> tuple[Path, Any]:
    """A file as age-keygen writes it, and the key in it."""
    made = age.x25519.Identity.generate()
    path = tmp_path / "key"
    path.write_text(f"# created: 2026-01-31\n# public key: {made.to_public()}\n{made}\n")
    return path, made


def test_what_is_decrypted_is_what_was_encrypted_and_does_not_stay(tmp_path: Path, key: tuple[Path, Any]) -> None:
    path, made = key
    plain, sealed, aside = (tmp_path / name for name in ("plain", "sealed", "folder/aside"))
    plain.write_bytes(bytes(range(256)) * 10_000)
    encryption.encrypt(plain, sealed, encryption.recipient(f"{made.to_public()}\n"))
    assert sealed.stat().st_mode & 0o777 == 0o600
    assert plain.read_bytes()[:1000] not in sealed.read_bytes()
    with encryption.decrypted(sealed, encryption.identity(path), aside) as found:
        assert found.read_bytes() == plain.read_bytes()
        assert found.stat().st_mode & 0o777 == 0o600
    assert not aside.exists()


@pytest.mark.parametrize("cut", [0, 100, -1, None])
def test_another_key_and_a_changed_file_are_refused(tmp_path: Path, key: tuple[Path, Any], cut: int | None) -> None:
    path, made = key
    plain, sealed, aside = (tmp_path / name for name in ("plain", "sealed", "aside"))
    plain.write_bytes(b"data" * 100_000)
    other = age.x25519.Identity.generate() if cut is None else made
    encryption.encrypt(plain, sealed, other.to_public())
    sealed.write_bytes(sealed.read_bytes()[:cut])
    block = encryption.decrypted(sealed, encryption.identity(path), aside)
    with pytest.raises(UsageError, match="cannot be decrypted"):
        block.__enter__()
    assert not aside.exists()


@pytest.mark.parametrize("text", ["", "age1", "ssh-ed25519 AAAA", "AGE-SECRET-KEY-1"])
def test_what_is_no_public_key_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="no public key of age"):
        encryption.recipient(text)


@pytest.mark.parametrize("text", ["", "# nothing\n", "AGE-SECRET-KEY-1X\n", "one\ntwo\n", "\xff"])
def test_what_is_no_secret_key_is_refused_without_showing_it(tmp_path: Path, text: str) -> None:
    path = tmp_path / "key"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError, match="no secret key of age") as refused:
        encryption.identity(path)
    assert "SECRET-KEY-1X" not in str(refused.value.as_dict())
    with pytest.raises(UsageError, match="cannot be read"):
        encryption.identity(tmp_path / "nowhere")
