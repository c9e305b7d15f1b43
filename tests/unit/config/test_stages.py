"""docs/stages: each file is one that `fab` accepts, and the page shows how it differs from the one before."""

from __future__ import annotations

import difflib
import re
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from tasks.engine.config import service
from tasks.engine.config.service import Service
from tasks.engine.errors import UsageError

FOLDER = Path(__file__).resolve().parents[3] / "docs/stages"
FILES = sorted(FOLDER.glob("*.yaml"))
PAGE = (FOLDER / "README.md").read_text()


def settings(path: Path) -> list[str]:
    """Return the lines of a file without comments."""
    lines = (re.sub(r"(^| +)# .*", "", line) for line in path.read_text().splitlines())
    return [line for line in lines if line]


def without(path: Path, key: str, place: Path) -> Service | None:
    """Return the service of a file without this key (`nginx.KEY`: of nginx); None if it is refused."""
    values = yaml.safe_load(path.read_text())
    section, _, below = key.rpartition(".")
    del (values[section] if section else values)[below]
    place.write_text(yaml.safe_dump(values))
    try:
        return service.describe(service.load(place))
    except UsageError:
        return None


def test_there_are_six_stages() -> None:
    assert [int(path.stem.partition("-")[0]) for path in FILES] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_stage_is_a_whole_file_that_says_who_needs_it(path: Path) -> None:
    told = service.describe(service.load(path))
    assert (told.name, told.app, told.env) == ("myapp", "app:create_app()", (("FLASK_APP", "app"),))
    assert path.read_text().startswith("# For ")
    assert f"]({path.name})" in PAGE


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_stage_has_no_key_that_changes_nothing(path: Path, tmp_path: Path) -> None:
    whole = service.describe(service.load(path))
    values = yaml.safe_load(path.read_text())
    for key in (*values, *(f"nginx.{key}" for key in values.get("nginx", {}))):
        assert without(path, key, tmp_path / "service.yaml") != whole, key


@pytest.mark.parametrize(("former", "path"), [*pairwise(FILES)], ids=lambda path: path.stem)
def test_the_page_shows_the_difference_from_the_stage_before(former: Path, path: Path) -> None:
    section = PAGE.partition(f"]({path.name})")[2].partition("\n## ")[0]
    shown = re.findall("^```diff\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    changes = [line for line in shown[0].splitlines() if line[0] in "+-"]
    _, _, *compared = difflib.unified_diff(settings(former), settings(path), n=0, lineterm="")
    assert changes == [line for line in compared if line[0] in "+-"]
