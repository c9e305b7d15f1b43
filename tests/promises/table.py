"""Write docs/PROMISES.md and build/promises.md from the logs of runs: `python -m tests.promises.table LOG...`.

The page has a row for each promise. The list in build/ has a row for each fault, with its command.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.promises import rows
from tests.promises.rows import SEED, Row

ROOT = Path(__file__).resolve().parents[2]
PAGE, LIST = ROOT / "docs/PROMISES.md", ROOT / "build/promises.md"
HEAD = """# The promises

A row is a promise, with the faults that tests put in its way on real hosts, and how many cases were tried and held. A
case is one test: one moment, one kind of release, one way to die. `make test` tries some cases of each kind (of a scan
that takes minutes, none); `make promises` (with `SEED=N` from another seed) tries all, writes this page, and writes
each fault with its cases and its command into `build/promises.md`. To repeat a row, as root on Linux, name its promise
or how that begins:

    .venv/bin/pytest --promises all --seed {seed} --promise '{promise}'

"""
FIGURES_HEAD = """
## The traffic, in figures

A client sends at a fixed rate (new and kept connections, GET, POST, uploads of 10 MB, event streams; one in ten takes a
second) while verbs run; the figures are from its log alone. The last columns compare the time that 99 in 100 requests
took during the verbs: with quiet times (all requests, and the quickest kind alone), and with the same seconds on a host
beside that rested. Each is the worst of the file's cases.

| tests | cases | requests | lost | p99 to quiet | quick ones | to the host beside |
| --- | --- | --- | --- | --- | --- | --- |
"""


@dataclass
class Logs:
    """The content of some logs. lines: each case tried. runs: each run's summary."""

    lines: list[Mapping[str, Any]] = field(default_factory=list)
    runs: list[Mapping[str, Any]] = field(default_factory=list)


def read(paths: Iterable[Path]) -> Logs:
    """Read all lines of the logs. Of a case that ran again, as after a mend, the last line counts."""
    lines, runs = {}, []
    for line in (json.loads(text) for path in paths for text in path.read_text().splitlines()):
        if "run" in line:
            runs.append(line["run"])
        else:
            lines[line["promise"], line["fault"], line["node"]] = line
    return Logs(list(lines.values()), runs)


def promised() -> tuple[dict[Row, list[str]], dict[Row, list[str]]]:
    """Return the node ids of each row: all, and those of a short run. Raises ValueError if pytest cannot collect."""
    tried: list[pytest.Item] = []
    left_out: list[pytest.Item] = []

    class Listener:
        def pytest_deselected(self, items: list[pytest.Item]) -> None:
            left_out.extend(items)

        def pytest_collection_finish(self, session: pytest.Session) -> None:
            tried.extend(session.items)

    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        status = pytest.main(["--collect-only", "-q"], plugins=[Listener()])
    if status != 0:
        raise ValueError(f"pytest --collect-only ended with {int(status)}:\n{said.getvalue()}")
    return rows.collected([*tried, *left_out])[0], rows.collected(tried)[0]


@dataclass
class Tried:
    """What is there of each row, and what a run tried of it: by node id, whether it held."""

    nodes: dict[Row, list[str]]
    held: dict[Row, list[bool]] = field(default_factory=dict)


def tried(logs: Logs, there: Mapping[Row, Sequence[str]]) -> Tried:
    """Return the cases of each row, those of rows that are gone included. there: the rows of today, with node ids."""
    result = Tried({row: list(ids) for row, ids in there.items()})
    for line in logs.lines:
        row = Row(line["promise"], line["fault"])
        result.held.setdefault(row, []).append(line["held"])
        if row not in there:
            result.nodes.setdefault(row, []).append(line["node"])
    return result


