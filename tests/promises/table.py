"""Write docs/PROMISES.md from the logs of runs: `python -m tests.promises.table LOG...`, in the root of the project."""

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
from tests.promises.rows import Row

PAGE = Path(__file__).resolve().parents[2] / "docs/PROMISES.md"
HEAD = """# The promises

Each line is a promise, a fault that is put in its way on real hosts, and how many cases were tried and held. A case is
one test: one moment, one kind of release, one way to die. `make promises` tries all of them and writes this page (with
`SEED=N` from another seed), `make test` tries a part of each line, and the last column is the command for one line
alone (as root, on Linux).

"""
FIGURES_HEAD = """
## The traffic, in figures

From the log of the client alone, which sends at a fixed rate (new and kept connections, GET, POST, uploads of 10 MB,
event streams; one in ten takes a second). The last columns: how many times longer 99 in 100 requests took during the
verbs than in quiet, all and the quickest kind alone, and than in the same seconds on a host beside that rested.

| case | requests | lost | a second | p99 to quiet | quick ones | to the host beside |
| --- | --- | --- | --- | --- | --- | --- |
"""


@dataclass
class Logs:
    """The content of some logs. lines: each case tried. runs: each run's summary."""

    lines: list[Mapping[str, Any]] = field(default_factory=list)
    runs: list[Mapping[str, Any]] = field(default_factory=list)


def read(paths: Iterable[Path]) -> Logs:
    """Read all lines of the logs."""
    logs = Logs()
    for line in (json.loads(text) for path in paths for text in path.read_text().splitlines()):
        if "run" in line:
            logs.runs.append(line["run"])
        else:
            logs.lines.append(line)
    return logs


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
        status = pytest.main(["--collect-only", "-q", "-m", "promise"], plugins=[Listener()])
    if status != 0:
        raise ValueError(f"pytest --collect-only ended with {int(status)}:\n{said.getvalue()}")
    return rows.collected([*tried, *left_out])[0], rows.collected(tried)[0]


def page(logs: Logs, there: Mapping[Row, Sequence[str]]) -> str:
    """Return the whole page. there: the current rows with their node ids; rows in no log are shown as such."""
    tried: dict[Row, list[bool]] = {}
    nodes: dict[Row, list[str]] = {row: list(ids) for row, ids in there.items()}
    for line in logs.lines:
        row = Row(line["promise"], line["fault"])
        tried.setdefault(row, []).append(line["held"])
        if row not in there:
            nodes.setdefault(row, []).append(line["node"])
    seeds = sorted({run["seed"] for run in logs.runs})
    lines = [_line(row, nodes[row], tried.get(row, []), seeds) for row in sorted(nodes)]
    table = "| promise | fault | cases tried | cases held | reproduce |\n| --- | --- | --- | --- | --- |\n"
    head = HEAD + "".join(f"- {_told(run)}\n" for run in logs.runs) + f"- {_sum(tried, nodes)}\n\n"
    figures = [_measured(line) for line in logs.lines if "figures" in line]
    measured = FIGURES_HEAD + "".join(sorted(figures)) if figures else ""
    return head + table + "".join(lines) + measured


def _measured(line: Mapping[str, Any]) -> str:
    figures = line["figures"]
    lost, sent = (sum(column) for column in zip(*figures["lost of sent"].values(), strict=True))
    names = ("all: p99 to quiet", "quick: p99 to quiet", "all: p99 to the host beside")
    ratios = " | ".join(str(figures.get(name, "")) for name in names)
    return f"| `{line['node'].rpartition('/')[2]}` | {sent} | {lost} | {figures['sent a second']} | {ratios} |\n"


def _told(run: Mapping[str, Any]) -> str:
    versions = dict(run["versions"])
    suite = versions.pop("suite", "")
    hosts = ", ".join(f"{name} {version}" for name, version in versions.items())
    told = f"{run['date']}, seed {run['seed']}, {run['promises']} cases, {run['cores']} cores"
    return f"{told}; hosts: {suite}, {hosts}" if hosts else told


def _sum(tried: Mapping[Row, Sequence[bool]], nodes: Mapping[Row, Sequence[str]]) -> str:
    held = [one for cases in tried.values() for one in cases]
    return f"{sum(held)} of {len(held)} cases held, in {len(tried)} of {len(nodes)} lines"


def _line(row: Row, nodes: Sequence[str], tried: Sequence[bool], seeds: Sequence[int]) -> str:
    figures = f"{len(tried)} | {sum(tried)} of {len(tried)}" if tried else "not run | not run"
    seed = f" --seed {seeds[0]}" if seeds else ""
    where = " ".join(dict.fromkeys(node.partition("[")[0] for node in nodes))
    return (
        f"| {_cell(row.promise)} | {_cell(row.fault)} | {figures} | `.venv/bin/pytest --promises all{seed} {where}` |\n"
    )


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def main(paths: Sequence[str]) -> None:
    """Write the page from these logs."""
    PAGE.write_text(page(read(map(Path, paths)), promised()[0]))


if __name__ == "__main__":
    main(sys.argv[1:])
