"""docs/REFERENCE.md: made from the keys as the validator has them, and each example is one that it accepts.

Rewrite it, then read the diff: GOLDEN=write .venv/bin/pytest tests/unit/config/test_reference.py
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.engine.config import gateway, inventory, keys, sections, service, yaml_reader
from tasks.engine.config.keys import Key, Required

PAGE = Path(__file__).resolve().parents[3] / "docs/REFERENCE.md"
HEAD = """\
# Every key of service.yaml and hosts.yaml

Made from the keys as `fab` validates them; `fab` refuses any other, with its line. "applied by" tells what makes a
change of the key effective: **a deploy** (the key is part of the release, so a rollback brings the former value back),
**setup** (`fab setup`, or a deploy with full sudo; the key is in files that root owns, and a deploy with the exact
rules stops first and says so), or **the next run** (only `fab` uses it).

"""
SAME = (*service.SAME, *(f"hooks.{hook}" for hook in sections.ONCE_A_RUN))
ABOUT = {
    "service.yaml": "What is deployed. `hosts.yaml` may override every key but "
    f"{', '.join(f'`{key}`' for key in SAME)} for a host.",
    "hosts.yaml": "Where to: below `hosts:` a name for each host, and below the name these keys. `defaults:` has the "
    "same keys, for every host.",
}


def rows(found: tuple[Key, ...], above: str = "") -> Iterator[tuple[str, Key]]:
    """Yield path and key of all keys, each followed by those below it."""
    for key in found:
        yield above + key.name, key
        for name, below in key.reader.below:
            yield from rows(below, f"{above}{key.name}.{name}.".replace("..", "."))


def default(key: Key) -> str:
    """Return the default as a cell."""
    if isinstance(key.default, Required):
        return "**needed**"
    plain = key.default.mode if key.name == "tls" else key.default  # type: ignore[attr-defined]
    if isinstance(plain, bool):
        return f"`{plain}`".lower()
    if isinstance(plain, (int, float)):
        return f"`{plain:g}`"
    return f"`{plain}`" if isinstance(plain, str) else ""


def example(key: Key) -> str:
    """Return `key: value` as YAML writes it; empty for a mapping, whose keys have their own."""
    value = key.example or (key.default.example if isinstance(key.default, Required) else key.reader.example)
    return f"{key.name}: {value}" if value else ""


def table(found: tuple[Key, ...]) -> str:
    """Return the table of a file."""
    lines = ["| key | value | default | applied by | what it does | example |", "| --- | --- | --- | --- | --- | --- |"]
    for path, key in rows(found):
        shown = f"`{example(key)}`" if example(key) else ""
        cells = f"`{path}`", key.reader.form, default(key), key.applied, key.about, shown
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines)


FILES = {"service.yaml": service.KEYS, "hosts.yaml": inventory.KEYS}


def test_the_page_is_made_from_the_keys() -> None:
    text = HEAD + "\n\n".join(f"## {name}\n\n{ABOUT[name]}\n\n{table(found)}" for name, found in FILES.items()) + "\n"
    if os.environ.get("GOLDEN") == "write":
        PAGE.write_text(text, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == text


@pytest.mark.parametrize("key", [key.name for key in gateway.NGINX_KEYS if key.name not in {"server_name", "tls"}])
def test_the_page_of_the_gateway_says_when_a_key_is_needed(key: str) -> None:
    _, found, part = PAGE.with_name("GATEWAY.md").read_text().partition(f"\n## `{key}`\n")
    section = part.partition("\n## ")[0]
    assert found
    assert "ou need " in section
    assert f"{key}:" in section


EXAMPLES = [pytest.param(key, id=f"{name} {path}") for name, found in FILES.items() for path, key in rows(found)]


@pytest.mark.parametrize("key", EXAMPLES)
def test_an_example_is_accepted_and_is_not_the_default(key: Key) -> None:
    written = example(key)
    if not written:
        assert key.reader.below
        return
    root = yaml_reader.parse(f"{written}\n".encode(), "f.yaml")
    assert keys.read(root, (key,))[key.name] != key.default


def test_a_key_says_what_it_does_in_one_line() -> None:
    told = [(path, key.about) for found in FILES.values() for path, key in rows(found)]
    assert [each for each in told if not (each[1][:1].isupper() or each[1][:1] == "`")] == []
    assert [each for each in told if "\n" in each[1]] == []
    assert [each for each in told if each[1].endswith(".")] == []
