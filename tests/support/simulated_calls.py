"""Loaded by the host's program on a simulated host (see `simulated_host`) before `start`: its clock and its calls.

Notes the calls that the program makes itself like those of other programs, so that a test can cut the run there.
"""

import builtins
import errno
import os
import signal
import sys
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

LAB = Path(os.environ["LAB"])
# Prefix of the program's paths here; set before its modules load. Those that are loaded have another one.
loaded = getattr(builtins, "LAB", None)
builtins.LAB = LAB  # type: ignore[attr-defined]


def values() -> Iterator[tuple[Any, str, Any]]:
    """Return each module of the program that is loaded, with each of its names that is put below, and their values.

    The process that this one is a fork of has looked for them: to do so copies most of its memory.
    """
    if loaded:
        yield from builtins.LAB_PLACES  # type: ignore[attr-defined]
        return
    for module in [module for name, module in sys.modules.items() if name.startswith("host.")]:
        for name, value in list(vars(module).items()):
            yield module, name, value


def put(before: Any, after: Any) -> None:
    """Replace a value in every module that has it, by whatever name."""
    for module, name, value in values():
        if value is before:
            setattr(module, name, after)


for module, name, value in values():
    if isinstance(value, str) and value.startswith(f"{loaded}/"):
        setattr(module, name, value.replace(str(loaded), str(LAB), 1))

main: Any = import_module("host.main")
running: Any = import_module("host.run")
units: Any = import_module("host.units")
Folder: Any = import_module("host.folders").Folder

CLOCK = LAB / "proc/uptime"
os.environ["LAB_PID"] = str(os.getpid())
# Never root: root's work must pass by sudo and its rules. $LAB/uid is the service's user, or that account's.
UID = LAB / "uid"
os.geteuid = lambda: int(UID.read_text()) if UID.exists() else 1000


def note(words: str) -> None:
    """Note a call; then send the signal that the test has set for this one."""
    with (LAB / "calls").open("a") as file:
        file.write(f"{words}\n")


def cut_here() -> None:
    """Send the signal that the test has set for the last call."""
    if not (LAB / "cut").exists():
        return
    at, number = (LAB / "cut").read_text().split()
    if len((LAB / "calls").read_text().splitlines()) == int(at):
        os.kill(os.getpid(), signal.Signals[f"SIG{number}"])


rename, sync = Folder.rename, Folder.sync


def noted_rename(folder: Any, name: str, to: str) -> None:
    """Note it: the state machine consists of renames."""
    target = folder.link(name)
    if target:
        note(f"link {folder.path}/{to} -> {target}")
    rename(folder, name, to)
    if target:
        cut_here()


def noted_sync(folder: Any) -> None:
    """Note the call, skip the sync: only the order counts, and a disk would slow the tests."""
    note(f"sync {folder.path}")
    cut_here()


hard_link = os.link


def link(*words: Any, **places: Any) -> None:
    """Fail as on a full disk if the test says so."""
    if (LAB / "full").exists():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    hard_link(*words, **places)


os.link = link


def real() -> bool:
    """Return true if the test uses the real /proc, and with it the real time."""
    return (LAB / "proc").is_symlink()


def now() -> float:
    """Return the lab's time."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if real() else float(CLOCK.read_text().split()[0])


def pause(run: Any, seconds: float) -> None:
    """Advance the lab's clock by a second without sleeping."""
    run.heed()
    if real():
        time.sleep(seconds)
    else:
        CLOCK.write_text(f"{int(now()) + 1}.00 1.00\n")
    run.heed()


stop_listening = running.Run.stop_listening


def left_nothing(run: Any) -> None:
    """End the program if it waits for the next step with a file open: a lock would be held for as long."""
    stop_listening(run)
    kept = [str(file.readlink()) for file in Path("/proc/self/fd").iterdir() if file.exists()]
    if kept := [path for path in kept if path.startswith(f"{LAB}/")]:
        note(f"left open: {' '.join(kept)}")
        os._exit(97)


module_of = main._module


def last_module(step: str) -> Any:
    """Return the module of a step; with $LAB/sealed, the last import that works, as if the rest had been removed."""
    module = module_of(step)
    if (LAB / "sealed").exists():
        # Modules built into the interpreter stay.
        sys.meta_path[:] = [one for one in sys.meta_path if one.__module__ == "_frozen_importlib"]
    return module


main._module = last_module
Folder.rename, Folder.sync = noted_rename, noted_sync
running.Run.pause = pause
running.Run.stop_listening = left_nothing
put(running.now, now)
put(units.SYSTEMCTL, "systemctl")
if (LAB / "patience").exists():
    # Skip waiting for a run that no process holds: the test has none.
    import_module("host.change_lock")._OUTLIVED = int((LAB / "patience").read_text())  # type: ignore[attr-defined]
