"""The framework of the promises: the choice of a short run, the log, and the page."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.promises import plugin
from tests.promises.plugin import COLLECTED, short
from tests.promises.rows import SEED, Row, chosen, collected, rows_of, whole_name
from tests.promises.table import Logs, full_list, page, read
from tests.promises.words import SEALED
from tests.support.forks import Forks

ROOT = Path(__file__).resolve().parents[3]
ONE, TWO = Row("it holds", "a fault"), Row("it holds", "another")
PRELOAD = """
import importlib, sys
from _pytest.config import default_plugins
for name in default_plugins:
    importlib.import_module("_pytest." + name)
import pdb, readline
sys.path.insert(0, "")
import tests.promises.plugin
"""
TESTS = """
import pytest

@pytest.mark.promise("it holds", "a fault", part=2)
@pytest.mark.parametrize("number", range(10))
def test_ten(number, dice):
    assert number != 3, dice.random()

@pytest.mark.promise("it holds", "another")
@pytest.mark.parametrize("number", range(3))
def test_three(number):
    pass

@pytest.mark.promise("it holds", "what cannot be tried here")
def test_skipped():
    pytest.skip("not here")

def test_without():
    pass
"""


Run = Callable[..., tuple[int, str, Logs]]


@pytest.fixture(scope="module")
def pytest_forks() -> Iterator[Forks]:
    """A process that has loaded pytest, and runs it in each fork."""
    forks = Forks([sys.executable], PRELOAD, "import sys, pytest\nsys.exit(pytest.main(sys.argv[1:]))")
    yield forks
    forks.close()


@pytest.fixture
def run(tmp_path: Path, pytest_forks: Forks) -> Run:
    """Return a function that runs TESTS, or others, with the plugin in a separate process."""

    def run(*options: str, text: str = TESTS) -> tuple[int, str, Logs]:
        tmp_path.joinpath("test_rows.py").write_text(text)
        log = tmp_path / "log.jsonl"
        words = [
            "-p",
            "tests.promises.plugin",
            "-p",
            "no:cacheprovider",
            f"--rootdir={tmp_path}",
            # Otherwise it looks at every test's directory.
            f"--confcutdir={tmp_path}",
            "--tb=native",
            f"--promises-log={log}",
        ]
        # Only the plugins that it needs: the others take half of its time.
        alone = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        command = ["pytest", "-q", "-c", "/dev/null", *words, *options, str(tmp_path)]
        status, out, err = pytest_forks.run(command, alone, ROOT)
        return status, (out + err).decode(), read([log]) if log.exists() else Logs()

    return run


def nodes(logs: Logs, row: Row) -> list[str]:
    return [line["node"].rpartition("::")[2] for line in logs.lines if Row(line["promise"], line["fault"]) == row]


@pytest.mark.parametrize("workers", [(), ("-p", "xdist", "-n", "2")], ids=["alone", "workers"])
def test_a_short_run_tries_a_part_of_each_row_and_a_whole_one_all(run: Run, workers: Sequence[str]) -> None:
    _, told, logs = run(*workers)
    assert (len(nodes(logs, ONE)), len(nodes(logs, TWO))) == (2, 3), told
    assert "8 deselected" in told or workers
    status, told, logs = run("--promises", "all", *workers)
    assert (status, len(nodes(logs, ONE)), len(nodes(logs, TWO))) == (1, 10, 3)
    assert [line["node"] for line in logs.lines if not line["held"]] == ["test_rows.py::test_ten[3]"]
    assert "promises: 2 rows, 12 of 13 cases held" in told
    assert [(one["promises"], one["seed"]) for one in logs.runs] == [("all", 4)]


def test_the_choice_goes_with_the_seed_and_is_spread_over_the_row() -> None:
    cases = {ONE: [f"{number:02}" for number in range(30)], TWO: ["x", "y"]}
    choices = [chosen(cases, {ONE: 3}, seed) for seed in range(20)]
    assert choices == [chosen(cases, {ONE: 3}, seed) for seed in range(20)]
    assert len({frozenset(one) for one in choices}) > 10
    for one in choices:
        assert {"x", "y"} < one
        assert [int(number) // 10 for number in sorted(one - {"x", "y"})] == [0, 1, 2]
    assert chosen(cases, {ONE: 0}, 4) == {"x", "y"}


def test_chance_goes_with_the_seed_and_the_case(run: Run) -> None:
    def drawn(seed: str) -> str:
        told = run("--promises", "all", "--seed", seed)[1]
        return str(re.findall(r"AssertionError: (0\.\d+)", told))

    assert drawn("1") == drawn("1") != drawn("2")


def test_a_run_with_a_mark_that_is_wrong_is_refused(run: Run) -> None:
    status, told, _ = run(text='import pytest\n\n@pytest.mark.promise("one word")\ndef test_it():\n    pass\n')
    assert status == pytest.ExitCode.USAGE_ERROR
    assert "test_rows.py::test_it" in told


@pytest.mark.parametrize(
    "mark",
    [
        pytest.mark.promise("one word"),
        pytest.mark.promise("a", "b", part=-1),
        pytest.mark.promise("a", "b", parts=1),
        pytest.mark.promise("a", ""),
    ],
    ids=lambda mark: f"{mark.args} {mark.kwargs}",
)
def test_a_mark_that_is_wrong_is_refused(mark: pytest.MarkDecorator) -> None:
    item = cast(pytest.Item, SimpleNamespace(nodeid="test_rows.py::test_it", iter_markers=lambda _: [mark.mark]))
    with pytest.raises(pytest.UsageError, match=r"test_rows\.py::test_it"):
        rows_of(item)


def test_the_shares_of_a_run_are_all_cases_and_each_once(run: Run) -> None:
    ran = [run("--promises", "all", "--share", f"{number}/2")[2] for number in (1, 2)]
    whole = [f"test_ten[{number}]" for number in range(10)] + [f"test_three[{number}]" for number in range(3)]
    assert sorted(line["node"].rpartition("::")[2] for logs in ran for line in logs.lines) == whole
    assert all(logs.lines for logs in ran)
    assert ", share 2/2 of the cases," in page(ran[1], {})
    status, said, _ = run("--share", "3/2")
    assert status == pytest.ExitCode.USAGE_ERROR
    assert "is no share, such as 1/4" in said
    with pytest.raises(pytest.UsageError, match="is no share, such as 1/4"):
        plugin._take_share(cast(pytest.Config, None), [], "x")


def test_a_run_tries_the_cases_of_one_promise(run: Run) -> None:
    other = TESTS.replace('"it holds", "another"', '"it bends", "another"')
    _, said, logs = run("--promises", "all", "--promise", "it ben", text=other)
    assert [line["node"].rpartition("::")[2] for line in logs.lines] == [f"test_three[{number}]" for number in range(3)]
    assert "12 deselected" in said
    status, said, _ = run("--promise", "it breaks", text=other)
    assert status == pytest.ExitCode.USAGE_ERROR
    assert "no promise begins with 'it breaks'" in said


def test_the_page_counts_what_was_tried_and_hides_no_fault() -> None:
    logs = Logs(
        [{**ONE._asdict(), "node": f"tests/test_a.py::test_a[{number}]", "held": number != 2} for number in range(3)],
        [{"seed": 7, "date": "2026-11-21", "promises": "all", "cores": 2, "versions": {"systemd": "252"}}],
    )
    there = {ONE: [f"tests/test_a.py::test_a[{number}]" for number in range(3)], TWO: ["tests/test_b.py::test_b"]}
    there[Row("it holds", "a | bad end")] = []
    text = page(logs, there)
    assert ".venv/bin/pytest --promises all --seed 7 --promise 'it holds'\n" in text
    assert "| it holds | 2 of 3 | a fault (**2 of 3**); a \\| bad end (not run); another (not run) |" in text
    assert "2 of 3 cases held, of 1 of 3 faults" in text
    assert "systemd 252" in text
    text, again = full_list(logs, there), ".venv/bin/pytest --promises all --seed 7"
    assert f"| it holds | a fault | 2 of 3 | `{again} tests/test_a.py::test_a` |" in text
    assert f"| it holds | another | not run | `{again} tests/test_b.py::test_b` |" in text


def test_the_page_tells_what_was_measured() -> None:
    figures = {"lost of sent": {"post": [0, 9], "quick": [1, 90]}, "sent a second": 99.5, "all: p99 to quiet": 1.01}
    worse = {"lost of sent": {"post": [0, 1]}, "sent a second": 99.5, "all: p99 to quiet": 1.2}
    lines: list[Mapping[str, Any]] = [
        {"promise": "A.", "fault": "x", "node": f"tests/test_a.py::test_it[{number}]", "held": False, "figures": each}
        for number, each in enumerate((figures, worse))
    ]
    assert "| `test_a.py` | 2 | 100 | 1 | 1.2 |  |  |\n" in page(Logs(lines, []), {})


def every_row_and_the_tried(config: pytest.Config) -> tuple[set[Row], set[Row]]:
    """Return all rows, and those of which a short run tries a case; without another process if this one has them."""
    if config.args == config.getini("testpaths"):
        items = config.stash[COLLECTED]
        return {*collected(items)[0]}, {*collected(short(items, SEED))[0]}
    command = (
        "import json; from tests.promises.table import promised; print(json.dumps([[*rows] for rows in promised()]))"
    )
    ended = subprocess.run([sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True)
    every, tried = ({Row(*row) for row in rows} for rows in json.loads(ended.stdout or "[[], []]"))
    assert every, ended.stderr
    return every, tried


def test_make_test_tries_a_case_of_every_promise_but_of_the_scan(pytestconfig: pytest.Config) -> None:
    every, tried = every_row_and_the_tried(pytestconfig)
    assert {row.promise for row in every} - {row.promise for row in tried} == {SEALED}
    assert tried < every
    recipe = re.search(r"^test:.*\n\t(.*)\n", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe is not None
    assert recipe[1] == "$(PYTEST)"


FURTHER = """
import pytest

