"""The API: its versions, side by side below /api."""

from __future__ import annotations

from flask import Flask

from . import notes

VERSIONS = (notes.v1,)


def init_app(app: Flask) -> None:
    """Add the versions."""
    for version in VERSIONS:
        app.register_blueprint(version)
