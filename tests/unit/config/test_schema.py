"""Typed values from a tree, and the message of every refusal."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tasks.engine.config import schema, yaml_reader
from tasks.engine.config.nodes import Node
from tasks.engine.config.schema import Shape
from tests.support.refusals import refusal, require_error

COLOUR = Shape("a colour", "blue", str.isalpha)
READ: dict[str, Callable[[Node], object]] = {
    "text": schema.text,
    "colour": lambda node: schema.text(node, COLOUR),
    "choice": lambda node: schema.choice(node, ("settle", "off")),
}


def field(written: str) -> Node:
    return schema.mapping(yaml_reader.parse(f"key: {written}\n".encode(), "f.yaml")).entries["key"]


@pytest.mark.parametrize(
    ("read", "written", "value"),
    [
        (schema.text, "x y", "x y"),
        (schema.text, '"0644"', "0644"),
        (schema.text, "'é'", "é"),
        (lambda node: schema.text(node, empty=True), '""', ""),
        (lambda node: schema.text(node, COLOUR), "green", "green"),
        (lambda node: schema.choice(node, ("on", "off")), "'off'", "off"),
        (lambda node: schema.integer(node, 0, 10), "0", 0),
        (lambda node: schema.integer(node, 0, 10), "10", 10),
        (lambda node: schema.number(node, 0, 10), "2", 2.0),
        (lambda node: schema.number(node, 0, 10), "0.25", 0.25),
    ],
)
def test_what_fits_is_taken(read: Callable[[Node], object], written: str, value: object) -> None:
    assert read(field(written)) == value


@pytest.mark.parametrize(
    ("kind", "written", "message", "fix"),
    [
        ("text", "no", "expected a text, but YAML reads no as false", 'quote it: key: "no"'),
        ("text", "on", "expected a text, but YAML reads on as true", 'quote it: key: "on"'),
        ("text", "22:22", "expected a text, but YAML reads 22:22 as a number", 'quote it: key: "22:22"'),
        ("text", "0644", "expected a text, but YAML reads 0644 as a number", 'quote it: key: "0644"'),
        ("text", "1.10", "expected a text, but YAML reads 1.10 as a number", 'quote it: key: "1.10"'),
        ("text", "1e3", "expected a text, but YAML reads 1e3 as a number", 'quote it: key: "1e3"'),
        ("text", "2026-01-01", "expected a text, but YAML reads 2026-01-01 as a date", 'quote it: key: "2026-01-01"'),
        ("text", "null", "expected a text, but YAML reads null as nothing", 'quote it: key: "null"'),
        ("text", "=", "expected a text, but YAML reads = as something else", 'quote it: key: "="'),
        ("text", '""', "expected a text, found 0 characters", 'write key: "text"'),
        ("text", "x" * 8193, "expected a text, found 8193 characters", 'write key: "text"'),
        ("text", "[a]", "expected a text, found a list", 'write key: "text"'),
        ("text", "{a: b}", "expected a text, found a mapping", 'write key: "text"'),
        ("text", '"a\\nb"', "a control character is in the text: U+000A", "write one line of text"),
        ("text", '"a\\tb"', "a control character is in the text: U+0009", "write one line of text"),
        ("text", '"\\e[2J"', "a control character is in the text: U+001B", "write one line of text"),
        ("text", '"\\u202e"', "a control character is in the text: U+202E", "write one line of text"),
        ("text", '"\\ud800"', "a control character is in the text: U+D800", "write one line of text"),
        ("text", "", "expected a text, but there is nothing here", 'write key: "text"'),
        ("colour", "3.5", "expected a colour, but YAML reads 3.5 as a number", 'write it like key: "blue"'),
        ("colour", "no", "expected a colour, but YAML reads no as false", 'quote it: key: "no"'),
        ("colour", "a1", 'expected a colour, found "a1"', 'write it like key: "blue"'),
        ("colour", "x" * 70 + "1", f'expected a colour, found "{"x" * 59}…"', 'write it like key: "blue"'),
        ("choice", "settel", 'expected one of settle, off, found "settel"', "did you mean 'settle'?"),
        ("choice", "zzz", 'expected one of settle, off, found "zzz"', 'write it like key: "settle"'),
        ("choice", "off", "expected one of settle, off, but YAML reads off as false", 'quote it: key: "off"'),
    ],
)
def test_a_text_is_never_guessed_and_a_fix_is_an_example(kind: str, written: str, message: str, fix: str) -> None:
    error = refusal(READ[kind], field(written))
    place = f"f.yaml:1:{6 if written else 5} (key)"
    assert (error.message, error.where, error.next) == (message, place, fix)


@pytest.mark.parametrize(
    ("written", "message", "fix"),
    [
        ("0644", 'expected a whole number from 1 to 9 in plain decimal, found "0644"', "write key: 1"),
        ("1_0", 'expected a whole number from 1 to 9 in plain decimal, found "1_0"', "write key: 1"),
        ("22:22", 'expected a whole number from 1 to 9 in plain decimal, found "22:22"', "write key: 1"),
        ("0x5", 'expected a whole number from 1 to 9 in plain decimal, found "0x5"', "write key: 1"),
        ("5.0", 'expected a whole number from 1 to 9 in plain decimal, found "5.0"', "write key: 1"),
        ("5s", 'expected a whole number from 1 to 9 in plain decimal, found "5s"', "write key: 1"),
        ("9" * 5000, "expected a whole number from 1 to 9 in plain decimal", "write key: 1"),
        ("-5", 'expected a whole number from 1 to 9 in plain decimal, found "-5"', "write key: 1"),
        ("yes", 'expected a whole number from 1 to 9 in plain decimal, found "yes"', "write key: 1"),
        ('"5"', 'expected a whole number from 1 to 9, found a text: "5"', "remove the quotes: 5"),
        ("0", "expected a whole number from 1 to 9, found 0", "write key: 1"),
        ("10", "expected a whole number from 1 to 9, found 10", "write key: 1"),
        ("[5]", "expected a whole number from 1 to 9, found a list", "write key: 1"),
    ],
)
def test_a_whole_number_is_plain_decimal(written: str, message: str, fix: str) -> None:
    error = refusal(schema.integer, field(written), 1, 9)
    assert error.message.startswith(message)
    assert (error.next or "").startswith(fix)


@pytest.mark.parametrize("written", [".5", "5.", "1e0", ".inf", ".nan", "1.5.1", '"1.5"', "-0.1", "9.1", "0.0000001"])
def test_a_number_is_plain_decimal(written: str) -> None:
    require_error(refusal(schema.number, field(written), 0, 9), "expected a number from 0 to 9")


@pytest.mark.parametrize(
    ("written", "where", "message", "fix"),
    [
        ("{settel: 1}", "f.yaml:1:7 (key.settel)", 'unknown key "settel"', "did you mean 'settle'?"),
        ("{zzz: 1}", "f.yaml:1:7 (key.zzz)", 'unknown key "zzz"', "remove it; known here: settle, passes"),
        ("{settle: }", "f.yaml:1:14 (key.settle)", '"settle" has no value', "write one, or `null`"),
        ("x", "f.yaml:1:6 (key)", 'expected a mapping of keys to values, found "x"', "write `key: value` lines"),
        ("", "f.yaml:1:5 (key)", "expected a mapping of keys to values, found nothing", "write `key: value` lines"),
    ],
)
def test_keys_are_known(written: str, where: str, message: str, fix: str) -> None:
    error = refusal(schema.keys, field(written), ("settle", "passes"))
    assert (error.message.startswith(message), error.where) == (True, where)
    assert (error.next or "").startswith(fix)


def test_an_explicit_null_is_as_if_it_were_not_there() -> None:
    assert schema.keys(field("{settle: null, passes: ~}"), ("settle", "passes")) == {}


def test_a_section_whose_lines_are_all_commented_out_is_none() -> None:
    root = yaml_reader.parse(b"hosts:\n#  a: b\n", "f.yaml")
    assert schema.sections(root, ("hosts",)) == {}
    require_error(refusal(schema.sections, root, ("defaults",)), "unknown key")


def test_a_key_that_must_be_there_is_named() -> None:
    node = field("{a: x}")
    error = refusal(schema.required, node, schema.entries(node), "b", "y")
    assert (error.where, error.next) == ("f.yaml:1:6 (key.b)", "add `b: y`")


def test_a_list_is_a_list() -> None:
    assert len(schema.items(field("[a, b]"))) == 2
    require_error(refusal(schema.items, field("a")), 'expected a list, found "a"')
