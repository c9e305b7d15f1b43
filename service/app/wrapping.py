"""Offer commands as endpoints: a request becomes arguments of a program, and its outcome the answer."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Protocol

from flask import Blueprint, request
from werkzeug.exceptions import BadRequest, GatewayTimeout, NotFound, ServiceUnavailable

from . import process
from .parameters import ParameterError
from .places import Places

log = logging.getLogger("commands")

# Commands at once, over all workers: the other workers stay free to answer the health check.
AT_ONCE = 2


class Parameter(Protocol):
    """The interface of the parameter kinds in parameters.py."""

    @property
    def default(self) -> object | None:
        """Return the value to use when the client sends none; None makes the parameter required."""

    def argument(self, value: object) -> str:
        """Return the value as an argument; raise ParameterError if it is not allowed."""

    def describe(self) -> dict[str, object]:
        """Describe the parameter for GET /commands."""


@dataclass(frozen=True)
class Command:
    """A program to wrap.

    argv: the arguments, with a {name} for each parameter
    timeout: seconds
    max_output: bytes of stdout, and of stderr
    """

    name: str
    about: str
    argv: tuple[str, ...]
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    timeout: float = 10
    max_output: int = 64 * 1024

    def arguments(self, given: Mapping[str, object]) -> list[str]:
        """Return the argv; raise ParameterError for a value that is unknown, missing or not allowed."""
        for name in given:
            if name not in self.parameters:
                raise ParameterError(f"unknown parameter {name!r}; known: {', '.join(self.parameters) or 'none'}")
        values = {name: self._value(name, given) for name in self.parameters}
        return [part.format_map(values) for part in self.argv]

    def _value(self, name: str, given: Mapping[str, object]) -> str:
        parameter = self.parameters[name]
        value = given.get(name, parameter.default)
        if name not in given and value is None:
            raise ParameterError(f"{name} is required")
        try:
            return parameter.argument(value)
        except ParameterError as error:
            raise ParameterError(f"{name} {error}") from None

    def describe(self) -> dict[str, object]:
        """Describe the command for GET /commands."""
        parameters = {name: parameter.describe() for name, parameter in self.parameters.items()}
        return {
            "name": self.name,
            "about": self.about,
            "argv": self.argv,
            "parameters": parameters,
            "timeout": self.timeout,
        }


def endpoints(commands: Sequence[Command], at_once: int = AT_ONCE) -> Blueprint:
    """Make GET /commands, which lists the commands, and POST /commands/NAME, which runs one."""
    pages = Blueprint("commands", __name__)
    by_name = {command.name: command for command in commands}
    places = Places(at_once)

    @pages.get("/commands")
    def catalogue() -> dict[str, object]:
        """The wrapped commands and their parameters."""
        return {"commands": [command.describe() for command in commands]}

    @pages.post("/commands/<name>")
    def run(name: str) -> tuple[dict[str, object], int]:
        """Run a command: 200 when it exits with 0, 422 when not, 504 when it takes too long."""
        if name not in by_name:
            raise NotFound(f"no command {name!r}; GET /commands lists them")
        argv = _arguments(by_name[name])
        with places.taken() as place:
            if place is None:
                raise ServiceUnavailable("as many commands as allowed are running; try again", retry_after=1)
            return _answer(by_name[name], argv)

    return pages


def _arguments(command: Command) -> list[str]:
    try:
        given = request.get_json()
    except RecursionError:
        raise BadRequest("the JSON is nested too deeply") from None
    if not isinstance(given, dict):
        raise BadRequest("send a JSON object with the parameters, {} when there are none")
    try:
        return command.arguments(given)
    except ParameterError as error:
        raise BadRequest(str(error)) from None


def _answer(command: Command, argv: list[str]) -> tuple[dict[str, object], int]:
    try:
        outcome = process.run(argv, timeout=command.timeout, max_output=command.max_output)
    except process.DeadlineError:
        raise GatewayTimeout(f"{command.name} took longer than {command.timeout} seconds and was stopped") from None
    fields = {"command": command.name, "exit_status": outcome.exit_status, "seconds": outcome.seconds}
    log.info("%s exited with %s", command.name, outcome.exit_status, extra={"fields": fields})
    return {"command": command.name, **asdict(outcome)}, 200 if outcome.exit_status == 0 else 422
