"""Find the service that keeps a name which several services of this host share. Only reads."""

from __future__ import annotations

import glob
import os
import re

from . import small_file

CHOICES, FOLDER = "/etc/nginx/conf.d", "/etc/nginx/loop"
LOCATION = ".location"
# `[f]` makes the path a glob: nginx starts even if the file is missing.
_KEEPER = re.compile(r"^include /etc/([a-z][a-z0-9-]{0,60})/nginx/server\.con\[f\];$", re.MULTILINE)


def find(server: str) -> str:
    """Return the service whose server block nginx uses for a name; empty if there is none."""
    name = named(choice(server))
    return name if name in services(server) and os.path.exists(block(name)) else ""


def services(server: str, but: str = "") -> list[str]:
    """Return the services behind a name, except the service `but`."""
    start = len(f"{FOLDER}/{server}/")
    found = sorted(path[start : -len(LOCATION)] for path in glob.glob(f"{FOLDER}/{server}/*{LOCATION}"))
    return [other for other in found if other != but]


def choice(server: str) -> str:
    """Return the file that says who keeps a name."""
    return f"{CHOICES}/loop-{server}.conf"


def server(path: str) -> str:
    """Return the name that such a file is about."""
    return path[len(f"{CHOICES}/loop-") : -len(".conf")]


def block(name: str) -> str:
    """Return the file with a service's server block, which nginx reads while that service keeps the name."""
    return f"/etc/{name}/nginx/server.conf"


def named(path: str) -> str:
    """Return the service that such a file names; empty if it has another text."""
    found = _KEEPER.search(small_file.read(path, 1 << 18))
    return found[1] if found else ""
