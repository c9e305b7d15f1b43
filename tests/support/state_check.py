"""The state check: conditions on a host after any fault, and after the same command was repeated.

It reads everything on the host as root and through its front door, and relies on no output of `fab`.
"""

from __future__ import annotations

import json
import re

from tests.support.front_door import ask
from tests.support.site import ROOT, Site

_LOOK = r"""
set -u
cd "$1/current/release" || exit 1
wrong() { printf '%s\n' "$*"; }
(cd code && sha256sum --quiet --strict -c ../MANIFEST 2>&1) || wrong "code is not what MANIFEST says"
found=$(find code ! -type d ! -name '*.pyc' ! -path '*/__pycache__/*.pyc.[0-9]*' | wc -l)
[ "$found" -eq "$(wc -l <MANIFEST)" ] || wrong "code has other files than MANIFEST"
sha256sum --quiet --strict -c LAUNCHERS 2>&1 || wrong "launchers are not what LAUNCHERS says"
[ "$(find run -type f | wc -l)" -eq "$(wc -l <LAUNCHERS)" ] || wrong "run has other files than LAUNCHERS"
venv/bin/python -I - <<'END' 2>&1 || wrong "the venv does not import"
import base64, hashlib, importlib.metadata, pathlib
import flask, gunicorn
for found in importlib.metadata.distributions():
    for file in found.files or ():
        path = pathlib.Path(found.locate_file(file))
        if not path.exists():
            print(f"{path} is missing")
        elif file.hash:
            digest = hashlib.new(file.hash.mode, path.read_bytes()).digest()
            if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != file.hash.value:
                print(f"{path} is not what its RECORD says")
END
"""
"""Prints each fault of the committed release on a line; nothing if it is whole."""

_PROCESSES = r"""
below() { for pid in "$@"; do echo "$pid"; below $(cat "/proc/$pid/task/$pid/children" 2>/dev/null); done; }
running=$(systemctl list-units --plain --no-legend --state=active "myapp@$1.service" 'myapp-*.service')
for unit in $(printf '%s\n' "$running" | cut -d ' ' -f 1); do
  main=$(systemctl show -p MainPID --value "$unit")
  [ "$(ps -o user= -p "$main")" = myapp ] || continue
  for pid in $(below "$main"); do
    # A launcher has not read its release yet. A process that has ended has no environment any more.
    while grep -qsz . "/proc/$pid/environ" && ! grep -qsz ^RELEASE= "/proc/$pid/environ"; do sleep 0.1; done
    echo "$unit $pid $(tr '\0' '\n' <"/proc/$pid/environ" | sed -n 's/^RELEASE=//p') $(readlink "/proc/$pid/cwd")"
  done
done
"""
"""Prints each process of the committed slot and of the further units: unit, pid, RELEASE and working directory."""

TEMPORARY = (
    f"find {ROOT} /run/myapp /etc/myapp /etc/nginx /etc/systemd/system /etc/sudoers.d /etc/tmpfiles.d"
    " '(' -name '.part-*' -o -name '*.new-*' -o -path '*/try/*' -o -name '.maintenance-*' -o -name '.history-new' ')';"
    " find /run /tmp -maxdepth 1 -name 'integrators-loop.*'"
)


def check(site: Site, *allowed: str) -> str:
    """Return the release that the host serves: an allowed one, whole, healthy and alone. AssertionError otherwise.

    Waits first for the program of a dead run, and for the end of a probation.
    """
    site.await_guards()
    site.sh("flock -w 90 /run/myapp/lock/activate true")
    release, slot = committed(site), site.slot
    assert release in allowed, f"{release} is committed, not one of {allowed}"
    assert site.show(f"myapp@{slot}.service", "ActiveState") == "active"
    assert answers(site) == {release}
    assert faults(site) == ""
    assert foreign_processes(site) == []
    site.sh("nginx -t")
    return release


def committed(site: Site) -> str:
    """Return the release that a boot would start."""
    return site.sh(f"readlink {ROOT}/current/release").rpartition("/")[2]


def answers(site: Site) -> set[str]:
    """Return the answers of six new connections to the front door, also to the health check: release or fault."""
    told = set()
    for path in ("/healthz", "/readyz") * 3:
        answer = ask(site.machine.address, path)
        told.add(str(answer.json()["release"]) if answer.status == 200 else f"{path}: {answer.status}")
    return told


def faults(site: Site) -> str:
    """Return the faults in the files of the committed release; empty if it is whole."""
    ended = site.machine.sh(f"sh -s {ROOT}", _LOOK.encode())
    return (ended.stdout + ended.stderr).decode()


def foreign_processes(site: Site) -> list[str]:
    """Return the processes of the committed slot and of the further units that belong to another release."""
    release = committed(site)
    ended = site.machine.sh(f"sh -s {site.slot}", _PROCESSES.encode())
    processes = ended.stdout.decode().splitlines()
    assert any(line.startswith(f"myapp@{site.slot}.service ") for line in processes), "the slot has no process"
    # Without the root: for a file system taken away below a process, /proc shows only the rest of the path.
    return [line for line in processes if not re.search(f" {release} .*/releases/{release}/code$", line)]


def settled_after(site: Site, words: tuple[str, ...], *allowed: str) -> str:
    """Repeat the command, which must work; then no run has left anything, and a reboot changes nothing.

    allowed: releases that may serve then. Returns the one that does.
    """
    # A run whose controller has gone holds its host for half a minute at most.
    site.sh("flock -w 45 /run/myapp/lock/run true")
    site.clone.done(*words)
    release = check(site, *allowed)
    tidy(site)
    slot = site.slot
    site.machine.reboot()
    assert (check(site, *allowed), site.slot) == (release, slot), "the reboot changed what is committed"
    site.settled()
    return release


def tidy(site: Site) -> None:
    """Assert that nothing temporary is left, one slot runs, and the history agrees with its host."""
    assert site.sh(TEMPORARY) == ""
    site.settled()
    verified = site.fab("history", "--verify", "--json")
    assert verified.status == 0, json.dumps(verified.json(), indent=1)
