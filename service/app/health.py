"""Answer /healthz (alive) and /readyz (ready). /readyz is the gate: a release gets no traffic before it answers 200."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable

from flask import Blueprint, Flask, current_app

from . import auth

log = logging.getLogger("health")

pages = Blueprint("health", __name__)

Check = Callable[[], None]


class CheckError(Exception):
    """A failed check; its text is shown in the answer of /readyz, so it must be fit for any client."""


def init_app(app: Flask) -> None:
    """Add /healthz and /readyz."""
    app.register_blueprint(pages)
    add(app, state_is_writable)


def add(app: Flask, check: Check) -> None:
    """Add a check to /readyz. It passes by returning, must limit its own time, and is named by its function."""
    app.extensions.setdefault("checks", []).append(check)


def identity() -> dict[str, str]:
    """Return the service, the release and the host that answer."""
    return {name.lower(): current_app.config[name] for name in ("SERVICE", "RELEASE", "HOST")}


@pages.get("/healthz")
@auth.role(auth.OPEN)
def healthz() -> dict[str, str]:
    """Alive: says which service, release and host answer."""
    return {"status": "ok", **identity()}


@pages.get("/readyz")
@auth.role(auth.OPEN)
def readyz() -> tuple[dict[str, object], int]:
    """Ready: runs every check; 200 when all pass, else 503."""
    results = [_result(check) for check in current_app.extensions["checks"]]
    ready = all(result["ok"] for result in results)
    return {"status": "ok" if ready else "failing", **identity(), "checks": results}, 200 if ready else 503


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
    """Check that the state directory takes a file."""
    try:
        with tempfile.TemporaryFile(dir=current_app.config["STATE_DIRECTORY"]) as probe:
            probe.write(b"ready?")
    except OSError as error:
        raise CheckError(f"cannot write to the state directory: {error.strerror}") from error
