"""A base tree is built once, whole or not at all, under a name derived from its recipe."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.engine.errors import LoopError, UsageError
from tasks.engine.sandbox import Sandbox, tree
from tasks.engine.sandbox.tree import Recipe
from tests.support.ending import Ending

RECIPE = Recipe("bookworm", "Types: deb\n", "#!/bin/sh\n")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox) -> Path:  # noqa: ARG001 - needs its root
    """An empty cache, with a mmdebstrap first on PATH that follows the file `how` beside it."""
    programs = tmp_path / "bin"
    programs.mkdir()
    stub = programs / "mmdebstrap"
    stub.write_text(
        "#!/bin/sh\n"
        "for target; do case $target in *.part) break ;; esac; done\n"
        'mkdir "$target" && echo half >"$target/file"\n'
        f'echo built >>"{tmp_path}/builds"\n'
        f'if [ -e "{tmp_path}/broken" ]; then echo "E: no mirror"; exit 25; fi\n'
        'echo "I: success"\n'
    )
    stub.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return tmp_path / "cache"


def test_a_tree_is_built_once_and_says_its_steps(cache: Path) -> None:
    said: list[str] = []
    made = tree.ensure(RECIPE, said.append, cache)
    assert made == tree.ensure(RECIPE, said.append, cache) == cache / RECIPE.name
    assert [line.split(":")[0] for line in said] == ["building the base tree of bookworm", "success"]
    assert sorted(path.name for path in cache.iterdir()) == [RECIPE.name, f"{RECIPE.name}.lock"]


def test_a_build_that_fails_leaves_nothing_that_could_be_taken_for_a_tree(cache: Path) -> None:
    (cache.parent / "broken").touch()
    with pytest.raises(LoopError, match="could not make a tree of bookworm") as caught:
        tree.ensure(RECIPE, print, cache)
    assert caught.value.detail == ("E: no mirror",)
    assert [path.name for path in cache.iterdir()] == [f"{RECIPE.name}.lock"]
    (cache.parent / "broken").unlink()
    assert (tree.ensure(RECIPE, print, cache) / "file").exists()


def test_what_a_killed_build_left_is_thrown_away(cache: Path) -> None:
    leftover = cache / f"{RECIPE.name}.part" / "junk"
    leftover.mkdir(parents=True)
    made = tree.ensure(RECIPE, print, cache)
    assert sorted(path.name for path in made.iterdir()) == ["file"]


def test_a_killed_builder_takes_its_build_with_it(cache: Path) -> None:
    marker = cache.parent / "started"
    os.mkfifo(marker)
    stub = cache.parent / "bin" / "mmdebstrap"
    stub.write_text(f'#!/bin/sh\nexec 8>"{marker}"\necho started >&8\nsleep 20\necho survived >&8\n')
    build = (
        "import sys; from pathlib import Path; from tasks.engine.sandbox import tree;"
        "tree.ensure(tree.Recipe('bookworm', '', ''), print, Path(sys.argv[1]))"
    )
    command = [sys.executable, "-c", build, str(cache)]
    with Ending(command, cwd=Path(tree.__file__).parents[3]) as builder, marker.open() as started:
        assert started.readline() == "started\n"
        builder.kill()
        assert started.read() == "", "the pipe ends with the last process that holds it"


def test_builders_at_once_build_once(cache: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        made = set(pool.map(lambda _: tree.ensure(RECIPE, print, cache), range(4)))
    assert made == {cache / RECIPE.name}
    assert (cache.parent / "builds").read_text() == "built\n"


@pytest.mark.parametrize("change", [{"suite": "trixie"}, {"sources": "other"}, {"customize": "other"}])
def test_any_change_to_the_recipe_is_another_tree(change: dict[str, str]) -> None:
    assert replace(RECIPE, **change).name != RECIPE.name


@pytest.mark.parametrize("suite", ["../x", "bookworm updates", "--simulate"])
def test_a_suite_that_is_no_word_is_refused(suite: str) -> None:
    with pytest.raises(UsageError, match="no suite"):
        tree.recipe(suite)


def test_the_cache_follows_the_users_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    assert tree.cache_directory() == Path("/elsewhere/integrators-loop/sandbox")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/frodo")
    assert tree.cache_directory() == Path("/home/frodo/.cache/integrators-loop/sandbox")
