"""The address of a host: from hosts.yaml, then ssh_config as OpenSSH reads it, or paramiko without an ssh."""

from __future__ import annotations

import shutil
from dataclasses import fields
from pathlib import Path

import pytest

from tasks.engine.config import inventory
from tasks.engine.config.inventory import Host
from tasks.engine.config.nodes import Place
from tasks.engine.errors import Unreachable, UsageError
from tasks.engine.ssh.ssh_config import Options, resolve, resolve_hop

READERS = ["paramiko", *(["ssh"] if shutil.which("ssh") else [])]
CONFIG = """
Host shire
  HostName 192.0.2.7
  Port 2222
  User frodo
  ProxyJump bilbo@bag-end:2200,rivendell
Host aliased
  HostName 192.0.2.8
  HostKeyAlias the-name
  Port 2222
Host piped
  HostName 192.0.2.9
  Port 2022
  User sam
  ProxyCommand nc %h %p %r
Host full
  HostName 192.0.2.9
  ProxyCommand nc -x 100%% %h %p %r %n %C
Host keyed
  HostName 192.0.2.11
  User sam
  HostKeyAlias bag-end
  IdentityFile ${KEYS}/%h-%n-%r-%p-%k-100%%
  RevokedHostKeys /keys/%k-revoked
Host plain
  HostName 192.0.2.10
Host everybody
  User ALL
Host group
  User %wheel
"""


@pytest.fixture(params=READERS)
def options(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Options:
    """Options with a separate configuration, read by ssh, or by paramiko where there is no ssh."""
    config = tmp_path / "config"
    config.write_text(CONFIG)
    if request.param == "paramiko":
        monkeypatch.setenv("PATH", str(tmp_path))
    return Options(config=str(config))


def host(address: str, **values: str | int | Place) -> Host:
    """Return a host of an inventory with this address."""
    nothing = dict.fromkeys(field.name for field in fields(Host))
    return Host(**{**nothing, "name": "h", "address": address, **values})  # type: ignore[arg-type]


def test_ssh_config_says_where_and_who(options: Options) -> None:
    found = resolve(host("shire"), options)
    assert (found.hostname, found.port, found.user) == ("192.0.2.7", 2222, "frodo")
    assert found.jumps == ("bilbo@bag-end:2200", "rivendell")
    assert found.known_as == "[192.0.2.7]:2222"
    assert found.known_hosts


def test_hosts_yaml_comes_first(options: Options) -> None:
    found = resolve(host("shire", user="sam", port=22), options)
    assert (found.hostname, found.port, found.user, found.known_as) == ("192.0.2.7", 22, "sam", "192.0.2.7")
    assert resolve(host("shire", user="sam"), options, "root").user == "root"


@pytest.mark.parametrize("name", ["everybody", "group"])
def test_an_account_that_sudo_would_take_for_others_is_refused_where_it_stands(options: Options, name: str) -> None:
    place = Place("hosts.yaml", 3, 5, f"hosts.{name}")
    with pytest.raises(UsageError) as caught:
        resolve(host(name, place=place), options)
    assert caught.value.where == f"hosts.yaml:3:5 (hosts.{name})"
    assert "User in ssh_config" in str(caught.value.next)
    assert resolve(host(name, place=place, user="sam"), options).user == "sam"
    # A hop only forwards: nothing is set up there.
    assert resolve_hop(name, options).user in {"ALL", "%wheel"}


def test_an_alias_for_the_key_stands_alone_whatever_the_port(options: Options) -> None:
    assert resolve(host("aliased"), options).known_as == "the-name"


def test_the_words_of_a_proxy_command_are_filled_in(options: Options) -> None:
    assert resolve(host("piped"), options).proxy_command == "nc 192.0.2.9 2022 sam"


@pytest.mark.parametrize("options", READERS[1:], indirect=True)
def test_a_proxy_command_gets_what_hosts_yaml_says(options: Options) -> None:
    found = resolve(host("full", user="sam", port=2022), options)
    assert found.proxy_command == "nc -x 100% 192.0.2.9 2022 sam full %C"


@pytest.mark.parametrize("options", READERS[1:], indirect=True)
def test_the_tokens_in_the_names_of_files_are_filled_in(
    options: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ssh -G leaves them: a key named for its host was never found."""
    monkeypatch.setenv("KEYS", str(tmp_path))
    key = tmp_path / "192.0.2.11-keyed-sam-22-bag-end-100%"
    key.touch()
    found = resolve(host("keyed"), options)
    assert (found.identities, found.revoked) == ((key,), (Path("/keys/bag-end-revoked"),))


def test_the_home_of_an_unknown_account_is_a_file_that_is_not_there(options: Options) -> None:
    assert resolve(host("plain", identity="~no-such/key"), options).identities == (Path("~no-such/key"),)


def test_no_proxy_is_no_proxy(options: Options) -> None:
    found = resolve(host("plain"), options)
    assert (found.proxy_command, found.jumps) == (None, ())


@pytest.mark.parametrize("named", ["envs/hosts.yaml", "{root}/envs/hosts.yaml", "../{here}/envs/hosts.yaml"])
def test_an_identity_lies_beside_its_inventory_and_is_tried_alone(
    options: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path(named.format(root=tmp_path, here=tmp_path.name))
    path.parent.mkdir(exist_ok=True)
    path.write_text("hosts:\n  plain: {identity: keys/one}\n")
    (plain,) = inventory.load(tmp_path / "elsewhere", {"HOSTS": str(path)}).hosts
    found = resolve(plain, options)
    assert [key.resolve() for key in found.identities] == [tmp_path / path.parent.name / "keys/one"]
    assert found.named_identity
    assert resolve(plain, Options(("/given",), options.config)).identities == (Path("/given"),)


@pytest.mark.parametrize(
    ("hop", "user", "hostname", "port"),
    [
        ("plain", None, "192.0.2.10", 22),
        ("sam@plain", "sam", "192.0.2.10", 22),
        ("sam@plain:2200", "sam", "192.0.2.10", 2200),
        ("ssh://sam@plain:2200", "sam", "192.0.2.10", 2200),
        ("[2001:db8::1]:2200", None, "2001:db8::1", 2200),
        ("sam@[2001:db8::1]", "sam", "2001:db8::1", 22),
        ("shire", "frodo", "192.0.2.7", 2222),
    ],
)
def test_a_jump_host_is_read_as_ssh_writes_it(
    options: Options, hop: str, user: str | None, hostname: str, port: int
) -> None:
    found = resolve_hop(hop, options)
    assert (found.hostname, found.port) == (hostname, port)
    assert user is None or found.user == user
    assert found.pin is None


@pytest.mark.parametrize("hop", ["", "a:b", "a:22:33", "@", "a@"])
def test_a_jump_host_that_cannot_be_read_is_told(options: Options, hop: str) -> None:
    with pytest.raises(Unreachable, match="a jump host that cannot be read"):
        resolve_hop(hop, options)
