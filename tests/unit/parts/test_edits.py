"""Lines for files of the service: put in as text, or refused with what to do by hand."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given
from hypothesis import settings as tries
from hypothesis import strategies as st

from tasks.engine.errors import UsageError
from tasks.engine.parts import edits

HEAD = '"""Parts."""\n\nfrom __future__ import annotations\n\nfrom types import ModuleType\n'
EMPTY = f"{HEAD}\nPARTS: tuple[ModuleType, ...] = ()\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (EMPTY, f"{HEAD}\nfrom . import metrics\n\nPARTS: tuple[ModuleType, ...] = (metrics,)\n"),
        ("PARTS = ()\n", "\nfrom . import metrics\nPARTS = (metrics,)\n"),
        (
            f"{HEAD}\nfrom . import jobs\n\n# ours\nPARTS = (jobs,)  # in order\n",
            f"{HEAD}\nfrom . import jobs, metrics\n\n# ours\nPARTS = (jobs, metrics)  # in order\n",
        ),
        ("from . import a, z\n\nPARTS = (z, a)\n", "from . import a, metrics, z\n\nPARTS = (z, a, metrics)\n"),
        (
            "from . import jobs\n\nPARTS = (\n    # first\n    jobs,  # ö\n)\n",
            "from . import jobs, metrics\n\nPARTS = (\n    # first\n    jobs,  # ö\n    metrics,\n)\n",
        ),
        ("from . import metrics\n\nPARTS = ()\n", "from . import metrics\n\nPARTS = (metrics,)\n"),
        ('from . import a\nö = "ö"; PARTS = (a,)\n', 'from . import a, metrics\nö = "ö"; PARTS = (a, metrics)\n'),
    ],
)
def test_a_part_joins_the_list_and_all_else_stays(before: str, after: str) -> None:
    assert edits.add_to_list(before, "metrics") == after
    assert edits.add_to_list(after, "metrics") == after


@pytest.mark.parametrize(
    "text",
    [
        "",
        "PARTS = []\n",
        "PARTS = tuple(load())\n",
        "PARTS = ()\nPARTS = ()\n",
        "PARTS = 1,\n",
        "def (:\n",
        f"x = {'-' * 50_000}1\n",
        "x = '\0'\n",
        "from . import (\n    jobs,\n)\n\nPARTS = (jobs,)\n",
        "from . import jobs  # ours\n\nPARTS = (jobs,)\n",
        "from . import a\nfrom . import b\n\nPARTS = (a, b)\n",
    ],
)
def test_a_shape_that_is_not_known_is_refused_with_the_lines_to_write(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        edits.add_to_list(text, "metrics")
    assert refused.value.where == "service/app/parts.py"
    assert "`from . import metrics`" in str(refused.value.next)


@tries(deadline=None)
@given(st.lists(st.sampled_from(["a", "b", "jobs", "z"]), unique=True), st.booleans())
def test_the_list_stays_python_and_keeps_its_order(names: list[str], lines: bool) -> None:
    items = "".join(f"    {name},\n" for name in names)
    written = f"(\n{items})" if lines and names else f"({', '.join(names)}{',' if len(names) == 1 else ''})"
    text = f"from . import {', '.join(names)}\n\nPARTS = {written}\n" if names else f"PARTS = {written}\n"
    tree = ast.parse(edits.add_to_list(text, "metrics"))
    (parts,) = [node.value for node in tree.body if isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple)]
    assert [ast.unparse(element) for element in parts.elts] == [*names, "metrics"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "prom-client>=1\n"),
        ("# ours\nflask  # web", "# ours\nflask  # web\nprom-client>=1\n"),
        ("Prom_Client==3\n", "Prom_Client==3\n"),
        ("prom.client[extra] ; python_version > '3'\n", "prom.client[extra] ; python_version > '3'\n"),
        ("# prom-client\n", "# prom-client\nprom-client>=1\n"),
        ("prom-client-more\n", "prom-client-more\nprom-client>=1\n"),
    ],
)
def test_a_package_is_added_unless_it_is_named(before: str, after: str) -> None:
    assert edits.add_requirements(before, ["prom-client>=1"]) == after
