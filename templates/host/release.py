"""Compare the releases of a service with their manifests, with the rights of the caller and following no link."""

from __future__ import annotations

import base64
import errno
import json
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from importlib import import_module

from . import kept_copies, trust, venv
from .folders import LARGEST, Folder
from .kept import sha256

Tell = Callable[[str, str], None]
"""Report a line: its first word, and the rest."""
heed: Callable[[], object] = int
"""Called between two pieces of a file, and may raise, which ends the reading; `int` does nothing."""
SHOWN = 1 << 16
"""Most bytes of a file to report."""
_LIST_BYTES, _RECORD_BYTES = 64 << 20, 1 << 16
_LARGE = 1 << 20
"""Bytes from which a file is hashed by OpenSSL: it is six times as fast, and takes 4 ms to load."""
_LINE = re.compile(r"([0-9a-f]{64})  (.+)")
BYTECODE = re.compile(r"\.pyc$|(^|/)__pycache__/[^/]*\.pyc\.[0-9][^/]*$")
SHARED = "run/shared.list"
"""The list of the directories in `code` that are links to the service's data; LAUNCHERS has its digest."""
SBOM = "sbom.json"
"""The list of the packages, for people; `release.json` has its digest."""
_PLACE = re.compile(r"[A-Za-z0-9._][A-Za-z0-9._-]*(/[A-Za-z0-9._][A-Za-z0-9._-]*)*")
_RELEASE = re.compile(r"\.\./\.\./releases/[0-9a-z]{1,40}")
LINKS = {
    "current": re.compile("slots/(blue|green)"),
    "slots/blue/release": _RELEASE,
    "slots/green/release": _RELEASE,
}


def examine(root: str, tell: Tell, lists: Mapping[str, Mapping[str, str]]) -> None:
    """Report each file of a release that is edited, missing or not ours, and each link with a wrong target.

    lists: SHA-256 of MANIFEST and SITE by release, for those that the controller knows.
    """
    with Folder.open(root) as folder:
        for path, wanted in LINKS.items():
            _link(folder, path, wanted, tell)
        _releases(folder, tell, lists)
        _venvs(folder, tell)
        _programs(folder, tell)


def _programs(folder: Folder, tell: Tell) -> None:
    """Report a copy of this program that differs from its digest, or whose interpreter is not the system's."""
    try:
        with folder.below(kept_copies.FOLDER) as place:
            for name in place.names():
                if name.startswith("."):
                    continue
                if not kept_copies.whole(place, name):
                    tell("drift", f"edited {place.path}/{name}")
                if not kept_copies.names_python(place, name):
                    tell("drift", f"edited {place.path}/{name}/python")
    except FileNotFoundError:
        return
    except OSError:
        tell("drift", f"edited {folder.path}/{kept_copies.FOLDER}")


def _link(folder: Folder, path: str, wanted: re.Pattern[str], tell: Tell) -> None:
    """Report a slot whose link leads to no release, or `current` if it leads to no slot."""
    try:
        with _opened(folder, path) as (place, name):
            target = place.link(name)
            if place.status(name) and not wanted.fullmatch(target):
                tell("drift", f"points {folder.path}/{path} {target}".rstrip())
    except FileNotFoundError:
        return
    except OSError:
        tell("drift", f"points {folder.path}/{path}")


@contextmanager
def _opened(folder: Folder, path: str) -> Iterator[tuple[Folder, str]]:
    """Open a path's directories one by one; yield the last, and the file's name. OSError for `..` and for a link."""
    *folders, name = path.split("/")
    if any(part in {"", ".", ".."} for part in (*folders, name)):
        raise OSError(0, "it is no path of a file", path)
    with ExitStack() as stack:
        for part in folders:
            folder = stack.enter_context(folder.below(part))
        yield folder, name


def _releases(folder: Folder, tell: Tell, lists: Mapping[str, Mapping[str, str]]) -> None:
    try:
        releases = folder.below("releases")
    except FileNotFoundError:
        return
    except OSError:
        tell("drift", f"edited {folder.path}/releases")
        return
    with releases:
        for name in _directories(releases, tell):
            _release_of(releases, name, tell, lists.get(name, {}))


def _directories(place: Folder, tell: Tell) -> Iterator[str]:
    """Yield the names of the releases, or of the venvs; report each link, and each file but hidden ones."""
    for name in place.names():
        status = place.status(name)
        if status is None:
            continue
        if stat.S_ISLNK(status.st_mode):
            tell("drift", f"points {place.path}/{name} {place.link(name)}")
        elif not name.startswith("."):
            if stat.S_ISDIR(status.st_mode):
                yield name
            else:
                tell("drift", f"extra {place.path}/{name}")


def _if_there(place: Folder, name: str, tell: Tell) -> Tell:
    """Return `tell` for a directory that may be removed meanwhile: a guard that prunes moves it aside first."""

    def tell_if_there(word: str, text: str) -> None:
        if place.status(name):
            tell(word, text)

    return tell_if_there


