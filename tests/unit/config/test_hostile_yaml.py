"""Hostile YAML files: refused with their place, in bounded time and memory, without a traceback."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.engine.config import yaml_reader
from tasks.engine.errors import UsageError
from tasks.engine.report import output
from tests.promises.words import CALM
from tests.support.clone import Clone
from tests.support.nasty_texts import harmless

MIB = 1024 * 1024
SECONDS = 20
"""CPU time for a file of 1 MiB; on an idle machine none of these takes 3."""

LAUGHS = b"a: &a [x, x, x]\n" + b"".join(
    b"%c: &%c [%s]\n" % (98 + n, 98 + n, b",".join([b"*%c" % (97 + n)] * 9)) for n in range(20)
)

REFUSED = {
    "aliases of aliases": LAUGHS,
    "an anchor of a mebibyte": b"a: &" + b"x" * (MIB - 10) + b" 1",
    "lists in lists": b"a: " + b"[" * 500_000,
    "lists in lists, closed": b"a: " + b"[" * 500_000 + b"]" * 500_000,
    "mappings in mappings": b"{a: " * 250_000,
    "mappings in mappings, line by line": b"".join(b" " * number + b"a:\n" for number in range(1400)),
    "dashes": b"- " * 500_000,
    "keys that are keys": b"? " * 500_000,
    "braces": b"{" * MIB,
    "a key twice": b"a: 1\n" * 150_000,
    "a key twice in one line": b"a: {" + b"b: 1," * 150_000 + b"}",
    "ninety thousand keys": b"".join(b"k%d: 1\n" % number for number in range(90_000)),
    "a list of letters": b"a: [" + b"x," * 500_000 + b"]",
    "a list of mappings": b"a: [" + b"{}," * 300_000 + b"]",
    "a list without an end": b"[" + b"a ," * 300_000,
    "empty items": b"-\n" * 500_000,
    "documents": b"--- a\n" * 170_000,
    "ends of documents": b"...\n" * 250_000,
    "directives": b"%YAML 1.1\n" * 100_000 + b"--- a",
    "directives that nobody knows": b"%foo\n" * 200_000 + b"--- a",
    "a version of a mebibyte": b"%YAML 1." + b"9" * (MIB - 20) + b"\n--- a",
    "tags": b"a: " + b"!t" * 500_000,
    "a tag of a mebibyte": b"a: !<" + b"x" * (MIB - 20) + b"> 1",
    "an object": b"a: !!python/object/apply:os.system ['touch pwned']\n",
    "an object in its short form": b"a: !python/name:os.system\n",
    "a merge": b"a: {x: 1}\nb: {<<: {x: 2}}\n",
    "tabs": b"a:\t" * 300_000,
    "tabs that indent": b"a:\n\tb: 1\n",
    "a byte order mark": b"\xef\xbb\xbfa: 1\n",
    "a byte order mark in the middle": b"a: 1\n\xef\xbb\xbfb: 2\n",
    "UTF-16": "a: 1\n".encode("utf-16") * 80_000,
    "surrogates": b"a: \xed\xa0\x80\n",
    "zeros": b"\0" * MIB,
    "next lines": "a: 1\x85".encode() * 150_000,
    "carriage returns": b"a: 1\r" * 100_000,
    "a key of a mebibyte": b"x" * (MIB - 10) + b": 1",
    "a number of a mebibyte as a key": b"9" * (MIB - 10) + b": 1",
    "an escape beyond Unicode": b'a: "\\UFFFFFFFF"\n',
}
# Only their length is wrong: they are refused later, as no text of a field is so long.
TAKEN = {
    "a number of a mebibyte": b"a: " + b"9" * (MIB - 10),
    "a fraction of a mebibyte": b"a: 1." + b"9" * (MIB - 10),
    "a number to the base of 60": b"a: 1" + b":1" * 500_000,
    "underscores": b"a: " + b"1_" * 500_000 + b"x",
    "a date and a mebibyte": b"a: 2026-01-01 1:1:1." + b"1" * (MIB - 40),
    "spaces": b"a:" + b" " * (MIB - 10) + b"x",
    "empty lines": b"a:" + b"\n" * (MIB - 10) + b" x",
    "a text over many lines": b"a: x\n" + b" x\n" * 300_000,
    "a folded text": b"a: >\n" + b" x\n" * 300_000,
    "quotes": b"a: '" + b"''" * 500_000 + b"'",
    "escapes": b'a: "' + b"\\x41" * 250_000 + b'"',
    "comments": b"# x\n" * 250_000,
    "dashes without an end": b"-" * MIB,
}


@pytest.mark.promise(CALM, "a YAML file that is a bomb", part=4)
@pytest.mark.parametrize("bomb", REFUSED)
def test_a_bomb_is_refused_in_its_place(bomb: str) -> None:
    began = time.process_time()
    with pytest.raises(UsageError) as caught:
        yaml_reader.parse(REFUSED[bomb], "f.yaml")
    assert time.process_time() - began < SECONDS
    told = list(output.error_lines(caught.value))
    assert caught.value.next
    assert (caught.value.where or "").startswith("f.yaml:")
    assert all(harmless(line) and len(line) < 300 for line in told), told
    assert not Path("pwned").exists()


@pytest.mark.promise(CALM, "a YAML file that is a bomb", part=4)
@pytest.mark.parametrize("bomb", TAKEN)
def test_a_text_of_any_length_is_read_in_time(bomb: str) -> None:
    """Once: a mebibyte of YAML took more than a minute to be refused."""
    began = time.process_time()
    yaml_reader.parse(TAKEN[bomb], "f.yaml")
    assert time.process_time() - began < SECONDS


def sparse(path: Path) -> None:
    """Make a sparse file of 100 MB."""
    with path.open("wb") as file:
        file.truncate(100_000_000)


def one_line(path: Path) -> None:
    path.write_bytes(b"hosts: {a: {groups: [" + b"x, " * 33_000_000 + b"]}}\n")


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def loop(path: Path) -> None:
    path.symlink_to(path)


def laughs(path: Path) -> None:
    path.write_bytes(LAUGHS)


def keys(path: Path) -> None:
    path.write_bytes(b"hosts:\n" + b"".join(b"  h%d: {}\n" % number for number in range(60_000)))


@pytest.mark.promise(CALM, "an inventory that is a bomb, read by fab", part=3)
@pytest.mark.parametrize("make", [sparse, one_line, device, os.mkfifo, loop, laughs, keys])
def test_fab_says_in_one_sentence_what_is_wrong_with_the_file(clone: Clone, make: Callable[[Path], None]) -> None:
    make(clone.root / "bomb.yaml")
    clone.environment["HOSTS"] = "bomb.yaml"

    def limits() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (600 * MIB, 600 * MIB))
        resource.setrlimit(resource.RLIMIT_CPU, (2 * SECONDS, 2 * SECONDS))

    with clone.start("deploy", preexec_fn=limits) as process:
        out, err = process.communicate(timeout=300)
    assert process.returncode == 2, err[-2000:]
    assert out == ""
    assert err.startswith("error: bomb.yaml") or "   at: bomb.yaml" in err
    assert " next: " in err
    assert "Traceback" not in err
    assert len(err) < 1000
