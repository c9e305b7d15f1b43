"""A host certified by an authority: accepted with a good certificate, refused with the flaw of a bad one."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.promises.words import KNOWN
from tests.support.hosts import MakeHosts
from tests.support.ssh_access import SshAccess, change, ground, key, refused, sentence, sshd, unpinned

PATH = "/etc/ssh/shown-cert.pub"


@pytest.fixture(scope="module")
def shared(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> SshAccess:
    return ground(module_hosts, tmp_path_factory.mktemp("certificates"), 2)


@pytest.fixture
def way(shared: SshAccess, tmp_path: Path) -> Iterator[SshAccess]:
    """shire01 shows a plain key, before and after."""
    yield unpinned(shared, tmp_path)
    sshd(shared, "")


def show_certificate(way: SshAccess, *words: str) -> str:
    """Let shire01 show a certificate that ssh-keygen signed with these words; return its authority's line."""
    authority = key(way.folder / "authority")
    (way.folder / "host.pub").write_text(f"{way.hosts[0].host_key}\n")
    command: list[str | Path] = [
        "ssh-keygen",
        "-q",
        "-s",
        way.folder / "authority",
        "-I",
        "x",
        *words,
        way.folder / "host.pub",
    ]
    subprocess.run(command, check=True, capture_output=True)
    way.hosts[0].sh(f"cat >{PATH}", (way.folder / "host-cert.pub").read_bytes())
    sshd(way, f"HostCertificate {PATH}")
    return f"@cert-authority * {authority}"


def both_accept(way: SshAccess) -> bool:
    """Return true if shire01 is accepted, by us and by OpenSSH's own client with the same files; both must agree."""
    settings = ("BatchMode=yes", "StrictHostKeyChecking=yes", "ControlPath=none", "IdentitiesOnly=yes")
    options = [word for setting in settings for word in ("-o", setting)]
    command = ["ssh", "-F", way.flags[1], *options, "-i", str(way.identity), f"deploy@{way.hosts[0].address}", "true"]
    taken = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=60).returncode == 0
    assert (way.probe().status == 0) is taken
    return taken


def good(way: SshAccess) -> tuple[str, ...]:
    return ("-h", "-n", way.hosts[0].address)


@pytest.mark.promise(KNOWN, "its key is signed by an authority of known_hosts")
def test_who_is_vouched_for_is_let_in_without_a_key_of_its_own(way: SshAccess) -> None:
    authority = show_certificate(way, *good(way))
    way.know(authority)
    assert both_accept(way)
    known = way.trust()
    assert (known.status, "known already" in known.out) == (0, True), known.both
    assert way.known_hosts.read_text() == f"{authority}\n"


@pytest.mark.promise(KNOWN, "its key is signed by an authority of known_hosts")
def test_an_authority_counts_on_another_port_and_for_a_jump_host(way: SshAccess) -> None:
    way.know(show_certificate(way, *good(way)), way.line(1))
    sshd(way, f"HostCertificate {PATH}\nPort 22\nPort 2222")
    change(way, port=2222)
    assert way.probe().status == 0
    change(way, port=None)
    jump = f"  ProxyJump deploy@{way.hosts[0].address}"
    way.config(f"Host {way.hosts[1].address}\n{jump}\nHost *\n  IdentityFile {way.identity}")
    assert way.probe("shire02").status == 0


@pytest.mark.promise(KNOWN, "its certificate is not good", part=2)
@pytest.mark.parametrize(
    ("words", "flaw"),
    [
        (("-h", "-n", "other.example"), "it is for other.example, not for"),
        (("-h", "-n", "{host}", "-V", "20200101:20210101"), "it has expired, 2021-01-01"),
        (("-n", "{host}"), "it is a person's"),
    ],
)
def test_a_certificate_with_a_flaw_is_refused_and_nothing_is_sent(
    way: SshAccess, words: tuple[str, ...], flaw: str
) -> None:
    authority = show_certificate(way, *(word.format(host=way.hosts[0].address) for word in words))
    way.know(authority)
    logins = "journalctl --sync; journalctl -q -u ssh.service | grep -c Accepted"
    before = way.hosts[0].sh(logins).stdout
    told = (flaw, way.fingerprint(), "HostCertificate", "fab hosts --trust shire01")
    sentence(way.clone, *way.flags, "exec", "-H", "shire01", "--", "true", status=3, told=told)
    assert not both_accept(way)
    assert way.hosts[0].sh(logins).stdout == before
    # A pinned key is accepted without a look at its certificate.
    way.know(authority, way.line())
    assert both_accept(way)


@pytest.mark.promise(KNOWN, "its certificate is not good", part=2)
def test_a_stranger_s_certificate_and_a_plain_key_are_not_enough(way: SshAccess) -> None:
    way.know(f"@cert-authority * {key(way.folder / 'another')}")
    refused(way.probe(), "a key without a certificate", "fab hosts --trust shire01")
    assert not both_accept(way)
    show_certificate(way, *good(way))
    refused(way.probe(), "another authority has signed it", way.fingerprint())
    assert not both_accept(way)
    assert way.trust().status == 0
    assert way.probe().status == 0


@pytest.mark.promise(KNOWN, "its authority, or its key, is revoked", part=2)
def test_what_is_revoked_is_vouched_for_by_nobody(way: SshAccess) -> None:
    authority = show_certificate(way, *good(way))
    way.know(authority, authority.replace("@cert-authority", "@revoked"))
    refused(way.probe(), "another authority has signed it")
    assert not both_accept(way)
    way.know(authority, f"@revoked * {way.hosts[0].host_key}")
    refused(way.probe(), "revoked", way.fingerprint())
    assert not both_accept(way)


@pytest.mark.promise(KNOWN, "its authority, or its key, is revoked", part=2)
@pytest.mark.parametrize("form", ["keys", "a krl", "the authority"])
def test_the_list_of_revoked_keys_in_ssh_config_counts(way: SshAccess, form: str) -> None:
    """Once: RevokedHostKeys in ssh_config had no effect."""
    listed = way.folder / "revoked"
    way.config(f"Host *\n  RevokedHostKeys {listed}")
    if form == "the authority":
        way.know(show_certificate(way, *good(way)))
        listed.write_bytes((way.folder / "authority.pub").read_bytes())
    else:
        way.know(way.line())
        listed.write_text(f"{way.hosts[0].host_key}\n")
    if form == "a krl":
        subprocess.run(["ssh-keygen", "-q", "-k", "-f", way.folder / "krl", listed], check=True, capture_output=True)
        listed.write_bytes((way.folder / "krl").read_bytes())
    told = ("this host key is revoked", way.fingerprint())
    sentence(way.clone, *way.flags, "exec", "-H", "shire01", "--", "true", status=3, told=told)
    assert not both_accept(way)
    listed.write_text(f"# {way.hosts[0].host_key}\n")
    assert both_accept(way)
    listed.unlink()
    assert not both_accept(way)
    refused(way.probe(), "RevokedHostKeys", str(listed))
