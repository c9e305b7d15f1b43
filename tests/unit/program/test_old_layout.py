"""The move of a host of an older layout: root reads the links of the deploy account, and follows none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from templates.host import old_layout


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """The directory of a service, and that in /run."""
    monkeypatch.setattr(old_layout, "RUN", str(tmp_path / "run"))
    root, run = tmp_path / "root", tmp_path / "run/shop"
    for place in (root / "slots/blue", run):
        place.mkdir(parents=True)
    (root / "slots/blue/is-blue").touch()
    return root, run


@pytest.mark.parametrize(("target", "live"), [("slots/blue", "blue"), ("slots/none", ""), ("/etc", ""), (None, "")])
def test_the_traffic_goes_where_the_former_link_led_it(
    places: tuple[Path, Path], target: str | None, live: str
) -> None:
    root, run = places
    if target:
        (root / "current").symlink_to(target)
    old_layout.make_live_link("shop", str(root))
    assert [str(link.readlink()) for link in run.iterdir()] == ([live] if live else [])


def test_a_link_of_roots_that_is_there_stays(places: tuple[Path, Path]) -> None:
    root, run = places
    (root / "current").symlink_to("slots/blue")
    (run / "live").symlink_to("green")
    old_layout.make_live_link("shop", str(root))
    assert (run / "live").readlink() == Path("green")


def test_the_former_link_is_not_followed(places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Once: it could lead to a file system of the account's that never answers, and setup waited there."""
    root, _ = places
    (root / "current").symlink_to("slots/blue")

    def followed(path: str) -> bool:
        raise AssertionError(path)

    monkeypatch.setattr(os.path, "exists", followed)
    old_layout.make_live_link("shop", str(root))
