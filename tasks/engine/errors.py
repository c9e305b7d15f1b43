"""The errors of the engine: each says what failed, where, and what to do next.

The command line prints them as text or JSON, and exits with the status of their class::

    LoopError            something failed on a host, which was left safe      exit 1
    ├── UsageError       the command line or a file is wrong; nothing done    exit 2
    └── Unreachable      a host was not reached or its identity refused       exit 3
"""

from __future__ import annotations

from collections.abc import Sequence


class LoopError(Exception):
    """A failure with its place and its remedy.

    message: one sentence, what failed. where: file:line:column with the path of the key, or a host's name.
    next: the command or edit to do next. code: a stable word for programs. detail: the last lines that matter.
    """

    exit_status = 1
    code = "failed"

    def __init__(
        self,
        message: str,
        *,
        where: str | None = None,
        next: str | None = None,  # noqa: A002 - the word of the JSON schema
        code: str | None = None,
        detail: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.next = next
        self.code = code or type(self).code
        self.detail = detail

    def as_dict(self) -> dict[str, object]:
        """Return the error as an object of the JSON documents."""
        document: dict[str, object] = {
            "code": self.code,
            "message": self.message,
            "path": self.where,
            "next": self.next,
        }
        if self.detail:
            document["detail"] = list(self.detail)
        return document


class UsageError(LoopError):
    """The command line, hosts.yaml, service.yaml or the service's files are wrong; no host was changed."""

    exit_status = 2
    code = "usage"


class Unreachable(LoopError):
    """A host could not be reached, or its identity was refused; nothing was changed on it."""

    exit_status = 3
    code = "unreachable"


def exit_status(problems: Sequence[LoopError], asked: int) -> int:
    """Return the exit status of a command for `asked` hosts, some of which have problems.

    1: a host failed; 3: hosts were not reached, and none failed; 2: a wrong file or flag, and no host was changed.
    """
    if not problems:
        return 0
    if len(problems) == asked and all(isinstance(problem, UsageError) for problem in problems):
        return UsageError.exit_status
    return 3 if all(isinstance(problem, Unreachable) for problem in problems) else 1
