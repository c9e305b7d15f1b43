"""Add lines to files of the service, as text: comments and order stay. A shape that is not known is refused. Pure."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence

from tasks.engine import python_text
from tasks.engine.errors import UsageError
from tasks.engine.release import requirement_lines

PARTS = "service/app/parts.py"
REQUIREMENTS = "service/requirements.in"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def listed(text: str) -> tuple[str, ...]:
    """Return the names in PARTS of parts.py; none if it has a shape that is not known."""
    try:
        lists = [found for node in python_text.parse(text).body if (found := _parts(node))]
    except SyntaxError:
        return ()
    return tuple(element.id for one in lists for element in one.elts if isinstance(element, ast.Name))


def add_to_list(text: str, name: str) -> str:
    """Return parts.py with an import of the module and its name in PARTS; as it is if both are there."""
    try:
        tree = python_text.parse(text)
    except SyntaxError as error:
        reason = f"line {error.lineno} is not Python" if error.lineno else f"Python cannot read it: {error.msg}"
        raise _unknown(reason, name) from None
    imported = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.level == 1 and not node.module]
    lists = [found for node in tree.body if (found := _parts(node))]
    if len(lists) != 1 or len(imported) > 1:
        raise _unknown("PARTS is not one tuple of modules", name)
    listed = [element.id for element in lists[0].elts if isinstance(element, ast.Name)]
    known = [alias.name for alias in imported[0].names] if imported else []
    lines = text.splitlines(keepends=True)
    if name not in listed:
        _extend(lines, lists[0], name)
    if name not in known:
        _import(lines, tree, imported, [*known, name])
    return "".join(lines)


def add_requirements(text: str, wanted: Sequence[str]) -> str:
    """Return requirements.in with the packages that it does not name yet, at its end."""
    named = {_package(line) for _, line in requirement_lines.logical_lines(text)}
    missing = [line for line in wanted if _package(line) not in named]
    return "".join([text if text.endswith("\n") or not text else f"{text}\n", *(f"{line}\n" for line in missing)])


def _package(requirement: str) -> str:
    found = _NAME.match(requirement)
    return re.sub(r"[._-]+", "-", found[0]).lower() if found else ""


def _parts(node: ast.stmt) -> ast.Tuple | None:
    """Return the tuple that a statement gives to PARTS; None for any other statement."""
    if isinstance(node, ast.AnnAssign):
        targets: list[ast.expr] = [node.target]
    elif isinstance(node, ast.Assign):
        targets = node.targets
    else:
        return None
    ours = any(isinstance(target, ast.Name) and target.id == "PARTS" for target in targets)
    return node.value if ours and isinstance(node.value, ast.Tuple) else None


def _extend(lines: list[str], parts: ast.Tuple, name: str) -> None:
    """Add a name before the parenthesis that closes the tuple; in a line of its own if the others are so."""
    assert parts.end_lineno
    assert parts.end_col_offset
    row, column = parts.end_lineno - 1, parts.end_col_offset - 1
    head, tail = lines[row].encode()[:column].decode(), lines[row].encode()[column:].decode()
    if not tail.startswith(")"):
        raise _unknown("PARTS has no parentheses", name)
    if parts.lineno != parts.end_lineno and not head.strip():
        lines.insert(row, f"    {name},\n")
        return
    comma = "" if not parts.elts or head.rstrip().endswith(",") else ", "
    space = " " if head.endswith(",") else ""
    lines[row] = f"{head}{comma}{space}{name}{',' if not parts.elts else ''}{tail}"


def _import(lines: list[str], tree: ast.Module, imported: list[ast.ImportFrom], names: Sequence[str]) -> None:
    """Import the modules in one line, in the place of the former one, or below all other imports."""
    text = f"from . import {', '.join(sorted(names))}\n"
    if imported:
        if imported[0].lineno != imported[0].end_lineno or "#" in lines[imported[0].lineno - 1]:
            raise _unknown("its import is of several lines, or has a comment", names[-1])
        lines[imported[0].lineno - 1] = text
        return
    ends = [node.end_lineno for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    lines.insert(max(end or 0 for end in ends) if ends else 0, f"\n{text}")


def _unknown(reason: str, name: str) -> UsageError:
    return UsageError(
        f"a part cannot be added to this file: {reason}",
        where=PARTS,
        next=f"add `from . import {name}` and the module to PARTS by hand, then: fab add {name}",
    )
