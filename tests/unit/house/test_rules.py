"""Rules of the architecture that no linter checks: modules that may print or connect, and words no file may have.

The direction of imports, and the modules that may do I/O, are contracts of import-linter in pyproject.toml.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PRODUCT = sorted([ROOT / "fabfile.py", *(ROOT / "tasks").rglob("*.py")])
PYTHON = sorted({*PRODUCT, *(ROOT / "tests").rglob("*.py"), *(ROOT / "service").rglob("*.py"),
                 *(ROOT / "templates").rglob("*.py")})  # fmt: skip
SHELL = sorted((ROOT / ".ci").iterdir())

# Presentation: besides the command line, only these write to a person.
SHOWING = {"tasks.engine.fleet.remote_command", "tasks.engine.logs.view"}


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def type_checking_nodes(tree: ast.Module) -> set[ast.AST]:
    """Return the nodes below `if TYPE_CHECKING:`, which never run."""
    blocks = [node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)]
    return {node for block in blocks for node in ast.walk(block)}


def imports(path: Path) -> Iterator[str]:
    """Yield every imported module, at any depth; a name imported from a package of ours counts as a module."""
    tree = parsed(path)
    never = type_checking_nodes(tree)
    for node in ast.walk(tree):
        if node in never:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            packages = node.module in {"tasks", "tasks.engine", "tasks.engine.sandbox"}
            yield from (f"{node.module}.{alias.name}" if packages else node.module for alias in node.names)


def test_no_module_steers_a_terminal_by_codes_of_its_own() -> None:
    """Only rich colours output: it knows what a terminal can do."""
    for path in PRODUCT:
        assert not re.search(r"\\(x1b|033|u001b|N\{ESC)", path.read_text(encoding="utf-8")), path


def test_what_calls_itself_pure_reads_and_writes_nothing() -> None:
    """A contract of pyproject.toml lists the modules that it may import."""
    for path in (path for path in PRODUCT if "Pure." in (ast.get_docstring(parsed(path)) or "")):
        called = {node.func.id for node in ast.walk(parsed(path)) if isinstance(node, ast.Call)
                  and isinstance(node.func, ast.Name)}  # fmt: skip
        assert called & {"open", "print", "input", "exec", "eval"} == set(), path
        assert ".now()" not in path.read_text(encoding="utf-8"), path


def test_the_engine_knows_no_service() -> None:
    for path in (ROOT / "tasks/engine").rglob("*.py"):
        assert not [name for name in imports(path) if name.startswith(("service", "app", "fabfile"))], path


def test_every_connection_comes_from_one_function() -> None:
    made = {"Connection", "Transport", "transport_class", "SSHClient", "SerialGroup", "ThreadingGroup", "ProxyJump"}
    places = []
    for path in PRODUCT:
        for function in (node for node in ast.walk(parsed(path)) if isinstance(node, ast.FunctionDef)):
            for node in ast.walk(function):
                called = node.func if isinstance(node, ast.Call) else None
                word = called.id if isinstance(called, ast.Name) else getattr(called, "attr", "")
                if word in made:
                    places.append((name_of(path), function.name, word))
    assert sorted(places) == [
        ("tasks.engine.ssh.connection", "_connection", "Connection"),
        ("tasks.engine.ssh.connection", "_connection", "transport_class"),
        # It asks for a key, and ends before a login.
        ("tasks.engine.ssh.connection", "ask", "transport_class"),
        ("tasks.engine.ssh.connection", "offered_key", "transport_class"),
    ]


def test_only_what_shows_writes_to_the_person() -> None:
    for path in (path for path in PRODUCT if name_of(path).startswith("tasks.engine")):
        words = {ast.unparse(node.func) for node in ast.walk(parsed(path)) if isinstance(node, ast.Call)}
        assert "print" not in words, path
        if name_of(path) not in SHOWING and not name_of(path).startswith("tasks.engine.report."):
            written = {word for word in words if word.startswith("sys.std") and word.endswith(".write")}
            assert not written | {word for word in words if word.startswith("report.")}, path


def test_python_of_users_is_parsed_in_one_place() -> None:
    """It may be too deep for Python: what reads a value does as much for itself."""
    parses = {
        name_of(path)
        for path in PRODUCT
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "ast.parse"
    }
    assert parses == {"tasks.engine.python_text", "tasks.engine.config.formats"}


def test_no_program_is_started_by_way_of_a_shell() -> None:
    # Most files have none of these, and are not parsed.
    words = re.compile(r"os\.(system|popen)|getoutput|\bshell\s*=")
    for path in (path for path in PYTHON if words.search(path.read_text(encoding="utf-8"))):
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Call):
                assert ast.unparse(node.func) not in {"os.system", "os.popen", "subprocess.getoutput"}, path
                shell = [word.value for word in node.keywords if word.arg == "shell"]
                assert not [value for value in shell if isinstance(value, ast.Constant) and value.value is True], path


def test_nothing_is_left_for_later() -> None:
    # Split, or this file would match itself.
    words = ("TO" + "DO", "FIX" + "ME", "XX" + "X:", "HA" + "CK")
    texts = {path: path.read_text(encoding="utf-8") for path in (*PYTHON, *SHELL)}
    assert [path for path, text in texts.items() if any(word in text for word in words)] == []


def test_no_temporary_name_on_a_host_is_where_everybody_may_write() -> None:
    """A name in /tmp can be guessed and taken, even one based on a safe name. Once: drift as root wrote to a name in
    /tmp that the deploy account could guess, and so handed it root.
    """
    texts = {path: path.read_text(encoding="utf-8") for path in (ROOT / "templates").rglob("*")
             if path.is_file() and path.suffix != ".pyc"}  # fmt: skip
    taken = re.compile(r"\bmktemp\b|\btempfile\b|/tmp\b")
    assert [path for path, text in texts.items() if taken.search(text)] == []


def modules_after(statement: str) -> set[str]:
    """Return the modules that are loaded after this statement."""
    answer = subprocess.run(
        [sys.executable, "-c", f"{statement}\nimport sys\nprint(*sys.modules)"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return set(answer.stdout.split())


def test_listing_the_tasks_loads_little_more_than_fabric_itself() -> None:
    more = modules_after("import fabric.main, fabfile") - modules_after("import fabric.main")
    ours = {name for name in more if name.partition(".")[0] in {"tasks", "fabfile"}}
    foreign = {name for name in more - ours if name.partition(".")[0] not in sys.stdlib_module_names}
    assert foreign == set()
    engine = {name for name in ours if name.startswith("tasks.engine.")}
    assert engine == {"tasks.engine.errors"}
