"""Make room on the disk: remove releases that no slot, process, job or rollback needs, beyond the newest `keep`."""

from __future__ import annotations

import re
from contextlib import suppress

from . import programs, rollback_stack, static_files, stores
from .folders import Folder
from .locks import Lock
from .run import Run
from .slot_names import SLOTS
from .used import by_age, in_use

_PRUNED = re.compile(r"\.part-old-[0-9a-f]{12}")
_ASIDE = re.compile(r"\.part-old-")


def prune(run: Run, root: Folder) -> None:
    """Remove releases, and then what only they used."""
    with root.below("releases") as releases:
        # Left by an interrupted prune, or by a stage that replaced a damaged release.
        for name in filter(_PRUNED.fullmatch, releases.names()):
            if not in_use(releases, name, run.step["name"]):
                _sweep(run, releases, name)
        of_slots = {root.link(f"slots/{slot}/release").rpartition("/")[2] for slot in SLOTS}
        newest_first = by_age(releases)
        # No rollback goes to a release without a MANIFEST (see `handover`).
        targets = [name for name in newest_first if releases.status(f"{name}/MANIFEST")]
        way_back = rollback_stack.previous(rollback_stack.stack(stores.switches(root)), run.step["release"], targets)
        spared = {*newest_first[: run.step["keep"]], way_back}.intersection(targets)
        for name in newest_first:
            if name in spared or name in of_slots or in_use(releases, name, run.step["name"]):
                continue
            run.say("prune", name)
            run.point("probation.prune")
            releases.rename(name, f".part-old-{name}")
            run.point("probation.pruned")
            _sweep(run, releases, f".part-old-{name}")
        _prune_unused(run, root, releases, of_slots)


def _prune_unused(run: Run, root: Folder, releases: Folder, of_slots: set[str]) -> None:
    """Remove venvs that no release uses and wheels that none lists, but no wheels of an interrupted delivery."""
    with Lock(run.step["name"], "stage") as lock:
        # A run is staging, and may be about to use what no release uses yet.
        if not lock.take():
            return
        used = set(_read(root, "wheels/.coming").split("\n"))
        for name in releases.names():
            used.add(releases.link(f"{name}/venv").rpartition("/")[2])
            used |= {line.split(" ", 2)[-1] for line in _read(releases, f"{name}/WHEELS").split("\n")}
        for place in ("venvs", "wheels"):
            with root.below(place) as folder:
                for name in filter(_ASIDE.match, folder.names()):
                    _sweep(run, folder, name)
                for name in folder.names():
                    if name not in used and not name.startswith("."):
                        run.point("probation.sweep")
                        _sweep(run, folder, _moved_aside(folder, name) if place == "venvs" else name)
        _forget_static_files(run, root, releases)
        venvs_of_slots = {releases.link(f"{name}/venv").rpartition("/")[2] for name in filter(None, of_slots)}
        _remove_links(run, releases, of_slots)
        with root.below("venvs") as venvs:
            _remove_links(run, venvs, venvs_of_slots)


def _moved_aside(folder: Folder, name: str) -> str:
    """Rename what is to be removed, so that no drift sees half of it; the next prune removes what a kill leaves."""
    aside = f".part-old-{name}"
    # What a kill has left under this name may be there still: see `_sweep`.
    with suppress(OSError):
        folder.rename(name, aside)
        return aside
    return name


def _forget_static_files(run: Run, root: Folder, releases: Folder) -> None:
    try:
        static_files.forget(root, releases)
    except OSError as error:
        why = error.strerror or error
        run.report("warning", f"{root.path}/{static_files.FOLDER} keeps files of releases that are gone: {why}")


def _remove_links(run: Run, folder: Folder, of_slots: set[str]) -> None:
    """Remove links, which no deploy makes there; one that a slot runs through stays until a deploy replaces it."""
    for name in folder.names():
        if folder.link(name) and name not in of_slots:
            _sweep(run, folder, name)


def _read(folder: Folder, path: str) -> str:
    try:
        return folder.read(path, 16 << 20).decode("utf-8", "surrogateescape")
    except OSError:
        return ""


def _sweep(run: Run, folder: Folder, name: str) -> None:
    """Remove a file or directory; only warn if that fails, for the release serves all the same."""
    path = f"{folder.path}/{name}"
    if not programs.remove_tree(path):
        run.report("warning", f"{path} is not used any more, and cannot be removed: see who owns the files below")
