"""SECRET_KEY of one host for the others: a host that tells something else is named, and nothing goes to the others."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, cast

import pytest

from tasks import runner
from tasks.engine.config.inventory import Inventory
from tasks.engine.config.sections import FALLBACKS, SECRET_KEY
from tasks.engine.config.service import Secret
from tasks.engine.deploy.secret_rollout import _Keys
from tasks.engine.deploy.secret_step import flaw
from tasks.engine.deploy.signing_key import SigningKey
from tasks.engine.errors import LoopError, UsageError
from tasks.engine.fleet.member import Member
from tasks.engine.host.facts import Facts
from tasks.engine.host.protocol import Report, Transcript
from tasks.secret_value import read
from templates.host import secret
from templates.host.fact_schema import Record
from templates.host.run import Refused
from tests.support.small_service import SERVICE

NO_KEYS = [b"", b"\n", b"a" * 4097, b"a" * 300_000, b"a\0b", b"a\nb", b"\x1b[2J", b"\xff\xfe"]
KEYS = [b"0" * 64, b"a" * 4096, "é x".encode(), b"with a line feed\n"]


class Told(Member):
    """A member whose host has this key; none if it is empty. got: the values that it was sent."""

    def __init__(self, name: str, key: bytes | None) -> None:
        host = cast(Any, type("Host", (), {"name": name, "user": "deploy", "python": None, "groups": ()}))
        super().__init__(host, SERVICE, cast(Any, None), cast(Any, None))
        self._key, self.got = key, list[bytes]()

    def ask(self, *_: object) -> Facts:
        return Facts(record=Record(secrets=() if self._key is None else ("SECRET_KEY",)))

    def perform(self, _step: Any, _emit: Any, payload: Any = (), _heard: Any = None) -> Transcript:
        self.got += payload[1:]
        said = Transcript()
        said.add(Report("value", (self._key or b"").hex()))
        return said


@pytest.mark.parametrize("value", NO_KEYS, ids=range(len(NO_KEYS)))
def test_what_is_no_key_is_an_error_of_the_host_that_told_it(value: bytes) -> None:
    lacking, liar = Told("shire01", None), Told("shire02", value)
    with pytest.raises(LoopError, match="sent to no other host") as caught:
        SigningKey(lambda _: [lacking, liar], str).bring(lacking, lambda _: None)
    assert (caught.value.where, caught.value.code, lacking.got) == ("shire02", "lies", [])
    assert "fab secrets.set SECRET_KEY -H all" in str(caught.value.next)


@pytest.mark.parametrize("value", KEYS, ids=range(len(KEYS)))
def test_a_key_is_brought_as_it_is_beside_a_host_that_lies(value: bytes) -> None:
    lacking, others = Told("shire01", None), [Told("shire02", b"a\0b"), Told("shire03", value)]
    SigningKey(lambda _: [lacking, *others], str).bring(lacking, lambda _: None)
    assert lacking.got == [value]


def test_a_local_host_gets_no_key_of_the_inventory_and_gives_it_none(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = [Told("web1", None), Told("web2", b"key of web2")], [Told("shire01", None), Told("shire02", None)]
    hosts = [tuple(one.host for one in some) for some in (ours, theirs)]
    inventory = Inventory(Path("hosts.yaml"), *hosts)
    members = {one.host.name: one for one in (*ours, *theirs)}
    monkeypatch.setattr(runner, "members_of", lambda _c, _p, chosen, _u: [members[host.name] for host in chosen.hosts])
    key = runner.signing_key(None, cast(Any, type("Project", (), {"inventory": inventory})))
    for one in (*theirs, ours[0]):
        key.bring(one, lambda _: None)
    assert ours[0].got == [b"key of web2"]
    assert theirs[0].got == theirs[1].got
    assert theirs[0].got != ours[0].got
    assert ours[1].got == []


@pytest.mark.parametrize("name", ["SECRET_KEY", "SECRET_KEY_FALLBACKS"])
def test_a_host_takes_only_a_key_as_one(name: str) -> None:
    for value in KEYS:
        assert secret._receive(io.BytesIO(b"%d\n%b" % (len(value), value)), name) == value
    for value in NO_KEYS:
        with pytest.raises(Refused):
            secret._receive(io.BytesIO(b"%d\n%b" % (len(value), value)), name)
    assert secret._receive(io.BytesIO(b"3\na\0b"), "API_TOKEN") == b"a\0b"


@pytest.mark.parametrize("file", [False, True])
def test_an_operator_is_held_to_the_same_rule(file: bool) -> None:
    for text, why in (("", "empty"), ("a" * 4097, "at most 4096 bytes"), (r"a\0b", "NUL"), (r"a\nb", "printable")):
        with pytest.raises(UsageError, match=why):
            read(Secret("SECRET_KEY", file), f"printf '{text}'")
    assert read(Secret("SECRET_KEY", file), "printf key") == b"key"


@pytest.mark.parametrize(
    ("value", "why"), [(b"", "empty"), (b"\n", "empty"), (b"a\0", "NUL"), (b"a" * 100_001, "more")]
)
def test_a_variable_has_its_limits(value: bytes, why: str) -> None:
    assert why in flaw(value)
    assert flaw(b"a" * 100_000) == ""
    assert flaw(b"a\nb\xff") == ""


def test_of_two_hosts_with_different_keys_none_decides_for_a_third() -> None:
    """Once: the first host of the inventory gave a host that joined whatever it said."""
    lacking, others = Told("shire01", None), [Told("shire02", b"a"), Told("shire03", b"b"), Told("shire04", b"a")]
    with pytest.raises(LoopError, match="not the same one on shire02, shire03, shire04") as caught:
        SigningKey(lambda _: [lacking, *others], str).bring(lacking, lambda _: None)
    assert (caught.value.where, lacking.got) == ("shire01", [])


def rotation(*hosts: tuple[str, int, str, int]) -> list[str]:
    """Return which hosts are to sign with their other key. hosts: the key and its time, the other key and its time."""
    keys = _Keys("")
    members = [Told(f"shire0{number}", b"x") for number, _ in enumerate(hosts, start=1)]
    for member, (key, since, other, other_since) in zip(members, hosts, strict=True):
        rows = [_row(key, since, SECRET_KEY), _row(other, other_since, FALLBACKS)]
        keys._found[member.host.name] = {row["name"]: row for row in rows}
    return [member.host.name for member in keys.behind(members)]


def _row(fingerprint: str, since: int, name: str) -> dict[str, Any]:
    return {"name": name, "since": since, "fingerprint": fingerprint, "there": True}


ROTATED, BEHIND, LATE = ("b", 2, "a", 1), ("a", 1, "b", 2), ("a", 2**40, "x", 1)


@pytest.mark.parametrize(
    ("hosts", "behind"),
    [
        ((ROTATED, ROTATED), []),
        ((BEHIND, BEHIND), []),
        ((ROTATED, BEHIND), ["shire02"]),
        ((BEHIND, ROTATED, BEHIND), ["shire01", "shire03"]),
        # A host that claims to wait is taken at its word: that concerns itself alone.
        ((ROTATED, ("a", 2, "b", 2**40)), ["shire02"]),
    ],
)
def test_a_rotation_goes_on_where_it_was_cut_short(hosts: tuple[Any, ...], behind: list[str]) -> None:
    assert rotation(*hosts) == behind


@pytest.mark.parametrize("liar", [LATE, ("a", 2**40, "b", 1), ("x", 2**40, "a", 1)])
def test_no_host_takes_another_back_to_its_former_key(liar: tuple[str, int, str, int]) -> None:
    """Once: the key with the latest time of all, as the hosts said it, was the new one for all."""
    with pytest.raises(LoopError, match=r"not the same one on shire01 \(b\) and shire02"):
        rotation(ROTATED, liar)