def page(logs: Logs, there: Mapping[Row, Sequence[str]]) -> str:
    """Return the page. A fault that no log has is shown as not run."""
    cases = tried(logs, there)
    promises = sorted({row.promise for row in cases.nodes})
    seed = min((run["seed"] for run in logs.runs), default=SEED)
    # A few words name it, and nothing in them needs quotes of another kind.
    example = " ".join(promises[0].split()[:4]) if promises else ""
    head = HEAD.format(seed=seed, promise=example) + "".join(f"- {_run(run)}\n" for run in logs.runs)
    table = "| promise | cases held | faults |\n| --- | --- | --- |\n"
    rows_ = "".join(_promise(promise, cases) for promise in promises)
    return f"{head}- {_sum(cases)}\n\n{table}{rows_}{_figures(logs)}"


def full_list(logs: Logs, there: Mapping[Row, Sequence[str]]) -> str:
    """Return the list of all faults, each with its cases and its command."""
    cases = tried(logs, there)
    seed = min((run["seed"] for run in logs.runs), default=SEED)
    table = "| promise | fault | cases held | reproduce |\n| --- | --- | --- | --- |\n"
    return table + "".join(_fault(row, cases, seed) for row in sorted(cases.nodes))


def _promise(promise: str, cases: Tried) -> str:
    rows_ = [row for row in sorted(cases.nodes) if row.promise == promise]
    held = [one for row in rows_ for one in cases.held.get(row, [])]
    faults = "; ".join(row.fault + _note(cases.held.get(row)) for row in rows_)
    return f"| {_cell(promise)} | {sum(held)} of {len(held)} | {_cell(faults)} |\n"


def _note(held: Sequence[bool] | None) -> str:
    if held is None:
        return " (not run)"
    return "" if all(held) else f" (**{sum(held)} of {len(held)}**)"


def _figures(logs: Logs) -> str:
    files: dict[str, list[Mapping[str, Any]]] = {}
    for line in logs.lines:
        if "figures" in line:
            name = line["node"].partition("::")[0].rpartition("/")[2]
            files.setdefault(name, []).append(line["figures"])
    return FIGURES_HEAD + "".join(_measured(*each) for each in sorted(files.items())) if files else ""


def _measured(name: str, figures: Sequence[Mapping[str, Any]]) -> str:
    lost, sent = (
        sum(column) for column in zip(*(one for each in figures for one in each["lost of sent"].values()), strict=True)
    )
    names = ("all: p99 to quiet", "quick: p99 to quiet", "all: p99 to the host beside")
    worst = (max((each[name] for each in figures if name in each), default="") for name in names)
    return f"| `{name}` | {len(figures)} | {sent} | {lost} | {' | '.join(map(str, worst))} |\n"


def _run(run: Mapping[str, Any]) -> str:
    versions = dict(run["versions"])
    suite = versions.pop("suite", "")
    hosts = ", ".join(f"{name} {version}" for name, version in versions.items())
    cases = f"share {run['share']} of the cases" if "share" in run else f"{run.get('tried', run['promises'])} cases"
    text = f"{run['date']}, seed {run['seed']}, {cases}, {run['cores']} cores"
    return f"{text}; hosts: {suite}, {hosts}" if hosts else text


def _sum(cases: Tried) -> str:
    held = [one for each in cases.held.values() for one in each]
    return f"{sum(held)} of {len(held)} cases held, of {len(cases.held)} of {len(cases.nodes)} faults"


def _fault(row: Row, cases: Tried, seed: int) -> str:
    held = cases.held.get(row)
    figures = "not run" if held is None else f"{sum(held)} of {len(held)}"
    where = " ".join(dict.fromkeys(node.partition("[")[0] for node in cases.nodes[row]))
    command = f".venv/bin/pytest --promises all --seed {seed} {where}"
    return f"| {_cell(row.promise)} | {_cell(row.fault)} | {figures} | `{command}` |\n"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def main(paths: Sequence[str]) -> None:
    """Write the page and the list from these logs."""
    logs, there = read(map(Path, paths)), promised()[0]
    PAGE.write_text(page(logs, there))
    LIST.parent.mkdir(exist_ok=True)
    LIST.write_text(full_list(logs, there))


if __name__ == "__main__":
    main(sys.argv[1:])
