"""Put a release on the host, ready to run. What runs goes on: a damaged release or venv is replaced in one step."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from contextlib import ExitStack
from importlib import import_module

from . import receive, release, static_files, unchanged, venv, venv_build
from .background import Background
from .descent import Descent, clear
from .exchange import exchange
from .flush import flush
from .folders import Folder
from .locks import Lock, opened
from .payload import Payload
from .run import Edited, Run
from .slot_names import SLOTS
from .used import in_use
from .venv_build import Compiling

_PLACES = ("releases", "venvs", "wheels")


def perform(run: Run) -> None:
    """Receive the release, or check the one that is there already."""
    with Folder.open(run.step["root"]) as root, opened(run.step["name"], "stage") as lock:
        _share(run, root, lock)
        if run.step["present"]:
            _check(run, root)
        else:
            with Staging(run, root) as staging:
                staging.perform()
        # Already now: another host may activate the release first, and its pages then ask this host for these files.
        static_files.keep(run, root, run.step["release"])
        run.say("staged", run.step["release"])


def _share(run: Run, root: Folder, lock: Lock) -> None:
    """Share the lock of all runs that stage. If no other run is staging, first remove the leftovers of runs that died.

    A release that was replaced stays while something runs from it; `prune` removes it later.
    """
    if _alone(run, lock):
        for place in _PLACES:
            root.make(place, 0o755)
            with root.below(place) as folder:
                for name in folder.names():
                    replaced = place == "releases" and name.startswith(".part-old-")
                    if name.startswith(".part-") and not (replaced and in_use(folder, name, run.step["name"])):
                        clear(folder, name)
    lock.take_within(run, float("inf"), shared=True)
    lock.write(str(os.getpgrp()))


def _alone(run: Run, lock: Lock) -> bool:
    """Try to hold the lock alone; end the processes that still stage for an abandoned run."""
    if lock.take():
        return True
    for number in (signal.SIGTERM, signal.SIGKILL):
        former = lock.read()
        if not former.isdigit() or int(former) in {0, os.getpgrp()}:
            return False
        lock.end_holders(number, int(former))
        if lock.take_within(run, 5):
            return True
    return False


def _check(run: Run, root: Folder) -> None:
    """Raise Edited, so that the controller sends everything, unless the release is there and can run."""
    name = run.step["release"]
    run.say("check", f"release {name} is there already")
    run.point("stage.reuse")
    with root.below("releases") as releases:
        if not _is_ready(run, releases):
            raise Edited(name)
        with releases.below(name) as folder:
            static_files.date(folder)


def _is_ready(run: Run, releases: Folder) -> bool:
    """Return True if the release and its venv are the ones of the step; the host's own lists are not trusted."""
    step = run.step
    try:
        with releases.below(step["release"]) as folder:
            linked = folder.link("venv") == f"../../venvs/{step['venv']}"
            return linked and release.list_digests(folder) == step["lists"] and venv.whole(f"{folder.path}/venv")
    except OSError:
        return False


