"""Identity of hosts and operators: keys of both, jump hosts, agents, other ports."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.promises.words import ACCESS, KNOWN
from tests.support import clone as clones
from tests.support.ending import Ending
from tests.support.hosts import MakeHosts
from tests.support.ssh_access import SshAccess, change, ground, key, print_of, refused, unpinned
from tests.support.terminal import answer


@pytest.fixture(scope="module")
def shared(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> SshAccess:
    return ground(module_hosts, tmp_path_factory.mktemp("access"), 2)


@pytest.fixture
def way(shared: SshAccess, tmp_path: Path) -> SshAccess:
    return unpinned(shared, tmp_path)


@pytest.mark.promise(KNOWN, "its key is unknown")
def test_an_unknown_host_is_refused_until_its_key_was_recorded(way: SshAccess) -> None:
    refused(way.probe(), "the host key is unknown", way.fingerprint(), "fab hosts --trust shire01")
    trusted = way.trust()
    assert trusted.status == 0, trusted.both
    assert way.fingerprint() in trusted.out
    assert way.known_hosts.read_text() == way.line() + "\n"
    assert way.probe().status == 0
    assert "known already" in way.trust().out


@pytest.mark.promise(KNOWN, "its key is unknown")
def test_without_a_terminal_only_the_right_fingerprint_records_a_key(way: SshAccess) -> None:
    other = key(way.folder / "other")
    # A connection of the test before may still end, and sshd logs that.
    over = "while pgrep -f '^sshd: [^/]' >/dev/null; do sleep 0.05; done; journalctl --sync"
    logins = f"{over}; journalctl -q -u ssh.service | wc -l"
    before = way.hosts[0].sh(logins).stdout
    for flags, told in (
        (("--trust", "shire01"), "--fingerprint SHA256:..."),
        (("--trust", "all"), "--fingerprint SHA256:..."),
        (("--trust", "shire01", "--fingerprint", "MD5:aa:bb"), "43 characters"),
        (("--trust", "shire01", "--fingerprint", way.fingerprint() + "="), "43 characters"),
        (("--trust", "all", "--fingerprint", way.fingerprint()), "one host"),
        (("--fingerprint", way.fingerprint()), "needs a host"),
    ):
        ended = way.fab("hosts", *flags)
        assert (ended.status, ended.out) == (2, ""), ended.both
        assert told in ended.err
        assert "fab hosts --trust" in ended.err
    # No host was contacted.
    assert way.hosts[0].sh(logins).stdout == before
    ended = way.fab("hosts", "--trust", "shire01", "--fingerprint", print_of(way.folder / "other"))
    refused(ended, "another fingerprint", way.fingerprint(), "Nothing was recorded")
    assert not way.known_hosts.exists()
    assert other not in way.trust().out
    assert way.known_hosts.read_text() == way.line() + "\n"
    # A known host does not pass with it either.
    refused(
        way.fab("hosts", "--trust", "shire01", "--fingerprint", print_of(way.folder / "other")), "another fingerprint"
    )


@pytest.mark.promise(KNOWN, "its key is unknown")
def test_on_a_terminal_only_a_yes_records_a_key(way: SshAccess) -> None:
    words = [*way.flags, "hosts", "--trust", "shire01"]
    for reply in ("", "n", "ye", "\x04"):
        ended = answer(way.clone, words, "trust shire01? [y/N] ", reply)
        assert ended.status == 2, ended.out
        assert "nothing was recorded" in ended.out
        assert way.fingerprint() in ended.out
        assert "Traceback" not in ended.out
        assert not way.known_hosts.exists()
    assert answer(way.clone, words, "trust shire01? [y/N] ", "y").status == 0
    assert way.known_hosts.read_text() == way.line() + "\n"


@pytest.mark.promise(KNOWN, "its key has changed")
def test_a_changed_key_is_refused_with_both_fingerprints_and_nothing_is_sent(way: SshAccess) -> None:
    other = key(way.folder / "other")
    way.know(f"{way.hosts[0].address} {other}")
    logins = "journalctl --sync; journalctl -q -u ssh.service | grep -c Accepted"
    before = way.hosts[0].sh(logins).stdout
    ended = way.probe()
    shown = re.findall(r"SHA256:[A-Za-z0-9+/]{43}", ended.err)
    refused(ended, "has changed", f"ssh-keygen -R '{way.hosts[0].address}'")
    assert way.fingerprint() in shown
    assert len(set(shown)) == 2
    refused(way.trust(), "has changed")
    assert way.hosts[0].sh(logins).stdout == before
    assert way.known_hosts.read_text() == f"{way.hosts[0].address} {other}\n"


@pytest.mark.parametrize(
    ("names", "status"),
    [("{head}.*", 0), ("{head}.??", 0), ("!{whole},*", 3), ("*,!{head}.*", 3), ("other,{whole}", 0), ("{head}", 3)],
)  # fmt: skip
def test_patterns_of_known_hosts_mean_what_ssh_takes_them_for(way: SshAccess, names: str, status: int) -> None:
    whole = way.hosts[0].address
    way.know(way.line(name=names.format(whole=whole, head=whole.rpartition(".")[0])))
    assert way.probe().status == status


@pytest.mark.promise(KNOWN, "a pin and known_hosts say different things")
def test_a_pin_alone_decides(way: SshAccess) -> None:
    way.know(f"{way.hosts[0].address} {key(way.folder / 'other')}")
    change(way, host_key=way.hosts[0].host_key)
    assert way.probe().status == 0
    way.know(way.line())
    change(way, host_key=way.hosts[1].host_key)
    refused(
        way.probe(), "has changed", "host_key in hosts.yaml", "change the pin", way.fingerprint(0), way.fingerprint(1)
    )


@pytest.mark.promise(KNOWN, "its key is revoked in known_hosts")
def test_a_revoked_key_is_refused_even_where_it_is_also_known(way: SshAccess) -> None:
    way.know(way.line(), f"@revoked * {way.hosts[0].host_key}")
    refused(way.probe(), "revoked", way.fingerprint())
    refused(way.trust(), "revoked")


@pytest.mark.promise(KNOWN, "a known_hosts that is hashed")
def test_known_hosts_may_be_hashed_and_hold_several_kinds_of_keys(way: SshAccess) -> None:
    way.know(
        f"{way.hosts[0].address} {key(way.folder / 'a', 'ecdsa')}",
        way.line(),
        f"{way.hosts[0].address} {key(way.folder / 'b', 'rsa')}",
    )
    assert way.probe().status == 0
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", way.known_hosts], check=True, capture_output=True)
    assert way.hosts[0].address not in way.known_hosts.read_text()
    assert way.probe().status == 0


@pytest.mark.promise(KNOWN, "another port")
def test_another_port_is_another_host(way: SshAccess) -> None:
    listening = "systemd-run -q --unit sshd-2222 --service-type=notify /usr/sbin/sshd -D -p 2222"
    assert way.hosts[0].sh(listening).returncode == 0
    change(way, port=2222)
    way.know(way.line())
    refused(way.probe(), "unknown")
    way.know(way.line(name=f"[{way.hosts[0].address}]:2222"))
    assert way.probe().status == 0


@pytest.mark.promise(KNOWN, "a HostKeyAlias")
def test_a_host_key_alias_is_what_known_hosts_is_asked_for(way: SshAccess) -> None:
    way.config(f"Host {way.hosts[0].address}\n  HostKeyAlias the-first")
    way.know(way.line(name="the-first"))
    assert way.probe().status == 0
    way.know(way.line())
    refused(way.probe(), "unknown")


@pytest.mark.promise(KNOWN, "a jump host of an unknown key")
def test_a_jump_host_is_held_to_the_same_rule(way: SshAccess) -> None:
    hop, target = way.hosts[1].address, way.hosts[0].address
    jump = f"Host hop\n  HostName {hop}\n  User deploy\n  IdentityFile {way.identity}\nHost {target}\n  ProxyJump hop"
    way.config(jump)
    way.know(way.line(0))
    refused(way.probe(), "the host key is unknown", way.fingerprint(1), "hop")
    way.know(way.line(1))
    refused(way.probe(), "the host key is unknown", way.fingerprint(0), "fab hosts --trust shire01")
    way.know(way.line(0), way.line(1))
    came = way.fab("exec", "-H", "shire01", "--", "echo $SSH_CONNECTION")
    assert came.status == 0, came.both
    assert f"shire01  {hop} " in came.out


@pytest.mark.promise(ACCESS, "a key that is wrong, missing or locked")
def test_a_key_that_the_host_does_not_know_is_told_in_a_sentence(way: SshAccess) -> None:
    way.know(way.line())
    key(way.folder / "mine")
    refused(
        way.probe("shire01", "-i", str(way.folder / "mine")),
        "does not let deploy in",
        f"-p 22 -i {way.folder / 'mine'} deploy@{way.hosts[0].address}",
    )


@pytest.mark.promise(ACCESS, "a key that is wrong, missing or locked")
def test_a_key_is_taken_from_the_flag_and_from_ssh_config_too(way: SshAccess) -> None:
    way.know(way.line())
    change(way, identity=None)
    refused(way.probe(), "does not let deploy in")
    assert way.probe("shire01", "-i", str(way.identity)).status == 0
    way.config(f"Host {way.hosts[0].address}\n  IdentityFile {way.identity}")
    assert way.probe().status == 0


def test_an_address_of_ssh_config_is_the_host_that_is_reached(way: SshAccess) -> None:
    way.know(way.line())
    change(way, address="somewhere")
    refused(way.probe(), "'somewhere' is not known")
    way.config(f"Host somewhere\n  HostName {way.hosts[0].address}")
    assert way.probe().status == 0


@pytest.mark.promise(ACCESS, "a key that is wrong, missing or locked")
def test_an_agent_is_asked_for_the_named_key_only(way: SshAccess) -> None:
    way.know(way.line())
    locked, decoy = way.folder / "locked", way.folder / "decoy"
    key(decoy)
    public = key(locked)
    authorized = "install -D -o deploy -g deploy -m 600 /dev/stdin /home/deploy/.ssh/authorized_keys2"
    assert way.hosts[0].sh(authorized, f"{public}\n".encode()).returncode == 0
    socket = str(way.folder / "agent")
    with Ending(["ssh-agent", "-D", "-a", socket], stdout=subprocess.PIPE, text=True) as agent:
        assert agent.stdout
        assert "SSH_AUTH_SOCK" in agent.stdout.readline()
        environment = {"SSH_AUTH_SOCK": socket}
        subprocess.run(["ssh-add", "-q", decoy, locked], check=True, env=environment, stdin=subprocess.DEVNULL)
        # From here on only the agent can use the key.
        subprocess.run(["ssh-keygen", "-q", "-p", "-N", "a passphrase", "-f", locked], check=True, capture_output=True)
        change(way, identity=str(locked))
        refused(way.probe(), "needs a passphrase", str(locked), "ssh-add")
        way.clone.environment["SSH_AUTH_SOCK"] = socket
        verbose = "echo 'LogLevel VERBOSE' >/etc/ssh/sshd_config.d/verbose.conf && systemctl restart ssh"
        assert way.hosts[0].sh(verbose).returncode == 0
        assert way.probe().status == 0
        log = (
            way.hosts[0]
            .sh("journalctl --sync; journalctl -q -u ssh.service --grep 'publickey|Postponed|Failed'")
            .stdout.decode()
        )
        assert print_of(locked) in log
        assert print_of(decoy) not in log
        locked.unlink()
        assert way.probe().status == 0, "the public half is enough to name a key that the agent holds"
        agent.terminate()


@pytest.mark.promise(ACCESS, "a key that is wrong, missing or locked")
def test_a_key_that_is_not_there_is_named(way: SshAccess) -> None:
    way.know(way.line())
    change(way, identity=str(way.folder / "nothing"))
    refused(way.probe(), f"there is no key {way.folder / 'nothing'}", "identity:")


def test_connections_are_made_in_one_place() -> None:
    made = [
        f"{path.relative_to(clones.ROOT)}"
        for path in sorted(clones.ROOT.glob("tasks/**/*.py"))
        for line in path.read_text().splitlines()
        if re.search(r"\b(Connection|SSHClient|ThreadingGroup|SerialGroup)\(", line)
    ]
    assert made == ["tasks/engine/ssh/connection.py"]
    policies = [
        path.name for path in clones.ROOT.glob("tasks/**/*.py") if re.search("AutoAdd|WarningPolicy", path.read_text())
    ]
    assert policies == []
