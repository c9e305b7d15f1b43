"""The directory of the tests' hosts has a guessable name: root uses its own one, or none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support import hosts


def test_a_directory_of_ours_is_made_and_taken_again(tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    hosts.require_own(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    hosts.require_own(folder)


@pytest.mark.parametrize("kind", ["open", "link", "file", "another's"])
def test_what_somebody_has_put_there_is_refused(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "runs"
    if kind == "link":
        folder.symlink_to(tmp_path)
    elif kind == "file":
        folder.touch(0o600)
    else:
        folder.mkdir(0o700 if kind == "another's" else 0o755)
    if kind == "another's":
        if os.geteuid() != 0:
            pytest.skip("only root gives a directory away")
        os.chown(folder, 65534, -1)
    with pytest.raises(pytest.exit.Exception, match="look at it, and remove it"):
        hosts.require_own(folder)
