"""How root's unit copies the files of another program, which may put anything in their place between two looks."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tasks.engine.host import templates

SCRIPT = templates.text("take_certificate.sh")


def copied(source: Path, target: Path) -> bool:
    """Copy a file as the script does, if it became SOURCE just after the look at it."""
    found = re.search(r"^copy\(\) \{\n.*?^\}\n", SCRIPT, re.MULTILINE | re.DOTALL)
    assert found
    text = found[0].replace('[ -f "$1" ]', "true")
    assert text != found[0]
    words = ("sh", "-c", f'set -eu\n{text}copy "$1" "$2"', "sh", source, target)
    return subprocess.run(words, check=False, timeout=20).returncode == 0


@pytest.mark.parametrize("written", [False, True])
def test_a_pipe_that_came_meanwhile_is_not_waited_for(tmp_path: Path, written: bool) -> None:
    """Once: the unit waited for a writer, two minutes each time."""
    pipe, target = tmp_path / "pipe", tmp_path / "target"
    os.mkfifo(pipe)
    other = os.open(pipe, os.O_RDWR) if written else -1
    try:
        assert not (copied(pipe, target) and target.read_bytes())
    finally:
        if written:
            os.close(other)


def test_a_file_is_copied_whole_and_one_of_a_megabyte_is_refused(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    for size, fits in ((0, True), (999_999, True), (1_000_000, False), (3_000_000, False)):
        source.write_bytes(b"x" * size)
        assert copied(source, target) == fits
        assert target.stat().st_size == min(size, 1_000_000)
