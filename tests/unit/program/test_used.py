"""The releases of a host, and those that a process runs from."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from templates.host import used
from templates.host.folders import Folder

ID, ANOTHER = "b" * 12, "a" * 12


def test_the_newest_releases_come_first_and_nothing_else_is_one(tmp_path: Path) -> None:
    for age, name in enumerate([ANOTHER, ID, "no-release", ".part-old-" + ID]):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (age, age))
    (tmp_path / ("c" * 12)).touch()
    with Folder.open(str(tmp_path)) as releases:
        assert used.by_age(releases) == [ID, ANOTHER]
        assert not used.in_use(releases, ID, "nobody")
        descriptor = os.open(tmp_path / ID, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        assert used.in_use(releases, ID, "nobody")
        os.close(descriptor)
