"""The two calls of the real pip, with distributions on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.engine.release import pip
from tasks.engine.release.indexes import Indexes
from tasks.engine.release.lockfile import LockedRequirement
from tasks.engine.release.python_target import Target
from tests.support import distributions

pytestmark = pytest.mark.usefixtures("forked_pip")
TARGET = Target("3.9.2+", "cp39", "x86_64", ("glibc", 2, 31))


@pytest.fixture
def links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "links"
    folder.mkdir()
    distributions.isolate(monkeypatch, folder)
    return folder


def test_download_takes_the_best_tag_of_the_target_or_nothing(links: Path, tmp_path: Path) -> None:
    tags = (
        "py3-none-any",
        "cp36-abi3-manylinux1_x86_64",
        "cp39-cp39-manylinux_2_28_x86_64",
        "cp39-cp39-manylinux_2_34_x86_64",
    )
    one = LockedRequirement("one", "1.0", None, tuple(distributions.wheel(links, "one", "1.0", tag) for tag in tags))
    into = tmp_path / "into"
    into.mkdir()
    assert pip.download([one], TARGET, into, Indexes(links=(str(links),))).done
    assert [file.name for file in into.glob("*.whl")] == [f"one-1.0-{tags[2]}.whl"]
    absent = LockedRequirement("absent", "1.0", None, ("0" * 64,))
    outcome = pip.download([absent], TARGET, into, Indexes(links=(str(links),)), retries=0)
    assert not outcome.done
    assert any("absent" in line for line in outcome.lines)


def test_build_makes_a_wheel_of_the_locked_source_only(links: Path, tmp_path: Path) -> None:
    digest = distributions.sdist(links, "plain", "1.0")
    for hashes, done in (((digest,), True), (("0" * 64,), False)):
        into = tmp_path / hashes[0]
        into.mkdir()
        assert (
            pip.build(LockedRequirement("plain", "1.0", None, hashes), into, Indexes(links=(str(links),))).done is done
        )
        assert bool(list(into.glob("plain-1.0-*.whl"))) is done
