"""The program that runs on a host, `templates/host`, as it is sent: one text for every host and step. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache

from tasks.engine.host import templates
from templates.host import kept

_START = "import sys; stream = sys.stdin.buffer; exec(compile(stream.read(int(stream.readline())), 'loader', 'exec'))"
MISSING = "program"
"""What the host says, and ends, where it does not keep this program, or a damaged copy: it has to be sent."""

LACKS = "python"
"""What the host says where no Python runs that will do, with those that were found and do not."""

NEEDS = ("base64", "collections.abc", "contextlib", "errno", "fcntl", "glob", "grp", "hashlib", "importlib.machinery",
         "io", "json", "math", "os", "pwd", "re", "secrets", "select", "shlex", "shutil", "signal", "stat", "struct",
         "subprocess", "tarfile", "threading", "time", "typing")  # fmt: skip
"""All that the program imports: an interpreter may lack some of it (python3-minimal, an upgrade that was cut)."""

_TRY = f"import sys; sys.version_info < (3, 9) and sys.exit(1); import {', '.join(NEEDS)}"

LAUNCHER = f"""\
LC_ALL=C
export LC_ALL
IFS= read -r place
# What belongs to somebody else is not run. In the directory itself: its path may lead elsewhere in the next moment.
kept=
if [ -n "$place" ] && cd -P "$place" 2>/dev/null && [ "$(pwd -P)" = "$place" ] &&
  [ -O . ] && [ -O .. ] && [ -O ../.. ] && [ -f __main__.py ]; then
  kept=1 python=
  # The interpreter that made a copy need not be tried.
  [ ! -f python ] || IFS= read -r python <python
  [ ! -x "$python" ] || exec "$python" -I -S ./__main__.py
fi
found=
for python in /usr/bin/python3 /usr/bin/python3.* /usr/local/bin/python3 /usr/local/bin/python3.*; do
  case $python in *-config) continue ;; esac
  [ -f "$python" ] || [ -L "$python" ] || continue
  if why=$("$python" -I -S -c '{_TRY}' </dev/null 2>&1); then
    [ -n "$place" ] || exec "$python" -I -S -c "{_START}"
    [ -z "$kept" ] || exec "$python" -I -S ./__main__.py
    IFS= read -r nonce
    printf '\\n%s {{"report": "{MISSING}", "text": "missing"}}\\n' "$nonce"
    exit {kept.DAMAGED}
  fi
  why=$(printf '%s\\n' "$why" | grep '^[A-Za-z]*Error: ' | tail -n 1 | head -c 100)
  found="$found, $("$python" -V 2>&1 </dev/null | head -n 1 | head -c 100) ($python${{why:+: $why}})"
done
[ -n "$place" ] || {{
  IFS= read -r length
  head -c "$length" >/dev/null
}}
IFS= read -r nonce
found=$(printf %s "${{found#, }}" | tr -d '"\\\\[:cntrl:]')
printf '\\n%s {{"report": "{LACKS}", "text": "%s"}}\\n' "$nonce" "$found"
exit 1
"""
"""What a login's shell runs: the first interpreter of the system that will do, or a word of why there is none.

A line says where the copy lies that is to be run; where it is empty, the program follows. Names of files are UTF-8 to
it, whatever language the login has.
"""


@cache
def text() -> str:
    """The whole program: the modules, what imports them, and the call of `start`."""
    return assemble(_sources())


def _sources() -> dict[str, str]:
    return {name: templates.text(f"host/{name}.py") for name in templates.modules("host")}


def assemble(sources: Mapping[str, str]) -> str:
    """The program that these modules make, by name."""
    loader = templates.text("host/loader.py")
    call = "from host.main import start\n\nstart(SOURCES)\n"
    return f"SOURCES = {json.dumps(sources)}\n{loader}\n{call}"


@cache
def digest() -> str:
    """What names this version of the program: a step says which it is for, and a host keeps it under this name."""
    return kept.digest(_sources())


def place(root: str) -> str:
    """Where a host keeps it. root: the service's directory."""
    return f"{root}/.program/{digest()}"