def _release_of(releases: Folder, name: str, tell: Tell, known: Mapping[str, str]) -> None:
    tell = _if_there(releases, name, tell)
    try:
        release = releases.below(name)
    except OSError:
        # Its owner made it unreadable, or replaced it.
        tell("drift", f"edited {releases.path}/{name}")
        return
    with release:
        _release(release, tell, known)


def _release(release: Folder, tell: Tell, lists: Mapping[str, str]) -> None:
    manifest = listed(release, "MANIFEST")
    if manifest is None:
        tell("drift", f"missing {release.path}/MANIFEST")
        return
    for name, digest in lists.items():
        kind = compare(release, name, digest)
        if kind:
            tell("drift", f"{kind} {release.path}/{name}")
            _show(release, name, tell)
    known = {f"code/{path}": sha256 for path, sha256 in manifest.items()}
    launchers = listed(release, "LAUNCHERS")
    known.update(launchers or {})
    known.update({f"site/{path}": sha256 for path, sha256 in (listed(release, "SITE") or {}).items()})
    known.update(_sbom_digest(release))
    for path, digest in sorted(known.items()):
        kind = compare(release, path, digest)
        if kind:
            tell("drift", f"{kind} {release.path}/{path}")
            _show(release, path, tell)
    _venv(release, tell)
    links = {f"code/{path}": target for path, target in shared(release).items()}
    for path, target in links.items():
        _shared_link(release, path, target, tell)
    present = [*_files(release, "code", tell), *_files(release, "site", tell)]
    present += _files(release, "run", tell) if launchers is not None else []
    for path in present:
        if path not in known and path not in links:
            tell("drift", f"extra {release.path}/{path}")
            _show(release, path, tell)


def shared(release: Folder) -> dict[str, str]:
    """Return the path in `code` and the target of each link to the service's data that a release must have.

    Only a list that LAUNCHERS names counts, and a link leads to the same path in /var/lib/NAME and nowhere else.
    """
    data = f"/var/lib/{os.path.basename(release.path.rpartition('/releases/')[0])}"
    return {place: f"{data}/{place}" for place in lines(release, SHARED) if is_place(place)}


def lines(release: Folder, path: str) -> list[str]:
    """Return the lines of a list of a release; none unless LAUNCHERS has its digest."""
    if path not in (listed(release, "LAUNCHERS") or {}):
        return []
    try:
        with _opened(release, path) as (place, name):
            return place.read(name, _LIST_BYTES).decode("utf-8", "surrogateescape").split("\n")
    except OSError:
        return []


def is_place(path: str) -> bool:
    """Return True for the path of a directory in `code`, in the characters that service.yaml allows."""
    return bool(_PLACE.fullmatch(path)) and not {".", ".."}.intersection(path.split("/"))


def _sbom_digest(release: Folder) -> dict[str, str]:
    """Return the digest of `sbom.json` that release.json has; empty if an older version made the release."""
    try:
        digest = json.loads(release.read("release.json", _RECORD_BYTES))[SBOM]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}
    return {SBOM: digest} if isinstance(digest, str) else {}


def digest_of(folder: Folder, name: str) -> str:
    """Return the SHA-256 of a regular file, in hex; OSError for one larger than LARGEST, which may be sparse."""
    with folder.reader(name) as file:
        left = os.fstat(file.fileno()).st_size
        if left > LARGEST:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), f"{folder.path}/{name}")
        digest = sha256() if left < _LARGE else import_module("hashlib").sha256()
        # Not more than it had: it may be growing.
        while data := file.read(min(left, 1 << 20)):
            heed()
            digest.update(data)
            left -= len(data)
    return str(digest.hexdigest())


def listed(release: Folder, name: str) -> dict[str, str] | None:
    """Return digests by path from a list of `sha256sum`, without malformed lines; None if there is no list."""
    try:
        text = release.read(name, _LIST_BYTES).decode("utf-8", "surrogateescape")
    except OSError:
        return None
    matches = (_LINE.fullmatch(line) for line in text.split("\n"))
    return {match[2]: match[1] for match in matches if match}


def listed_strictly(release: Folder, name: str) -> dict[str, str] | None:
    """Return the same as `listed`, but None if a line is malformed or a path occurs twice."""
    try:
        return _entries(release.read(name, _LIST_BYTES))
    except OSError:
        return None


def _entries(data: bytes) -> dict[str, str] | None:
    matches = [_LINE.fullmatch(line) for line in data.decode("utf-8", "surrogateescape").split("\n") if line]
    digests = {match[2]: match[1] for match in matches if match}
    return digests if len(digests) == len(matches) else None


