"""The log of a service before its failure: the screen shows the cause, in at most 20 lines."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.engine.host.log_text import summarize

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


PLACE = "/opt/apps/myapp/venvs/50867a97a3921d10/lib/python3.11/site-packages/gunicorn/arbiter.py"
HALTED = "gunicorn.errors.HaltServer: <HaltServer 'Worker failed to boot.' 3>"
ENDED = [
    "myapp@green.service: Main process exited, code=exited, status=3/NOTIMPLEMENTED",
    "myapp@green.service: Failed with result 'exit-code'.",
    "myapp@green.service: Deactivated successfully.",
]
"""Lines of systemd 252."""


def plain(pid: int, level: str, message: str) -> str:
    """Return a line of gunicorn's own log."""
    return f"[2026-11-29 03:07:52 +0000] [{pid}] [{level}] {message}"


def structured(level: str, message: str, **more: str) -> str:
    """Return the same from the logger of the template's service."""
    return json.dumps({"time": "2026-11-29T03:07:35.487Z", "level": level, "message": message, **more})


def worker(pid: int) -> list[str]:
    """Return the log of a gunicorn 27.0.1 worker that cannot import its application."""
    said = "No module named 'nosuchmodule'"
    head = [plain(pid, "INFO", f"Booting worker with pid: {pid}"), plain(pid, "ERROR", "Exception in worker process")]
    return [*head, *TRACEBACK, said, plain(pid, "INFO", f"Worker exiting (pid: {pid})")]


PLAIN = [
    plain(1637, "INFO", "Starting gunicorn 27.0.1"),
    *worker(1641),
    *worker(1642),
    plain(1637, "ERROR", "Worker (pid:1641) exited with code 3."),
    plain(1637, "INFO", "Worker (pid:1642) was sent SIGTERM!"),
    "Traceback (most recent call last):",
    f'  File "{PLACE}", line 270, in run',
    "    handler()",
    f'  File "{PLACE}", line 683, in reap_workers',
    "    raise HaltServer(reason, self.WORKER_BOOT_ERROR)",
    HALTED,
    "During handling of the above exception, another exception occurred:",
    "Traceback (most recent call last):",
    f'  File "{PLACE}", line 485, in stop',
    "    self.reap_workers()",
    f'  File "{PLACE}", line 683, in reap_workers',
    "    raise HaltServer(reason, self.WORKER_BOOT_ERROR)",
    HALTED,
]
STRUCTURED = [
    structured("info", "Starting gunicorn 27.0.1"),
    structured("error", "Exception in worker process", traceback="\n".join(TRACEBACK)),
    "No module named 'nosuchmodule'",
    structured("info", "Worker exiting (pid: 1206)"),
    structured("error", "Worker (pid:1205) exited with code 3."),
    structured("error", "Shutting down: Master"),
    structured("error", "Reason: Worker failed to boot."),
]
CAUSE = (
    'app:   File "/code/app/__init__.py", line 3, in <module>',
    "app:     import nosuchmodule",
    "app: ModuleNotFoundError: No module named 'nosuchmodule'",
    "app: No module named 'nosuchmodule'",
)


def of_app(*lines: str) -> tuple[str, ...]:
    """Return lines of the service as they are shown."""
    return tuple(f"app: {line}" for line in lines)


def test_the_line_that_names_the_release_explains_no_failure() -> None:
    assert summarize(["release 0123456789ab", "release notes are missing"]) == of_app("release notes are missing")


@pytest.mark.parametrize("said", [PLAIN, STRUCTURED], ids=["plain", "structured"])
def test_of_a_worker_that_cannot_boot_the_cause_comes_last(said: list[str]) -> None:
    found = summarize(said, ENDED)
    assert found[-4:] == CAUSE
    assert "Starting gunicorn" in found[0]
    assert len(found) <= 9


def test_of_an_application_that_is_not_there_the_cause_comes_last() -> None:
    said = [
        plain(2535, "INFO", "Booting worker with pid: 2535"),
        "Failed to find attribute 'nosuch' in 'traffic_app'.",
        plain(2535, "INFO", "Worker exiting (pid: 2535)"),
        plain(2532, "ERROR", "Worker (pid:2535) exited with code 4."),
        plain(2532, "ERROR", "Shutting down: Master"),
        plain(2532, "ERROR", "Reason: App failed to load."),
    ]
    ended = ["myapp@green.service: Main process exited, code=exited, status=4/NOPERMISSION", *ENDED[1:]]
    assert summarize(said, ended) == of_app(*said[:2])


def test_what_could_be_a_cause_stays_beside_a_worker_that_cannot_boot() -> None:
    said = [
        *PLAIN,
        "Segmentation fault",
        plain(1637, "ERROR", "Worker (pid:7) was sent SIGKILL! Perhaps out of memory?"),
    ]
    found = summarize(said, [*ENDED, "myapp@green.service: Failed with result 'oom-kill'."])
    assert found[0] == "systemd: myapp@green.service: Failed with result 'oom-kill'."
    assert found[-2:] == of_app(*said[-2:])
    assert not [line for line in found if "HaltServer" in line]