class Staging:
    """A release that is built as `.part-RUN` and then renamed. The next stage removes what a killed one left."""

    def __init__(self, run: Run, root: Folder) -> None:
        self._run, self._root = run, root
        self._id, self._name, self._former = run.step["release"], f".part-{run.id}", f".part-old-{run.id}"
        self._open = ExitStack()
        self._releases, self._venvs, self._wheels = (self._folder(root, place) for place in _PLACES)
        self._compiling: Compiling | None = None

    def _folder(self, above: Folder, name: str) -> Folder:
        above.make(name, 0o755)
        return self._open.enter_context(above.below(name))

    def __enter__(self) -> Staging:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind:
            self._run.begin_ending()
        if self._compiling:
            # The compiler still writes into the folders that are removed next.
            self._compiling.wait()
        for folder in (self._releases, self._venvs, self._wheels):
            for name in (self._name, self._former):
                with self._run.report_errors_while_ending():
                    clear(folder, name)
        self._open.close()

    def perform(self) -> None:
        """Receive, verify and finish the release."""
        run = self._run
        arrived = self._receive()
        if run.step["base"] or run.step["others"]:
            unchanged.link_from(run, self._releases, self._part)
        unchanged.link_site(self._part)
        self._link_shared()
        # Compile while the code is verified: the check looks at no bytecode.
        self._compiling = Compiling(run.step["python"], self._code.path, f"{self._part.path}/site")
        # Import what comes next now: later this process only waits, for the compiler or for the venv.
        Background(lambda: import_module(".activate", __package__))
        self._verify()
        self._check_wheels(arrived)
        if venv_build.is_there(self._venvs, run.step["venv"]):
            run.say("venv", "is there already")
        else:
            venv_build.build(run, self._venvs, self._wheels, self._part)
        # It is ready if another run has finished it meanwhile, or if only its venv was broken.
        if not _is_ready(run, self._releases):
            self._finish()
        # From here on the release itself lists its wheels.
        self._wheels.remove(".coming")
        run.heed()

    def _receive(self) -> Mapping[str, str]:
        """Unpack what arrives; return the digests of the wheels by name."""
        self._run.say("receive")
        # Left by this run's first attempt, which ended with Edited.
        clear(self._releases, self._name)
        self._part = self._folder(self._releases, self._name)
        self._code = self._folder(self._part, "code")
        self._run.point("stage.receive")
        payload = Payload(self._run)
        arrived = receive.wheels(self._run, payload, self._wheels)
        receive.unpack(self._run, payload, self._part)
        self._run.point("stage.received")
        return arrived

    def _link_shared(self) -> None:
        """Link the directories of `shared` to the service's data, which only the service makes and opens."""
        with Descent(self._code, make=True) as code:
            for path, target in release.shared(self._part).items():
                above, _, name = path.rpartition("/")
                os.symlink(target, name, dir_fd=code.at(above).descriptor)

    def _verify(self) -> None:
        self._run.say("verify")
        self._run.point("stage.verify")
        if release.list_digests(self._part) != self._run.step["lists"]:
            raise Edited(self._run.step["base"] or self._id)

    def _check_wheels(self, arrived: Mapping[str, str]) -> None:
        """Check the wheels that were there before; ask the controller for the damaged ones again."""
        self._run.point("stage.wheels")
        listed = release.listed_strictly(self._part, "WHEELS")
        if listed is None:
            raise Edited(self._id)
        there = [name for name in listed if arrived.get(name) != listed[name]]
        lacking = [name for name in there if "/" in name or release.compare(self._wheels, name, listed[name])]
        for name in lacking:
            self._run.report("lacks", name)
        if lacking:
            raise Edited(self._id)

    def _finish(self) -> None:
        if self._compiling:
            self._compiling.wait()
        part, run = self._part, self._run
        os.symlink(f"../../venvs/{run.step['venv']}", "venv", dir_fd=part.descriptor)
        clear(part, "tool")
        static_files.date(part)
        with part.below("run") as launchers:
            for name in launchers.names():
                with launchers.reader(name) as file:
                    os.fchmod(file.fileno(), 0o755)
        flush(part.path)
        run.point("stage.finish")
        if self._releases.status(self._id):
            self._replace()
        else:
            self._releases.rename(self._name, self._id)
        run.point("stage.renamed")
        self._releases.sync()

    def _replace(self) -> None:
        """Replace a damaged release of the same id, which may be the one that serves."""
        releases, former = self._releases, f".part-old-{self._id}"
        clear(releases, former)
        self._run.point("stage.replace")
        exchange(releases, self._name, self._id)
        releases.rename(self._name, former)
        # A slot may still run from the old directory: prune removes it once that slot has stopped.
        serves = self._id in {self._root.link(f"slots/{slot}/release").rpartition("/")[2] for slot in SLOTS}
        if not serves or releases.link(former):
            clear(releases, former)