def all_match(release: Folder, name: str, prefix: str = "") -> bool:
    """Return whether every file of a list exists with its digest. prefix: put before the list's paths."""
    return _are_there(release, listed_strictly(release, name), prefix)


def _are_there(release: Folder, wanted: dict[str, str] | None, prefix: str = "") -> bool:
    return bool(wanted) and not any(
        compare(release, f"{prefix}{path}", digest) for path, digest in (wanted or {}).items()
    )


def list_digests(release: Folder) -> dict[str, str]:
    """Return the SHA-256 of MANIFEST, LAUNCHERS, SITE and sbom.json, for the controller to compare.

    Empty unless code, launchers and site match these lists; the account could have edited both, so the controller has
    the last word. Not listed: bytecode in `code` and `site`, even half-written, and the links to the service's data.
    """
    names = ["MANIFEST", "LAUNCHERS", *(name for name in ("SITE", SBOM) if release.status(name))]
    try:
        found = {name: release.read(name, _LIST_BYTES) for name in names}
        manifest, launchers = _entries(found["MANIFEST"]), _entries(found["LAUNCHERS"])
        whole = _is_all(release, "code", manifest) and _are_there(release, launchers) and has_site(release)
    except OSError:
        return {}
    return {name: sha256(data).hexdigest() for name, data in found.items()} if whole else {}


def has_site(release: Folder) -> bool:
    """Return whether the release has no site, or exactly the files of its list."""
    if not (release.status("SITE") or release.status("site")):
        return True
    try:
        return _is_all(release, "site", listed_strictly(release, "SITE"))
    except OSError:
        return False


def _is_all(release: Folder, place: str, wanted: dict[str, str] | None) -> bool:
    if not wanted:
        return False
    links = shared(release) if place == "code" else {}
    with release.below(place) as top:
        for folder, name, path in top.walk():
            if path in links:
                if folder.link(name) != links.pop(path):
                    return False
            elif BYTECODE.search(path):
                if not _is_regular(folder, name):
                    return False
            elif path not in wanted or digest_of(folder, name) != wanted.pop(path):
                return False
    # A path that is left was listed, but is not there.
    return not wanted and not links


def _is_regular(folder: Folder, name: str) -> bool:
    status = folder.status(name)
    return status is not None and stat.S_ISREG(status.st_mode)


def compare(release: Folder, path: str, digest: str) -> str:
    """Return `edited` or `missing` for a file that differs from its digest, and "" for one that matches."""
    try:
        with _opened(release, path) as (place, name):
            return "" if digest_of(place, name) == digest else "edited"
    except FileNotFoundError:
        return "missing"
    except OSError:
        return "edited"


def _venv(release: Folder, tell: Tell) -> None:
    target = release.link("venv")
    if not venv.LINK.fullmatch(target):
        tell("drift", f"points {release.path}/venv {target}".rstrip())
    elif not os.access(f"{release.path}/{target}/bin/python", os.X_OK):
        tell("drift", f"missing {release.path}/{target}")


def _venvs(folder: Folder, tell: Tell) -> None:
    """Report a venv that differs from its build, a link out of it, and a Python that other accounts can change."""
    try:
        with folder.below("venvs") as venvs:
            for name in _directories(venvs, tell):
                _venv_of(f"{venvs.path}/{name}", _if_there(venvs, name, tell))
    except FileNotFoundError:
        return
    except OSError:
        tell("drift", f"edited {folder.path}/venvs")


def _venv_of(path: str, tell: Tell) -> None:
    try:
        for kind, name in venv.differences(path):
            target = f" {os.readlink(f'{path}/{name}')}" if kind == "points" else ""
            tell("drift", f"{kind} {path}/{name}{target}")
    except OSError:
        tell("drift", f"edited {path}")
    python = os.path.realpath(f"{path}/bin/python")
    if trust.open_place(f"{path}/bin/python"):
        tell("drift", f"points {path}/bin/python {python}")


def _shared_link(release: Folder, path: str, wanted: str, tell: Tell) -> None:
    found = ""
    with suppress(OSError), _opened(release, path) as (place, name):
        found = place.link(name)
    if found != wanted:
        tell("drift", f"points {release.path}/{path} {found}".rstrip())


def _files(release: Folder, name: str, tell: Tell) -> Iterator[str]:
    if release.status(name) is None:
        return
    try:
        with release.below(name) as folder:
            for inner, file, path in folder.walk():
                # A link named like bytecode counts: its target may be writable for another account.
                if not (name in {"code", "site"} and BYTECODE.search(path) and _is_regular(inner, file)):
                    yield f"{name}/{path}"
    except OSError:
        tell("drift", f"edited {release.path}/{name}")


def _show(release: Folder, path: str, tell: Tell) -> None:
    try:
        with _opened(release, path) as (place, name):
            data = base64.b64encode(place.read(name, SHOWN)).decode()
    except OSError:
        return
    tell("data", f"{release.path}/{path} {data}")