@pytest.mark.parametrize("said", [PLAIN[-14:], STRUCTURED[3:], [PLAIN[0], *PLAIN[2:3], *STRUCTURED[4:]]])
def test_without_a_traceback_of_a_worker_gunicorns_own_end_is_all_there_is(said: list[str]) -> None:
    found = summarize(said, ENDED)
    assert "Worker failed to boot." in found[-4]
    assert found[-3:] == tuple(f"systemd: {line}" for line in ENDED)


@pytest.mark.parametrize(
    "line",
    [
        "systemd: Failed with result 'oom-kill'.",
        "  systemd: Stopped",
        '{"level": "systemd", "message": "Stopped"}',
        '{"message": "first\\nsystemd: Stopped\\u2028systemd: Stopped"}',
        'Traceback (most recent call last):\n  File "x"\nsystemd: Stopped',
        "first\rsystemd: Stopped",
        "\u0455ystemd: Stopped",
        "s\u200bystemd: Stopped",
        "... 5 lines, see the journal ...",
        *(f"{mark}systemd: Stopped" for mark in ("\t", "\u00a0", "\u3000", "\u200b", "* ")),
    ],
)
def test_no_line_of_a_service_is_taken_for_one_of_somebody_else(line: str) -> None:
    *own, last = summarize(line.split("\n"), ["Started myapp"])
    assert last == "systemd: Started myapp"
    assert own
    assert all(shown.startswith("app: ") and len(shown.splitlines()) == 1 for shown in own), own


def test_what_systemd_said_comes_last_and_takes_no_more_than_its_share() -> None:
    found = summarize([f"line {number}" for number in range(90)], [f"end {number}" for number in range(90)])
    assert len(found) == 20
    assert found[-5:] == tuple(f"systemd: end {number}" for number in range(85, 90))
    assert found[0] == "app: line 0"
    assert found[-6] == "app: line 89"
    assert sum(shown.endswith("lines, see the journal ...") for shown in found) == 1


def test_of_a_traceback_the_end_is_kept() -> None:
    assert summarize(["Booting worker", *TRACEBACK, "Worker exiting"]) == of_app(
        "Booting worker",
        '  File "/venv/lib/gunicorn/util.py", line 370, in import_app',
        "    mod = importlib.import_module(module)",
        '  File "/code/app/__init__.py", line 3, in <module>',
        "    import nosuchmodule",
        "ModuleNotFoundError: No module named 'nosuchmodule'",
        "Worker exiting",
    )


def test_every_worker_says_the_same_and_it_is_shown_once() -> None:
    assert summarize(TRACEBACK * 8) == summarize(TRACEBACK)


def test_a_structured_line_is_words_with_the_end_of_its_traceback() -> None:
    line = json.dumps({"level": "ERROR", "message": "cannot start", "traceback": "\n".join(TRACEBACK), "time": "x"})
    assert summarize([line]) == ("app: error: cannot start", *summarize(TRACEBACK))


@pytest.mark.parametrize("noise", [1, 10, 19, 20, 21, 100, 5000])
def test_the_cause_and_the_end_stay_however_much_is_said(noise: int) -> None:
    lines = [*TRACEBACK, *(f"retrying for the {number}th time" for number in range(noise)), "gave up"]
    found = summarize(lines)
    assert len(found) <= 20
    assert "app: ModuleNotFoundError: No module named 'nosuchmodule'" in found
    assert found[-1] == "app: gave up"
    if noise > 20:
        assert [line for line in found if line.endswith("lines, see the journal ...")]


def test_what_is_only_information_goes_first() -> None:
    chatter = [json.dumps({"level": "info", "message": f"step {number}"}) for number in range(50)]
    found = summarize([*chatter[:25], json.dumps({"level": "error", "message": "disk full"}), *chatter[25:]])
    assert found == ("app: error: disk full",)


def test_of_a_plain_log_too_the_information_goes_first() -> None:
    """Once: the error stood in the middle of gunicorn's and alembic's lines, and was left out."""
    steps = [f"INFO  [alembic.runtime.migration] Running upgrade {number}" for number in range(30)]
    lines = [plain(7, "INFO", "Booting worker"), *steps, "table bill already exists", *steps, "[SQL: ...]"]
    assert summarize(lines) == of_app("table bill already exists", "[SQL: ...]")


def test_information_alone_is_shown() -> None:
    found = summarize([f"INFO:app:step {number}" for number in range(50)])
    assert (len(found), found[0], found[-1]) == (20, "app: INFO:app:step 0", "app: INFO:app:step 49")


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("x" * 500, "x" * 191 + " ..."),
        ('{"message": 5}', "info: 5"),
        ('{"level": "warning"}', '{"level": "warning"}'),
        ("[1, 2]", "[1, 2]"),
        ("{", "{"),
        ("[" * 100_000, "[" * 191 + " ..."),
        ('{"message": "x", "traceback": 7}', "info: x"),
    ],
)
def test_any_other_line_is_shown_as_it_is_and_cut(line: str, shown: str) -> None:
    assert summarize([line])[0] == f"app: {shown}"


def test_silence_is_silence() -> None:
    assert summarize([]) == ()
    assert summarize(["", "   "]) == ()


@given(st.lists(st.one_of(st.text(max_size=60), st.sampled_from([*TRACEBACK, '{"message": null}', "{}"])), max_size=60))
@settings(deadline=None)
def test_nothing_that_a_service_says_is_too_much(lines: list[str]) -> None:
    found = summarize(lines)
    assert len(found) <= 20
    assert all(len(line) <= 200 for line in found)
