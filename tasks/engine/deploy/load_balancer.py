"""Run `drain` and `undrain`, the operator's commands on the controller, to take a host out of a balancer and back."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

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
        process = subprocess.run(
            shlex.split(command), env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, errors="replace", timeout=_SECONDS, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _failure(name, host.name, str(error), "") from error
    if process.returncode:
        raise _failure(name, host.name, f"it ended with status {process.returncode}", process.stdout)


def _failure(name: str, host: str, reason: str, output: str) -> LoopError:
    return LoopError(
        f"{name} failed on this machine: {reason}",
        where=host,
        next=f"correct hooks.{name} in service/service.yaml; see whether the balancer still has {host}",
        detail=tuple(output.splitlines()[-20:]),
    )
