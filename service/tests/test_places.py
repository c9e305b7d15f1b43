from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from service.app.places import Places

# A worker process: it takes a place, prints its number, and keeps it until it is killed.
WORKER = """
import sys
from service.app.places import Places
with Places(2).taken() as place:
    print(place, flush=True)
    sys.stdin.read()
"""


def worker() -> subprocess.Popen[str]:
    root = Path(__file__).parents[2]
    return subprocess.Popen(
        [sys.executable, "-c", WORKER], cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def number(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline().strip()


def test_all_workers_share_the_places_and_one_that_dies_gives_its_own_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    with worker() as first, worker() as second:
        assert {number(first), number(second)} == {"0", "1"}
        with Places(2).taken() as place:
            assert place is None
        first.kill()
        first.wait(10)
        with Places(2).taken() as place:
            assert place is not None
        second.kill()


def test_a_place_is_free_again_after_an_exception() -> None:
    places = Places(1)
    with pytest.raises(ZeroDivisionError), places.taken():
        raise ZeroDivisionError
    with places.taken() as place, places.taken() as further:
        assert (place, further) == (0, None)
