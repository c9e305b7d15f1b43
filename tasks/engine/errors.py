"""What can go wrong, as values a person can act on.

Every error says what failed, where, and what to do next; the command line turns it into words or JSON, and a status::

    LoopError            something failed on a host, which was left safe      exit 1
    ├── UsageError       the command line or a file is wrong; nothing done    exit 2
    └── Unreachable      a host was not reached or its identity refused       exit 3
"""

from __future__ import annotations

from collections.abc import Sequence


class LoopError(Exception):
    """A failure with its place and its remedy.

    message: one sentence, what failed. where: file:line:column with the path of the key, or a host's name.
    next: the command or edit that goes on. code: a stable word for machines. detail: the last lines that matter.
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
        """The error as the JSON documents carry it."""
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
    """The command line, hosts.yaml, service.yaml or the service's files are wrong; nothing was contacted."""

    exit_status = 2
    code = "usage"


class Unreachable(LoopError):
    """A host could not be reached, or its identity was refused; nothing was changed on it."""

    exit_status = 3
    code = "unreachable"


def exit_status(problems: Sequence[LoopError], asked: int) -> int:
    """The status of a command that `asked` so many hosts, for the problems of some of them.

    1 when a host failed; 3 when hosts were only not reached; 2 when none was contacted, since a file or flag is wrong.
    """
    if not problems:
        return 0
    if len(problems) == asked and all(isinstance(problem, UsageError) for problem in problems):
        return UsageError.exit_status
    return 3 if all(isinstance(problem, Unreachable) for problem in problems) else 1
