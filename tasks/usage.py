"""Say why Invoke cannot read a command line: its own words name no remedy, and its exit status is 1."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from tasks.engine.errors import UsageError

_FLAG = re.compile(r"<Argument: (\S+?)[ >]")
_WORD = re.compile(r"^(?:No idea what|Sub-collection) (.*) (?:is|not found)!$", re.DOTALL)


def explain(said: str, context: Any, parser: Any, words: Sequence[str]) -> UsageError:
    """Return the error for a message of Invoke. context: Invoke's options of the verb at that place, or of `fab`.

    parser: all verbs and their options; words: the command line.
    """
    verb = context.name if context else None
    way = f"read: fab --help {verb}" if verb else "see fab --list for the verbs, and fab --help for the options"
    if flag := _FLAG.search(said):
        return UsageError(f"{_dashed(flag[1])} needs a value", where=_dashed(flag[1]), next=way)
    if context and context.missing_positional_args:
        needed = ", ".join(argument.name for argument in context.missing_positional_args)
        return UsageError(f"{verb} needs a word behind it: {needed}", where=verb, next=way)
    found = _WORD.search(said)
    if not found:
        return UsageError(said, next=way)
    word = found[1][1:-1]
    if word.startswith("-"):
        return _unknown_option(word, context, parser, way)
    return _unneeded(word, context, parser, words) or _unknown_verb(word, verb, parser)


def _unknown_option(word: str, context: Any, parser: Any, way: str) -> UsageError:
    from tasks.engine.config.schema import nearest, quoted

    own = [*context.flags, *context.inverse_flags] if context else []
    meant = nearest(word, [flag for flag in (*own, *parser.initial.flags) if flag.startswith("--")])
    verb = context.name if context and context.name else "fab"
    return UsageError(
        f"{verb} has no option {quoted(word)}", where=word, next=f"did you mean {meant}?" if meant else way
    )


def _unneeded(word: str, context: Any, parser: Any, words: Sequence[str]) -> UsageError | None:
    """Return the error for a word behind an option that takes no value, or has one already; None for any other."""
    from tasks.engine.config.schema import quoted

    flags = {**parser.initial.flags, **(context.flags if context else {})}
    before = next((flag for flag, _, value in (each.partition("=") for each in words) if value == word), None)
    if before in flags and not flags[before].takes_value:
        return UsageError(f"{before} takes no value, and got {quoted(word)}", where=before, next=f"{before} alone")
    before = words[words.index(word) - 1] if word in words[1:] else None
    if before in flags and flags[before].takes_value and words.count(before) > 1:
        return UsageError(f"{before} was given twice", where=before, next=f"give {before} once")
    return None


def _unknown_verb(word: str, verb: str | None, parser: Any) -> UsageError:
    from tasks.engine.config.schema import nearest, quoted

    verbs = sorted(parser.contexts)
    inner = [each for each in verbs if each.startswith(f"{word}.")]
    meant = " or ".join([", ".join(inner[:-1]), *inner[-1:]]) if inner else nearest(word, verbs)
    if meant:
        return UsageError(f"there is no verb {quoted(word)}; did you mean {meant}?", where=word, next="fab --list")
    if verb:
        way = f"hosts follow -H; what else {verb} takes: fab --help {verb}"
        return UsageError(f"{verb} takes no word {quoted(word)}", where=verb, next=way)
    return UsageError(f"there is no verb {quoted(word)}", where=word, next="see what there is: fab --list")


def _dashed(name: str) -> str:
    return f"--{name.replace('_', '-')}" if len(name) > 1 else f"-{name}"
