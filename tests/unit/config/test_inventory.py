"""hosts.yaml: its meaning, its refusals, and the sandbox beside it."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.engine.config import inventory
from tasks.engine.config.inventory import Inventory
from tasks.engine.errors import UsageError
from tests.support.refusals import refusal, require_error

PIN = "ssh-ed25519 " + base64.b64encode(b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + b"k" * 32).decode()
WHOLE = f"""\
defaults:
  user: deploy
  port: 2222
  groups: [shire]
  service: {{keep: 3, nginx: {{tls: self-signed}}}}
hosts:
  shire01:
    address: 192.0.2.11
    port: 22
    user: root
    groups: [web, web, eu]
    host_key: "{PIN}"
    identity: ~/.ssh/id_ed25519
    python: python3.12
    service: {{nginx: {{server_name: shire01.example}}}}
  shire02:
  shire03: {{user: null, port: null, groups: null, service: null, identity: keys/id}}
"""


def loaded(folder: Path, text: str) -> Inventory:
    (folder / "hosts.yaml").write_text(text)
    return inventory.load(folder, {})


def sandbox(folder: Path, text: str) -> Path:
    (folder / ".sandbox").mkdir()
    path = folder / ".sandbox" / "hosts.yaml"
    path.write_text(text)
    return path


@pytest.fixture(autouse=True)
def _in_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_host_says_everything_or_nothing(tmp_path: Path) -> None:
    first, second, third = loaded(tmp_path, WHOLE).hosts
    assert (first.name, first.address, first.port, first.user) == ("shire01", "192.0.2.11", 22, "root")
    assert (first.groups, first.host_key, first.python) == (("web", "eu"), PIN, "python3.12")
    assert first.identity == "~/.ssh/id_ed25519"
    assert str(first.place) == "hosts.yaml:7:3 (hosts.shire01)"
    assert (second.name, second.address, second.port, second.user) == ("shire02", "shire02", 2222, "deploy")
    assert (second.groups, second.host_key, second.identity, second.python) == (("shire",), None, None, None)
    assert (third.port, third.user, third.groups, third.service) == (None, None, (), None)
    assert third.identity == str(tmp_path / "keys/id")


def test_groups_are_in_the_order_of_the_file(tmp_path: Path) -> None:
    groups = loaded(tmp_path, "hosts:\n  b: {groups: [x]}\n  a: {groups: [x, z]}\n").groups
    assert {name: [host.name for host in hosts] for name, hosts in groups.items()} == {"x": ["b", "a"], "z": ["a"]}


def test_overrides_are_canonical(tmp_path: Path) -> None:
    document = inventory.overrides_document(loaded(tmp_path, WHOLE))
    assert document == {
        "shire01": {"keep": 3, "nginx": {"server_name": "shire01.example", "tls": "self-signed"}},
        "shire02": {"keep": 3, "nginx": {"tls": "self-signed"}},
    }
    assert list(
        inventory.overrides_document(loaded(tmp_path, "hosts: {b: {service: {keep: 3}}, a: {service: {}}}"))
    ) == ["b"]


@pytest.mark.parametrize(
    "text", ["", "# nothing\n", "hosts:\n", "defaults:\nhosts:\n", "hosts: {}\n", "defaults: {user: a}\n"]
)
def test_an_inventory_may_be_empty(tmp_path: Path, text: str) -> None:
    assert loaded(tmp_path, text).hosts == ()


@pytest.mark.parametrize(
    ("text", "where", "message", "fix"),
    [
        ("host: {}", "hosts.yaml:1:1 (host)", 'unknown key "host"', "did you mean 'hosts'?"),
        ("hosts: [a]", "hosts.yaml:1:8 (hosts)", "expected a mapping", "key: value"),
        ("hosts: {a: {adress: b}}", "hosts.yaml:1:13 (hosts.a.adress)", 'unknown key "adress"', "'address'?"),
        ("defaults: {prot: 1}", "hosts.yaml:1:12 (defaults.prot)", 'unknown key "prot"', "'port'?"),
        ("defaults: {port: 0}\nhosts: {a: {port: 1}}", "hosts.yaml:1:18 (defaults.port)", "from 1 to 65535", "port: 1"),
        ("hosts: {a: x}", "hosts.yaml:1:12 (hosts.a)", "expected a mapping", "key: value"),
        ("hosts: {a: {port: 0644}}", "hosts.yaml:1:19 (hosts.a.port)", "plain decimal", "port: 1"),
        ("hosts: {a: {port: 99999}}", "hosts.yaml:1:19 (hosts.a.port)", "found 99999", "port: 1"),
        ("hosts: {a: {port: '22'}}", "hosts.yaml:1:19 (hosts.a.port)", "found a text", "remove the quotes: 22"),
        ("hosts: {a: {port: }}", "hosts.yaml:1:18 (hosts.a.port)", '"port" has no value', "`null`"),
        ("hosts: {a: {user: no}}", "hosts.yaml:1:19 (hosts.a.user)", "YAML reads no as false", 'user: "no"'),
        ("hosts: {a: {user: '-l'}}", "hosts.yaml:1:19 (hosts.a.user)", "an account name", "deploy"),
        ("hosts: {a: {address: -oX}}", "hosts.yaml:1:22 (hosts.a.address)", "a host name or an IP", "192.0.2.11"),
        ("hosts: {a: {address: 22:22}}", "hosts.yaml:1:22 (hosts.a.address)", "YAML reads 22:22", "192.0.2.11"),
        (
            "hosts: {a: {host_key: 'ssh-rsa x'}}",
            "hosts.yaml:1:23 (hosts.a.host_key)",
            "a public host key",
            "ssh-ed25519",
        ),
        ("hosts: {a: {python: python}}", "hosts.yaml:1:21 (hosts.a.python)", "pythonX.Y", "python3.12"),
        ("hosts: {a: {groups: web}}", "hosts.yaml:1:21 (hosts.a.groups)", "expected a list", "groups: [first"),
        ("hosts: {a: {groups: [all]}}", "hosts.yaml:1:22 (hosts.a.groups[0])", "`all` always means", "remove it"),
        ("hosts: {a: {groups: [W]}}", "hosts.yaml:1:22 (hosts.a.groups[0])", "a group name", "web"),
        ("hosts: {a: {groups: [b]}, b: }", "hosts.yaml:1:9 (hosts.a)", "b is the name of a host", "rename"),
        ("hosts: {a: {service: x}}", "hosts.yaml:1:22 (hosts.a.service)", "expected a mapping", "key: value"),
        ("hosts: {all: }", "hosts.yaml:1:9 (hosts.all)", "expected a host name", "`all` means every host"),
        ("hosts: {A: }", "hosts.yaml:1:9 (hosts.A)", "expected a host name", "rename it"),
        ("hosts: {1: }", "hosts.yaml:1:9 (hosts)", "YAML does not read the key 1 as text", 'quote it: "1"'),
        ("hosts: {1.2.3.400: }", "hosts.yaml:1:9 (hosts.1.2.3.400)", "is no address", "add `address:`"),
        ("hosts: {a: , a: }", "hosts.yaml:1:14 (hosts.a)", '"a" stands here twice', "line 1"),
    ],
)
def test_a_wrong_inventory_is_refused_where_it_stands(
    tmp_path: Path, text: str, where: str, message: str, fix: str
) -> None:
    require_error(refusal(loaded, tmp_path, text), message, where, fix)


def test_no_inventory_at_all_says_what_to_create(tmp_path: Path) -> None:
    error = refusal(inventory.load, tmp_path, {})
    assert error.message == "hosts.yaml is missing"
    require_error(error, fix="create it")


def test_hosts_picks_another_file_and_leaves_the_sandbox_out(tmp_path: Path) -> None:
    sandbox(tmp_path, "hosts: {local01: }")
    (tmp_path / "hosts.yaml").write_text("hosts: {a: }")
    (tmp_path / "staging.yaml").write_text("hosts: {b: }")
    chosen = inventory.load(tmp_path / "elsewhere", {"HOSTS": "staging.yaml"})
    assert [host.name for host in chosen.hosts] == ["b"]
    assert (chosen.sandbox, chosen.label) == ((), "staging.yaml")


def test_hosts_must_be_there(tmp_path: Path) -> None:
    (tmp_path / "hosts.yaml").write_text("hosts: {a: }")
    error = refusal(inventory.load, tmp_path, {"HOSTS": "stagin.yaml"})
    assert error.message == "stagin.yaml is missing"
    require_error(error, fix="HOSTS")


@pytest.mark.parametrize("real", [None, "", "hosts:\n"])
def test_the_sandbox_stands_in_for_an_inventory_without_hosts(tmp_path: Path, real: str | None) -> None:
    path = sandbox(tmp_path, "hosts: {local01: {groups: [web]}}")
    if real is not None:
        (tmp_path / "hosts.yaml").write_text(real)
    found = inventory.load(tmp_path, {})
    assert (found.path, found.sandbox) == (path, ())
    assert [host.name for host in found.hosts] == ["local01"]
    assert list(found.groups) == ["web"]


def test_the_sandbox_is_no_part_of_a_real_inventory(tmp_path: Path) -> None:
    sandbox(tmp_path, "hosts: {local01: {groups: [web], service: {keep: 3}}}")
    found = loaded(tmp_path, "hosts: {a: }")
    assert [host.name for host in found.hosts] == ["a"]
    assert [host.name for host in found.sandbox] == ["local01"]
    assert found.groups == {}
    assert inventory.overrides_document(found) == {}


@pytest.mark.parametrize("real", ["hosts: {a: }", "hosts: {b: {groups: [a]}}"])
def test_a_name_in_both_is_an_error_that_names_both_places(tmp_path: Path, real: str) -> None:
    sandbox(tmp_path, "hosts: {a: }")
    error = refusal(loaded, tmp_path, real)
    assert "hosts.yaml:1:9" in error.message
    assert ".sandbox/hosts.yaml:1:9 (hosts.a)" in error.message
    assert "fab sandbox.down" in (error.next or "")


def test_the_file_of_the_template_has_no_host_and_its_examples_are_valid(tmp_path: Path) -> None:
    text = (Path(__file__).parents[3] / "hosts.yaml").read_text()
    assert loaded(tmp_path, text).hosts == ()
    examples = [line.removeprefix("# ") if line.startswith("#  ") else line for line in text.splitlines()]
    hosts = loaded(tmp_path, "\n".join(examples).replace("ssh-ed25519 AAAA...", PIN)).hosts
    assert [host.name for host in hosts] == ["shire01", "shire02"]
    assert {host.user for host in hosts} == {"deploy", "ops"}


VALUES = st.sampled_from(
    ["no", "22:22", "''", "x", "-1", "1e9", "[a]", "{a: b}", "null", "", '"\\0"', "0644", "é", "*a"]
)
KEYS = st.sampled_from(["address", "port", "user", "groups", "host_key", "identity", "python", "service", "a", "é"])
SECTIONS = st.sampled_from(["hosts", "defaults", "hosts:\n  b", "defaults:\n  service", "x"])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(section=SECTIONS, entries=st.lists(st.tuples(KEYS, VALUES), max_size=3))
def test_any_value_of_any_key_is_an_inventory_or_a_usage_error(
    tmp_path: Path, section: str, entries: list[tuple[str, str]]
) -> None:
    lines = [f"{section}:", *(f"    {key}: {value}" for key, value in entries), ""]
    try:
        loaded(tmp_path, "\n".join(lines))
    except UsageError as error:
        fault: UsageError | None = error
    else:
        fault = None
    assert fault is None or (fault.where and fault.next)
