"""Close or open the front door: nginx answers 503 while one directory exists. A rename makes or removes it."""

from __future__ import annotations

import os
import re
import shutil
import stat
import tarfile
from collections.abc import Mapping
from typing import BinaryIO

from . import history
from .folders import Folder
from .probe import run_curl
from .run import Refused, Run

_CLOSED = "maintenance"
_SECONDS = 5
"""Seconds to wait for an answer of the front door."""
_PAGE = re.compile(r"[a-z]+\.(html|json)")
_MOST = 1 << 20
"""Bytes of the largest page."""


def perform(run: Run) -> None:
    """Close or open the door. `steps.maintenance` of the controller has the step's keys."""
    try:
        root = Folder.open(run.step["root"])
    except FileNotFoundError:
        raise Refused(f"{run.step['name']} is not set up on this host: fab setup") from None
    with root:
        door = _Door(run, root)
        try:
            if run.step["turn"] == "on":
                door.close(_pages(run.payload))
            else:
                door.open()
        except BaseException:
            run.begin_ending()
            door.undo()
            raise
        finally:
            door.sweep()


def _pages(payload: BinaryIO) -> Mapping[str, bytes]:
    """Return the pages for clients, by file name."""
    pages = {}
    try:
        with tarfile.open(fileobj=payload, mode="r|") as archive:
            for member in archive:
                fits = member.isreg() and member.size <= _MOST and _PAGE.fullmatch(member.name)
                file = archive.extractfile(member) if fits else None
                if file is None:
                    raise Refused(f"the controller sent {member.name}, which is no page")
                pages[member.name] = file.read()
    except tarfile.TarError as error:
        raise Refused(f"what the controller sent is no pages, or was cut off: {error}") from None
    return pages


class _Door:
    """The front door of one service. New files stay in one work directory until they are complete."""

    def __init__(self, run: Run, root: Folder) -> None:
        self._run, self._root = run, root
        self._work = f".maintenance-{run.id}"
        self._trying = False
        # Left by runs that died.
        for name in root.names():
            if name.startswith(".maintenance-"):
                _remove(root, name)
        root.make(self._work, 0o755)

    def close(self, pages: Mapping[str, bytes]) -> None:
        """Turn clients away with these pages; Refused if the front door does not answer 503 then."""
        with self._root.below(self._work) as work:
            work.make("new", 0o755)
            with work.below("new") as new:
                for name, data in pages.items():
                    # nginx's account must not read who closed the door, and when.
                    new.write(name, data, 0o600 if name == "state.json" else 0o644)
                new.sync()
                self._record("maintenance-on", "started")
                self._install(new)
        self._root.sync()
        code = self._front_code()
        self._run.heed()
        if code != "503":
            self._record("maintenance-on", "failed")
            wrong = f"the front door answers {code} and not 503: nginx does not run, or its file was not written by"
            raise Refused(f"{wrong} this version of fab setup")
        self._trying = False
        self._record("maintenance-on", "done")
        self._run.say("closed", "clients get 503")

    def _install(self, new: Folder) -> None:
        status = self._root.status(_CLOSED)
        if status and stat.S_ISDIR(status.st_mode) and os.access(f"{self._root.path}/{_CLOSED}", os.W_OK):
            # Closed already: replace the pages one by one, so that the door never opens.
            with self._root.below(_CLOSED) as closed:
                for name in new.names():
                    os.rename(name, name, src_dir_fd=new.descriptor, dst_dir_fd=closed.descriptor)
            return
        if status:
            self._take_away()
        self._trying = True
        self._root.rename(f"{self._work}/new", _CLOSED)

    def open(self) -> None:
        """Serve clients again."""
        if not self._root.status(_CLOSED):
            self._run.say("open", "it was open already")
            return
        self._record("maintenance-off", "started")
        self._take_away()
        self._record("maintenance-off", "done")
        self._run.say("open", "clients are served")

    def undo(self) -> None:
        """Open the door again if closing it was not confirmed."""
        if self._trying and self._root.status(_CLOSED):
            with self._run.report_errors_while_ending():
                self._take_away()

    def sweep(self) -> None:
        """Remove the work directory."""
        _remove(self._root, self._work)

    def _take_away(self) -> None:
        # A rename within one directory also moves what root made by hand; only root can remove that.
        former = f"{self._work}-former"
        self._root.rename(_CLOSED, former)
        self._root.sync()
        if not _remove(self._root, former):
            self._run.report("warning", f"{self._root.path}/{former} is root's, and stays until root removes it")

    def _record(self, action: str, state: str) -> None:
        committed = self._root.link("current/release").rpartition("/")[2]
        history.record(self._run, self._root, action, committed, state)

    def _front_code(self) -> str:
        """Return the status that the front door answers; 000 without an answer."""
        front = self._run.step["front"]
        kind, host = front["kind"], front["host"]
        port = {"https": 443}.get(kind, 80)
        options = ("-s", "-k", "-o", "/dev/null", "--noproxy", "*", "--max-time", str(_SECONDS))
        way = ("--resolve", f"{host}:{port}:127.0.0.1", "--write-out", "%{http_code}")
        text, _ = run_curl(_SECONDS, *options, *way, f"{kind}://{host}{front['prefix']}{self._run.step['path']}")
        return text.rpartition("\n")[2]


def _remove(folder: Folder, name: str) -> bool:
    """Remove a file or a whole directory; return False if this account may not."""
    status = folder.status(name)
    try:
        if status and stat.S_ISDIR(status.st_mode):
            shutil.rmtree(f"{folder.path}/{name}")
        elif status:
            folder.remove(name)
    except OSError:
        return False
    return True
