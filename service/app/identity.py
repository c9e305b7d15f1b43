"""The name of the service, the release and the host, from the environment that the deploy sets."""

from __future__ import annotations

import os
import socket


def identity() -> dict[str, str]:
    """Return SERVICE, RELEASE and HOST; where they are not set, placeholders for a developer's machine."""
    return {
        "service": os.environ.get("SERVICE", "app"),
        "release": os.environ.get("RELEASE", "development"),
        "host": os.environ.get("HOST") or socket.gethostname(),
    }
