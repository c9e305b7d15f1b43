"""Write logs for the journal: one JSON object a line on stdout.

Only the standard library is imported: gunicorn.conf.py runs this file before the application is loaded.
"""

from __future__ import annotations

import json
import logging
import os
from contextvars import ContextVar
from datetime import datetime, timezone

# In characters, each up to 12 bytes when escaped: journald cuts a line at 48 KiB, and a cut object cannot be parsed.
LONGEST_TEXT = 600
LONGEST_TRACEBACK = 4000

request_id: ContextVar[str] = ContextVar("request_id", default="")


def shorten(text: str, longest: int = LONGEST_TEXT) -> str:
    """Return the text; if it is too long, its beginning and its end (where the cause is) around a mark."""
    if len(text) <= longest:
        return text
    half = longest // 2
    return f"{text[:half]} [... {len(text) - 2 * half} characters ...] {text[-half:]}"


class JsonLines(logging.Formatter):
    """Format a record as one line of printable ASCII: text from a client can neither end it nor steer a terminal.

    `extra={"fields": {...}}` adds keys; an exception is in `traceback`.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the time (RFC 3339, UTC, milliseconds), level, message, origin and fields as JSON."""
        time = datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds")
        entry: dict[str, object] = {
            "time": time.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "message": shorten(record.getMessage()),
            "logger": record.name,
            "service": os.environ.get("SERVICE", "app"),
            "release": os.environ.get("RELEASE", "development"),
        }
        if request_id.get():
            entry["request_id"] = request_id.get()
        for key, value in getattr(record, "fields", {}).items():
            entry[key] = shorten(value) if isinstance(value, str) else value
        if record.exc_info:
            traceback = self.formatException(record.exc_info).encode("ascii", "backslashreplace").decode()
            entry["traceback"] = shorten(traceback, LONGEST_TRACEBACK)
        return json.dumps(entry, default=repr).replace("\x7f", "\\u007f")


def settings() -> dict[str, object]:
    """Return the settings for `logging.config.dictConfig`: every logger to stdout. A LOG_LEVEL that is none is INFO."""
    given = os.environ.get("LOG_LEVEL", "").upper()
    level = given if isinstance(logging.getLevelName(given), int) else "INFO"
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": JsonLines}},
        "handlers": {"stdout": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout", "formatter": "json"}},
        "root": {"handlers": ["stdout"], "level": level},
        "loggers": {
            "gunicorn.error": {"handlers": ["stdout"], "level": level, "propagate": False},
            # access.py logs each request; gunicorn and `flask run` would log it a second time.
            "gunicorn.access": {"handlers": [], "level": "CRITICAL", "propagate": False},
            "werkzeug": {"level": "WARNING"},
        },
    }
