"""Texts with a meaning to a shell, a unit file, nginx, sudo, YAML, a terminal or a file system.

A text that gets executed makes a file called `pwned`: it must never exist.
"""

from __future__ import annotations

import json
import unicodedata
from functools import lru_cache

from hypothesis import strategies as st

PWNED = "pwned"

SYNTAX = (
    *(
        "'",
        '"',
        "\\",
        "\\'",
        "'\\''",
        "a\\",
        "$(touch pwned)",
        "`touch pwned`",
        "${IFS}",
        "$HOME",
        "$$",
        "$@",
        "$'\\n'",
    ),
    *(";touch pwned", "; touch pwned;", "|touch pwned", "&touch pwned&", "&& touch pwned", "|| touch pwned", ">pwned"),
    *(
        "<(touch pwned)",
        "'; touch pwned; '",
        '"; touch pwned; "',
        "#",
        " #x",
        "x # y",
        "!x",
        "!!",
        "*",
        "?",
        "[a-z]",
        "~",
    ),
    *(
        "~root",
        "%",
        "%%",
        "%i",
        "%n",
        "%h",
        "%%n",
        "%s%n",
        "%(x)s",
        "{{name}}",
        "{{root}}",
        "{{x",
        "{x}",
        "{0}",
        "}",
        "{",
    ),
    *(
        "=",
        "A=1",
        "-",
        "-n",
        "--",
        "--help",
        "-oProxyCommand=touch pwned",
        "@x",
        "+/bin/touch pwned",
        "!/bin/touch pwned",
    ),
    *(",", ":", "ALL", "ALL=(ALL) NOPASSWD: ALL", "%admin", "#1000", "a,b=c", "\\,", "x;", "x; }", "return 444;"),
    *(
        "",
        " ",
        "  a",
        "a  ",
        "a  b",
        "\t",
        "a\tb",
        "/",
        "//",
        ".",
        "..",
        "../../etc/passwd",
        "/etc/passwd",
        "a/../b",
        "a/./b",
    ),
)
LINES = (
    *(
        "\n",
        "a\nb",
        "a\n",
        "\na",
        "a\r\nb",
        "\r",
        "\x0b",
        "\x0c",
        "\x85",
        "\u2028",
        "\u2029",
        "a\\\nb",
        "x\ntouch pwned\n",
    ),
    "a\n[Service]\nExecStartPre=+/bin/touch pwned",
    "x;\n}\nserver { listen 81; }",
    "a\nmyapp ALL=(ALL) NOPASSWD: ALL",
    "a\n@0123456789abcdef end ok",
)
TERMINAL = (
    *("\x1b[2J", "\x1b]0;owned\x07", "\x1b[31mred", "\x9b2J", "\x7f", "\x08\x08", "\x07", "\x00", "a\x00b", "\x01"),
    *("\u202egnp.exe", "\u2066x", "\u200f", "\u061c", "\ufeffx", "\ufffe", "\ud800", "\udc80"),
)
UNICODE = (
    "é",
    "e\u0301",
    "漢字",
    "🙂",
    "pаypal",
    "\u200b",
    "\u00a0",
    "＄（id）",
    "ﬁ",
    "\U000e0041",
    "ⅷ",
    "٣",
    "ß",
    "İ",
    "a\u0300" * 50,
)
YAML = (
    *(
        "yes",
        "no",
        "on",
        "off",
        "y",
        "null",
        "~",
        "true",
        "1e3",
        "0o17",
        "017",
        "0x1F",
        "1_000",
        "1.10",
        ".inf",
        ".nan",
        "-0",
    ),
    *(
        "2026-01-01",
        "1:30",
        "22:22",
        "<<",
        "=",
        "&a x",
        "*a",
        "- a",
        "a: b",
        "? a",
        "|",
        ">",
        "%YAML 1.1",
        "---",
        "...",
        "x: y",
    ),
    *("!!python/object/apply:os.system [touch pwned]", "!!str x", "! x", "[a, b]", "{a: b}", "`x`", "'x", '"x', "a #b"),
)
LONG = (
    *(">=3." + "9" * 5000, "~=3.9" + ",!=3.9" * 1000, "127.0.0.1:" + "9" * 5000, "/" + "a" * 8000, "a." * 4000),
    *("x" * 8192, "x" * 8193, "x" * 100_000, "'" * 4000, "$(touch pwned)" * 400, "\\" * 3000, "a " * 4000, "9" * 5000),
)

TEXTS = tuple(dict.fromkeys((*SYNTAX, *LINES, *TERMINAL, *UNICODE, *YAML, *LONG)))

_PIECES = st.sampled_from([*SYNTAX, *LINES, *TERMINAL, *UNICODE, *YAML])
ANY = st.one_of(st.text(max_size=20), st.lists(st.one_of(_PIECES, st.text(max_size=3)), max_size=4).map("".join))
"""Any text, mostly made of the pieces above."""


@lru_cache(1000)
def in_yaml(text: str) -> str:
    """Return a double-quoted YAML scalar with this text, whatever it contains."""
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(character: str) -> str:
    code = ord(character)
    if character in '"\\':
        return f"\\{character}"
    if unicodedata.category(character)[0] == "C" or character in "\u2028\u2029\x85":
        return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
    return character


def harmless(text: str) -> bool:
    """Return true if the text moves no cursor, changes no reading order, and begins no line."""
    return not [one for one in text if unicodedata.category(one) in {"Cc", "Cs", "Zl", "Zp"} and one != "\t"] and not (
        set(text) & set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")
    )


def short(text: str) -> str:
    """Return its name in a list of tests."""
    return json.dumps(text[:20])


ACCOUNTS = ["deploy", "root", "_www", "_WWW", "first.last", "A-1", "Deploy", "JSmith2", "a", "deploy@corp.example"]
"""Account names that real systems have, and that mean one account to sudo."""

NO_ACCOUNTS = [
    *("", "ALL", "DEPLOY", "D", "WEB_ADMINS", "A1", "%wheel", "%#0", "%:group", "+netgroup", "#0", "#1000", "!deploy"),
    *("-x", "1a", "a b", "a$(x)", "a$", "a,b", "a:b", "a=b", "a\\b", "CORP\\deploy", "a\n", "a/b", "a*", '"a"', "(a)"),
    *("a@", "@b", "a@b@c", "a@-b", "é", "a" * 33, "deploy ALL", "a%h"),
]
"""Names that sudo reads as everybody, an alias, a group, a netgroup, a number or a negation, or that no file holds."""
