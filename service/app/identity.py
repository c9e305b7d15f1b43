"""Who answers: the service, the release and the host, as the deploy tells them through the environment."""

from __future__ import annotations

import os
import socket


def identity() -> dict[str, str]:
    """SERVICE, RELEASE and HOST; on a developer's machine, where nothing sets them, names that say so."""
    return {
        "service": os.environ.get("SERVICE", "app"),
        "release": os.environ.get("RELEASE", "development"),
        "host": os.environ.get("HOST") or socket.gethostname(),
    }
