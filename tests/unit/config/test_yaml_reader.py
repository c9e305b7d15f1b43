"""The strict reader: accepted files, and for each refusal its place and fix."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tasks.engine.config import yaml_reader
from tasks.engine.config.nodes import Mapping, Scalar, Sequence
from tasks.engine.errors import UsageError
from tests.support.refusals import refusal


def test_every_value_keeps_its_place() -> None:
    root = yaml_reader.parse(b"a:\n  b: [x, 'y']\n", "f.yaml")
    assert isinstance(root, Mapping)
    assert str(root.keys["a"]) == "f.yaml:1:1 (a)"
    below = root.entries["a"]
    assert isinstance(below, Mapping)
    listed = below.entries["b"]
    assert isinstance(listed, Sequence)
    assert str(listed.place) == "f.yaml:2:6 (a.b)"
    assert [str(item.place) for item in listed.items] == ["f.yaml:2:7 (a.b[0])", "f.yaml:2:10 (a.b[1])"]


@pytest.mark.parametrize(
    ("written", "kind"),
    [
        ("text", "str"),
        ("'no'", "str"),
        ('"22"', "str"),
        ("127.0.0.1:8080", "str"),
        ("no", "bool"),
        ("on", "bool"),
        ("y", "bool"),
        ("22:22", "int"),
        ("0644", "int"),
        ("1_000", "int"),
        ("0o17", "int"),
        ("1.10", "float"),
        ("1e3", "float"),
        ("2026-01-01", "timestamp"),
        ("null", "null"),
        ("~", "null"),
        ("", "null"),
    ],
)
def test_a_scalar_remembers_what_yaml_makes_of_it(written: str, kind: str) -> None:
    root = yaml_reader.parse(f"a: {written}\n".encode(), "f.yaml")
    assert isinstance(root, Mapping)
    value = root.entries["a"]
    assert isinstance(value, Scalar)
    assert value.kind == kind


@pytest.mark.parametrize("data", [b"", b"# only a comment\n", b"---\n", b"\n\n"])
def test_a_file_without_values_is_null(data: bytes) -> None:
    root = yaml_reader.parse(data, "f.yaml")
    assert isinstance(root, Scalar)
    assert root.kind == "null"


def test_windows_line_ends_are_line_ends() -> None:
    assert yaml_reader.parse(b"a: x\r\nb: y\r\n", "f.yaml") == yaml_reader.parse(b"a: x\nb: y\n", "f.yaml")


@pytest.mark.parametrize(
    ("data", "where", "message", "fix"),
    [
        (b"a: 1\na: 2\n", "f.yaml:2:1 (a)", '"a" stands here twice', "line 1"),
        (b"h:\n  b: 1\n  'b': 2\n", "f.yaml:3:3 (h.b)", '"b" stands here twice', "line 2"),
        (b"a: &x 1\n", "f.yaml:1:4 (a)", "anchors (&) and aliases (*)", "write the value out"),
        (b"a: *x\n", "f.yaml:1:4 (a)", "anchors (&) and aliases (*)", "write the value out"),
        (b"a: {<<: {b: 1}}\n", "f.yaml:1:5 (a)", "merge keys", "write the keys out"),
        (b"a: !!str 1\n", "f.yaml:1:4 (a)", "tags (!)", "delete the tag"),
        (b"a: !!python/object:os.system {}\n", "f.yaml:1:4 (a)", "tags (!)", "delete the tag"),
        (b"a: 1\n---\nb: 2\n", "f.yaml:2:1", "a second document", "delete this `---`"),
        (b"%YAML 1.1\n---\na: 1\n", "f.yaml:1:1", "a YAML directive", "delete the line"),
        (b"a:\n\tb: 1\n", "f.yaml:2:1", "not valid YAML", "spaces, not tabs"),
        (b"a: b: c\n", "f.yaml:1:5", "mapping values are not allowed here", "quote a text with :"),
        (b"a: [1\n", "f.yaml:2:1", "while parsing a flow sequence", "correct the line"),
        (b"no: 1\n", "f.yaml:1:1", "the key no", 'quote it: "no":'),
        (b"? [a]\n: 1\n", "f.yaml:1:3", "a key is one word", "quote it"),
        (b'"a\\nb": 1\n', "f.yaml:1:1", "a key is one short line", "rename it"),
        (b'"a\\e[2Jb": 1\n', "f.yaml:1:1", "a key is one short line", "rename it"),
        (b'"\\ud800": 1\n', "f.yaml:1:1", "a key is one short line", "rename it"),
        (b"k" * 101 + b": 1\n", "f.yaml:1:1", "a key is one short line", "rename it"),
        (b"a: " + b"[" * 20, "f.yaml:1:19", "nested deeper than 16 levels", "flatten it"),
        (b"a: x\nb: caf\xe9\n", "f.yaml:2:7", "byte 0xe9 is not UTF-8", "save f.yaml as UTF-8"),
        (b"\xff\xfea\x00", "f.yaml:1:1", "byte 0xff is not UTF-8", "save f.yaml as UTF-8"),
        (b"\xef\xbb\xbfa: 1\n", "f.yaml:1:1", "byte order mark", "without a byte order mark"),
        (b"a: 1\nb: x\x00y\n", "f.yaml:2:5", "U+0000", "delete it"),
        ("a: x\u202ey\n".encode(), "f.yaml:1:5", "U+202E", "delete it"),
        ("a: x\u2028b: y\n".encode(), "f.yaml:1:5", "U+2028", "delete it"),
        (b"a: x\rb: y\n", "f.yaml:1:5", "U+000D", "delete it"),
        (b'b: "\\U0010FFFD"\na: "\\UFFFFFFFF"\n', "f.yaml:2:5", "a character that does not exist", "remove it"),
        (b"#" * (yaml_reader.SIZE_LIMIT + 1), "f.yaml", "too large", "1 MiB"),
    ],
)
def test_what_could_be_misread_is_refused_where_it_stands(data: bytes, where: str, message: str, fix: str) -> None:
    error = refusal(yaml_reader.parse, data, "f.yaml")
    assert message in error.message
    assert (error.where or "").startswith(where)
    assert fix in (error.next or "")


def test_a_missing_file_says_what_to_create(tmp_path: Path) -> None:
    error = refusal(lambda: yaml_reader.read(tmp_path / "f.yaml", missing="create it"))
    assert (error.where, error.next) == (str(tmp_path / "f.yaml"), "create it")


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a regular file"):
        yaml_reader.read(tmp_path, missing="create it")


def test_a_document_has_the_bytes_of_its_file(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_bytes(b"a: 1\r\n")
    assert yaml_reader.read(path, missing="create it").data == b"a: 1\r\n"


def test_files_below_the_current_directory_are_shown_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert yaml_reader.display_path(tmp_path / "service" / "service.yaml") == "service/service.yaml"
    assert yaml_reader.display_path(Path("/etc/hosts")) == "/etc/hosts"


YAML_LIKE = st.text(st.sampled_from("ab:-?[]{},&*!|>'\"%@`#\\ \n\t0.1_~<=/uUx\x85é"), max_size=60)


def fault(data: bytes) -> UsageError | None:
    try:
        yaml_reader.parse(data, "f.yaml")
    except UsageError as error:
        return error
    return None


@given(st.one_of(YAML_LIKE, st.text()))
@example("%YAML 1." + "9" * 5000 + "\n--- a")
@example('"\\U7fffffff"')
@example("- !<tag:x>\n")
def test_any_text_is_a_tree_or_a_usage_error(text: str) -> None:
    error = fault(text.encode("utf-8", "surrogatepass"))
    assert error is None or (error.where and error.next)


@given(st.binary())
def test_any_bytes_are_a_tree_or_a_usage_error(data: bytes) -> None:
    error = fault(data)
    assert error is None or (error.where and error.next)
