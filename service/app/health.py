"""Answer /healthz (alive) and /readyz (ready). /readyz is the gate: a release gets no traffic before it answers 200."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence

from flask import Blueprint

from .identity import identity
from .wrapping import Command

log = logging.getLogger("health")

Check = Callable[[], None]


class CheckError(Exception):
    """A failed check; its text is shown in the answer of /readyz, so it must be fit for any client."""


def probes(checks: Sequence[Check]) -> Blueprint:
    """Make /healthz and /readyz. A check passes by returning, must bound its own time, and is named by its function."""
    pages = Blueprint("health", __name__)

    @pages.get("/healthz")
    def healthz() -> dict[str, str]:
        """Alive: says which service, release and host answer."""
        return {"status": "ok", **identity()}

    @pages.get("/readyz")
    def readyz() -> tuple[dict[str, object], int]:
        """Ready: runs every check; 200 when all pass, else 503."""
        results = [_result(check) for check in checks]
        ready = all(result["ok"] for result in results)
        return {"status": "ok" if ready else "failing", **identity(), "checks": results}, 200 if ready else 503

    return pages


def _result(check: Check) -> dict[str, object]:
    started = time.monotonic()
    result: dict[str, object] = {"name": check.__name__, "ok": True}
    try:
        check()
    except Exception as error:
        log.exception("check %s failed", check.__name__)
        reason = str(error) if isinstance(error, CheckError) else f"{type(error).__name__}: the log says more"
        result.update(ok=False, error=reason)
    result["ms"] = round((time.monotonic() - started) * 1000, 1)
    return result


def state_is_writable() -> None:
    """Check that the state directory takes a file; pass if systemd gave the service none."""
    directory = os.environ.get("STATE_DIRECTORY")
    if not directory:
        return
    try:
        with tempfile.TemporaryFile(dir=directory) as probe:
            probe.write(b"ready?")
    except OSError as error:
        raise CheckError(f"cannot write to the state directory: {error.strerror}") from error


def programs_of(commands: Sequence[Command]) -> Check:
    """Make a check that the program of every wrapped command is installed."""

    def programs_are_installed() -> None:
        missing = [command.argv[0] for command in commands if not shutil.which(command.argv[0])]
        if missing:
            raise CheckError(f"not found: {', '.join(missing)}")

    return programs_are_installed
