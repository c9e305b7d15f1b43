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

from . import name_keeper, small_file
from .files import RootFiles, has, remove_parts
from .folders import Folder
from .run import Refused

_SAID = re.compile(r"^# nginx\.([a-z_]{1,40}): ([^\n]*)$", re.MULTILINE)


def check(name: str, shared: Mapping[str, Any]) -> None:
    """Raise Refused if another service of the name has the path, or the keeper has the name with other terms.

    shared: the server name, path and terms; empty for a service that has its whole name.
    """
    if not shared:
        return
    server, path = shared["server"], shared["path"]
    for other in name_keeper.services(server, but=name):
        if _said(f"{name_keeper.FOLDER}/{server}/{other}{name_keeper.LOCATION}").get("path") == path:
            raise Refused(
                f"{other} on this host has the path {path} of {server} already: give {name} another nginx.path"
            )
    other = name_keeper.find(server)
    theirs = _said(name_keeper.block(other)) if other and other != name else shared["terms"]
    for key, value in shared["terms"].items():
        if theirs.get(key) != value:
            raise Refused(
                f"services behind one name agree in nginx.{key}, and for {server} {other} has {theirs.get(key)}, "
                f"{name} {value}. Set up {other} first if that is to change: it keeps the server block of the name"
            )


def wanted(name: str, shared: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the text, by path, of the file that says who keeps the name; empty for a service with its whole name."""
    if not shared:
        return {}
    server = shared["server"]
    return {name_keeper.choice(server): _text(server, name_keeper.find(server) or name)}


def strays(shared: Mapping[str, Any], known: Collection[str]) -> list[str]:
    """Return the files that nginx reads beside those of the services which share names.

    known: files that the services' setups wrote
    """
    if not shared:
        return []
    server = shared["server"]
    good = {
        *known,
        name_keeper.choice(server),
        *(path for path in as_written() if name_keeper.named(path) in name_keeper.services(name_keeper.server(path))),
    }
    return sorted(path for path in (*_choices(), *glob.glob(f"{name_keeper.FOLDER}/{server}/*")) if path not in good)


def _choices() -> tuple[str, ...]:
    """Return the files that say who keeps a name: they change with the setups of several services."""
    return tuple(glob.glob(f"{name_keeper.CHOICES}/loop-*.conf"))


def as_written() -> tuple[str, ...]:
    """Return the files of `_choices` that have the text which a setup would write."""
    return tuple(
        path
        for path in _choices()
        if name_keeper.named(path) and has(path, _text(name_keeper.server(path), name_keeper.named(path)))
    )


def choose_keeper(changes: RootFiles, name: str, shared: Mapping[str, Any]) -> None:
    """Become the keeper of the name if it has none; give up other names that the service keeps.

    A file that was edited is written anew.
    """
    server = shared.get("server", "")
    chosen = {left: _successor(left, name) for left in _kept_by(name) if left != server}
    for path, text in wanted(name, shared).items():
        if not has(path, text):
            chosen[server] = text
    for left, text in chosen.items():
        remove_parts(name_keeper.choice(left))
        if text:
            changes.replace({name_keeper.choice(left): (text, 0o644)})
        else:
            changes.remove(name_keeper.choice(left))


def leave(name: str, run: str) -> None:
    """Leave each name that the service keeps. Its own files are gone already."""
    with suppress(FileNotFoundError), Folder.open(name_keeper.CHOICES) as folder:
        for left in _kept_by(name):
            text, file = _successor(left, name), os.path.basename(name_keeper.choice(left))
            folder.replace(file, text, 0o644, f"{file}.new-{run}") if text else folder.remove(file)
    tidy()


def tidy() -> None:
    """Remove the directories of names that no service has any more."""
    for path in (*glob.glob(f"{name_keeper.FOLDER}/*"), name_keeper.FOLDER):
        with suppress(OSError):
            os.rmdir(path)


def _successor(server: str, name: str) -> bytes:
    """Return the text that makes another service of the name the keeper; empty if there is no other service."""
    others = [other for other in name_keeper.services(server, but=name) if os.path.exists(name_keeper.block(other))]
    return _text(server, others[0]) if others else b""


def _text(server: str, name: str) -> bytes:
    head = f"# Services of this host share {server}; fab setup and fab remove choose whose server block nginx uses.\n"
    return f"{head}include {name_keeper.block(name)[:-1]}[f];\n".encode()


def _kept_by(name: str) -> list[str]:
    """Return the names that the service keeps."""
    return [name_keeper.server(path) for path in sorted(_choices()) if name_keeper.named(path) == name]


def _said(path: str) -> dict[str, str]:
    """Return the keys of service.yaml that the head of a file of ours tells."""
    return dict(_SAID.findall(small_file.read(path, 8192)))
