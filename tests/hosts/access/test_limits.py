"""Limits of an sshd: sessions, unauthenticated connections, keys tried, failed logins."""

from __future__ import annotations

import select
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.promises.words import ACCESS
from tests.support import clone as clones
from tests.support.ending import Ending
from tests.support.front_door import release_of
from tests.support.hosts import MakeHosts
from tests.support.ssh_access import SshAccess, change, ground, key, sentence, sshd, unpinned
from tests.support.stand_ins import entries, write_inventory

EXEC = ("exec", "-H", "shire01", "--", "true")


@pytest.fixture(scope="module")
def shared(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> SshAccess:
    made = ground(module_hosts, tmp_path_factory.mktemp("limits"), 2)
    clones.quicken(made.clone)
    return made


@pytest.fixture
def way(shared: SshAccess, tmp_path: Path) -> Iterator[SshAccess]:
    """Both hosts are known, and have no limits before and after."""
    made = unpinned(shared, tmp_path)
    made.know(made.line(0), made.line(1))
    yield made
    for number in (0, 1):
        sshd(shared, "", number)


def name_host(way: SshAccess, count: int) -> None:
    """Give shire01 this many names in the inventory."""
    assert way.clone.inventory
    one = entries(way.clone.inventory)["shire01"]
    write_inventory(way.clone.inventory, {f"shire01-{number}": dict(one) for number in range(count)})


@contextmanager
def unauthenticated(way: SshAccess) -> Iterator[socket.socket]:
    """Connect to shire01, and send nothing."""
    with socket.create_connection((way.hosts[0].address, 22), timeout=60) as one:
        assert one.recv(4) == b"SSH-"
        yield one


def has_closed(one: socket.socket) -> bool:
    """Read what there is, and close; return true if the peer has closed the connection."""
    one.setblocking(False)
    try:
        while one.recv(4096):
            pass
    except BlockingIOError:
        return False
    except ConnectionError:
        pass
    one.close()
    return True


@pytest.mark.promise(ACCESS, "MaxSessions 1")
def test_a_run_needs_no_more_than_one_session_a_connection(way: SshAccess) -> None:
    """Once: with an sshd that allows one session a connection, no deploy worked."""
    sshd(way, "MaxSessions 1")
    way.clone.write("service/edition.txt", "first\n")
    first = way.clone.release()
    for verb in ("deploy", "restart", "logs"):
        ended = way.fab(verb, "-H", "shire01")
        assert ended.status == 0, ended.both
    way.clone.write("service/edition.txt", "second\n")
    ended = way.fab("deploy", "-H", "shire01")
    assert ended.status == 0, ended.both
    assert way.fab("rollback", "-H", "shire01").status == 0
    assert release_of(way.hosts[0].address) == first
    # The connections opened beside the first one have ended with their command.
    held = "ss -Htn state established '( sport = :22 )' | wc -l"
    assert way.hosts[0].sh(held).stdout.strip() == b"0"


@pytest.mark.promise(ACCESS, "MaxSessions 1")
def test_without_any_session_that_is_said(way: SshAccess) -> None:
    sshd(way, "MaxSessions 0")
    sentence(way.clone, *way.flags, *EXEC, status=3, told=("opens no", "MaxSessions in the host's sshd_config"))


@pytest.mark.promise(ACCESS, "MaxStartups 3")
@pytest.mark.parametrize("jump", [False, True], ids=["ten hosts are one sshd", "ten hosts behind one jump host"])
def test_a_run_over_ten_hosts_is_not_too_many_at_once(way: SshAccess, jump: bool) -> None:
    """Once: of ten hosts behind one sshd with MaxStartups 3, seven were reported unreachable."""
    name_host(way, 10)
    sshd(way, "MaxStartups 3", 1 if jump else 0)
    if jump:
        hop = f"Host {way.hosts[0].address}\n  ProxyJump deploy@{way.hosts[1].address}"
        way.config(f"{hop}\nHost *\n  IdentityFile {way.identity}")
    ended = way.fab("exec", "-H", "all", "--", "true")
    assert ended.status == 0, ended.both


@pytest.mark.promise(ACCESS, "MaxStartups 3")
def test_no_more_than_two_are_about_to_log_in_at_one_port(way: SshAccess) -> None:
    """The host never sends a byte, so each of six connections stays as long as it may."""
    assert way.clone.inventory
    most, there = 0, list[socket.socket]()
    with socket.create_server(("127.0.0.1", 0)) as port:
        one = {"address": "127.0.0.1", "port": port.getsockname()[1], "user": "deploy", "identity": str(way.identity)}
        write_inventory(way.clone.inventory, {f"shire01-{number}": dict(one) for number in range(6)})
        with way.clone.start("-t", "1", "exec", "-H", "all", "--", "true") as process:
            while process.poll() is None:
                ready = select.select([port, *there], [], [], 0.1)[0]
                # A connection that fab closed before it opened the next one is seen as closed, however late we look.
                there = [one for one in there if not has_closed(one)]
                if port in ready:
                    there.append(port.accept()[0])
                most = max(most, len(there))
    assert (process.returncode, most) == (3, 2)


@pytest.mark.promise(ACCESS, "MaxStartups 3")
def test_where_others_are_about_to_log_in_it_is_tried_again_and_told(way: SshAccess) -> None:
    sshd(way, "MaxStartups 1")
    with unauthenticated(way) as other, way.clone.start(*way.flags, *EXEC) as process:
        assert process.stderr is not None
        line = next(line for line in process.stderr if "trying again" in line)
        other.close()
        rest = process.stderr.read()
        assert process.wait(60) == 0, rest
    assert line.startswith("shire01: port 22 of "), line
    assert "Exceeded MaxStartups; trying again in 0.25 s" in line


@pytest.mark.promise(ACCESS, "MaxStartups 3")
def test_where_they_stay_that_is_said_after_four_times(way: SshAccess) -> None:
    sshd(way, "MaxStartups 1")
    with unauthenticated(way):
        told = ("hangs up before it speaks SSH: Exceeded MaxStartups", "raise MaxStartups")
        ended = sentence(way.clone, *way.flags, *EXEC, status=3, told=told)
    assert ended.err.count("trying again in") == 3


@pytest.mark.promise(ACCESS, "MaxAuthTries, and an agent of many keys")
def test_an_agent_with_more_keys_than_sshd_looks_at_is_told_from_a_wrong_key(way: SshAccess) -> None:
    decoys = [way.folder / f"decoy-{number}" for number in range(4)]
    for decoy in decoys:
        key(decoy)
    sshd(way, "MaxAuthTries 3")
    change(way, identity=None)
    path = str(way.folder / "agent")
    with Ending(["ssh-agent", "-D", "-a", path], stdout=subprocess.PIPE, text=True) as agent:
        assert agent.stdout
        agent.stdout.readline()
        way.clone.environment["SSH_AUTH_SOCK"] = path
        add = ["ssh-add", "-q", *map(str, decoys), str(way.identity)]
        subprocess.run(add, check=True, env={"SSH_AUTH_SOCK": path}, stdin=subprocess.DEVNULL)
        told = ("closed the connection during login as deploy", "too many keys offered (MaxAuthTries)", "`identity:`")
        sentence(way.clone, *way.flags, *EXEC, status=3, told=told)
        change(way, identity=str(way.identity))
        assert way.probe().status == 0
        agent.terminate()


@pytest.mark.promise(ACCESS, "PerSourcePenalties of OpenSSH 9.8")
def test_a_key_that_fails_is_shown_once_a_run_and_who_is_turned_away_does_not_insist(
    shared: SshAccess, module_hosts: MakeHosts, tmp_path: Path
) -> None:
    hosts = module_hosts(1, "trixie")
    (entry,) = entries(hosts.inventory).values()
    inventory = write_inventory(tmp_path / "hosts.yaml", {"shire01": entry})
    way = replace(shared, hosts=hosts, folder=tmp_path, clone=replace(shared.clone, inventory=inventory))
    way.config()
    sshd(way, "LogLevel VERBOSE\nPerSourcePenalties authfail:60s min:30s")
    key(tmp_path / "wrong")
    wrong = ("-i", str(tmp_path / "wrong"))
    sentence(way.clone, *way.flags, *wrong, *EXEC, status=3, told=("does not let deploy in", str(tmp_path / "wrong")))
    for flags in (wrong, ()):
        told = ("turns us away for a while, after logins that failed: Not allowed at this time", "PerSourcePenalties")
        ended = sentence(way.clone, *way.flags, *flags, *EXEC, status=3, told=told)
        assert "trying again" not in ended.err
    log = hosts[0].sh("journalctl --sync; journalctl -q -o cat").stdout.decode()
    assert (log.count("Failed publickey for deploy"), log.count("drop connection")) == (1, 2), log
    sshd(way, "")
    assert way.probe().status == 0
