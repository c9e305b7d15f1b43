"""Quote every value that becomes part of another language. No other module does.

Each function returns text that means exactly the value in that language, or raises ValueError for a value that the
language cannot express. Validation has refused such values before, with file and line.
"""

from __future__ import annotations

import re
import shlex

# Characters that move the cursor, change the order in which a text is shown, or are not drawn at all (UTS #55, Trojan
# Source): controls, surrogates, line separators, format characters (category Cf: bidirectional marks, zero width, soft
# hyphen, tags) and the rest of Default_Ignorable_Code_Point. A variation selector may follow a symbol, whose colours it
# chooses; anywhere else it hides.
_HOSTILE = re.compile(
    "["
    r"\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff"
    r"\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff0-\ufffb"
    r"\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
    r"\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u3164\ufe00-\ufe0d\uffa0"
    r"]|(?<![\u2100-\u27bf\u2900-\u2bff\U0001f000-\U0001faff])[\ufe0e\ufe0f]"
)

# SSSD names the accounts of a directory `user@domain`.
_ACCOUNT = re.compile(r"[A-Za-z_][A-Za-z0-9._-]{0,31}(@[A-Za-z0-9][A-Za-z0-9.-]{0,63})?")
# To sudo, a word of capitals is an alias, and ALL means every account.
_ALIAS = re.compile(r"[A-Z][A-Z0-9_]*")


def shell(value: str) -> str:
    """Quote a value as one word of POSIX sh."""
    if "\0" in value:
        raise ValueError("the shell cannot carry a NUL")
    return shlex.quote(value)


def login_shell(value: str) -> str:
    """Return a value as one word of any login shell: sh, fish and csh agree on nothing but plain words."""
    if not re.fullmatch(r"[A-Za-z0-9._:/@=+-]+", value):
        raise ValueError(f"not every login shell can carry {value!r} as a plain word")
    return value


def systemd(value: str) -> str:
    """Quote a value of a unit file where no word splitting happens: `%` would begin a specifier."""
    # systemd drops blanks at both ends, an empty value resets earlier ones, and a last backslash joins lines.
    if not value or not value.isprintable() or value != value.strip() or value.endswith("\\"):
        raise ValueError(f"a unit file cannot carry {value!r} as it is")
    return value.replace("%", "%%")


def nginx(value: str) -> str:
    """Return a bare word of an nginx file; nginx has no way to quote a `$`, so only plain words pass."""
    if not re.fullmatch(r"[A-Za-z0-9._:/@\[\]-]+", value):
        raise ValueError(f"nginx cannot carry {value!r} as a plain word")
    return value


def nginx_name(value: str) -> str:
    """Return a name of `server_name` in an nginx file; a wildcard is `*.` and a name."""
    return "*." + nginx(value[2:]) if value.startswith("*.") else nginx(value)


def sudoers(value: str) -> str:
    """Return one word of a command in a sudoers file."""
    if not re.fullmatch(r"[A-Za-z0-9._/@-]+", value):
        raise ValueError(f"a sudo rule cannot carry {value!r} as it is")
    return value


def is_account(value: str) -> bool:
    """Return True if sudoers, unit files and tmpfiles all read this as one account: no alias, group or number."""
    return _ACCOUNT.fullmatch(value) is not None and _ALIAS.fullmatch(value) is None


def account(value: str) -> str:
    """Return the name of an account for a sudoers file, a unit file or tmpfiles."""
    if not is_account(value):
        raise ValueError(f"{value!r} would not be one account in a sudo rule or a unit file")
    return value


def terminal(text: str) -> str:
    """Escape a text from a host for a terminal: control and invisible characters become visible, tabs stay."""
    if text.isascii() and text.isprintable():
        return text
    return _HOSTILE.sub(lambda match: "\t" if match[0] == "\t" else _visible(match[0]), text)


def _visible(character: str) -> str:
    code = ord(character)
    if code > 0xFFFF:
        return f"\\U{code:08x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
