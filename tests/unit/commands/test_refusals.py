"""Refusals of `fab`: as sentences with the next step, with exit 2, and before any contact with a host."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import clone as clones
from tests.support.clone import Clone
from tests.support.stand_ins import Mute, mute, write_inventory
from tests.support.terminal import answer


@pytest.fixture
def watched(clone: Clone, tmp_path: Path) -> Iterator[tuple[Clone, Mute]]:
    """A clone whose two hosts, of one group, are a socket that records a connection."""
    with mute() as host:
        hosts = {name: host.entry(groups=["shire"]) for name in ("shire02", "shire01")}
        clone.inventory = write_inventory(tmp_path / "hosts.yaml", hosts)
        yield clone, host


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone for tests that change none of its files."""
    return clones.make(tmp_path_factory.mktemp("refusals"))


def refused(clone: Clone, host: Mute, *words: str) -> str:
    """Return the message of `fab WORDS`, which must refuse properly."""
    ended = clone.fab(*words)
    assert (ended.status, ended.out, host.called) == (2, "", False), ended.both
    assert "error: " in ended.err
    assert " next: " in ended.err
    assert "Traceback" not in ended.err
    return ended.err


@pytest.mark.parametrize("verb", ["deploy", "rollback", "restart", "stop", "remove --yes"])
def test_several_hosts_must_be_named_where_nobody_can_be_asked(watched: tuple[Clone, Mute], verb: str) -> None:
    said = refused(*watched, *verb.split())
    assert "shire02, shire01" in said
    assert f"fab {verb.split()[0]} -H all" in said


def test_an_account_that_sudo_would_take_for_others_is_refused_in_its_line(watched: tuple[Clone, Mute]) -> None:
    clone, host = watched
    assert clone.inventory
    text = re.sub(" +user: .*", "", clone.inventory.read_text())
    for verb, user in (("deploy", "ALL"), ("setup", "'%wheel'"), ("doctor", "'#0'"), ("logs", "'+hosts'")):
        clone.inventory.write_text(f"defaults:\n  user: {user}\n{text}")
        said = refused(clone, host, verb, "-H", "all")
        assert "hosts.yaml:2:9 (defaults.user)" in said
        assert "an account name" in said


@pytest.mark.parametrize(("words", "user"), [("deploy", "ALL"), ("doctor", "%wheel"), ("logs -f", "!deploy")])
def test_an_account_of_ssh_config_is_held_to_the_same(
    watched: tuple[Clone, Mute], tmp_path: Path, words: str, user: str
) -> None:
    clone, host = watched
    assert clone.inventory
    clone.inventory.write_text(re.sub(r"\n +user: .*", "", clone.inventory.read_text()))
    config = tmp_path / "config"
    config.write_text(f'Host *\n  User "{user}"\n')
    ended = clone.fab("-S", str(config), *words.split(), "-H", "all")
    assert (ended.status, host.called) == (2, False), ended.both
    assert f"{user!r} cannot be logged in as" in ended.both
    assert re.search(r"next: write `user:` of shire01 at \S+hosts.yaml:\d+:\d+ \(hosts.shire01\)", ended.both)
    assert "Traceback" not in ended.both


@pytest.mark.parametrize("verb", ["plan", "deploy", "setup", "drift", "doctor"])
def test_a_file_for_nginx_that_is_not_there_is_told_by_every_verb_that_compares_it(
    watched: tuple[Clone, Mute], verb: str
) -> None:
    clone, _ = watched
    clone.write("service/service.yaml", 'name: a\napp: "a:a"\nnginx: {server_name: a, error_page: pages/502.html}\n')
    said = refused(*watched, verb, "-H", "all")
    assert "pages/502.html" in said
    assert "correct nginx.error_page in service/service.yaml" in said


@pytest.mark.parametrize("verb", ["setup", "drift"])
def test_an_account_of_the_command_line_too(watched: tuple[Clone, Mute], verb: str) -> None:
    said = refused(*watched, verb, "-H", "all", "--as", "ALL")
    assert "--as" in said
    assert "an account name" in said


def test_a_person_is_asked_once_with_the_hosts_in_order(watched: tuple[Clone, Mute]) -> None:
    clone, host = watched
    ended = answer(clone, ["deploy"], "go on? [y/N] ", "n")
    assert (ended.status, host.called) == (2, False), ended.out
    assert "deploy on 2 hosts, in this order: shire02, shire01" in ended.out
    assert "nothing was done" in ended.out


def test_a_person_who_says_yes_is_not_asked_again(watched: tuple[Clone, Mute]) -> None:
    clone, host = watched
    ended = answer(clone, ["-t", "1", "restart"], "go on? [y/N] ", "y")
    assert (ended.status, host.called) == (3, True), ended.out
    assert ended.out.count("go on?") == 1


