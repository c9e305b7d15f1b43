"""Every field of service.yaml and hosts.yaml with every nasty text: refused with its place, or taken as written.

The fields come from the classes that hold them, so a new one is tried at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from tasks.engine.config import inventory, service
from tasks.engine.config.inventory import Host
from tasks.engine.config.nodes import HIDDEN
from tasks.engine.config.service import Service
from tasks.engine.errors import UsageError
from tasks.engine.report import output
from tests.promises.words import NO_INJECTION
from tests.support.nasty_texts import ANY, TEXTS, YAML, harmless, in_yaml
from tests.support.service_fields import FIELDS, GOOD, KEYS, SMALLEST, Read, fields, written

NASTY = pytest.mark.promise(NO_INJECTION, "a nasty text in every field of service.yaml and hosts.yaml", part=12)
ANYTHING = pytest.mark.promise(
    NO_INJECTION, "any text, made up, in every field of service.yaml and hosts.yaml", part=12
)
# There are many fields.
SOME = settings(max_examples=settings().max_examples // 3)
# Faults of the file itself, or of this place in it.
HOST_FIELDS = [name for name in Host.__dataclass_fields__ if name not in {"name", "service", "place"}]


def file(name: str, text: str) -> Path:
    """Write a new file: ext4 writes one that is emptied and filled again to the disk at once."""
    path = Path(name)
    path.unlink(missing_ok=True)
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    return path


def described(text: str) -> Service | UsageError:
    """Return the service of this service.yaml, or its error."""
    try:
        return service.describe(service.load(file("service.yaml", text)))
    except UsageError as error:
        return error


def hosts_of(text: str) -> Host | UsageError:
    """Return the only host of this hosts.yaml, or its error."""
    file("hosts.yaml", text)
    try:
        (host,) = inventory.load(Path(), {}).hosts
    except UsageError as error:
        return error
    return host


def holds(found: Any, read: Read, text: str, file: str, path: str) -> bool:
    """Return true if the value arrived; otherwise assert a refusal with its place, printable on a terminal."""
    if isinstance(found, UsageError):
        told = list(output.error_lines(found))
        assert found.where
        assert found.where.startswith(f"{file}:"), told
        assert path in found.where, told
        assert found.next, told
        assert all(harmless(line) for line in told), told
        assert sum(map(len, told)) < 2000, told
        return False
    assert read(found) == text
    return True


@pytest.fixture(autouse=True, scope="module")
def _in_a_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("fields"))
        yield


def test_every_field_is_tried() -> None:
    assert {*FIELDS, *KEYS} >= {f"{kind.__name__}.{name}" for kind, name in fields(Service)}
    assert {*HOST_FIELDS, "service"} == {key.name for key in inventory.KEYS}


@pytest.mark.parametrize("label", FIELDS)
def test_a_field_is_written_where_it_is_read(label: str) -> None:
    where = FIELDS[label]
    found = {good: described(written(where, good)) for good in (*GOOD, *map(in_yaml, GOOD))}
    taken = {good: one for good, one in found.items() if isinstance(one, Service)}
    assert taken
    for good, one in taken.items():
        assert where.read(one) in {good.strip('"'), _number(good)}


def _number(text: str) -> float | None:
    """Return the number, or the truth value, that YAML reads as such; None for any other text."""
    if text in {"true", "false"}:
        return text == "true"
    return float(text) if re.fullmatch(r"[0-9]+([.][0-9]+)?", text) else None


@NASTY
@pytest.mark.parametrize("label", FIELDS)
def test_a_nasty_text_is_taken_as_it_is_or_not_at_all(label: str) -> None:
    where = FIELDS[label]
    for text in TEXTS:
        holds(described(written(where, in_yaml(text))), where.read, text, "service.yaml", ".".join(where.keys))


@ANYTHING
@pytest.mark.parametrize("label", FIELDS)
@given(text=ANY)
@settings(SOME, deadline=None)
def test_any_text_is_taken_as_it_is_or_not_at_all(label: str, text: str) -> None:
    where = FIELDS[label]
    # A folder may end in a slash.
    taken = text.removesuffix("/") if label == "Service.pythonpath" else text
    holds(described(written(where, in_yaml(text))), where.read, taken, "service.yaml", ".".join(where.keys))


@NASTY
@pytest.mark.parametrize("label", FIELDS)
def test_what_yaml_could_mean_is_never_guessed(label: str) -> None:
    where = FIELDS[label]
    # Null counts as a missing line, and so does a comment.
    for text in sorted({*YAML} - {"null", "~", "a #b"}):
        found = described(written(where, text))
        if isinstance(found, UsageError):
            assert (found.where or "").startswith("service.yaml:"), text
        else:
            assert where.read(found) in {text, _number(text)}


@NASTY
@pytest.mark.parametrize("key", KEYS)
def test_a_name_that_one_may_choose_is_taken_as_it_is_or_not_at_all(key: str) -> None:
    where, value = KEYS[key]
    for text in TEXTS:
        found = described(f"{SMALLEST}{where.keys[0]}: {{{in_yaml(text)}: {value}}}\n")
        holds(found, where.read, text, "service.yaml", where.keys[0])


@NASTY
@pytest.mark.parametrize("key", ["name", *HOST_FIELDS])
def test_a_nasty_text_of_a_host_is_taken_as_it_is_or_not_at_all(key: str) -> None:
    for text in TEXTS:
        _host_holds(key, text)


@ANYTHING
@pytest.mark.parametrize("key", ["name", *HOST_FIELDS])
@given(text=ANY)
@settings(SOME, deadline=None)
def test_any_text_of_a_host_is_taken_as_it_is_or_not_at_all(key: str, text: str) -> None:
    _host_holds(key, text)


def _host_holds(key: str, text: str) -> None:
    value = f"[{in_yaml(text)}]" if key == "groups" else in_yaml(text)
    entry = f"{value}: {{address: h}}" if key == "name" else f"shire01: {{{key}: {value}}}"
    path = "hosts" if key == "name" else f"hosts.shire01.{key}"
    holds(hosts_of(f"hosts:\n  {entry}\n"), lambda host: _of_host(host, key), _meant(key, text), "hosts.yaml", path)


def _of_host(host: Host, key: str) -> object:
    return host.groups[0] if key == "groups" else getattr(host, key)


def _meant(key: str, text: str) -> str:
    """A path is taken for the same file, not for the same letters."""
    return str(Path(text)) if key == "identity" and not text.startswith("~") else text


@NASTY
def test_an_override_of_a_host_is_held_to_the_same() -> None:
    for text in TEXTS:
        host = hosts_of(f"hosts:\n  shire01: {{service: {{env: {{V: {in_yaml(text)}}}}}}}\n")
        if isinstance(host, UsageError):
            assert "hosts.yaml:2:" in (host.where or "")
            continue
        Path("service.yaml").write_text(SMALLEST)
        try:
            found: Service | UsageError = service.describe(service.load(Path("service.yaml")), host)
        except UsageError as error:
            found = error
        holds(found, lambda one: dict(one.env)["V"], text, "hosts.yaml", "hosts.shire01.service.env.V")


def test_hardly_anything_is_refused_of_what_is_text() -> None:
    taken = [text for text in TEXTS if isinstance(described(written(FIELDS["Service.env"], in_yaml(text))), Service)]
    refused = set(TEXTS) - set(taken)
    assert all(len(text) > 8192 or HIDDEN.search(text) for text in refused)
    assert len(taken) > 100
