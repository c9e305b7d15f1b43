"""The wheelhouse, from distributions on disk: fitting ones are taken, others are refused with the reason."""

from __future__ import annotations

import dataclasses
import hashlib
import sys
from pathlib import Path
from typing import Any

import pytest

from tasks.engine import local_program
from tasks.engine.errors import LoopError, UsageError
from tasks.engine.release import controller, pip, relock, wheelhouse
from tasks.engine.release import lockfile as locks
from tasks.engine.release.lockfile import Lock, LockedRequirement
from tasks.engine.release.python_target import Target
from tests.support import distributions, elf
from tests.support.forked_pip import STARTED

pytestmark = pytest.mark.usefixtures("forked_pip")
BOOKWORM = Target("3.11.2", "cp311", "x86_64", ("glibc", 2, 36))
BULLSEYE = Target("3.9.2", "cp39", "x86_64", ("glibc", 2, 31))
ALPINE_ARM = Target("3.13.1", "cp313", "aarch64", ("musl", 1, 2))


@pytest.fixture
def links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "links"
    folder.mkdir()
    distributions.isolate(monkeypatch, folder)
    return folder


def pin(name: str, *hashes: str, marker: str | None = None, version: str = "1.0") -> LockedRequirement:
    return LockedRequirement(name, version, marker, hashes, line=7)


def fetch(
    links: Path, *entries: LockedRequirement, target: Target = BOOKWORM
) -> tuple[wheelhouse.Wheelhouse, list[str]]:
    said: list[str] = []
    return wheelhouse.fetch(Lock(entries), target, said.append, links.parent, links.parent / "cache"), said


def test_takes_the_wheels_of_the_target_and_not_of_the_controller(links: Path) -> None:
    tags = ("cp311-cp311-manylinux_2_28_x86_64", "cp39-cp39-manylinux2014_x86_64", "cp313-cp313-musllinux_1_2_aarch64")
    fast = pin("fast", *(distributions.wheel(links, "fast", "1.0", tag) for tag in tags))
    old = pin("old", distributions.wheel(links, "old", "1.0"), marker="python_version < '3.10'")
    windows = pin("colour", "0" * 64, marker="sys_platform == 'win32'")
    taken = {target: fetch(links, fast, old, windows, target=target)[0] for target in (BOOKWORM, BULLSEYE, ALPINE_ARM)}
    names = [[wheel.filename for wheel in house.wheels] for house in taken.values()]
    assert names == [
        [f"fast-1.0-{tags[0]}.whl"],
        [f"fast-1.0-{tags[1]}.whl", "old-1.0-py3-none-any.whl"],
        [f"fast-1.0-{tags[2]}.whl"],
    ]
    assert len({house.digest for house in taken.values()}) == 3


