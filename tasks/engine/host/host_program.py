"""Assemble the host's program, `templates/host`, into one text, which is sent where a host has no copy to run. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache

from tasks.engine.host import templates
from templates.host import kept

_START = (
    "import sys, zlib; stream = sys.stdin.buffer; "
    "exec(compile(zlib.decompress(stream.read(int(stream.readline()))), 'loader', 'exec'))"
)
MISSING = "program"
"""Report of a host without a copy of this program, or with a damaged one: the controller then sends the program."""

DIFFERS = "differs"
"""Report of a host that serves another release than is wanted: its facts will be followed by a second process."""

LACKS = "python"
"""Report of a host without a usable Python; its text lists the unusable ones."""

NEEDS = ("base64", "collections", "contextlib", "ctypes", "errno", "fcntl", "fnmatch", "functools", "gc", "glob",
         "grp", "hashlib", "importlib", "io", "json", "math", "os", "pwd", "re", "secrets", "select", "shlex", "shutil",
         "signal", "socket", "stat", "struct", "subprocess", "tarfile", "threading", "time", "typing",
         "zlib")  # fmt: skip
"""All that the program imports: an interpreter may lack some of it (python3-minimal, an interrupted upgrade)."""

_LOADED = ("_ctypes", "_posixsubprocess", "_socket", "_struct")
"""Shared libraries that those modules need. A Python built by hand, or upgraded by half, may lack a library."""

# To import all these modules would take 25 ms, three times in a first deploy. To look for their files takes 2 ms.
_TRY = f"""
import sys
sys.version_info < (3, 9) and sys.exit(1)
from importlib.machinery import BuiltinImporter, FrozenImporter, PathFinder
for name in "{" ".join((*NEEDS, *_LOADED))}".split():
    spec = next(filter(None, (one.find_spec(name) for one in (BuiltinImporter, FrozenImporter, PathFinder))), None)
    if spec is None or not str(spec.origin).endswith(".py"):
        __import__(name)
"""

STARTER = f"""\
LC_ALL=C
export LC_ALL
IFS= read -r place
if [ -n "$place" ]; then
  # Run no copy of another account. Check inside the directory: its path may lead elsewhere a moment later.
  if ! {{ cd -P "$place" 2>/dev/null && [ "$(pwd -P)" = "$place" ] &&
    [ -O . ] && [ -O .. ] && [ -O ../.. ] && [ -f __main__.py ]; }}; then
    IFS= read -r nonce
    printf '\\n%s {{"report": "{MISSING}", "text": "missing"}}\\n' "$nonce"
    exit {kept.DAMAGED}
  fi
  python=
  # The interpreter that made the copy needs no check.
  [ ! -f python ] || IFS= read -r python <python
  [ ! -x "$python" ] || exec "$python" -I -S ./__main__.py
fi
# Whether an account beside root and ours may write here, by the group or by an access control list.
shared() {{
  case $(ls -ld "$1") in ??????????+*) return 0 ;; esac
  [ "$2" != 0 ] && {{
    getent passwd | cut -d: -f1,4 | grep ":$2\\$" | cut -d: -f1
    getent group "$2" | cut -d: -f4 | tr , '\\n'
  }} | grep -v -x -e root -e "$(id -un)" | grep -q .
}}
# Whether such an account may exchange what a path leads to: each directory and each link on the way counts.
open() {{
  left=${{1#/}} at='' links=0
  while [ -n "$left" ]; do
    here=$at/${{left%%/*}}
    case $left in */*) left=${{left#*/}} ;; *) left= ;; esac
    case ${{here##*/}} in '' | .) continue ;; ..) at=${{at%/*}} && continue ;; esac
    [ -e "$here" ] || [ -L "$here" ] || return 1
    set -- $(stat -c '%A %u %g' "$here")
    [ "$2" = 0 ] || [ "$2" = "$(id -u)" ] || return 0
    case $1 in
      l*)
        to=$(readlink "$here") links=$((links + 1))
        [ "$links" -le 40 ] || return 0
        case $to in /*) at= ;; esac
        left=$to/$left
        continue
        ;;
      *w[x-]) return 0 ;;
      ?????w*) ! shared "$here" "$3" || return 0 ;;
    esac
    at=$here
  done
  return 1
}}
found=
for python in /usr/bin/python3 /usr/bin/python3.* /usr/local/bin/python3 /usr/local/bin/python3.*; do
  case $python in *-config) continue ;; esac
  [ -f "$python" ] || [ -L "$python" ] || continue
  # Run no interpreter that another account owns, or can exchange: a link may lead through its directory. So run the
  # file that the links lead to: its path has no link. It runs its standard library, which may have links, at its start.
  # All but root, whose is `/`, save the time to look in /usr/bin.
  real=$(readlink -f "$python") version='python3.*'
  [ -n "$real" ] || continue
  case ${{real##*/}} in *3.*) version=${{real##*/}} ;; esac
  [ -O / ] || case $real in /usr/bin/*) version= ;; esac
  if [ -n "$version" ]; then
    ! open "$real" || continue
    for library in "${{real%/*/*}}/lib" "${{real%/*/*}}/lib64"; do
      for each in "$library"/$version; do
        ! open "$each/os.py" || continue 3
      done
    done
  fi
  if why=$("$real" -I -S -c '{_TRY}' </dev/null 2>&1); then
    [ -n "$place" ] || exec "$real" -I -S -c "{_START}"
    exec "$real" -I -S ./__main__.py
  fi
  why=$(printf '%s\\n' "$why" | grep '^[A-Za-z]*Error: ' | tail -n 1 | head -c 100)
  found="$found, $("$real" -V 2>&1 </dev/null | head -n 1 | head -c 200) ($python${{why:+: $why}})"
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
"""The script that the login shell runs: it starts the first usable interpreter, or reports why there is none.
If the copy is missing it starts none: the program comes next, with a starter that looks for one.

Its first input line is the path of the copy to run; an empty line means that the program follows. File names are UTF-8,
whatever the login's locale is.
"""


@cache
def text() -> str:
    """Return the whole program: the modules, their loader, and the call of `start`."""
    return assemble(_sources())


def _sources() -> dict[str, str]:
    return {name: templates.text(f"host/{name}.py") for name in templates.modules("host")}


def assemble(sources: Mapping[str, str]) -> str:
    """Return the program made of these modules. sources: module name to text."""
    loader = templates.text("host/loader.py")
    call = "from host.main import start\n\nstart(SOURCES)\n"
    return f"SOURCES = {json.dumps(sources)}\n{loader}\n{call}"


@cache
def digest() -> str:
    """Return the digest that names this version: each step contains it, and a host keeps its copy under this name."""
    return kept.digest(_sources())


def place(root: str) -> str:
    """Return the path of the copy on a host. root: the service's directory."""
    return f"{root}/.program/{digest()}"
