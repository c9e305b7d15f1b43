"""The package indexes of a clone on this machine, in one list that uv (for the lock) and pip (for the wheels) both get.

A program gets them in its environment, never as arguments, which other users can see: an address may hold a password.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from tasks.engine.release import package_folders

PYPI = "https://pypi.org/simple"

_REPLACED = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX", "UV_INDEX", "UV_DEFAULT_INDEX",
             "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS")  # fmt: skip
_USER = re.compile(r"(?<=://)[^/@\s]+(?=@)")
_SHORT = 4
"""Characters below which a password is hidden only where it stands in an address."""


class Indexes(NamedTuple):
    """Addresses of indexes, and of pages and folders with packages.

    own: folder of the operator's own wheels, asked before all others; empty if there is none
    first: indexes that are asked before the default one. A package that one of them has comes from there alone
    default: empty for PyPI; after: indexes for packages that the default one lacks
    links: pages and folders (`--find-links`); after_links: those for packages that no index has
    alone: ask no index; trusted: hosts whose certificates are not checked
    uv: further settings of pip's, as variables of uv's
    assigned: indexes that a uv project uses only for packages it assigns to them (`explicit`). pip may ask them for
        every package, since the lock names the digests; uv is not given them
    """

    first: tuple[str, ...] = ()
    default: str = ""
    after: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    after_links: tuple[str, ...] = ()
    alone: bool = False
    trusted: tuple[str, ...] = ()
    uv: Mapping[str, str] = MappingProxyType({})
    own: str = ""
    assigned: tuple[str, ...] = ()

    def for_pip(self) -> dict[str, str]:
        """Return the environment for pip. It takes every file that the lock allows, so the order does not count."""
        return {
            **_others(),
            **_filled("PIP_INDEX_URL", self.default),
            **_filled("PIP_EXTRA_INDEX_URL", *self.first, *self.after, *self.assigned),
            **_filled("PIP_FIND_LINKS", self.own, *self.links, *self.after_links),
            **_filled("PIP_NO_INDEX", "1" if self.alone else ""),
            **_filled("PIP_TRUSTED_HOST", *self.trusted),
        }

    def for_uv(self, scratch: Path) -> dict[str, str]:
        """Return the environment for uv. scratch: a directory that lives as long as uv runs.

        If no index may be asked, uv needs the option --no-index, too.
        """
        environment = {**self.uv, **_others(), **_filled("UV_INSECURE_HOST", *self.trusted)}
        if self.alone:
            links = _filled("UV_FIND_LINKS", self.own, *self.links, *self.after_links, between=",")
            return {**environment, **links}
        # If a folder of `--find-links` has a version, uv takes it from there alone, even if only for a few platforms.
        folders = {link: folder for link in self.after_links if (folder := local(link)) and folder.is_dir()}
        pages = [link for link in self.after_links if link not in folders]
        own = [package_folders.write_index([folder], scratch / "own") for folder in filter(None, [local(self.own)])]
        last = [package_folders.write_index(folders.values(), scratch / "simple")] if folders else []
        default = self.default or PYPI
        return {
            **environment,
            **_filled("UV_FIND_LINKS", *self.links, *pages, between=","),
            # uv asks the indexes in this order and its default index at the end.
            **_filled("UV_INDEX", *own, *self.first, *([default, *self.after, *last] if self.after or last else ())),
            "UV_DEFAULT_INDEX": default,
        }

    @property
    def folders(self) -> tuple[Path, ...]:
        """The folders of packages on this machine."""
        return tuple(filter(None, map(local, (self.own, *self.links, *self.after_links))))

    def hide(self, lines: Iterable[str]) -> tuple[str, ...]:
        """Return the lines without names and passwords of addresses."""
        addresses = (*self.first, self.default, *self.after, *self.links, *self.after_links, *self.assigned)
        secrets = {secret for address in addresses for secret in _secrets(address)}
        return tuple(_hidden(line, secrets) for line in lines)

    def __str__(self) -> str:
        """Return the addresses for a person."""
        asked = () if self.alone else (*self.first, self.default or PYPI, *self.after)
        return ", ".join(filter(None, self.hide((self.own, *asked, *self.links, *self.after_links))))


def local(address: str) -> Path | None:
    """Return the path of an address on this machine; None for one elsewhere."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return None
    return Path(unquote(parts.path)) if parts.scheme == "file" else None


def _others() -> dict[str, str]:
    """Return this process's environment without what names indexes."""
    return {name: value for name, value in os.environ.items() if name not in _REPLACED}


def _filled(name: str, *values: str, between: str = " ") -> dict[str, str]:
    """Return a variable with these values; none if they are empty."""
    value = between.join(filter(None, dict.fromkeys(values)))
    return {name: value} if value else {}


def _secrets(address: str) -> set[str]:
    try:
        parts = urlsplit(address)
        # A token often stands alone, as the user.
        secret = parts.password or parts.username or ""
    except ValueError:
        return set()
    return {text for text in (secret, unquote(secret)) if len(text) >= _SHORT}


def _hidden(line: str, secrets: Iterable[str]) -> str:
    for secret in secrets:
        line = line.replace(secret, "****")
    return _USER.sub("****", line)
