"""Build a release: one immutable copy of the service, named by its content.

The same files, modes and overrides have the same id on any controller, checkout, umask and file order. Commit and dirty
paths are recorded beside the id and do not change it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from tasks.engine.config.sections import DEPENDENCIES, Dependencies
from tasks.engine.errors import UsageError
from tasks.engine.release import archive, git, index_options, pyproject
from tasks.engine.release import lockfile as locks
from tasks.engine.release.archive import Entry, Tree
from tasks.engine.release.git import Checkout
from tasks.engine.release.lockfile import Lock

_NEEDED = ("service.yaml", "requirements.txt")

_LARGE = 10**6
"""Bytes of a file that makes it a large one."""
# A host reports the release.json of each release with its state, and cuts each at 64 kB.
_RECORDED, _PATH = 50, 200


class Release(NamedTuple):
    """One release: id (12 hex digits), files, lock, and their origin (the commit, and paths that differ from it).

    site: files of the project's own wheel, with paths below `site/`
    """

    id: str
    tree: Tree
    lock: Lock
    commit: str | None
    dirty: tuple[str, ...]
    site: tuple[Entry, ...] = ()

    @property
    def large(self) -> dict[str, str]:
        """Path and digest of the largest files; each release on a host records them, so a file is sent once."""
        entries = [
            entry for entry in self.tree.entries if entry.size >= _LARGE and len(json.dumps(entry.path)) <= _PATH
        ]
        entries.sort(key=lambda entry: -entry.size)
        return {entry.path: entry.sha256 for entry in entries[:_RECORDED]}


def build(
    root: Path,
    overrides: Mapping[str, object],
    include: Mapping[str, str] = MappingProxyType({}),
    wanted: Dependencies = DEPENDENCIES,
    shared: tuple[str, ...] = (),
    *,
    require_clean: bool = False,
    checkout: Checkout | None = None,
) -> Release:
    """Build the release from `root/service` and the overrides of all hosts (JSON values, by host).

    include: paths and globs of files that git ignores or that are large, each with its place in service.yaml
    wanted: extras and groups that the lock must have
    shared: directories of the code that live in the service's data
    checkout: the state of service/, if git was asked already

    The wheel is built if service/ has the project of a package. UsageError when a file is refused, requirements.in has
    a password, the lock is missing, stale or without gunicorn, or the tree is dirty in spite of `require_clean`.
    """
    checkout = checkout or git.read(root)
    if require_clean and checkout.dirty:
        raise UsageError(
            f"{len(checkout.dirty)} file(s) in service/ differ from the commit, and --require-clean was given",
            where="service/",
            next="git add and commit them, or leave out --require-clean",
            detail=tuple(f"service/{path}" for path in checkout.dirty[:20]),
        )
    index_options.check(root / "service" / "requirements.in")
    lock = locks.read(root / "service" / "requirements.txt", wanted)
    lock.require("gunicorn", "it runs every web process")
    tree = archive.collect(root, include, shared, checkout.files)
    _require(tree)
    site = _site(root, tree)
    return Release(_identify(tree, site, overrides), tree, lock, checkout.commit, checkout.dirty, site)


def _site(root: Path, tree: Tree) -> tuple[Entry, ...]:
    """Return the files of the project's own wheel; none if the project is no package."""
    project = pyproject.read(root / "service")
    if project is None or not project.packaged:
        return ()
    # It imports much, and most services have no project.
    from tasks.engine.release import package_data, project_wheel

    site = project_wheel.build(tree, root / "service")
    for folder in ("".join(parts) for parts in package_data.packages(tree.entries, site)):
        for place in tree.shared:
            if place.startswith(f"{folder}/"):
                raise _shared_in_package(place, folder)
    return site


def _shared_in_package(place: str, folder: str) -> UsageError:
    """Return the error for a shared directory whose link the package, which runs from its wheel, would never see."""
    return UsageError(
        f"{place} is `shared`, and lies in the package {folder}, which runs from the wheel of the project",
        where="service/service.yaml (shared)",
        next="let the application write below STATE_DIRECTORY, or to a shared directory outside of the package",
    )


def require_folders(tree: Tree, folders: Mapping[str, str]) -> None:
    """Refuse a folder of `pythonpath` or `static` without files. folders: each with its place in service.yaml."""
    for folder, place in folders.items():
        prefix = f"{folder.removesuffix('/')}/"
        if folder != "." and not any(entry.path.startswith(prefix) for entry in tree.entries):
            raise UsageError(
                f"the release has no file below {prefix}",
                where=place,
                next="correct the path: it begins below service/, and `include` carries what git ignores",
            )


def _require(tree: Tree) -> None:
    """Refuse a tree that lacks a file that every release needs: the file was read before, so git ignores it."""
    present = {entry.path for entry in tree.entries}
    for path in _NEEDED:
        if path not in present:
            raise UsageError(
                "a release needs this file, and git ignores it",
                where=f"service/{path}",
                next=f"git check-ignore -v service/{path} says which rule to remove",
            )


def _identify(tree: Tree, site: tuple[Entry, ...], overrides: Mapping[str, object]) -> str:
    """Return 12 hex digits of the SHA-256 over every mode, digest and path, and the overrides as canonical JSON."""
    seal = hashlib.sha256()
    # No path of the tree begins with `../`.
    for entry in (*tree.entries, *(entry._replace(path=f"../site/{entry.path}") for entry in site)):
        seal.update(f"{entry.mode:o} {entry.sha256}  {entry.path}\n".encode())
    seal.update(json.dumps(overrides, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode())
    return seal.hexdigest()[:12]
