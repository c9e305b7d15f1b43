"""Quoting: every value means itself in the other language, or is refused."""

from __future__ import annotations

import shutil
import subprocess
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.engine import quote
from tests.support.nasty_texts import ACCOUNTS, NO_ACCOUNTS

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
NASTY = [
    "",
    " ",
    "'",
    '"',
    "\\",
    "$(id)",
    "`id`",
    "a\nb",
    "-n",
    "*",
    "~",
    "#x",
    "!x",
    "a'b\"c",
    "\x1b[31m",
    "%s",
    "{{x}}",
]


def words_of(shell: str, text: str, count: int) -> list[str]:
    """Return the words that the shell makes of `text`."""
    program = shutil.which(shell)
    assert program
    answer = subprocess.run([program, "-c", f"printf '%s\\0' {text}"], capture_output=True, check=True)
    words = answer.stdout.decode().split("\0")[:-1]
    assert len(words) == count
    return words


@pytest.mark.parametrize("shell", ["dash", "bash"])
@given(values=st.lists(TEXT.filter(lambda text: "\0" not in text), min_size=1, max_size=20))
@settings(max_examples=40, deadline=None)
def test_a_shell_reads_every_value_as_it_was(shell: str, values: list[str]) -> None:
    assert words_of(shell, " ".join(quote.shell(value) for value in values), len(values)) == values


@pytest.mark.parametrize("shell", ["dash", "bash"])
def test_a_shell_reads_what_is_known_to_be_nasty(shell: str) -> None:
    assert words_of(shell, " ".join(quote.shell(value) for value in NASTY), len(NASTY)) == NASTY


def test_what_a_shell_cannot_carry_is_refused() -> None:
    with pytest.raises(ValueError, match="NUL"):
        quote.shell("a\0b")


@pytest.mark.parametrize("value", ["a\nb", "a\rb", "a\0b", "a\\", "\x1b", "\x7f", " a", "a ", "\ta", "", "\ud800"])
def test_what_a_unit_file_cannot_carry_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="a unit file cannot carry"):
        quote.systemd(value)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd itself is asked, and it is not here")
@given(value=st.text(st.characters(exclude_categories=["C", "Z"], include_characters=" %\\"), max_size=30))
@settings(max_examples=25, deadline=None)
def test_systemd_reads_a_value_as_it_was(value: str) -> None:
    try:
        quoted = quote.systemd(f"x{value}")
    except ValueError:
        return
    told = subprocess.run(
        ["systemd-analyze", "condition", f"ConditionHost={quoted}"], capture_output=True, check=False
    ).stderr
    assert f"ConditionHost=x{value} failed" in told.decode()


@given(value=TEXT)
@settings(deadline=None)
def test_nginx_and_sudo_get_plain_words_or_nothing(value: str) -> None:
    for function, special in ((quote.nginx, ";{}\"'#$\\*~^()|"), (quote.sudoers, ",:=\\!*?[]\"'#()%")):
        try:
            quoted = function(value)
        except ValueError:
            continue
        assert quoted == value
        assert quoted
        assert not set(special) & set(quoted)
        assert quoted.isascii()
        assert quoted.isprintable()
        assert " " not in quoted


@pytest.mark.parametrize("value", ["", "a b", "a;", "a\n", "\na", "$host", "a}", "é", "a\\"])
def test_nginx_refuses_what_is_no_plain_word(value: str) -> None:
    with pytest.raises(ValueError, match="nginx cannot carry"):
        quote.nginx(value)


@pytest.mark.parametrize("value", ["", "a b", "a,b", "a=b", "a:b", "*", "a\n", "%admin", "#1000", "a\\", "é"])
def test_sudo_refuses_what_is_no_plain_word(value: str) -> None:
    with pytest.raises(ValueError, match="a sudo rule cannot carry"):
        quote.sudoers(value)


@pytest.mark.parametrize("value", ACCOUNTS)
def test_an_account_stands_as_it_is(value: str) -> None:
    assert quote.account(value) == value


@pytest.mark.parametrize("value", NO_ACCOUNTS)
def test_what_would_mean_somebody_else_is_no_account(value: str) -> None:
    with pytest.raises(ValueError, match="would not be one account"):
        quote.account(value)


@given(value=st.one_of(TEXT, st.from_regex(r"[%+#!A-Z]?[A-Z0-9_a.]{0,4}\$?", fullmatch=True)))
@settings(deadline=None)
def test_an_account_is_a_plain_word_with_a_small_letter_or_a_mark_that_no_alias_has(value: str) -> None:
    if quote.is_account(value):
        assert value[0].isalpha() or value[0] == "_"
        assert not set(value) & set("%+#!,:=()\\ \t\n\"'*?[]{}$/")
        assert value[0] == "_" or not all(c.isupper() or c.isdigit() or c == "_" for c in value)


def test_nothing_that_steers_a_terminal_is_left_of_any_character() -> None:
    every = [*map(chr, range(0x110000))]
    controls = {one for one in every if unicodedata.category(one) in {"Cc", "Cf", "Cs", "Zl", "Zp"}}
    directions = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    steering = {*controls, *"\u061c\u200e\u200f\ufeff"}
    steering |= {one for one in every if unicodedata.bidirectional(one) in directions}
    assert {one for one in steering if quote.terminal(one) == one} == {"\t"}


def test_what_is_taken_out_can_be_seen() -> None:
    assert quote.terminal("a\x1b[2Jb\r\n\x9b\u202e\u2028\ud800\x00") == (r"a\x1b[2Jb\x0d\x0a\x9b\u202e\u2028\ud800\x00")
    assert quote.terminal("tab\there, ümläut, 漢字, 🙂") == "tab\there, ümläut, 漢字, 🙂"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("s\u200bystemd: forged", r"s\u200bystemd: forged"),
        ("soft\u00adhyphen", r"soft\xadhyphen"),
        ("tag\U000e0041\U000e007f", r"tag\U000e0041\U000e007f"),
        ("selected\ufe00\ufe0f\U000e0100", r"selected\ufe00\ufe0f\U000e0100"),
        ("filled\u3164\uffa0\u115f\u034f", r"filled\u3164\uffa0\u115f\u034f"),
        ("\u26a0\ufe0f in colour, \u2764\ufe0e without", "\u26a0\ufe0f in colour, \u2764\ufe0e without"),
        ("\u26a0\ufe0f\ufe0f", "\u26a0\ufe0f" + r"\ufe0f"),
        ("e\u0301 \u0928\u093f", "e\u0301 \u0928\u093f"),
    ],
)
def test_what_cannot_be_seen_is_shown(text: str, shown: str) -> None:
    assert quote.terminal(text) == shown
