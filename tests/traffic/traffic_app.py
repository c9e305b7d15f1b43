"""An application for every kind of request; each answer names the release that gave it.

It is copied into a clone's service/ and runs on hosts, never here.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from typing import Any

from flask import Flask, Response, request

RELEASE = os.environ.get("RELEASE", "")

# Load time of a large application.
time.sleep(float(os.environ.get("IMPORT_SECONDS", "0")))
app = Flask(__name__)


@app.get("/healthz")
def healthz() -> Any:
    """Answer with the release; on the host that the environment names, report that it is unhealthy."""
    return {"release": RELEASE}, 500 if os.environ.get("ILL") == os.environ.get("HOST") else 200


@app.get("/slow")
def slow() -> Any:
    """Answer after ?seconds=, 1 by default."""
    time.sleep(float(request.args.get("seconds", "1")))
    return {"release": RELEASE}


@app.post("/echo")
def echo() -> Any:
    """Answer with the number of bytes received, and their SHA-256."""
    digest, length = hashlib.sha256(), 0
    while chunk := request.stream.read(1 << 16):
        digest.update(chunk)
        length += len(chunk)
    return {"length": length, "release": RELEASE, "sha256": digest.hexdigest()}


@app.get("/events")
def events() -> Response:
    """Stream the release without end, five times a second."""

    def tick() -> Iterator[str]:
        yield "retry: 100\n\n"
        while True:
            yield f'data: {{"release":"{RELEASE}"}}\n\n'
            time.sleep(0.2)

    return Response(tick(), mimetype="text/event-stream", headers={"X-Accel-Buffering": "no"})
