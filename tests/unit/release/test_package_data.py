"""Files of a package that its wheel lacks are named; what was left out on purpose, or is no part of it, is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.engine.release import package_data
from tasks.engine.release.archive import Entry


def entries(*paths: str) -> list[Entry]:
    """Return files, each with its own name as content, so that modules of one name are equal."""
    return [Entry(path, Path(path), False, 1, Path(path).name) for path in paths]


CODE = (
    "src/shop/__init__.py", "src/shop/web.py", "src/shop/static/a.css", "src/shop/static/b.css", "src/shop/t/x.html",
    "src/shop/left_out.py", "src/shop/.hidden", "tests/__init__.py", "tests/data.json", "README.md",
)  # fmt: skip


@pytest.mark.parametrize(
    ("code", "site", "lacks"),
    [
        (CODE, ("shop/__init__.py", "shop/web.py"),
         ("src/shop/static/a.css", "src/shop/static/b.css", "src/shop/t/x.html")),
        (CODE, ("shop/__init__.py", "shop/static/a.css", "shop/static/b.css", "shop/t/x.html"), ()),
        (("shop/__init__.py", "shop/a.css", "other/b.css"), ("shop/__init__.py",), ("shop/a.css",)),
        (("a/shop/__init__.py", "a/x.css", "a/shop/y.css"), ("shop/__init__.py", "shop/y.css"), ()),
        (("web.py", "a.css"), ("web.py",), ()),
        (CODE, (), ()),
    ],
)  # fmt: skip
def test_what_the_wheel_lacks(code: tuple[str, ...], site: tuple[str, ...], lacks: tuple[str, ...]) -> None:
    assert package_data.lacking(entries(*code), entries(*site)) == lacks


def test_it_is_told_by_directory() -> None:
    lacks = package_data.lacking(entries(*CODE), entries("shop/__init__.py"))
    assert "packages: src/shop/static/ (2 files), src/shop/t/ (1 file); declare" in package_data.sentence(lacks)
    many = [f"shop/{number}/a.css" for number in range(7)]
    assert "shop/4/ (1 file) and 2 more; declare" in package_data.sentence(many)
    assert "or in MANIFEST.in" in package_data.sentence(many)
    assert package_data.sentence(()) == ""
