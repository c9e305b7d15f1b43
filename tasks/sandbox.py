"""`fab sandbox.up`, `.list`, `.down`: real local hosts to try and test on."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tasks.engine.errors import UsageError
from tasks.executor import ROOT, verb

if TYPE_CHECKING:
    from tasks.engine.report.output import Writer
    from tasks.engine.sandbox import Machine

_STATE = ROOT / ".sandbox"


@verb(count="number of hosts, 1 to 60", suite="release of Debian or Ubuntu, such as bookworm; default: this machine's")
def up(c: Any, count: str = "2", suite: str = "", json: bool = False) -> None:
    """Boot local hosts shire01, shire02, ... without internet.

    They have systemd, sshd and nginx. Hosts that run already are left alone.
    """
    from tasks.engine.report import output
    from tasks.engine.sandbox import Sandbox

    number = parse_count(count)
    flags = [*([f"--suite={suite}"] if suite else []), *(["--json"] if json else [])]
    if _as_root("sandbox.up", f"--count={number}", *flags):
        return
    machines = Sandbox(_STATE, suite or None).up(number, _elapsed(output.err() if json else output.out()))
    if json:
        output.document({"hosts": [_row(machine) for machine in machines]})
        return
    for machine in machines:
        output.out().line(f"{machine.name}  {machine.address}")
    output.out().line(f"next: fab deploy -H {machines[0].name}")


@verb(name="list")
def listing(c: Any, json: bool = False) -> None:
    """List the local hosts that sandbox.up made, running or off."""
    from tasks.engine.report import output
    from tasks.engine.sandbox import Sandbox

    rows = [_row(machine) for machine in Sandbox(_STATE).machines()]
    if json:
        output.document({"hosts": rows})
        return
    for row in rows:
        output.out().line(f"{row['host']}  {row['address']}  {'running' if row['running'] else 'off'}")
    if not rows:
        output.out().line("no sandbox hosts; fab sandbox.up makes them")


@verb()
def down(c: Any, json: bool = False) -> None:
    """Remove the local hosts that sandbox.up made.

    Removes their disks, keys and network, too.
    """
    from tasks.engine.report import output
    from tasks.engine.sandbox import Sandbox

    there = _STATE.exists()
    if there and _as_root("sandbox.down", *(["--json"] if json else [])):
        return
    removed = Sandbox(_STATE).down()
    if json:
        output.document({"removed": list(removed)})
    else:
        text = f"removed {', '.join(removed) or 'an empty sandbox'}" if there else "no sandbox hosts; nothing to do"
        output.out().line(text)


def _row(machine: Machine) -> dict[str, object]:
    return {"host": machine.name, "address": machine.address, "running": machine.keeper_pid is not None}


def parse_count(text: str) -> int:
    """Parse the number of hosts, without checking its bounds; raise UsageError if it is no number."""
    if not (text.isascii() and text.isdigit()):
        raise UsageError(
            f"--count takes a number of hosts, not {text!r}", where="--count", next="fab sandbox.up --count 2"
        )
    return int(text)


def _as_root(*arguments: str) -> bool:
    """Run this task through sudo unless we are root; return whether it ran. Raise UsageError without sudo."""
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


def _elapsed(writer: Writer) -> Callable[[str], None]:
    """Return a function that prints a step after the seconds since this call."""
    start = time.monotonic()
    return lambda text: writer.line(f"{time.monotonic() - start:5.1f}s  {text}")
