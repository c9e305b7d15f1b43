"""The parts that there are."""

from __future__ import annotations

import ast
import json
import re
import tokenize
from io import BytesIO
from pathlib import Path

import pytest
import yaml

from tasks.engine.errors import UsageError
from tasks.engine.parts import catalogue
from tests.support.clone import ROOT

NAMES = catalogue.names(ROOT)
EXAMPLES = {"app/notes.py"}  # of the part `api`: to be replaced by the owner's own
LIMIT = 250
"""Lines of code of a part's modules."""
LAYOUT = {tokenize.ENCODING, tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}


def lines_of_code(text: bytes) -> int:
    """Count lines without blank ones, comments and docstrings."""
    words = [word for word in tokenize.tokenize(BytesIO(text).readline) if word.type not in LAYOUT and word.string]
    code = {line for word in words for line in range(word.start[0], word.end[0] + 1)}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            code -= set(range(node.lineno, (node.end_lineno or 0) + 1))
    return len(code)


@pytest.mark.parametrize("name", NAMES)
def test_a_part_is_small_tested_and_says_when_and_how_to_take_it_out(name: str) -> None:
    part = catalogue.load(ROOT, name)
    modules = {path: text for path, text in part.files.items() if re.fullmatch(r"app/\w+\.py", path)}
    assert sum(lines_of_code(text) for path, text in modules.items() if path not in EXAMPLES) < LIMIT
    assert b"def init_app(app: Flask) -> None:" in part.files[f"app/{name}.py"]
    assert f"tests/test_{name}.py" in part.files
    readme = (ROOT / "templates/parts" / name / "README.md").read_text()
    assert len(readme.splitlines()) <= 15
    assert "Not if" in readme
    assert "To take it out" in readme


@pytest.mark.parametrize("name", NAMES)
def test_its_readme_names_all_that_is_to_be_deleted(name: str) -> None:
    part = catalogue.load(ROOT, name)
    last = (ROOT / "templates/parts" / name / "README.md").read_text().partition("To take it out: ")[2]
    words = re.findall("`([^`]+)`", last.partition("`app/parts.py`")[0])
    named: set[str] = set()
    for word in words:
        before, _, rest = word.partition("{")
        several, _, after = rest.partition("}")
        named |= {f"{before}{one}{after}" for one in several.split(",")}
    left = [
        path
        for path in part.files
        if path not in named and not path.startswith(tuple(one for one in named if one.endswith("/")))
    ]
    assert left == []
    assert {one.rstrip("/").partition("/")[0] for one in named} == {path.partition("/")[0] for path in part.files}
    assert ("service.yaml" in last) is bool(part.service)


def test_the_core_is_read_in_ten_minutes() -> None:
    assert sum(len(path.read_text().splitlines()) for path in (ROOT / "service/app").rglob("*.py")) < 900


@pytest.mark.parametrize("name", NAMES)
def test_what_a_part_requires_is_there_and_comes_before_it(name: str) -> None:
    order = [part.name for part in catalogue.with_required(ROOT, name)]
    assert order[-1] == name
    for part in catalogue.with_required(ROOT, name):
        assert all(order.index(one) < order.index(part.name) for one in part.requires)


def test_an_unknown_key_of_a_part_is_refused_in_its_place(tmp_path: Path) -> None:
    folder = tmp_path / "templates/parts/x"
    folder.mkdir(parents=True)
    (folder / "part.yaml").write_text("about: a\nwhen: b\nnxt: c\n")
    with pytest.raises(UsageError, match='unknown key "nxt"') as refused:
        catalogue.load(tmp_path, "x")
    assert "part.yaml:3:1" in str(refused.value.where)


def test_the_rules_and_the_dashboard_of_metrics_ask_for_what_there_is() -> None:
    files = catalogue.load(ROOT, "metrics").files
    groups = yaml.safe_load(files["monitoring/alerts.yaml"])["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    dashboard = json.loads(files["monitoring/dashboard.json"])
    shown = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    asked = set(re.findall(r"\b(?:job:\w+:\w+|http_\w+)", " ".join([*(rule["expr"] for rule in rules), *shown])))
    recorded = {rule["record"] for rule in rules if "record" in rule}
    written = files["app/metrics.py"].decode()
    assert '"http_requests"' in written
    assert '"http_request_seconds"' in written
    assert asked <= recorded | {"http_requests_total", "http_request_seconds_bucket", "http_request_seconds_count"}
    assert recorded <= asked
    assert 'le="0.5"' in files["monitoring/alerts.yaml"].decode()
    assert " 0.5," in written
    fast = [rule for rule in rules if rule.get("alert", "").endswith("Fast")]
    assert [rule["labels"] for rule in fast] == [{"severity": "page"}] * 2
