"""Offer commands as endpoints: a request becomes arguments of a program, and its outcome the answer."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from flask import Flask, request
from werkzeug.exceptions import BadRequest, GatewayTimeout, NotFound, ServiceUnavailable

from . import auth, health, logs, process
from .errors import Problem
from .parameters import Choice, Number, ParameterError, Text
from .settings import SettingError

log = logging.getLogger("commands")


@dataclass(frozen=True)
class Command:
    """A program to wrap.

    argv: the arguments, with a {name} for each parameter
    role: the least role that a token needs to run it
    timeout: seconds, fewer than nginx and gunicorn allow a request
    max_output: bytes of stdout, and of stderr
    """

    name: str
    about: str
    argv: tuple[str, ...]
    parameters: Mapping[str, Text | Number | Choice] = field(default_factory=dict)
    role: str = "admin"
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
        kinds = {name: {"type": type(kind).__name__.lower(), **asdict(kind)} for name, kind in self.parameters.items()}
        return {**asdict(self), "parameters": kinds}


def add(app: Flask, commands: Sequence[Command], at_once: int = 2) -> None:
    """Add GET /commands and POST /commands/NAME, and a check for /readyz that the programs are installed."""
    by_name = {command.name: command for command in commands}
    limit = app.config["REQUEST_TIMEOUT"]
    for one in commands:
        if one.timeout >= limit:
            raise SettingError(f"the timeout of {one.name}, {one.timeout}, must be less than REQUEST_TIMEOUT, {limit}")

    def programs_are_installed() -> None:
        missing = [command.argv[0] for command in commands if not shutil.which(command.argv[0])]
        if missing:
            raise health.CheckError(f"not found: {', '.join(missing)}")

    health.add(app, programs_are_installed)

    @app.get("/commands")
    @auth.role("reader")
    def catalogue() -> dict[str, object]:
        """The wrapped commands, their roles and their parameters."""
        return {"commands": [command.describe() for command in commands]}

    @app.post("/commands/<name>")
    @auth.role("reader")
    def run(name: str) -> dict[str, object]:
        """Run a command: 200 when it exits with 0, 422 when not, 504 when it takes too long."""
        if name not in by_name:
            raise NotFound(f"no command {name!r}; GET /commands lists them")
        auth.require(by_name[name].role)
        argv = _arguments(by_name[name])
        # So many at once, over all workers: the other workers stay free to answer the health check.
        with process.place(at_once, app.config["STATE_DIRECTORY"]) as free:
            if not free:
                raise ServiceUnavailable("as many commands as allowed are running; try again", retry_after=1)
            return _answer(by_name[name], argv)


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


def _answer(command: Command, argv: list[str]) -> dict[str, object]:
    env = {"REQUEST_ID": logs.request_id.get()}
    try:
        outcome = process.run(argv, env, timeout=command.timeout, max_output=command.max_output)
    except TimeoutError:
        raise GatewayTimeout(f"{command.name} took longer than {command.timeout} seconds and was stopped") from None
    fields = {"command": command.name, "exit_status": outcome.exit_status, "seconds": outcome.seconds}
    log.info("%s exited with %s", command.name, outcome.exit_status, extra={"fields": fields})
    answer = {"command": command.name, **outcome._asdict()}
    if outcome.exit_status:
        raise Problem(422, f"{command.name} exited with {outcome.exit_status}", **answer)
    return answer
