"""One request to the health check: its answer, its own settings, and its limit."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from templates.host import probe
from templates.host.probe import Probe
from templates.host.service import Front, Health, Service

ID, ANOTHER = "b" * 12, "a" * 12
SERVICE = Service(
    "myapp", "/none", 3, 2, Health("/readyz", 200, 5, 60, 2, 1.0), Front("https", "a.example", "", ""), (), (), ()
)


@pytest.mark.parametrize(
    ("text", "whole", "why"),
    [
        (f'{{"release": "{ID}"}}\n200', True, ""),
        (f'{{"release":"{ID}"}}\n200', True, ""),
        ("plain\n200", True, ""),
        ('{"release": null}\n200', True, ""),
        (f'{{"release": "{ANOTHER}"}}\n200', True, f"answered for another release than {ID}"),
        ("no\nway\n503", True, "answered 503, not 200: no way"),
        ("curl: (7) Could not connect\n000\n000", True, "no answer: curl: (7) Could not connect"),
        ("half\ncurl: (18) transfer closed\n200\n000", True, "no answer: curl: (18) transfer closed"),
        ("x" * 65_536, False, "no answer: the answer is longer than 64 kB"),
        ("\n12x", True, "no answer: the answer is longer than 64 kB"),
        ("", True, "no answer: the answer is longer than 64 kB"),
    ],
)
def test_an_answer_is_what_was_asked_for_or_says_what_is_wrong(text: str, whole: bool, why: str) -> None:
    assert Probe(SERVICE, ID).check(text, whole).why == why


def test_a_release_is_held_to_its_own_health_check(tmp_path: Path) -> None:
    (tmp_path / "releases" / ID).mkdir(parents=True)
    (tmp_path / "releases" / ID / "health").write_text("/healthz\n204\n")
    found = Probe(SERVICE._replace(root=str(tmp_path)), ID)
    assert (found.path, found.status) == ("/healthz", 204)
    assert (Probe(SERVICE, ID).path, Probe(SERVICE, ID).status) == ("/readyz", 200)


@pytest.mark.parametrize("kind", ["fifo", "link"])
def test_what_is_planted_in_place_of_its_health_check_is_not_read(tmp_path: Path, kind: str) -> None:
    text, planted = "/planted\n204\n", tmp_path / "releases" / ID / "health"
    planted.parent.mkdir(parents=True)
    if kind == "link":
        (tmp_path / "elsewhere").write_text(text)
        planted.symlink_to(tmp_path / "elsewhere")
    else:
        os.mkfifo(planted)
    # With a writer, so that a plain read would not wait for ever.
    writer = os.open(planted, os.O_RDWR)
    os.write(writer, text.encode() + b"x" * 9000)
    found = Probe(SERVICE._replace(root=str(tmp_path)), ID)
    os.close(writer)
    assert (found.path, found.status) == ("/readyz", 200)


def test_curl_says_all_up_to_a_limit(tmp_path: Path) -> None:
    (tmp_path / "page").write_text("x" * 100_000)
    text, whole = probe.run_curl(5, "-s", f"file://{tmp_path}/page")
    assert (len(text), whole) == (65_536, False)
    text, whole = probe.run_curl(5, "-s", "-S", "http://127.0.0.1:1/")
    assert text.endswith("\n000")
    assert whole