def test_second_call_needs_neither_network_nor_pip(links: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = (
        pin("one", distributions.wheel(links, "one", "1.0")),
        pin("two", distributions.sdist(links, "two", "1.0")),
    )
    first, said = fetch(links, *entries)
    assert said[0].startswith("fetching 2 of 2 wheels")
    for file in links.iterdir():
        file.unlink()
    monkeypatch.setattr("sys.executable", "/nonexistent")
    assert fetch(links, *entries) == (first, [])


def test_a_damaged_wheel_in_the_cache_is_fetched_again(links: Path) -> None:
    entry = pin("one", distributions.wheel(links, "one", "1.0"))
    first, _ = fetch(links, entry)
    first.wheels[0].path.write_bytes(b"cut off")
    again, said = fetch(links, entry)
    assert again == first
    assert len(said) == 1
    assert again.wheels[0].path.read_bytes() != b"cut off"


def test_source_alone_is_built_when_pure_and_the_same_everywhere(links: Path, tmp_path: Path) -> None:
    entries = (
        pin("plain", distributions.sdist(links, "plain", "1.0")),
        pin("one", distributions.wheel(links, "one", "1.0")),
    )
    house, said = fetch(links, *entries, target=BULLSEYE)
    assert [wheel.filename for wheel in house.wheels] == ["one-1.0-py3-none-any.whl", "plain-1.0-py3-none-any.whl"]
    assert said[1].startswith("no wheel of plain==1.0 for CPython 3.9.2")
    other = wheelhouse.fetch(Lock(entries), BULLSEYE, said.append, tmp_path, tmp_path / "other")
    assert other.digest == house.digest


@pytest.mark.parametrize("tag", ["cp311-cp311-linux_x86_64", "py2-none-any"])
def test_source_that_does_not_build_for_the_target_is_refused(links: Path, tag: str) -> None:
    entry = pin("native", distributions.sdist(links, "native", "1.0", tag))
    with pytest.raises(UsageError, match=r"native==1\.0 .*CPython 3\.13\.1, aarch64, musl 1\.2") as caught:
        fetch(links, entry, target=ALPINE_ARM)
    assert caught.value.where == "service/requirements.txt:7:1"
    assert "requirements.in" in str(caught.value.next)
    assert "service/wheels" in str(caught.value.next)


@pytest.fixture
def debian(monkeypatch: pytest.MonkeyPatch) -> Target:
    """This machine, which is like a host of Debian 12."""
    here = dataclasses.replace(BOOKWORM, python="3.11.7", distribution="debian 12")
    monkeypatch.setattr(controller, "here", lambda: here)
    return dataclasses.replace(BOOKWORM, distribution="debian 12")


def test_a_wheel_built_on_a_machine_like_the_host_is_taken_and_marked(links: Path, debian: Target) -> None:
    tag = "cp311-cp311-linux_x86_64"
    source = distributions.sdist(links, "native", "1.0", tag, {"native.so": elf.library("libpq.so.5")})
    # Wheels for other systems stand beside it, as those of psycopg2.
    entry = pin("native", source, distributions.wheel(links, "native", "1.0", "cp311-cp311-win_amd64"))
    house, said = fetch(links, entry, pin("one", distributions.wheel(links, "one", "1.0")), target=debian)
    assert [wheel.filename for wheel in house.wheels] == [f"native-1.0-{tag}.whl", "one-1.0-py3-none-any.whl"]
    assert (house.built, dict(house.libraries)) == (("native==1.0",), {"libpq.so.5": ()})
    assert "trying to build one" in said[1]
    assert fetch(links, entry, target=debian)[1] == []


OTHERS: tuple[dict[str, Any], ...] = (
    {"distribution": "ubuntu 22.04"},
    {"distribution": ""},
    {"libc": ("glibc", 2, 35)},
    {"machine": "aarch64"},
    {"python": "3.12.1", "abi": "cp312"},
)


def test_a_wheel_built_here_is_for_no_host_that_differs(links: Path, debian: Target) -> None:
    entry = pin("native", distributions.sdist(links, "native", "1.0", "cp311-cp311-linux_x86_64"))
    fetch(links, entry, target=debian)
    for other in OTHERS:
        with pytest.raises(UsageError, match="builds only into") as caught:
            fetch(links, entry, target=dataclasses.replace(debian, **other))
        assert "a machine like the host" in str(caught.value.next), other


def test_a_pure_wheel_built_here_is_for_every_host_and_marked(links: Path, debian: Target) -> None:
    entry = pin("plain", distributions.sdist(links, "plain", "1.0"))
    assert fetch(links, entry, target=debian)[0].built == ("plain==1.0",)
    house, said = fetch(links, entry, target=BOOKWORM)
    assert (house.built, said) == (("plain==1.0",), [])


def test_a_source_that_does_not_build_is_refused_with_what_there_is_instead(
    links: Path, debian: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distributions, "BACKEND", "raise SystemExit('pg_config is missing')\n")
    entry = pin("psycopg2", distributions.sdist(links, "psycopg2", "1.0"))
    for target, advice in ((debian, "libpq-dev"), (ALPINE_ARM, "a machine like the host")):
        with pytest.raises(UsageError, match=r"psycopg2==1\.0") as caught:
            fetch(links, entry, target=target)
        assert "psycopg[binary]" in str(caught.value.next)
        assert advice in str(caught.value.next)
        assert any("pg_config is missing" in line for line in caught.value.detail)


def test_an_own_wheel_that_does_not_fit_is_named(links: Path) -> None:
    own = links.parent / "wheels"
    own.mkdir()
    entry = pin("native", distributions.wheel(own, "native", "1.0", "cp39-cp39-linux_x86_64"))
    with pytest.raises(UsageError, match=r"service/wheels has native-1\.0-cp39-cp39-linux_x86_64\.whl"):
        fetch(links, entry)
    assert len(fetch(links, entry, target=BULLSEYE)[0].wheels) == 1


def test_what_cannot_be_had_is_named_and_the_rest_is_kept(links: Path) -> None:
    one = pin("one", distributions.wheel(links, "one", "1.0"))
    with pytest.raises(UsageError, match=r"two==1\.0 for CPython 3\.11\.2") as caught:
        fetch(links, one, pin("two", "0" * 64))
    assert str(links.parent / "cache") in str(caught.value.next)
    assert caught.value.detail
    assert fetch(links, one)[1] == []


def test_bytes_that_are_not_the_locked_ones_never_arrive(links: Path) -> None:
    distributions.wheel(links, "one", "1.0")
    with pytest.raises(LoopError, match=r"one==1\.0"):
        fetch(links, pin("one", "0" * 64))
    assert not list((links.parent / "cache").rglob("*.whl"))


@pytest.mark.parametrize("name", ["one/new\nline.txt", "one/re\rturn.txt", "one/\x1b[2J.txt", "one/\x85.txt"])
def test_a_wheel_with_a_name_that_no_list_could_hold_is_refused_by_it(links: Path, name: str) -> None:
    entry = pin("one", distributions.wheel(links, "one", "1.0", files={name: "x"}))
    with pytest.raises(UsageError, match=r"wheel of one==1\.0 holds a file whose name has a control") as caught:
        fetch(links, entry)
    assert ascii(name)[1:-1] in caught.value.message
    assert caught.value.where == "service/requirements.txt:7:1"
    assert not list((links.parent / "cache").rglob("*.whl"))


METADATA = "Metadata-Version: 2.1\nName: one\nVersion: 1.0\n\n"


def test_a_wheel_whose_dist_info_a_host_cannot_read_is_refused_by_it(links: Path) -> None:
    entry = pin("one", distributions.wheel(links, "one", "1.0", files={"one-1.0.dist-info/RECORD": " " * 12_000_000}))
    with pytest.raises(
        UsageError, match=r"too large to be read: one-1.0.dist-info/RECORD has 12 MB, and may"
    ) as caught:
        fetch(links, entry)
    assert caught.value.where == "service/requirements.txt:7:1"
    assert not list((links.parent / "cache").rglob("*.whl"))


def test_an_own_wheel_that_pip_cannot_read_is_refused_before_it_does(
    links: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once: 1.5 MB of a wheel took 3 GB of the controller, and then no index had the package."""
    own = links.parent / "wheels"
    own.mkdir()
    (own / "broken-1.0-py3-none-any.whl").write_bytes(b"no wheel")
    files = {"one-1.0.dist-info/METADATA": METADATA + " " * 12_000_000}
    entry = pin("one", distributions.wheel(own, "one", "1.0", files=files))
    monkeypatch.setattr(pip, "download", None)
    with pytest.raises(UsageError, match="METADATA has 12 MB, and may have 10") as caught:
        fetch(links, entry)
    assert caught.value.where == "service/wheels/one-1.0-py3-none-any.whl"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux lets us limit a program that runs")
def test_a_wheel_that_takes_more_memory_than_pip_may_use_is_named(links: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pip, "_watched", STARTED)
    monkeypatch.setattr(local_program, "MEMORY", 128 << 20)
    one = pin("one", distributions.wheel(links, "one", "1.0"))
    files = {"two-1.0.dist-info/METADATA": METADATA.replace("one", "two") + " " * (64 << 20)}
    two = pin("two", distributions.wheel(links, "two", "1.0", files=files))
    with pytest.raises(UsageError, match=r"pip cannot read what is fetched for two==1\.0; it may use") as caught:
        fetch(links, one, two)
    assert any("MemoryError" in line for line in caught.value.detail)
    assert len(fetch(links, one)[0].wheels) == 1


def test_names_of_other_letters_are_taken(links: Path) -> None:
    files = {f"one/{name}.txt": "x" for name in ("ümläut", "漢字", "a b", "no\u00a0break", "back\\slash")}
    assert len(fetch(links, pin("one", distributions.wheel(links, "one", "1.0", files=files)))[0].wheels) == 1


def test_a_file_that_is_locked_and_no_wheel_is_told_so(links: Path) -> None:
    distributions.wheel(links, "one", "1.0")
    path = links / "one-1.0-py3-none-any.whl"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UsageError, match=r"one==1\.0"):
        fetch(links, pin("one", hashlib.sha256(path.read_bytes()).hexdigest()))


def test_no_half_written_thing_is_left(links: Path) -> None:
    fetch(links, pin("one", distributions.wheel(links, "one", "1.0")))
    assert not list((links.parent / "cache").glob(".part-*"))


def test_flask_and_gunicorn_from_the_configured_index(tmp_path: Path) -> None:
    (tmp_path / "service").mkdir()
    (tmp_path / "service" / "requirements.in").write_text("flask>=3.1,<4\ngunicorn>=23,<28\n")
    relock.make(tmp_path, ">=3.9")
    lock = locks.read(tmp_path / "service" / "requirements.txt")
    for target, needs_metadata in ((BOOKWORM, False), (BULLSEYE, True), (ALPINE_ARM, False)):
        house = wheelhouse.fetch(lock, target, lambda _: None, tmp_path / "service", tmp_path / "cache")
        names = {wheel.filename.split("-")[0]: wheel.filename for wheel in house.wheels}
        assert {"flask", "gunicorn", "werkzeug", "markupsafe"} <= set(names)
        assert target.abi in names["markupsafe"]
        assert target.machine in names["markupsafe"]
        assert ("importlib_metadata" in names) == needs_metadata
