"""Indirect connections, by jump hosts and ProxyCommands: the failing hop is the one named."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.promises.words import ACCESS, KNOWN
from tests.support.hosts import MakeHosts
from tests.support.ssh_access import SshAccess, ground, sentence, sshd, unpinned


@pytest.fixture(scope="module")
def shared(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> SshAccess:
    return ground(module_hosts, tmp_path_factory.mktemp("hops"), 3)


@pytest.fixture
def way(shared: SshAccess, tmp_path: Path) -> Iterator[SshAccess]:
    """All three hosts are known; shire02 and shire03 can be jump hosts."""
    made = unpinned(shared, tmp_path)
    made.know(made.line(0), made.line(1), made.line(2))
    yield made
    sshd(shared, "", 1)


def configure(way: SshAccess, block: str) -> tuple[str, str, str]:
    """Write this to ssh_config, with the hosts for {0}, {1} and {2}; return their addresses."""
    addresses = (way.hosts[0].address, way.hosts[1].address, way.hosts[2].address)
    rest = f"Host *\n  User deploy\n  IdentityFile {way.identity}"
    way.config(f"{block.format(*addresses, config=way.flags[1])}\n{rest}")
    return addresses


def client_address(way: SshAccess) -> str:
    """Return the client address that the sshd of shire01 sees."""
    ended = way.fab("exec", "-H", "shire01", "--", "echo $SSH_CONNECTION")
    assert ended.status == 0, ended.both
    return ended.out.split()[1]


@pytest.mark.promise(ACCESS, "a jump host, or two", part=2)
@pytest.mark.parametrize(
    ("block", "hops"),
    [
        ("Host {0}\n  ProxyJump {1}", 1),
        ("Host {0}\n  ProxyJump deploy@{2}:22,{1}", 2),
        ("Host {0}\n  ProxyJump {1}\nHost {1}\n  ProxyJump {2}", 2),
        # The block of a later hop does not change an earlier hop.
        ("Host {0}\n  ProxyJump {2},{1}\nHost {1}\n  ProxyJump nowhere.invalid", 2),
    ],
    ids=["one", "two", "two, each by its own block", "two, and a block that does not count"],
)
def test_a_host_is_reached_by_way_of_others(way: SshAccess, block: str, hops: int) -> None:
    _, first, second = configure(way, block)
    assert client_address(way) == first
    login = (
        way.hosts[1]
        .sh("journalctl --sync; journalctl -q -u ssh.service -o cat | grep Accepted | tail -n 1")
        .stdout.decode()
    )
    assert (f" from {second} " in login) is (hops == 2), login


@pytest.mark.promise(KNOWN, "a jump host of an unknown key")
def test_a_jump_host_that_is_unknown_is_named_with_a_way_to_record_it(way: SshAccess) -> None:
    _, first, second = configure(way, "Host {0}\n  ProxyJump {2},{1}")
    for known, unknown, number in (((0, 2), first, 1), ((0, 1), second, 2)):
        way.know(*(way.line(one) for one in known))
        told = (f"shire01 (jump host {unknown})", "host key is unknown", way.fingerprint(number), f"deploy@{unknown}")
        sentence(way.clone, *way.flags, "exec", "-H", "shire01", "--", "true", status=3, told=told)
    assert "--trust" not in way.probe().err


@pytest.mark.promise(ACCESS, "no way through a jump host")
@pytest.mark.parametrize(
    ("block", "told"),
    [
        (
            "Host {0}\n  ProxyJump {1}\nHost {1}\n  ProxyJump {2}\nHost {2}\n  ProxyJump {1}",
            "in a circle: shire01, {1}",
        ),
        ("Host *\n  ProxyJump {1}", "jumphost loop"),
        ("Host {0}\n  ProxyJump nowhere.invalid", "'nowhere.invalid' is not known"),
        ("Host {0}\n  ProxyJump {1}:9", "no connection to {1} port 9: Connection refused"),
        ("Host {0}\n  ProxyJump nobody@{1}", "does not let nobody in"),
        ("Host {0}\n  ProxyJump {1}\n  Port 9", "the jump host {1} opens no way to {0} port 9"),
    ],
    ids=["a circle", "itself", "no such name", "a closed port", "another account", "it cannot reach on"],
)
def test_the_hop_that_fails_is_the_one_that_is_named(way: SshAccess, block: str, told: str) -> None:
    """Once: a jump host's refusal was reported as the host's own; a circle of jump hosts ended in a traceback."""
    addresses = configure(way, block)
    way.know(way.line(0), way.line(1), way.line(2), way.line(0, f"[{addresses[0]}]:9"))
    expected = ("jump host", told.format(*addresses))
    sentence(way.clone, *way.flags, "exec", "-H", "shire01", "--", "true", status=3, told=expected)


@pytest.mark.promise(ACCESS, "no way through a jump host")
def test_a_jump_host_that_forwards_nothing_says_so(way: SshAccess) -> None:
    configure(way, "Host {0}\n  ProxyJump {1}")
    sshd(way, "AllowTcpForwarding no", 1)
    told = ("opens no way to", "Administratively prohibited", "AllowTcpForwarding")
    sentence(way.clone, *way.flags, "exec", "-H", "shire01", "--", "true", status=3, told=told)


@pytest.mark.promise(ACCESS, "a ProxyCommand")
@pytest.mark.parametrize("wrap", ["{}", "{} 2>/dev/null", "{} | cat"])
def test_a_proxy_command_is_run_by_a_shell_as_ssh_would(way: SshAccess, wrap: str) -> None:
    _, first, _ = configure(way, "Host {0}\n  ProxyCommand " + wrap.format("ssh -F {config} -W %h:%p {1}"))
    assert client_address(way) == first


@pytest.mark.promise(ACCESS, "a ProxyCommand that gives no way", part=2)
@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("no-such-program %h", "no-such-program"),
        ("echo cannot reach it >&2; exit 3", "cannot reach it"),
        ("echo HTTP/1.1 407 Proxy Authentication Required", "echo HTTP"),
        ("sleep 60", "sleep 60"),
    ],
)
def test_a_proxy_command_that_gives_no_way_is_shown_with_its_last_words(
    way: SshAccess, command: str, told: str
) -> None:
    configure(way, f"Host {{0}}\n  ProxyCommand {command}")
    told_all = (told, "the ProxyCommand gives none", "ssh -F")
    sentence(way.clone, "-t", "2", *way.flags, "exec", "-H", "shire01", "--", "true", status=3, told=told_all)


@pytest.mark.promise(ACCESS, "a ProxyCommand")
def test_ctrl_c_is_for_us_and_not_for_the_proxy_command(way: SshAccess) -> None:
    """The first Ctrl-C lets a host under way finish, so its ProxyCommand must not end. Once: Ctrl-C cut hosts under
    way that are reached by a ProxyCommand.
    """
    configure(way, "Host {0}\n  ProxyCommand ssh -F {config} -W %h:%p {1}")
    with way.clone.start(*way.flags, "deploy", "-H", "shire01", start_new_session=True) as process:
        assert process.stdout is not None
        read = []
        for line in process.stdout:
            read.append(line)
            if "activate" in line:
                break
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert "DEPLOYED" in "".join(read) + out, "".join(read) + out + err
    assert process.returncode == 130
