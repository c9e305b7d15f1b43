"""The identity of a host: pins, known_hosts as OpenSSH reads it, and refusals with the next step."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from paramiko import PKey
from paramiko.hostkeys import HostKeys

from tasks.engine.errors import Unreachable
from tasks.engine.ssh import host_keys
from tasks.engine.ssh.ssh_config import Endpoint


def made(kind: str = "ed25519") -> str:
    """Return a new public key in known_hosts format."""
    secret = Ed25519PrivateKey.generate() if kind == "ed25519" else ec.generate_private_key(ec.SECP256R1())
    return secret.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def loaded(text: str) -> PKey:
    """Return the key for a text."""
    kind, encoded = text.split()[:2]
    return PKey.from_type_string(kind, base64.b64decode(encoded))


ONE, TWO, CURVE = made(), made(), made("ecdsa")


@pytest.fixture
def known_hosts(tmp_path: Path) -> Path:
    """An empty known_hosts."""
    path = tmp_path / "known_hosts"
    path.touch()
    return path


def endpoint(path: Path, hostname: str = "shire01", port: int = 22, pin: str | None = None) -> Endpoint:
    return Endpoint("shire01", hostname, port, "root", (), (path,), pin=pin)


def hashed(name: str) -> str:
    """Return a name hashed like ssh-keygen -H; one salt, so that a case has one name in every process of a run."""
    return str(HostKeys.hash_host(name, base64.b64encode(bytes(20)).decode()))


@pytest.mark.parametrize(
    ("names", "hostname", "port", "known"),
    [
        ("shire01", "shire01", 22, True),
        ("other,shire01", "shire01", 22, True),
        ("SHIRE01", "shire01", 22, True),
        ("shire0", "shire01", 22, False),
        ("shire01", "shire01", 2222, False),
        ("[shire01]:2222", "shire01", 2222, True),
        ("[shire01]:2222", "shire01", 22, False),
        ("shire*", "shire01", 22, True),
        ("shire0?", "shire01", 22, True),
        ("*.example", "shire01", 22, False),
        ("*,!shire01", "shire01", 22, False),
        ("!shire01,*", "shire01", 22, False),
        ("shire0[0-9]", "shire01", 22, False),
        ("192.0.2.1", "192x0x2x1", 22, False),
        (hashed("shire01"), "shire01", 22, True),
        (hashed("shire02"), "shire01", 22, False),
        (hashed("[shire01]:2222"), "shire01", 2222, True),
    ],
)
def test_a_line_is_about_the_hosts_that_openssh_takes_it_for(
    known_hosts: Path, names: str, hostname: str, port: int, known: bool
) -> None:
    known_hosts.write_text(f"# a comment\n\n{names} {ONE} a comment\n")
    trust = host_keys.load_trust(endpoint(known_hosts, hostname, port))
    assert [key.asbytes() for key in trust.keys] == ([loaded(ONE).asbytes()] if known else [])


@pytest.mark.parametrize(
    "line", ["shire01", "shire01 ssh-ed25519", "shire01 ssh-ed25519 !!!", "shire01 new-kind AAAA", "\0"]
)
def test_a_line_that_cannot_be_read_hides_no_other(known_hosts: Path, line: str) -> None:
    known_hosts.write_text(f"{line}\nshire01 {ONE}\n\xff{line}\n", encoding="latin-1")
    assert len(host_keys.load_trust(endpoint(known_hosts)).keys) == 1


@pytest.mark.parametrize(
    ("lines", "first"),
    [
        ("", "ssh-ed25519"),
        (f"shire01 {CURVE}\n", "ecdsa-sha2-nistp256"),
        (f"shire01 {CURVE}\nshire01 {ONE}\n", "ssh-ed25519"),
        (f"shire01 {CURVE}\n@cert-authority *,!shire01 {TWO}\n", "ecdsa-sha2-nistp256"),
        (f"shire01 {CURVE}\n@cert-authority shire* {TWO}\n", "ssh-ed25519-cert-v01@openssh.com"),
    ],
)
def test_a_host_is_asked_first_for_what_can_be_judged(known_hosts: Path, lines: str, first: str) -> None:
    known_hosts.write_text(lines)
    plain = ["ssh-ed25519", "ecdsa-sha2-nistp256", "rsa-sha2-512"]
    kinds = [*plain, *(f"{kind}-cert-v01@openssh.com" for kind in plain)]
    assert sorted(kinds, key=host_keys.load_trust(endpoint(known_hosts)).rank)[0] == first


def test_a_pin_decides_alone(known_hosts: Path) -> None:
    known_hosts.write_text(f"shire01 {ONE}\n")
    pinned = endpoint(known_hosts, pin=TWO)
    host_keys.verify(pinned, host_keys.load_trust(pinned), loaded(TWO))
    with pytest.raises(Unreachable, match=r"the host key has changed: host_key in hosts\.yaml has") as caught:
        host_keys.verify(pinned, host_keys.load_trust(pinned), loaded(ONE))
    assert "change the pin" in (caught.value.next or "")


@pytest.mark.parametrize("names", ["shire01", "*", hashed("shire01")])
def test_a_revoked_key_is_refused_though_it_is_known(known_hosts: Path, names: str) -> None:
    known_hosts.write_text(f"shire01 {ONE}\n@revoked {names} {ONE}\n")
    asked = endpoint(known_hosts)
    with pytest.raises(Unreachable, match="revoked"):
        host_keys.verify(asked, host_keys.load_trust(asked), loaded(ONE))


def test_the_key_of_an_authority_is_no_host_key(known_hosts: Path) -> None:
    known_hosts.write_text(f"@cert-authority * {ONE}\n")
    asked = endpoint(known_hosts)
    with pytest.raises(Unreachable, match="not enough: a key without a certificate"):
        host_keys.verify(asked, host_keys.load_trust(asked), loaded(ONE))


@pytest.mark.parametrize("port", [22, 2222])
def test_an_authority_is_asked_about_the_host_on_whatever_port(known_hosts: Path, port: int) -> None:
    known_hosts.write_text(f"@cert-authority *.example {ONE}\n*.example {TWO}\n")
    trust = host_keys.load_trust(endpoint(known_hosts, "shire01.example", port))
    assert trust.authorities == (loaded(ONE).asbytes(),)
    assert len(trust.keys) == (port == 22)


def test_what_cannot_be_read_revokes_all(known_hosts: Path) -> None:
    known_hosts.write_text(f"shire01 {ONE}\n")
    for path in (known_hosts.with_name("missing"), known_hosts.parent):
        asked = endpoint(known_hosts)._replace(revoked=(path,))
        with pytest.raises(Unreachable, match="RevokedHostKeys of ssh_config cannot be asked") as caught:
            host_keys.verify(asked, host_keys.load_trust(asked), loaded(ONE))
        assert str(path) in (caught.value.next or "")


def test_an_unknown_key_shows_its_fingerprint_and_the_way_on(tmp_path: Path) -> None:
    asked = endpoint(tmp_path / "missing")
    with pytest.raises(Unreachable) as caught:
        host_keys.verify(asked, host_keys.load_trust(asked), loaded(ONE))
    error = caught.value
    assert (error.message, error.code, error.exit_status) == ("the host key is unknown", "host-key", 3)
    assert error.detail == (f"offered: {host_keys.fingerprint(loaded(ONE))}",)
    assert error.next == "fab hosts --trust shire01"
    assert host_keys.fingerprint(loaded(ONE)).startswith("ssh-ed25519 SHA256:")


def test_a_changed_key_shows_both_fingerprints(known_hosts: Path) -> None:
    known_hosts.write_text(f"[shire01]:2222 {ONE}\n")
    asked = endpoint(known_hosts, port=2222)
    with pytest.raises(Unreachable, match="changed") as caught:
        host_keys.verify(asked, host_keys.load_trust(asked), loaded(TWO))
    assert host_keys.fingerprint(loaded(ONE)) in caught.value.message
    assert host_keys.fingerprint(loaded(TWO)) in caught.value.detail[0]
    assert "ssh-keygen -R '[shire01]:2222'" in (caught.value.next or "")


@pytest.mark.parametrize("before", ["", "other ssh-ed25519 AAAA", "other ssh-ed25519 AAAA\n"])
def test_what_is_recorded_is_known_from_then_on(tmp_path: Path, before: str) -> None:
    path = tmp_path / ".ssh/known_hosts"
    if before:
        path.parent.mkdir()
        path.write_text(before)
    asked = endpoint(path, port=2222)
    assert host_keys.record(asked, loaded(ONE)) == path
    host_keys.verify(asked, host_keys.load_trust(asked), loaded(ONE))
    assert path.read_text().startswith(before)
    if not before:
        assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
