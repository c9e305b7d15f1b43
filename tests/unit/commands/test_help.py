"""The help of every verb: each option has a text, everything fits a terminal, and --help works wherever it stands."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import NamedTuple

import pytest

from tests.support import clone as clones
from tests.support.clone import ROOT, Clone

COLUMNS = 80
NEITHER_VERB_NOR_NOUN = {
    *("a", "an", "the", "this", "that", "it", "its", "so", "all", "also", "too", "likewise", "another", "what", "who"),
    *("as", "at", "by", "for", "from", "if", "in", "of", "on", "or", "to", "when", "whether", "with", "no", "not"),
}

# Invoke returns the text of an option only once in a process.
LOOK = """
import json
from fabfile import namespace
options = {one.name: {name: argument.help for name, argument in one.args.items()} for one in namespace.to_contexts()}
print(json.dumps([[name, found, namespace[name].__doc__] for name, found in options.items()]))
"""


class Verb(NamedTuple):
    """A verb. options: the text of each; lines: of its docstring."""

    options: dict[str, str | None]
    lines: list[str]


@pytest.fixture(scope="module")
def verbs() -> dict[str, Verb]:
    found = json.loads(
        subprocess.run([sys.executable, "-c", LOOK], cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout
    )
    return {name: Verb(options, text.strip().splitlines()) for name, options, text in found}


def test_every_option_of_every_verb_says_what_it_takes_or_does(verbs: dict[str, Verb]) -> None:
    assert len(verbs) > 20
    for name, verb in verbs.items():
        for option, text in verb.options.items():
            assert text, (name, option)
            assert text.split()[0].strip(":,;").lower() not in NEITHER_VERB_NOR_NOUN, (name, option, text)
            assert not text.endswith((".", " ")), (name, option, text)
    assert len({verb.options["json"] for verb in verbs.values() if "json" in verb.options}) == 1


def test_what_is_said_of_a_verb_fits_a_terminal(verbs: dict[str, Verb]) -> None:
    widest = max(map(len, verbs))
    for name, verb in verbs.items():
        # `fab --list` prints the first line in a column, `fab --help` all lines as they are.
        assert verb.lines[0].endswith("."), name
        assert 2 + widest + 3 + len(verb.lines[0]) < COLUMNS, name
        assert [line for line in verb.lines if len(line.strip()) > COLUMNS - 2] == [], name


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    return clones.make(tmp_path_factory.mktemp("help"))


@pytest.mark.parametrize("verb", ["deploy", "maintenance", "shell", "sandbox.up"])
def test_help_is_the_same_wherever_it_stands(plain: Clone, verb: str) -> None:
    wanted = plain.done("--help", verb).out
    assert f" {verb} " in wanted
    for flag in ("--help", "-h"):
        assert plain.done(verb, flag).out == wanted


def test_help_of_maintenance_is_shown_beside_its_word_and_options(plain: Clone) -> None:
    wanted = plain.done("--help", "maintenance").out
    for words in (["on", "--help"], ["--json", "--help"], ["--message", "x", "-h"]):
        assert plain.done("maintenance", *words).out == wanted


def test_a_command_that_we_advise_exists(verbs: dict[str, Verb]) -> None:
    advised = re.compile(r"""(?:[`"'(]|: |\bor )fab (?:-{1,2}[^\s`"']+ )*([a-z][a-z.]+)""")
    texts = [path for top in ("tasks", "templates", "service") for path in (ROOT / top).rglob("*.*")]
    texts += [ROOT / "README.md", ROOT / "CHANGELOG.md", *ROOT.glob("docs/*.md")]
    found = {
        (str(path.relative_to(ROOT)), word.rstrip("."))
        for path in texts
        if path.is_file() and path.suffix != ".pyc"
        for word in advised.findall(path.read_text(errors="replace"))
    }
    assert len(found) > 100
    assert {(path, word) for path, word in found if word not in verbs} == set()
