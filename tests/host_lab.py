"""Imported by the host's program on a make-believe host (see `shell_host`), ahead of `start`: its clock and its calls.

What a script did by programs of its own is noted here as those would note it, and may be cut there.
"""

import builtins
import os
import signal
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

LAB = Path(os.environ["LAB"])
# What the places of the program begin with here, ahead of its modules.
builtins.LAB = LAB  # type: ignore[attr-defined]

main: Any = import_module("host.main")
running: Any = import_module("host.run")
units: Any = import_module("host.units")
Folder: Any = import_module("host.folders").Folder

CLOCK = LAB / "proc/uptime"
os.environ["LAB_PID"] = str(os.getpid())
# Never root: whatever needs root has to pass by sudo and its rules. $LAB/uid is the service's user, or that account's.
UID = LAB / "uid"
os.geteuid = lambda: int(UID.read_text()) if UID.exists() else 1000


def note(words: str) -> None:
    """Write down a call; then the signal that the test wants at this one."""
    with (LAB / "calls").open("a") as file:
        file.write(f"{words}\n")


def cut_here() -> None:
    """Send the signal that the test wants at the call that came last."""
    if not (LAB / "cut").exists():
        return
    at, number = (LAB / "cut").read_text().split()
    if len((LAB / "calls").read_text().splitlines()) == int(at):
        os.kill(os.getpid(), signal.Signals[f"SIG{number}"])


rename, sync = Folder.rename, Folder.sync


def noted_rename(folder: Any, name: str, to: str) -> None:
    """The renames are what the state machine consists of."""
    target = folder.link(name)
    if target:
        note(f"link {folder.path}/{to} -> {target}")
    rename(folder, name, to)
    if target:
        cut_here()


def noted_sync(folder: Any) -> None:
    """The order is what counts here, and a disk would only slow the tests down."""
    note(f"sync {folder.path}")
    cut_here()


def real() -> bool:
    """Whether the test wants the real /proc, and with it the real time."""
    return (LAB / "proc").is_symlink()


def now() -> float:
    """The clock of the lab."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if real() else float(CLOCK.read_text().split()[0])


def pause(run: Any, seconds: float) -> None:
    """Time passes here and nowhere else: a second, and nobody waits."""
    run.heed()
    if real():
        time.sleep(seconds)
    else:
        CLOCK.write_text(f"{int(now()) + 1}.00 1.00\n")
    run.heed()


module_of = main._module


def last_module(step: str) -> Any:
    """The module of a step; where $LAB/sealed is, the last that can be imported, as if the rest had been removed."""
    module = module_of(step)
    if (LAB / "sealed").exists():
        # What the interpreter has within itself stays.
        sys.meta_path[:] = [one for one in sys.meta_path if one.__module__ == "_frozen_importlib"]
    return module


main._module = last_module
Folder.rename, Folder.sync = noted_rename, noted_sync
running.Run.pause = pause
running.now = now
units.SYSTEMCTL = "systemctl"
if (LAB / "patience").exists():
    # Of who waits for the end of a run that nobody holds: the test has none.
    import_module("host.turns")._OUTLIVED = int((LAB / "patience").read_text())  # type: ignore[attr-defined]
