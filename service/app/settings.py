"""Read the settings from the environment, once, at the start. A wrong one stops the start with a line that names it.

Only the standard library is imported: gunicorn.conf.py runs this file before the application is loaded.
"""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


class SettingError(Exception):
    """A setting is wrong; the text names it and says what it may be."""


def text(name: str, default: str) -> str:
    """Return a variable; the default if it is not set or empty."""
    return os.environ.get(name) or default


def number(name: str, default: int, least: int, most: int) -> int:
    """Return a whole number from `least` to `most`."""
    value = text(name, str(default))
    if not re.fullmatch("[0-9]{1,18}", value) or not least <= int(value) <= most:
        raise SettingError(f"{name} must be a whole number from {least} to {most}, not {value!r}")
    return int(value)


def load() -> dict[str, object]:
    """Return the settings for `app.config`."""
    level = text("LOG_LEVEL", "INFO")
    if level.upper() not in LEVELS:
        raise SettingError(f"LOG_LEVEL must be one of {', '.join(LEVELS)}, not {level!r}")
    return {
        "SERVICE": text("SERVICE", "app"),
        "RELEASE": text("RELEASE", "development"),
        "HOST": text("HOST", socket.gethostname()),
        "GREETING": text("GREETING", "hello"),
        "LOG_LEVEL": level.upper(),
        "STATE_DIRECTORY": text("STATE_DIRECTORY", "") or _own_state(),
        "MAX_CONTENT_LENGTH": number("MAX_BODY", 64 * 1024, 0, 1 << 40),  # bytes
        "REQUEST_TIMEOUT": number("REQUEST_TIMEOUT", 30, 1, 86400),  # seconds until nginx or gunicorn ends a request
        "TRUSTED_PROXIES": number("TRUSTED_PROXIES", 1, 0, 10),  # that set X-Forwarded-For: nginx
    }


def _own_state() -> str:
    """Make a state directory on a developer's machine, where systemd gives none."""
    folder = Path.home() / ".local/state" / text("SERVICE", "app")
    folder.mkdir(0o700, parents=True, exist_ok=True)
    return str(folder)
