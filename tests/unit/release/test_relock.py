"""`fab lock` with the real uv, and distributions on disk."""

from __future__ import annotations

import shutil
import stat
import sys
from pathlib import Path

import pytest

from tasks.engine import local_program
from tasks.engine.errors import UsageError
from tasks.engine.release import lockfile as locks
from tasks.engine.release import relock
from tasks.engine.release.relock import Change
from tests.support import distributions
from tests.support.clone import Clone

pytestmark = pytest.mark.usefixtures("forked_pip")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A service that requires `top`, whose 1.0 requires `low`; only 1.0 exists of both."""
    links = tmp_path / "links"
    links.mkdir()
    distributions.isolate(monkeypatch, links)
    distributions.wheel(links, "top", "1.0", requires=("low",))
    distributions.wheel(links, "low", "1.0", requires=("old; python_version < '3.10'",))
    distributions.wheel(links, "old", "1.0")
    root = tmp_path / "root"
    (root / "service").mkdir(parents=True)
    (root / "service" / "requirements.in").write_text("top\n")
    return root


def text(root: Path) -> str:
    return (root / "service" / "requirements.txt").read_text()


def test_the_lock_is_ours_has_hashes_and_says_nothing_of_this_machine(root: Path) -> None:
    changes = relock.make(root, ">=3.9")
    assert changes == tuple(Change(name, (), ("1.0",)) for name in ("low", "old", "top"))
    assert text(root).startswith("# Made by `fab lock`")
    assert str(root.parent) not in text(root)
    assert "# via -r service/requirements.in" in text(root)
    lock = locks.read(root / "service" / "requirements.txt")
    assert [(str(entry), bool(entry.marker)) for entry in lock.entries] == [
        ("low==1.0", False),
        ("old==1.0", True),
        ("top==1.0", False),
    ]
    assert lock.lowest == "3.9"
    assert sorted(path.name for path in root.iterdir()) == ["service"]
    assert stat.S_IMODE((root / "service" / "requirements.txt").stat().st_mode) & 0o600 == 0o600


def test_pins_stay_until_an_upgrade_is_asked_for(root: Path) -> None:
    relock.make(root, ">=3.9")
    first = text(root)
    for name in ("top", "low"):
        distributions.wheel(root.parent / "links", name, "2.0")
    assert relock.make(root, ">=3.9") == ()
    assert text(root) == first
    assert relock.make(root, ">=3.9", packages=["Low"]) == (
        Change("low", ("1.0",), ("2.0",)),
        Change("old", ("1.0",), ()),
    )
    assert relock.make(root, ">=3.9", upgrade=True) == (
        Change("low", ("2.0",), ()),
        Change("top", ("1.0",), ("2.0",)),
    )


def test_a_pin_that_stays_keeps_its_hashes(root: Path) -> None:
    """Else a file that an index has replaced would become one that the lock allows."""
    relock.make(root, ">=3.9")
    first = text(root)
    distributions.wheel(root.parent / "links", "top", "1.0", requires=("low",), files={"top.py": "replaced"})
    assert relock.make(root, ">=3.9") == ()
    assert text(root) == first


def test_a_stale_lock_is_mended(root: Path) -> None:
    relock.make(root, ">=3.9")
    (root / "service" / "requirements.in").write_text("low\n")
    with pytest.raises(UsageError, match="changed since"):
        locks.read(root / "service" / "requirements.txt")
    assert relock.make(root, ">=3.10") == (Change("old", ("1.0",), ()), Change("top", ("1.0",), ()))
    assert locks.read(root / "service" / "requirements.txt").lowest == "3.10"


def test_no_versions_that_agree_leaves_the_lock_as_it_was(root: Path) -> None:
    relock.make(root, ">=3.9")
    before = text(root)
    (root / "service" / "requirements.in").write_text("top>5\n")
    with pytest.raises(UsageError, match=r"Python 3\.9 and later") as caught:
        relock.make(root, ">=3.9")
    assert any("top" in line for line in caught.value.detail)
    assert text(root) == before


def test_a_package_for_newer_pythons_alone_names_the_key_that_says_so(root: Path) -> None:
    """Once: uv's requires-python was all that was named, which service.yaml calls python."""
    distributions.wheel(root.parent / "links", "top", "3.0", python=">=3.11")
    (root / "service" / "requirements.in").write_text("top==3.0\n")
    with pytest.raises(UsageError, match=r"Python 3\.9 and later") as caught:
        relock.make(root, ">=3.9")
    assert "its requires-python is `python` of service.yaml" in (caught.value.next or "")
    relock.make(root, ">=3.11")
    assert "top==3.0" in text(root)


def test_a_broken_lock_is_replaced(root: Path) -> None:
    (root / "service" / "requirements.txt").write_text("top==1.0\n")
    assert [change.name for change in relock.make(root, ">=3.9")] == ["low", "old", "top"]


def test_an_address_is_refused_before_it_reaches_the_lock(root: Path) -> None:
    wheel = shutil.copy(next((root.parent / "links").glob("top-*")), root)
    (root / "service" / "requirements.in").write_text(f"top @ file://{wheel}\n")
    with pytest.raises(UsageError, match="address") as caught:
        relock.make(root, ">=3.9")
    assert caught.value.where == "service/requirements.in:1:1"
    assert not (root / "service" / "requirements.txt").exists()


