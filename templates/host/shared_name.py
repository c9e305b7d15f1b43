"""Several services of this host behind one name, each below its path: one of them keeps the server block for all.

/etc/nginx/conf.d/loop-SERVER.conf includes /etc/NAME/nginx/server.conf of the keeper, which includes what each service
has in /etc/nginx/loop/SERVER. If the keeper leaves the name, another service of it becomes the keeper.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any

from .files import RootFiles, has, remove_parts
from .folders import Folder
from .run import Refused

_CHOICES, _FOLDER = "/etc/nginx/conf.d", "/etc/nginx/loop"
# `[f]` makes the path a glob: nginx starts even if the file is missing.
_KEEPER = re.compile(r"^include /etc/([a-z][a-z0-9-]{0,60})/nginx/server\.con\[f\];$", re.MULTILINE)
_SAID = re.compile(r"^# nginx\.([a-z_]{1,40}): ([^\n]*)$", re.MULTILINE)
_LOCATION = ".location"


def check(name: str, shared: Mapping[str, Any]) -> None:
    """Raise Refused if another service of the name has the path, or the keeper has the name with other terms.

    shared: the server name, path and terms; empty for a service that has its whole name.
    """
    if not shared:
        return
    server, path = shared["server"], shared["path"]
    for other in _services(server, but=name):
        if _said(f"{_FOLDER}/{server}/{other}{_LOCATION}").get("path") == path:
            raise Refused(
                f"{other} on this host has the path {path} of {server} already: give {name} another nginx.path"
            )
    other = keeper(server)
    theirs = _said(_block(other)) if other and other != name else shared["terms"]
    for key, value in shared["terms"].items():
        if theirs.get(key) != value:
            raise Refused(
                f"services behind one name agree in nginx.{key}, and for {server} {other} has {theirs.get(key)}, "
                f"{name} {value}. Set up {other} first if that is to change: it keeps the server block of the name"
            )


def wanted(name: str, shared: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the text, by path, of the file that says who keeps the name; empty for one that has its whole name."""
    if not shared:
        return {}
    server = shared["server"]
    return {_choice(server): _text(server, keeper(server) or name)}


def strays(shared: Mapping[str, Any], known: Collection[str]) -> list[str]:
    """Return the files that nginx reads beside those of the services which share names.

    known: files that the services' setups wrote
    """
    if not shared:
        return []
    server = shared["server"]
    good = {*known, _choice(server), *(path for path in as_written() if _named(path) in _services(_server(path)))}
    return sorted(path for path in (*_choices(), *glob.glob(f"{_FOLDER}/{server}/*")) if path not in good)


def keeper(server: str) -> str:
    """Return the service whose server block nginx uses for a name; empty if there is none."""
    name = _named(_choice(server))
    return name if name in _services(server) and os.path.exists(_block(name)) else ""


def _choices() -> tuple[str, ...]:
    """Return the files that say who keeps a name: they change with the setups of several services."""
    return tuple(glob.glob(f"{_CHOICES}/loop-*.conf"))


def as_written() -> tuple[str, ...]:
    """Return those of them that have a text which a setup has written, and no other."""
    return tuple(path for path in _choices() if _named(path) and has(path, _text(_server(path), _named(path))))


def settle(changes: RootFiles, name: str, shared: Mapping[str, Any]) -> None:
    """Keep the name if it has no keeper, and leave others. A file that was edited is written anew."""
    server = shared.get("server", "")
    chosen = {left: _successor(left, name) for left in _kept_by(name) if left != server}
    for path, text in wanted(name, shared).items():
        if not has(path, text):
            chosen[server] = text
    for left, text in chosen.items():
        remove_parts(_choice(left))
        if text:
            changes.replace({_choice(left): (text, 0o644)})
        else:
            changes.remove(_choice(left))


def leave(name: str, run: str) -> None:
    """Leave each name that the service keeps. Its own files are gone already."""
    with suppress(FileNotFoundError), Folder.open(_CHOICES) as folder:
        for left in _kept_by(name):
            text, file = _successor(left, name), os.path.basename(_choice(left))
            folder.replace(file, text, 0o644, f"{file}.new-{run}") if text else folder.remove(file)
    tidy()


def tidy() -> None:
    """Remove the directories of names that no service has any more."""
    for path in (*glob.glob(f"{_FOLDER}/*"), _FOLDER):
        with suppress(OSError):
            os.rmdir(path)


def _successor(server: str, name: str) -> bytes:
    """Return what makes another service of the name the keeper; empty if there is none."""
    others = [other for other in _services(server, but=name) if os.path.exists(_block(other))]
    return _text(server, others[0]) if others else b""


def _text(server: str, name: str) -> bytes:
    head = f"# Services of this host share {server}; fab setup and fab remove choose whose server block nginx uses.\n"
    return f"{head}include {_block(name)[:-1]}[f];\n".encode()


def _kept_by(name: str) -> list[str]:
    """Return the names that the service keeps."""
    return [_server(path) for path in sorted(_choices()) if _named(path) == name]


def _services(server: str, but: str = "") -> list[str]:
    """Return the services behind a name, without one."""
    start = len(f"{_FOLDER}/{server}/")
    found = sorted(path[start : -len(_LOCATION)] for path in glob.glob(f"{_FOLDER}/{server}/*{_LOCATION}"))
    return [other for other in found if other != but]


def _server(choice: str) -> str:
    return choice[len(f"{_CHOICES}/loop-") : -len(".conf")]


def _choice(server: str) -> str:
    return f"{_CHOICES}/loop-{server}.conf"


def _block(name: str) -> str:
    return f"/etc/{name}/nginx/server.conf"


def _named(path: str) -> str:
    found = _KEEPER.search(_read(path))
    return found[1] if found else ""


def _said(path: str) -> dict[str, str]:
    """Return the keys of service.yaml that the head of a file of ours tells."""
    return dict(_SAID.findall(_read(path)[:8192]))


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(1 << 18)
    except OSError:
        return ""
