"""`fab sandbox.up`, `.list`, `.down`: real local hosts to try and test on."""

from __future__ import annotations

import json as json_format
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from fabric import Connection, task

from tasks.engine.errors import UsageError

ROOT = Path(__file__).resolve().parent.parent
STATE = ROOT / ".sandbox"


@task(auto_shortflags=False)  # type: ignore[untyped-decorator]  # fabric has no types
def up(c: Connection, count: str = "2", suite: str = "") -> None:
    """Boot local hosts shire01, shire02, ... with systemd, sshd and nginx, and no way out.

    --count N of them, 1 to 60; what runs already is left alone. --suite NAME takes another Debian or Ubuntu release.
    """
    from tasks.engine.sandbox import Sandbox

    number = parse_count(count)
    if _as_root("sandbox.up", f"--count={number}", *([f"--suite={suite}"] if suite else [])):
        return
    machines = Sandbox(STATE, suite or None).up(number, _elapsed())
    for machine in machines:
        _print(f"{machine.name}  {machine.address}")
    _print(f"next: fab deploy -H {machines[0].name}")


@task(name="list", auto_shortflags=False)  # type: ignore[untyped-decorator]  # fabric has no types
def listing(c: Connection, json: bool = False) -> None:
    """List the local hosts that sandbox.up made, on or off. --json prints one document."""
    from tasks.engine.sandbox import Sandbox

    machines = Sandbox(STATE).machines()
    rows = [{"host": m.name, "address": m.address, "running": m.keeper_pid is not None} for m in machines]
    if json:
        _print(json_format.dumps({"schema": 1, "hosts": rows}))
        return
    for row in rows:
        _print(f"{row['host']}  {row['address']}  {'running' if row['running'] else 'off'}")
    if not rows:
        _print("no sandbox hosts; fab sandbox.up makes them")


@task(auto_shortflags=False)  # type: ignore[untyped-decorator]  # fabric has no types
def down(c: Connection) -> None:
    """Remove the local hosts that sandbox.up made, with their disks, keys and network."""
    from tasks.engine.sandbox import Sandbox

    if not STATE.exists():
        _print("no sandbox hosts; nothing to do")
        return
    if _as_root("sandbox.down"):
        return
    gone = Sandbox(STATE).down()
    _print(f"removed {', '.join(gone) or 'an empty sandbox'}")


def parse_count(text: str) -> int:
    """The number of hosts on the command line, its bounds unchecked. Raises UsageError for what is no number."""
    if not (text.isascii() and text.isdigit()):
        raise UsageError(f"--count takes a number of hosts, not {text!r}", next="fab sandbox.up --count 2")
    return int(text)


def _as_root(*arguments: str) -> bool:
    """Run this very task through sudo unless we are root; whether it was. Raises UsageError where sudo will not."""
    if os.geteuid() == 0:
        return False
    command = ["--", sys.executable, "-B", "-m", "fabric", *arguments]
    if shutil.which("sudo") is None or subprocess.run(["sudo", "-n", "true"], capture_output=True).returncode != 0:
        raise UsageError(
            "real local hosts need root, and sudo would ask for a password here",
            next=f"cd {shlex.quote(str(ROOT))} && sudo {shlex.join(command)}",
        )
    status = subprocess.run(["sudo", "-n", *command], cwd=ROOT).returncode
    if status != 0:
        sys.exit(status)
    return True


def _elapsed() -> Callable[[str], None]:
    """A `say` that puts the seconds since now before each step."""
    start = time.monotonic()
    return lambda text: _print(f"{time.monotonic() - start:5.1f}s  {text}")


def _print(text: str) -> None:
    print(text, flush=True)
