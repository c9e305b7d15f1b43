"""The program that runs on a host, `templates/host`, as it is sent: one text for every host and step. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache

from tasks.engine import templates

_START = (
    "import sys; stream = sys.stdin.buffer; TEXT = stream.read(int(stream.readline())); "
    "exec(compile(TEXT, 'loader', 'exec'))"
)

LAUNCHER = f"""\
for python in /usr/bin/python3 /usr/bin/python3.* /usr/local/bin/python3 /usr/local/bin/python3.*; do
  if "$python" -I -S -c 'import sys; sys.exit(sys.version_info < (3, 9))' </dev/null >/dev/null 2>&1; then
    exec "$python" -I -S -c "{_START}"
  fi
done
IFS= read -r length
head -c "$length" >/dev/null
IFS= read -r nonce
why='no Python 3.9 or newer runs in /usr/bin or /usr/local/bin of this host: install python3'
printf '@%s refused %s\\n' "$nonce" "$why"
exit 1
"""
"""What a login's shell runs: the first interpreter of the system that will do, or a word of why there is none."""


@cache
def text() -> str:
    """The whole program: the modules, what imports them, and the call of `start`."""
    return assemble({name: templates.text(f"host/{name}.py") for name in templates.modules("host")})


def assemble(sources: Mapping[str, str]) -> str:
    """The program that these modules make, by name."""
    loader = templates.text("host/loader.py")
    call = "from host.main import start\n\nstart(globals().get('TEXT', b''))\n"
    return f"SOURCES = {json.dumps(sources)}\n{loader}\n{call}"


@cache
def digest() -> str:
    """The first 12 hex digits of its SHA-256, for who reads a step: the program that it is for is sent with it."""
    return hashlib.sha256(text().encode()).hexdigest()[:12]