def test_one():
    pass

@pytest.mark.further("test_one")
@pytest.mark.promise("it holds", "a fault")
def test_two():
    pass

@pytest.mark.promise("it holds", "another", part=1)
@pytest.mark.parametrize("number", [0, pytest.param(1, marks=pytest.mark.further("test_three"))])
def test_three(number):
    pass
"""


def test_a_further_case_is_left_out_where_the_one_of_its_kind_is_tried(run: Run) -> None:
    assert "2 passed, 2 deselected" in run(text=FURTHER)[1]
    status, told, logs = run("--promises", "all", "-m", "promise or further", text=FURTHER)
    assert (status, len(logs.lines)) == (0, 3), told
    assert "1 passed" in run("-k", "test_two", text=FURTHER)[1]
    assert "1 passed" in run("-k", "test_three and 1", text=FURTHER)[1]
    status, told, _ = run(text="import pytest\n@pytest.mark.further\ndef test_it(): pass\n")
    assert status == 4
    assert "test_it: further(" in told


def test_each_further_case_names_a_test_that_is_none() -> None:
    named, without = set(), set()
    for path in (path for path in (ROOT / "tests").rglob("test_*.py") if path != Path(__file__)):
        if "mark.further(" not in (text := path.read_text()):
            without |= {f"{path.relative_to(ROOT)}::{name}" for name in re.findall(r"^def (test_\w+)", text, re.M)}
            continue
        node = str(path.relative_to(ROOT))
        for test in (one for one in ast.parse(text).body if isinstance(one, ast.FunctionDef)):
            if not any(ast.unparse(mark).startswith("pytest.mark.further(") for mark in test.decorator_list):
                without.add(f"{node}::{test.name}")
        named |= {whole_name(node, name) for name in re.findall(r"mark\.further\(\"(.+?)\"\)", text)}
    assert named
    assert named <= without


def test_a_case_that_ran_again_counts_once_by_its_last_log(tmp_path: Path) -> None:
    for name, held in (("share", False), ("again", True)):
        line = {**ONE._asdict(), "node": "tests/test_a.py::test_a", "held": held}
        run = {"seed": 7, "date": "2026-11-21", "promises": "all", "cores": 2, "versions": {}, "tried": 1}
        (tmp_path / name).write_text("".join(f"{json.dumps(each)}\n" for each in (line, {"run": run})))
    text = page(read([tmp_path / "share", tmp_path / "again"]), {ONE: ["tests/test_a.py::test_a"]})
    assert "1 of 1 cases held, of 1 of 1 faults" in text
    assert "seed 7, 1 cases, 2 cores" in text