@pytest.mark.parametrize(
    ("line", "remedy"),
    [
        (".", "name the folder of that code in `pythonpath` of service.yaml"),
        ("-e .", "`pythonpath`"),
        (".[dev]", "`pythonpath`"),
        ("-e ./libs/shop", "`pythonpath`"),
        ("--editable=..", "`pythonpath`"),
        ("libs/shop", "`pythonpath`"),
        ("shop @ file:///srv/shop", "put its wheel into service/wheels"),
        ("git+https://git.example/shop.git@main", "put its wheel into service/wheels"),
        ("wheels/shop-1.0-py3-none-any.whl ; python_version > '3'", "put its wheel into service/wheels"),
    ],
)
def test_a_directory_or_an_address_is_refused_where_it_stands_with_a_way_that_exists(
    root: Path, line: str, remedy: str
) -> None:
    (root / "service" / "requirements.in").write_text("top\n-r more.in\n")
    (root / "service" / "more.in").write_text(f"# ours\nlow ; python_version > '3'  # a/b\n{line}\n")
    with pytest.raises(UsageError, match="a lock cannot hold") as caught:
        relock.make(root, ">=3.9")
    assert caught.value.where == "service/more.in:3:1"
    assert remedy in str(caught.value.next)
    assert not (root / "service" / "requirements.txt").exists()


@pytest.mark.parametrize(
    "broken", ["<<<<<<< HEAD\n{lock}=======\nlow==0.1\n>>>>>>> theirs\n", "-r gone.txt\n.\n{lock}", "\xff\n{lock}"]
)
def test_a_lock_that_uv_cannot_read_is_made_anew_and_keeps_its_pins(root: Path, broken: str) -> None:
    relock.make(root, ">=3.9")
    for name in ("top", "low"):
        distributions.wheel(root.parent / "links", name, "2.0")
    whole = text(root)
    (root / "service" / "requirements.txt").write_bytes(broken.format(lock=whole).encode("latin-1"))
    relock.make(root, ">=3.9")
    assert text(root) == whole


@pytest.mark.parametrize(("name", "remedy"), [("lwo", "did you mean low?"), ("numpy", "add it to")])
def test_an_unknown_package_to_upgrade(root: Path, name: str, remedy: str) -> None:
    with pytest.raises(UsageError, match=f"does not use {name}") as caught:
        relock.make(root, ">=3.9", packages=[name])
    assert remedy in str(caught.value.next)


@pytest.mark.parametrize(
    ("lock", "where", "remedy"),
    [(None, "service/requirements.in", "one a line"), ("top==1.0\n", "service/requirements.txt", "git mv")],
)
def test_nothing_to_lock(root: Path, lock: str | None, where: str, remedy: str) -> None:
    (root / "service" / "requirements.in").unlink()
    if lock:
        (root / "service" / "requirements.txt").write_text(lock)
    with pytest.raises(UsageError) as caught:
        relock.make(root, ">=3.9")
    assert caught.value.where == where
    assert remedy in str(caught.value.next)


@pytest.mark.parametrize(
    ("python", "lowest"),
    [
        (">=3.9", "3.9"),
        (">=3.10.4,<3.14", "3.10"),
        ("~=3.11", "3.11"),
        ("==3.12.*", "3.12"),
        (">3.9,>=3.8", "3.9"),
        ("<3.13", relock.OLDEST),
        ("", relock.OLDEST),
    ],
)
def test_lower_bound(python: str, lowest: str) -> None:
    assert relock.lower_bound(python) == lowest


def test_lower_bound_refuses_what_is_no_range() -> None:
    with pytest.raises(UsageError, match="no range"):
        relock.lower_bound("3.9")


def test_the_verb_tells_what_changed_in_words_and_as_one_document(root: Path, clone: Clone) -> None:
    clone.write("service/requirements.in", "top\n")
    clone.write("service/requirements.txt", "")
    told = [{"package": name, "from": [], "to": ["1.0"]} for name in ("low", "old", "top")]
    assert clone.done("lock", "--json").json() == {"schema": 1, "changes": told}
    assert clone.done("lock").out == "service/requirements.txt: nothing to change\n"
    distributions.wheel(root.parent / "links", "top", "2.0")
    assert clone.done("lock", "--package", "top").out == "- low 1.0\n- old 1.0\n  top 1.0 -> 2.0\n"


def test_an_own_wheel_that_uv_cannot_read_is_refused_before_it_does(root: Path) -> None:
    """Once: 1.5 MB of a wheel took 1.6 GB of the controller."""
    own = root / "service/wheels"
    own.mkdir()
    files = {"top-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: top\nVersion: 1.0\n\n" + " " * 12_000_000}
    distributions.wheel(own, "top", "1.0", files=files)
    with pytest.raises(UsageError, match="METADATA has 12 MB, and may have 10") as caught:
        relock.make(root, ">=3.9")
    assert caught.value.where == "service/wheels/top-1.0-py3-none-any.whl"
    assert not (root / "service/requirements.txt").exists()


def test_a_uv_that_does_not_end_is_ended(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relock, "_SECONDS", 1)
    endless = root / "uv"
    endless.write_text("#!/bin/sh\nexec sleep 600\n")
    endless.chmod(0o755)
    monkeypatch.setattr(relock, "find_uv_bin", lambda: str(endless))
    with pytest.raises(UsageError, match=r"uv could not lock .*: it did not end within 1 s"):
        relock.make(root, ">=3.9")
    assert not (root / "service" / "requirements.txt").exists()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux lets us limit a program that runs")
def test_an_index_that_sends_more_than_uv_may_hold_fails_the_lock(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_program, "MEMORY", 192 << 20)
    relock.make(root, ">=3.9")
    before = text(root)
    files = {"top-2.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: top\nVersion: 2.0\n\n" + " " * (192 << 20)}
    distributions.wheel(root.parent / "links", "top", "2.0", files=files)
    with pytest.raises(UsageError, match="uv could not lock") as caught:
        relock.make(root, ">=3.9", upgrade=True)
    assert "uv pip compile -v names the package" in str(caught.value.next)
    assert text(root) == before
