"""The wrapped commands. Each is an endpoint, POST /commands/NAME. Add yours to the list."""

from __future__ import annotations

from .parameters import Choice, Text
from .wrapping import Command

COMMANDS = (
    Command(
        name="disk-usage",
        about="Size and free space of the file system that holds a path",
        argv=("df", "-P", "--block-size={block}", "--", "{path}"),
        parameters={
            "path": Text("an absolute path", pattern=r"/[A-Za-z0-9._/-]*"),
            "block": Choice("the unit of the sizes", values=("1", "1K", "1M", "1G"), default="1"),
        },
        role="operator",
        timeout=5,
    ),
)
