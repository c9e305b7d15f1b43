"""Certificates of hosts, made by ssh-keygen: accepted ones, and each reason for refusing one."""

from __future__ import annotations

import base64
import shutil
import subprocess
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from tasks.engine.ssh import host_certificates
from tests.support.ssh_access import key

NAME, NOW = "shire01.example", time.time()


Sign = Callable[..., tuple[str, bytes, bytes]]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """Return a function that makes a key of a name and a kind, each once."""
    folder = tmp_path_factory.mktemp("keys")

    @cache
    def made(name: str, kind: str) -> Path:
        key(folder / f"{name}-{kind}", kind)
        return folder / f"{name}-{kind}"

    return made


@pytest.fixture
def sign(tmp_path: Path, keys: Callable[[str, str], Path]) -> Sign:
    """Return a function that signs one kind of key by another with `ssh-keygen -s`.

    It returns the certificate's kind, bytes and signer.
    """

    def signed(*words: str, kind: str = "ed25519", authority: str = "ed25519") -> tuple[str, bytes, bytes]:
        signer, host = keys("authority", authority), tmp_path / "host.pub"
        shutil.copy(f"{keys('host', kind)}.pub", host)
        command: list[str | Path] = ["ssh-keygen", "-q", "-s", signer, "-I", "the host", *words, host]
        subprocess.run(command, check=True, capture_output=True)
        shown, encoded = (tmp_path / "host-cert.pub").read_text().split()[:2]
        return shown, base64.b64decode(encoded), base64.b64decode(Path(f"{signer}.pub").read_text().split()[1])

    return signed


@pytest.mark.parametrize(
    ("kind", "authority"),
    [("ed25519", "ecdsa"), ("ecdsa", "ed25519"), ("rsa:2048", "ed25519"), ("ed25519", "rsa:2048")],
)
def test_what_ssh_keygen_signed_is_good(sign: Sign, kind: str, authority: str) -> None:
    shown, blob, signer = sign("-h", "-n", NAME, kind=kind, authority=authority)
    assert host_certificates.flaw(shown, blob, NAME, {signer}, NOW) is None
    assert host_certificates.flaw(shown, blob, NAME, set(), NOW) == "another authority has signed it"


@pytest.mark.parametrize(
    ("names", "good"),
    [
        (NAME, True),
        ("other,SHIRE01.example", True),
        ("*.example", True),
        ("shire0?.example", True),
        ("shire01", False),
        ("xshire01.example", False),
        ("shire01xexample", False),
        ("!shire01.example,*", True),
    ],
)
def test_it_is_for_the_names_in_it(sign: Sign, names: str, good: bool) -> None:
    shown, blob, signer = sign("-h", "-n", names)
    flaw = host_certificates.flaw(shown, blob, NAME, {signer}, NOW)
    assert flaw is None if good else flaw == f"it is for {names.replace(',', ', ')}, not for {NAME}"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "it is a person's, not a host's"),
        (("-h",), "it is for no host"),
        (("-h", "-n", NAME, "-V", "20200101:20210101"), "it has expired, 2021-01-01"),
        (("-h", "-n", NAME, "-V", "20990101:21000101"), "it is not valid before 2099-01-01"),
        (("-h", "-n", NAME, "-O", "critical:novel@example=x"), "it has options that are not known here: novel@example"),
    ],
)
def test_each_flaw_is_told(sign: Sign, words: tuple[str, ...], told: str) -> None:
    shown, blob, signer = sign(*words)
    flaw = host_certificates.flaw(shown, blob, NAME, {signer}, NOW)
    assert flaw is not None
    assert flaw.startswith(told)


@pytest.mark.parametrize("authority", ["rsa:2048", "rsa:2054"], ids=["whole bytes", "six bits more"])
def test_a_signature_by_sha_1_is_none(sign: Sign, authority: str) -> None:
    shown, blob, signer = sign("-h", "-n", NAME, "-t", "ssh-rsa", authority=authority)
    assert host_certificates.flaw(shown, blob, NAME, {signer}, NOW) == "its signature is SHA-1"


def test_no_byte_of_it_can_be_another(sign: Sign) -> None:
    shown, blob, signer = sign("-h", "-n", NAME)
    for place in range(len(blob)):
        changed = blob[:place] + bytes([blob[place] ^ 1]) + blob[place + 1 :]
        assert host_certificates.flaw(shown, changed, NAME, {signer}, NOW) is not None, place
    for cut in (0, 1, len(blob) // 2, len(blob) - 1):
        assert host_certificates.flaw(shown, blob[:cut], NAME, {signer}, NOW) is not None, cut
    assert host_certificates.flaw(shown, blob + b"\0", NAME, {signer}, NOW) is not None