@pytest.mark.parametrize(
    ("words", "way"),
    [
        (["-e", "deploy", "-H", "all"], "fab plan --steps"),
        (["-p", "deploy", "-H", "all"], "fab shell"),
        (["-w", "deploy", "-H", "all"], "the others go on"),
        (["deploy", "-H", "all", "--echo"], "fab plan --steps"),
        (["--prompt-for-sudo-password", "setup", "-H", "all"], "--as root"),
        (["--prompt-for-login-password", "deploy", "-H", "all"], "identity:"),
        (["--prompt-for-passphrase", "deploy", "-H", "all"], "ssh-add"),
        (["--dry", "exec", "-H", "all", "--", "true"], "fab --help exec"),
        (["--dry", "lock"], "fab --help lock"),
        (["--dry", "sandbox.up"], "fab --help sandbox.up"),
        (["-t", "0", "status"], "1 or more"),
        (["-T", "-1", "status"], "1 or more"),
        (["-t", "10000000000", "status"], "604800 at most"),
        (["exec", "-T", "999999999999", "-H", "all", "--", "true"], "604800 at most"),
        (["status", "-T", "abc"], "a number of seconds"),
        (["status", "-t", "abc"], "a number of seconds"),
        (["status", "--connect-timeout=1.5"], "a number of seconds"),
        (["rollback", "-H", "shire02", "--to", ""], "leave --to out"),
        (["rollback", "-H", "shire02", "--to="], "leave --to out"),
        (["deploy", "-H", "shire02", "--canary", ""], "leave --canary out"),
        (["restart", "-H", "shire02", "--lock-wait="], "leave --lock-wait out"),
        (["history", "--last", ""], "leave --last out"),
        (["history", "--last", "0"], "--last takes a number of lines"),
        (["logs", "-n", ""], "leave -n out"),
        (["logs", "--since", ""], "leave --since out"),
        (["setup", "-H", "all", "--as", ""], "leave --as out"),
        (["remove", "-H", "all", "--yes", "--as", ""], "leave --as out"),
        (["drift", "--as="], "leave --as out"),
        (["hosts", "--trust", ""], "leave --trust out"),
        (["lock", "--package", ""], "leave --package out"),
        (["sandbox.up", "--suite", ""], "leave --suite out"),
        (["maintenance", "on", "-H", "all", "--message", ""], "leave --message out"),
        (["exec", "-H", "all", "--", "echo", "\udcff"], "UTF-8"),
        (["logs", "--grep", "\udcff"], "UTF-8"),
        (["status", "-H", "\udcff"], "UTF-8"),
        (["-i", "/nonexistent/key", "status"], "private key"),
        (["-i", "~no-such/key", "status"], "private key"),
        (["-S", "/nonexistent/config", "status"], "/nonexistent/config"),
        (["exec", "-H", "all"], "fab exec -H shire01 -- uptime"),
        (["logs", "-n", "many"], "fab logs -n 100"),
        (["sandbox.up", "--count", "x"], "fab sandbox.up --count 2"),
        (["status", "-H", "shire1"], "did you mean 'shire0"),
        (["status", "-H", "shore"], "did you mean 'shire'"),
        (["deploy", "-H", "shire,-shire"], "leaves no host"),
        (["deploy", "-H", "all,-shire03"], "no host or group"),
        (["remove", "-H", "shire01"], "--yes"),
        (["depoly", "-H", "all"], 'there is no verb "depoly"; did you mean deploy?'),
        (["status", "rollbck"], "did you mean rollback?"),
        (["--help", "depoly"], "did you mean deploy?"),
        (["sandbox"], "did you mean sandbox.down, sandbox.list or sandbox.up?"),
        (["xyz"], "fab --list"),
        (["--list", "xyz"], "fab --list"),
        (["--list", "-F", "xml"], "flat, nested or json"),
        (["status", "shire01"], "hosts follow -H"),
        (["status", "--jsn"], "did you mean --json?"),
        (["deploy", "-H", "all", "-q"], "fab --help deploy"),
        (["-q"], "fab --help"),
        (["status", "--json=3"], "--json takes no value"),
        (["status", "-H", "shire01", "-H", "shire02"], "-H was given twice"),
        (["deploy", "-H"], "-H needs a value"),
        (["deploy", "--max-failures"], "--max-failures needs a value"),
        (["maintenance"], "fab --help maintenance"),
    ],
)  # fmt: skip
def test_what_would_mean_something_else_is_refused_with_the_way_on(
    plain: Clone, tmp_path: Path, words: list[str], way: str
) -> None:
    with mute() as host:
        hosts = {name: host.entry(groups=["shire"]) for name in ("shire01", "shire02")}
        plain.inventory = write_inventory(tmp_path / "hosts.yaml", hosts)
        assert way in refused(plain, host, *words)


def test_what_is_asked_after_two_dashes_is_not_a_flag_of_ours(plain: Clone, tmp_path: Path) -> None:
    with mute() as host:
        plain.inventory = write_inventory(tmp_path / "hosts.yaml", {"shire01": host.entry()})
        ended = plain.fab("-t", "1", "exec", "-H", "shire01", "--", "true", "--prompt-for-passphrase")
        assert (ended.status, host.called) == (3, True), ended.both


