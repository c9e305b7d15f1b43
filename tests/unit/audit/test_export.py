"""An export of OSV: a zip or JSON lines, from anywhere, and what is refused of it."""

from __future__ import annotations

import io
import json
import os
import random
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.engine.audit import advisory, export
from tasks.engine.errors import UsageError
from tests.support import advisories
from tests.support.advisories import record

RECORDS = (record("A-1"), record("A-2", "jinja2", modified="2026-11-09T01:02:03Z"), record("A-3", "other"))


def names(path: Path) -> list[str]:
    return [one.names[0] for one in export.read(path, {"flask", "jinja2"}).advisories]


@pytest.mark.parametrize("name", ["all.zip", "all.jsonl"])
def test_both_forms_are_read_and_only_what_is_wanted_is_kept(tmp_path: Path, name: str) -> None:
    found = export.read(advisories.export(tmp_path / name, *RECORDS), {"flask", "jinja2"})
    assert [one.names for one in found.advisories] == [("A-1",), ("A-2",)]
    assert (found.source, found.number, found.newest) == (name, 3, "2026-11-09")


@pytest.mark.parametrize("value", [RECORDS[0], list(RECORDS[:1]), {"vulns": list(RECORDS[:1])}])
def test_one_document_may_be_an_advisory_a_list_or_an_answer_of_osv(tmp_path: Path, value: object) -> None:
    (tmp_path / "a.json").write_text(json.dumps(value, indent=2))
    assert names(tmp_path / "a.json") == ["A-1"]


def test_other_files_of_a_zip_are_left_alone(tmp_path: Path) -> None:
    path = advisories.export(tmp_path / "all.zip", *RECORDS)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("README", "x")
        archive.mkdir("folder.json") if hasattr(archive, "mkdir") else None
    assert names(path) == ["A-1", "A-2"]


def bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.json", bytes(16 << 20))


def deep(path: Path) -> None:
    path.write_text("[" * 100_000)


def large(path: Path) -> None:
    path.write_text(json.dumps([{"id": "x" * 100}] * 20_000))


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(3 << 30)


def directory(path: Path) -> None:
    """A zip that claims a directory of a gigabyte."""
    with path.open("wb") as file:
        file.write(b"PK\3\4")
        file.truncate((1 << 30) + 4)
        file.seek(0, os.SEEK_END)
        size, at = (1 << 30).to_bytes(4, "little"), (4).to_bytes(4, "little")
        file.write(b"PK\5\6" + bytes(4) + b"\1\0\1\0" + size + at + bytes(2))


def other_method(path: Path) -> None:
    advisories.export(path, *RECORDS, method=zipfile.ZIP_BZIP2)


def of_another_ecosystem(path: Path) -> None:
    other = record("A-1")
    other["affected"][0]["package"]["ecosystem"] = "npm"
    advisories.export(path, other)


WRONG: dict[Callable[[Path], object], str] = {
    lambda path: path.write_text("x"): "an advisory is no JSON",
    lambda path: path.write_bytes(b"\xff\xfe"): "an advisory is no JSON",
    lambda path: path.write_text(""): "no advisory in it is about a package of PyPI",
    lambda path: path.write_text("[7]"): "an advisory cannot be read: expected an object",
    lambda path: path.write_bytes(b"PK\5\6"): "the zip is damaged",
    lambda path: path.write_text(
        json.dumps({**RECORDS[0], "affected": 7})
    ): "an advisory cannot be read: expected a list",
    lambda path: path.mkdir(): "the file cannot be read",
    lambda path: os.mkfifo(path): "it is no regular file",
    lambda path: None: "the file cannot be read: No such file",  # noqa: ARG005
    bomb: "an advisory has more than 1 MiB",
    deep: "an advisory is no JSON",
    large: "an advisory has more than 1 MiB",
    sparse: "the file has more than 2 GiB",
    directory: "the zip is damaged: its directory is too large",
    other_method: "a member is packed in a way that is not read",
    of_another_ecosystem: "no advisory in it is about a package of PyPI",
}


@pytest.mark.parametrize(("make", "said"), WRONG.items(), ids=WRONG.values())
def test_what_is_no_export_is_refused_in_little_memory(
    tmp_path: Path, make: Callable[[Path], object], said: str
) -> None:
    path = tmp_path / "all.zip"
    make(path)
    tracemalloc.start()
    try:
        with pytest.raises(UsageError) as refused:
            export.read(path, {"flask"})
        assert tracemalloc.get_traced_memory()[1] < 80 << 20
    finally:
        tracemalloc.stop()
    assert refused.value.message.startswith(said) or said in refused.value.message
    assert str(path) in str(refused.value.where)
    assert refused.value.next


def test_all_members_together_have_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = advisories.export(tmp_path / "all.zip", *(record("A-1", details="x" * 10_000) for _ in range(3)))
    monkeypatch.setattr(export, "_ALL", path.stat().st_size)
    with pytest.raises(UsageError, match="its advisories have more than"):
        names(path)


def test_a_damaged_zip_is_read_or_refused(tmp_path: Path) -> None:
    """`zipfile` raises much that it does not promise."""
    whole = advisories.export(tmp_path / "all.zip", *RECORDS).read_bytes()
    dice, ends = random.Random(4), {0: 0, 1: 0}
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        start = archive.start_dir
    for _ in range(120):
        data = bytearray(whole)
        place = dice.randrange(start, len(data)) if dice.random() < 0.8 else dice.randrange(2, len(data))
        data[place : place + dice.choice([1, 2, 4])] = dice.choice([b"\0", b"\xff\xff", b"\xff\xff\xff\x7f", b"\0\0"])
        (tmp_path / "x.zip").write_bytes(data)
        try:
            export.read(tmp_path / "x.zip", {"flask"})
            ends[0] += 1
        except UsageError:
            ends[1] += 1
    assert all(ends.values())


@pytest.mark.parametrize("kind", ["events", "ranges", "versions", "affected", "aliases"])
def test_advisories_that_take_much_memory_are_refused_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Once: 21 kB of a zip took 169 MB, so 4 MB of it took all memory of the machine."""
    monkeypatch.setattr(advisory, "_MOST", 1000)
    value = record("A-1")
    (entry,) = value["affected"]
    (ordered,) = entry["ranges"]
    ordered["events"] = [{"fixed": "1"}] * (90 if kind == "events" else 1)
    entry["ranges"] = [ordered] * (45 if kind == "ranges" else 1)
    entry["versions"] = [str(number) for number in range(900 if kind == "versions" else 1)]
    value["affected"] = [entry] * (40 if kind == "affected" else 1)
    value["aliases"] = [f"B-{number}" for number in range(900 if kind == "aliases" else 1)]
    assert names(advisories.export(tmp_path / "one.zip", value)) == ["A-1"]
    path = advisories.export(tmp_path / "all.zip", value, value)
    with pytest.raises(UsageError, match="more versions of these packages than any real ones"):
        names(path)
    assert export.read(path, {"other"}).advisories == ()
