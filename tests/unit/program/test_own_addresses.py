"""The addresses under which a balancer asks, from the kernel's own tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from templates.host import own_addresses

TRIE = """Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     |-- 127.0.0.1
        /32 host LOCAL
     |-- 169.254.3.4
        /32 host LOCAL
     |-- 192.0.2.0
        /24 link UNICAST
     |-- 192.0.2.11
        /32 host LOCAL
     |-- 192.0.2.255
        /32 link BROADCAST
Local:
     |-- 192.0.2.11
        /32 host LOCAL
"""
INET6 = """00000000000000000000000000000001 01 80 10 80       lo
20010db8000000000000000000000011 02 40 00 80     eth0
fe80000000000000020000fffe000001 02 40 20 80     eth0
"""


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory net of a false /proc."""
    monkeypatch.setattr(own_addresses, "PROC", str(tmp_path))
    (tmp_path / "net").mkdir()
    return tmp_path / "net"


def test_addresses_that_others_can_ask_for_are_names(proc: Path) -> None:
    (proc / "fib_trie").write_text(TRIE)
    (proc / "if_inet6").write_text(INET6)
    assert own_addresses.found() == ["192.0.2.11", "[2001:db8::11]"]


def test_a_host_without_a_network_has_none(proc: Path) -> None:
    assert proc.is_dir()
    assert own_addresses.found() == []
