"""Who can exchange what a path leads to: directories, links, and what a group or an access control list allows."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from templates.host import this_interpreter, trust
from templates.host.run import Refused
from tests.support import access_lists

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a directory of another account")
OTHER = 65534


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory in which root alone can write, all the way from `/`."""
    with tempfile.TemporaryDirectory(dir="/run") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def led(place: Path) -> tuple[Path, Path]:
    """Return a path that leads through a link of another account to a file of root's, and that link."""
    theirs = place / "theirs"
    for folder in (theirs, place / "ours"):
        folder.mkdir()
    (place / "ours/file").touch()
    (theirs / "folder").symlink_to("../ours")
    (place / "link").symlink_to("theirs/folder/file")
    os.chown(theirs, OTHER, OTHER)
    os.lchown(theirs / "folder", OTHER, OTHER)
    return place / "link", theirs


def test_a_path_leads_through_the_directories_of_its_links(place: Path) -> None:
    link, theirs = led(place)
    through = [name for name, _ in trust.passed(f"{link}/.././{link.name}") if name.startswith(f"{place}/")]
    assert through == [str(one) for one in (link, theirs, theirs / "folder", place / "ours", place / "ours/file")]


def test_root_works_nowhere_that_another_account_leads_to(place: Path) -> None:
    """Once: root looked at the path as it is named, and at its end, but at no link between these."""
    link, theirs = led(place)
    with pytest.raises(Refused, match=f"{theirs} is not root's alone"):
        trust.require_roots_own(str(link))
    assert (trust.is_roots_own(str(link)), trust.open_place(str(link))) == (False, str(theirs))
    os.chown(theirs, 0, 0)
    with pytest.raises(Refused, match=f"writes below it: chown -h root:root {theirs}/folder$"):
        trust.require_roots_own(str(link))
    assert trust.is_roots_own(f"{place}/ours/file")
    assert trust.is_roots_own(f"{place}/none/whatever")


def test_a_link_of_another_account_in_a_directory_of_all_is_not_roots(place: Path) -> None:
    """In /tmp each account can exchange its own links alone."""
    place.chmod(0o1777)
    (place / "target").touch()
    (place / "link").symlink_to("target")
    assert trust.open_place(f"{place}/link") == ""
    os.lchown(place / "link", OTHER, OTHER)
    assert trust.open_place(f"{place}/link") == f"{place}/link"


def test_links_in_a_circle_end(place: Path) -> None:
    (place / "one").symlink_to("two")
    (place / "two").symlink_to("one")
    assert trust.open_place(f"{place}/one") == f"{place}/one"
    with pytest.raises(OSError, match="too many links"):
        trust.require_roots_own(f"{place}/one")


def test_who_an_access_control_list_lets_write_can_exchange_a_file(place: Path) -> None:
    """The mode shows a right of the group root alone: Python's status has no more."""
    folder = place / "folder"
    folder.mkdir()
    folder.chmod(0o775)
    assert (trust.is_roots_own(str(folder)), trust.open_place(str(folder))) == (True, "")
    access_lists.let_write(folder, OTHER)
    assert (trust.is_roots_own(str(folder)), trust.open_place(str(folder))) == (False, str(folder))
    assert this_interpreter.flaws(str(folder), 1) == [("open", str(folder))]
    folder.chmod(0o755)
    assert (trust.is_roots_own(str(folder)), trust.open_place(str(folder))) == (True, "")
