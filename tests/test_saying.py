"""What a service said before it failed: the cause is on the screen, and at most 20 lines of it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.engine.saying import readable

TRACEBACK = [
    "Traceback (most recent call last):",
    '  File "/venv/lib/gunicorn/arbiter.py", line 608, in spawn_worker',
    "    worker.init_process()",
    '  File "/venv/lib/gunicorn/util.py", line 370, in import_app',
    "    mod = importlib.import_module(module)",
    "          ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^",
    '  File "/code/app/__init__.py", line 3, in <module>',
    "    import nosuchmodule",
    "ModuleNotFoundError: No module named 'nosuchmodule'",
]


@pytest.mark.parametrize(
    "line",
    [
        "systemd: Failed with result 'oom-kill'.",
        "  systemd: Stopped",
        '{"level": "systemd", "message": "Stopped"}',
        'Traceback (most recent call last):\n  File "x"\nsystemd: Stopped',
        *(f"{mark}systemd: Stopped" for mark in ("\t", "\u00a0", "\u3000", "\u200b", "* ")),
    ],
)
def test_no_line_of_a_service_is_taken_for_one_of_systemds(line: str) -> None:
    found = readable(line.split("\n"), ["Started myapp"])
    assert [shown for shown in found if not shown.startswith("the service says: ")][-1:] == ["systemd: Started myapp"]
    assert any(shown.startswith("the service says: ") for shown in found)


def test_what_systemd_said_comes_last_and_takes_no_more_than_its_share() -> None:
    found = readable([f"line {number}" for number in range(90)], [f"end {number}" for number in range(90)])
    assert len(found) == 20
    assert found[-5:] == tuple(f"systemd: end {number}" for number in range(85, 90))
    assert found[0] == "line 0"
    assert found[-6] == "line 89"
    assert sum(shown.endswith("lines, see the journal ...") for shown in found) == 1


def test_of_a_traceback_the_end_is_kept() -> None:
    assert readable(["Booting worker", *TRACEBACK, "Worker exiting"]) == (
        "Booting worker",
        '  File "/venv/lib/gunicorn/util.py", line 370, in import_app',
        "    mod = importlib.import_module(module)",
        '  File "/code/app/__init__.py", line 3, in <module>',
        "    import nosuchmodule",
        "ModuleNotFoundError: No module named 'nosuchmodule'",
        "Worker exiting",
    )


def test_every_worker_says_the_same_and_it_is_shown_once() -> None:
    assert readable(TRACEBACK * 8) == readable(TRACEBACK)


def test_a_structured_line_is_words_with_the_end_of_its_traceback() -> None:
    line = json.dumps({"level": "ERROR", "message": "cannot start", "traceback": "\n".join(TRACEBACK), "time": "x"})
    assert readable([line]) == ("error: cannot start", *readable(TRACEBACK))


@pytest.mark.parametrize("noise", [1, 10, 19, 20, 21, 100, 5000])
def test_the_cause_and_the_end_stay_however_much_is_said(noise: int) -> None:
    lines = [*TRACEBACK, *(f"retrying for the {number}th time" for number in range(noise)), "gave up"]
    found = readable(lines)
    assert len(found) <= 20
    assert "ModuleNotFoundError: No module named 'nosuchmodule'" in found
    assert found[-1] == "gave up"
    if noise > 20:
        assert [line for line in found if line.endswith("lines, see the journal ...")]


def test_what_is_only_information_goes_first() -> None:
    chatter = [json.dumps({"level": "info", "message": f"step {number}"}) for number in range(50)]
    found = readable([*chatter[:25], json.dumps({"level": "error", "message": "disk full"}), *chatter[25:]])
    assert found == ("error: disk full",)


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("x" * 500, "x" * 196 + " ..."),
        ('{"message": 5}', "info: 5"),
        ('{"level": "warning"}', '{"level": "warning"}'),
        ("[1, 2]", "[1, 2]"),
        ("{", "{"),
        ("[" * 100_000, "[" * 196 + " ..."),
        ('{"message": "x", "traceback": 7}', "info: x"),
    ],
)
def test_any_other_line_is_shown_as_it_is_and_cut(line: str, shown: str) -> None:
    assert readable([line])[0] == shown


def test_silence_is_silence() -> None:
    assert readable([]) == ()
    assert readable(["", "   "]) == ()


@given(st.lists(st.one_of(st.text(max_size=60), st.sampled_from([*TRACEBACK, '{"message": null}', "{}"])), max_size=60))
@settings(deadline=None)
def test_nothing_that_a_service_says_is_too_much(lines: list[str]) -> None:
    found = readable(lines)
    assert len(found) <= 20
    assert all(len(line) <= 200 for line in found)
