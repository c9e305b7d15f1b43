"""The kinds of parameters of a wrapped command. Each turns a JSON value into one safe argument, or refuses it."""

from __future__ import annotations

import re
from dataclasses import dataclass


class ParameterError(ValueError):
    """A value that is not allowed; the text is the message for the client."""


@dataclass(frozen=True)
class Text:
    """A string that matches `pattern` as a whole and does not begin with a dash; required when it has no default."""

    about: str
    pattern: str
    default: str | None = None
    longest: int = 255

    def argument(self, value: object) -> str:
        """Return the value as an argument; raise ParameterError if it is not allowed."""
        if not isinstance(value, str):
            raise ParameterError("must be a string")
        if len(value) > self.longest:
            raise ParameterError(f"must have at most {self.longest} characters")
        if value.startswith("-"):
            raise ParameterError("must not begin with a dash")
        if re.search("[\0\ud800-\udfff]", value):  # no argument of a program can have them
            raise ParameterError("must not contain NUL or a lone surrogate")
        if not re.fullmatch(self.pattern, value, re.ASCII):
            raise ParameterError(f"must match {self.pattern}")
        return value


@dataclass(frozen=True)
class Number:
    """A whole number from `least` to `most`; required when it has no default."""

    about: str
    least: int
    most: int
    default: int | None = None

    def argument(self, value: object) -> str:
        """Return the value as an argument; raise ParameterError if it is not allowed."""
        if not isinstance(value, int) or isinstance(value, bool):
            raise ParameterError("must be a whole number")
        if not self.least <= value <= self.most:
            raise ParameterError(f"must be from {self.least} to {self.most}")
        return str(value)


@dataclass(frozen=True)
class Choice:
    """One of `values`; required when it has no default."""

    about: str
    values: tuple[str, ...]
    default: str | None = None

    def argument(self, value: object) -> str:
        """Return the value as an argument; raise ParameterError if it is not allowed."""
        if not isinstance(value, str) or value not in self.values:
            raise ParameterError(f"must be one of {', '.join(self.values)}")
        return value
