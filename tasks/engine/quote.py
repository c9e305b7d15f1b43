"""Every value that becomes part of another language is quoted here, and nowhere else.

Each function returns text that means exactly the value in that language, or raises ValueError for a value that the
language cannot carry; validation has refused those before, with file and line.
"""

from __future__ import annotations

import re
import shlex

# C0 and C1 controls, DEL, bidirectional marks, line separators, and the byte order mark: what moves a cursor or lies
# about the order of what is read (UTS #55, Trojan Source).
_HOSTILE = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")

# `user@domain` is how SSSD names accounts of a directory.
_ACCOUNT = re.compile(r"[A-Za-z_][A-Za-z0-9._-]{0,31}(@[A-Za-z0-9][A-Za-z0-9.-]{0,63})?")
# A word of capitals is an alias to sudo, and ALL is everybody.
_ALIAS = re.compile(r"[A-Z][A-Z0-9_]*")


def shell(value: str) -> str:
    """One word of POSIX sh."""
    if "\0" in value:
        raise ValueError("the shell cannot carry a NUL")
    return shlex.quote(value)


def login_shell(value: str) -> str:
    """One word of whatever shell an account has: sh, fish and csh agree on nothing but plain words."""
    if not re.fullmatch(r"[A-Za-z0-9._:/@=+-]+", value):
        raise ValueError(f"not every login shell can carry {value!r} as a plain word")
    return value


def systemd(value: str) -> str:
    """A value in a unit file where no word splitting happens: `%` would name a specifier."""
    # Blanks at its ends are dropped there, an empty value takes earlier ones back, a last backslash joins lines.
    if not value or not value.isprintable() or value != value.strip() or value.endswith("\\"):
        raise ValueError(f"a unit file cannot carry {value!r} as it is")
    return value.replace("%", "%%")


def nginx(value: str) -> str:
    """A bare word of an nginx file; nginx has no way to quote a `$`, so only plain words pass."""
    if not re.fullmatch(r"[A-Za-z0-9._:/@\[\]-]+", value):
        raise ValueError(f"nginx cannot carry {value!r} as a plain word")
    return value


def sudoers(value: str) -> str:
    """One word of a command in a sudoers file."""
    if not re.fullmatch(r"[A-Za-z0-9._/@-]+", value):
        raise ValueError(f"a sudo rule cannot carry {value!r} as it is")
    return value


def is_account(value: str) -> bool:
    """Whether sudoers, unit files and tmpfiles all take this for the name of one account: no alias, group or number."""
    return _ACCOUNT.fullmatch(value) is not None and _ALIAS.fullmatch(value) is None


def account(value: str) -> str:
    """The name of an account in a sudoers file, a unit file or tmpfiles."""
    if not is_account(value):
        raise ValueError(f"{value!r} would not be one account in a sudo rule or a unit file")
    return value


def terminal(text: str) -> str:
    """Text from a host as it can be shown: what could steer a terminal becomes a visible escape, tabs stay."""
    return _HOSTILE.sub(lambda found: "\t" if found[0] == "\t" else _visible(found[0]), text)


def _visible(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