HOSTS = "hosts:\n  shire01:\n    address: 127.0.0.1\n"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (HOSTS + "    prot: 22\n", "hosts.yaml:4:5"),
        (HOSTS + "    port: 22:22\n", "hosts.yaml:4:11"),
        (HOSTS + "    groups: [no]\n", "hosts.yaml:4:14"),
        (HOSTS + "    address: 127.0.0.2\n", "hosts.yaml:4:5"),
        (HOSTS + "    user: &me root\n", "hosts.yaml:4:11"),
        (HOSTS + "    service: {helth: {path: /}}\n", "hosts.yaml:4:"),
        (HOSTS + "    identity: 'a\n", "hosts.yaml:"),
        ("hosts: [shire01]\n", "hosts.yaml:1:8"),
        (HOSTS + "    python: $(reboot)\n", "hosts.yaml:4:13"),
    ],
)
def test_a_fault_in_hosts_yaml_is_told_with_its_place(plain: Clone, tmp_path: Path, text: str, place: str) -> None:
    plain.inventory = tmp_path / "hosts.yaml"
    plain.inventory.write_text(text)
    with mute() as nobody:
        assert place in refused(plain, nobody, "deploy", "-H", "all")


@pytest.mark.parametrize(
    ("before", "after", "place"),
    [
        ("\nname: myapp", "\nname: My App", "service/service.yaml:"),
        ("\napp: ", "\nap: ", "service/service.yaml:"),
        ("\nname: myapp", "\nname: myapp\nname: myapp", "service/service.yaml:"),
        ("\nname: myapp", "\nname: myapp\nkeep: 'x; reboot'", "service/service.yaml:"),
        ("\nname: myapp", "\nname: myapp\n\tkeep: 5", "service/service.yaml:"),
    ],
)  # fmt: skip
def test_a_fault_in_service_yaml_is_told_with_its_place(
    watched: tuple[Clone, Mute], before: str, after: str, place: str
) -> None:
    clone, host = watched
    clone.replace("service/service.yaml", before, after)
    said = refused(clone, host, "deploy", "-H", "all")
    line = said.split(place, 1)[1].split(":")[0]
    assert line.isdigit(), said


@pytest.mark.parametrize("words", [["status"], ["deploy", "-H", "all"]])
def test_an_inventory_that_is_not_there_is_told_with_what_to_do(plain: Clone, tmp_path: Path, words: list[str]) -> None:
    plain.inventory = tmp_path / "nowhere.yaml"
    with mute() as nobody:
        assert "nowhere.yaml" in refused(plain, nobody, *words)


def test_a_missing_or_stale_lock_stops_a_deploy_before_any_contact(watched: tuple[Clone, Mute]) -> None:
    clone, host = watched
    with (clone.root / "service/requirements.in").open("a") as file:
        file.write("requests\n")
    stale = refused(clone, host, "deploy", "-H", "all")
    assert "has changed since the lock was made" in stale
    assert "fab lock" in stale
    (clone.root / "service/requirements.txt").unlink()
    missing = refused(clone, host, "deploy", "-H", "all")
    assert "not locked" in missing
    assert "fab lock" in missing


@pytest.mark.parametrize(
    "words",
    [
        ["deploy", "--json"],
        ["deploy", "--json", "-H", "nobody"],
        ["status", "--json", "-H", "nobody"],
        ["-w", "rollback", "--json", "-H", "all"],
        ["logs", "--json", "-n", "x"],
        ["--dry", "lock", "--json"],
        ["sandbox.up", "--json", "--count", "x"],
        ["--dry", "sandbox.down", "--json"],
        ["depoly", "--json"],
    ],
)
def test_with_json_an_error_is_a_document_too(watched: tuple[Clone, Mute], words: list[str]) -> None:
    clone, host = watched
    ended = clone.fab(*words)
    assert (ended.status, host.called) == (2, False)
    document = ended.json()
    assert document["schema"] == 1
    assert {"code", "message", "path", "next"} <= document["error"].keys()
    assert document["error"]["code"] == "usage"


@pytest.mark.parametrize(
    ("verb", "words", "document"),
    [
        ("sandbox.list", "no sandbox hosts; fab sandbox.up makes them", {"schema": 1, "hosts": []}),
        ("sandbox.down", "no sandbox hosts; nothing to do", {"schema": 1, "removed": []}),
    ],
)
def test_without_local_hosts_there_is_nothing_to_show_or_remove(
    plain: Clone, verb: str, words: str, document: dict[str, object]
) -> None:
    assert plain.done(verb).out == f"{words}\n"
    assert plain.done(verb, "--json").json() == document


@pytest.mark.parametrize("verb", ["deploy", "plan"])
def test_a_build_that_fails_ends_a_run_before_any_contact(watched: tuple[Clone, Mute], verb: str) -> None:
    clone, host = watched
    with (clone.root / "service/service.yaml").open("a") as file:
        file.write("build: \"sh -c 'echo no such module; exit 3'\"\n")
    ended = clone.fab(verb, "-H", "shire01")
    assert (ended.status, host.called) == (1, False), ended.both
    assert "error: the build failed on this machine" in ended.err
    assert "no such module" in ended.err
    assert " next: " in ended.err
