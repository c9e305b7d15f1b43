"""Run `drain` and `undrain`, the operator's commands on the controller, to take a host out of a balancer and back."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager

from tasks.engine import local_program
from tasks.engine.deploy.prepared import Prepared
from tasks.engine.errors import LoopError
from tasks.engine.events import Step
from tasks.engine.parallel import Emit

_SECONDS = 600


@contextmanager
def taken_out(prepared: Prepared, emit: Emit) -> Iterator[None]:
    """Keep the host out of the balancer meanwhile; run `undrain` in any case, since the host serves either way."""
    hooks = prepared.member.service.hooks
    try:
        if hooks.drain:
            _run("drain", hooks.drain, prepared, emit)
        yield
    finally:
        if hooks.undrain:
            _run("undrain", hooks.undrain, prepared, emit)


def _run(name: str, command: str, prepared: Prepared, emit: Emit) -> None:
    member = prepared.member
    host = member.host
    emit(Step(host.name, "hook", name, command))
    environment = {
        **os.environ,
        "HOST": host.name,
        "ADDRESS": member.connect().endpoint.hostname,
        "GROUPS": ",".join(host.groups),
        "SERVICE": member.service.name,
        "RELEASE": prepared.activation.release,
        "BEFORE": prepared.activation.served or "",
    }
    try:
        ended = local_program.run(shlex.split(command), environment=environment, seconds=_SECONDS, apart=False)
    except OSError as error:
        raise _failure(name, host.name, f"it cannot be started: {error.strerror}", ()) from error
    if reason := ended.fault(f"{_SECONDS} s"):
        raise _failure(name, host.name, reason, ended.lines)


def _failure(name: str, host: str, reason: str, lines: tuple[str, ...]) -> LoopError:
    return LoopError(
        f"{name} failed on this machine: {reason}",
        where=host,
        next=f"correct hooks.{name} in service/service.yaml; see whether the balancer still has {host}",
        detail=lines,
    )
