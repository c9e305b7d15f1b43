"""Read a small file of the system or of root, such as one of /proc. Links are followed: only root makes them there."""

from __future__ import annotations


def read(path: str, limit: int = 1 << 16) -> str:
    """Return the beginning of a file; empty if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read(limit).decode("utf-8", "replace")
    except OSError:
        return ""
