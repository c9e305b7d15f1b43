"""Find the package indexes: in requirements.in, the environment (UV_*, PIP_*), and the files of uv and of pip.

The indexes of all these sources count. The default index is that of the first source that names one, in this order.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from tasks.engine import plain_file
from tasks.engine.errors import UsageError
from tasks.engine.release import index_options, package_folders, toml_text
from tasks.engine.release.index_options import Option, user_of
from tasks.engine.release.indexes import Indexes, local

_VARIABLE = re.compile(r"\$\{([A-Z0-9_]+)\}")
_SETTING = re.compile(r"(global|download|:env:)\.([a-z-]+)=(.+)")
_REACH = {"cert": "SSL_CERT_FILE", "client-cert": "SSL_CLIENT_CERT", "proxy": "ALL_PROXY"}
"""Settings of pip's that say how to reach an index, and the variables that tell uv."""


class _Found(NamedTuple):
    """What one source names; see `Indexes`."""

    first: tuple[str, ...] = ()
    default: str = ""
    links: tuple[str, ...] = ()
    alone: bool = False
    trusted: tuple[str, ...] = ()
    assigned: tuple[str, ...] = ()


def find(service: Path) -> Indexes:
    """Return the indexes of the clone with this directory `service`; UsageError for settings that cannot be used.

    Runs pip once, which takes some tenths of a second.
    """
    settings = _pip_settings()
    pip = _pip(settings)
    near = [_requirements(service / "requirements.in"), _uv_environment()]
    files = []
    for path, table in _uv_tables(service):
        if service in path.parents:
            _refuse_passwords(path, table)
        files.append(_uv_file(path, table))
    sources = [*near, *files]
    environment = _address(os.environ.get("PIP_INDEX_URL", ""))
    defaults = [*(one.default for one in near), environment, *(one.default for one in (*files, pip))]
    first = dict.fromkeys(address for one in sources for address in one.first)
    links = dict.fromkeys(address for one in sources for address in one.links)
    return Indexes(
        tuple(first),
        next(filter(None, defaults), ""),
        tuple(address for address in pip.first if address not in first),
        tuple(links),
        tuple(address for address in pip.links if address not in links),
        any(one.alone for one in (*sources, pip)),
        tuple(dict.fromkeys(host for one in (*sources, pip) for host in one.trusted)),
        _for_uv(settings),
        _own(service),
        tuple(address for one in files for address in one.assigned),
    )


def _own(service: Path) -> str:
    """Return the folder of the operator's own wheels, if it has any."""
    folder = service / package_folders.OWN
    return _address(str(folder)) if any(folder.glob("*.whl")) else ""


def _requirements(source: Path) -> _Found:
    found: dict[str, list[str]] = {"default": [], "first": [], "links": [], "trusted": [], "alone": []}
    for option in index_options.read(source):
        found[option.kind].append(_value(option))
    default = (found["default"] or [""])[-1]
    return _Found(tuple(found["first"]), default, tuple(found["links"]), bool(found["alone"]), tuple(found["trusted"]))


def _value(option: Option) -> str:
    """Return the value of an option; UsageError for an unset variable, or a folder that is not there."""
    text = _VARIABLE.sub(lambda name: os.environ.get(name[1], name[0]), option.value)
    if unset := _VARIABLE.search(text):
        raise UsageError(
            f"the address of a package index needs the variable {unset[1]}, which is not set",
            where=option.place,
            next=f"export {unset[1]}=... on this machine",
        )
    if option.kind in {"trusted", "alone"}:
        return text
    address = _address(text, option.folder)
    if option.kind == "links" and not _leads(address):
        raise UsageError(
            f"there is no {text}", where=option.place, next="correct the path, which begins at this file's folder"
        )
    return address


def _uv_environment() -> _Found:
    environment = os.environ
    indexes = [*_words(environment, "UV_INDEX"), *_words(environment, "UV_EXTRA_INDEX_URL")]
    default = environment.get("UV_DEFAULT_INDEX") or environment.get("UV_INDEX_URL") or ""
    links = (link.strip() for link in environment.get("UV_FIND_LINKS", "").split(","))
    return _Found(
        first=tuple(_address(_with_user(*_named(index))) for index in indexes),
        default=_address(_with_user(*_named(default))),
        links=_links(links),
        trusted=_words(environment, "UV_INSECURE_HOST"),
    )


def _named(index: str) -> tuple[str, str]:
    """Split `NAME=ADDRESS` of UV_INDEX; the name may be missing."""
    match = re.fullmatch(r"([A-Za-z0-9._-]+)=(.+)", index)
    return (match[1], match[2]) if match else ("", index)


def _with_user(name: str, address: str) -> str:
    """Add to an address the user and the password that uv reads in UV_INDEX_NAME_USERNAME and _PASSWORD."""
    start = f"UV_INDEX_{re.sub(r'[^A-Z0-9]', '_', name.upper())}_"
    user, password = (quote(os.environ.get(start + word, ""), safe="") for word in ("USERNAME", "PASSWORD"))
    if not name or not (user or password) or any(user_of(address)):
        return address
    scheme, _, rest = address.partition("://")
    return f"{scheme}://{user}:{password}@{rest}"


def _uv_tables(service: Path) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Yield the files that uv would read, and their settings: of the project, of the user, of the machine."""
    environment = os.environ
    if _is_true(environment.get("UV_NO_CONFIG", "")):
        return
    if named := environment.get("UV_CONFIG_FILE"):
        yield Path(named), _toml(Path(named))
        return
    yield from _uv_project(service)
    home = Path(environment.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    shared = [Path(path) for path in (environment.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":")]
    for paths in ([home / "uv/uv.toml"], [*(path / "uv/uv.toml" for path in shared), Path("/etc/uv/uv.toml")]):
        if path := next(filter(Path.is_file, paths), None):
            yield path, _toml(path)


def _uv_project(service: Path) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    for folder in (service, *service.parents):
        if (own := folder / "uv.toml").is_file():
            yield own, _toml(own)
            return
        if (shared := folder / "pyproject.toml").is_file() and (table := _table(_toml(shared), "tool", "uv")):
            yield shared, table
            return


def _toml(path: Path) -> Mapping[str, Any]:
    try:
        return toml_text.parse(plain_file.read(path).decode())
    except (OSError, ValueError) as error:
        raise UsageError(
            f"the file cannot be read as TOML: {error}", where=str(path), next="correct it, or move it away"
        ) from None


def _table(table: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    for name in names:
        inner = table.get(name)
        table = inner if isinstance(inner, dict) else {}
    return table


def _refuse_passwords(path: Path, table: Mapping[str, Any]) -> None:
    """Refuse a password in a file that every release carries."""
    place = f"{path.parent.name}/{path.name}"
    way = "name the index, and set UV_INDEX_NAME_USERNAME and UV_INDEX_NAME_PASSWORD on this machine"
    for index in _list(table, "index"):
        index_options.refuse_password(str(index.get("url", "")) if isinstance(index, dict) else "", place, way)
    for address in (table.get("index-url"), *_list(table, "extra-index-url"), *_list(table, "find-links")):
        index_options.refuse_password(str(address), place, way)


def _uv_file(path: Path, table: Mapping[str, Any]) -> _Found:
    """Read the settings of one file of uv's; its section `pip` goes before the rest."""
    both = {**table, **_table(table, "pip")}
    found: dict[str, list[str]] = {"default": [], "first": [], "assigned": []}
    for index in _list(both, "index"):
        if isinstance(index, dict) and isinstance(index.get("url"), str):
            kind = "assigned" if index.get("explicit") else "default" if index.get("default") else "first"
            found[kind].append(_address(_with_user(str(index.get("name", "")), index["url"]), path.parent))
    extra = (_address(str(address), path.parent) for address in _list(both, "extra-index-url"))
    return _Found(
        first=(*found["first"], *extra),
        default=[*found["default"], _address(str(both.get("index-url") or ""), path.parent)][0],
        links=_links(map(str, _list(both, "find-links")), path.parent),
        alone=both.get("no-index") is True,
        trusted=tuple(map(str, _list(both, "allow-insecure-host"))),
        assigned=tuple(found["assigned"]),
    )


def _list(table: Mapping[str, Any], name: str) -> list[Any]:
    value = table.get(name)
    return value if isinstance(value, list) else []


def _pip_settings() -> Mapping[str, str]:
    """Return pip's own settings by the name of their option, from its files and the environment."""
    found: dict[str, dict[str, list[str]]] = {"global": {}, "download": {}, ":env:": {}}
    for line in _pip_config("list"):
        if match := _SETTING.fullmatch(line):
            section, name, value = match.groups()
            found[section].setdefault(name, []).append(str(ast.literal_eval(value)))
    settings: dict[str, str] = {}
    for section, values in found.items():
        for name, several in values.items():
            # pip lists each file, but only `get` says which one counts.
            value = several[0] if len(several) == 1 else "\n".join(_pip_config("get", f"{section}.{name}"))
            settings[name] = value or settings.get(name, "")
    return settings


def _pip_config(*words: str) -> list[str]:
    command = [sys.executable, "-m", "pip", "config", *words]
    ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if ended.returncode:
        raise UsageError(
            "pip cannot read its configuration",
            where="pip config list",
            next="correct what it reports: a file of pip's, or a variable PIP_*",
            detail=tuple(ended.stderr.decode(errors="replace").strip().splitlines()[-5:]),
        )
    return ended.stdout.decode(errors="replace").splitlines()


def _pip(settings: Mapping[str, str]) -> _Found:
    return _Found(
        tuple(map(_address, _words(settings, "extra-index-url"))),
        _address(settings.get("index-url", "")),
        _links(_words(settings, "find-links")),
        _is_true(settings.get("no-index", "")),
        _words(settings, "trusted-host"),
    )


def _for_uv(settings: Mapping[str, str]) -> Mapping[str, str]:
    """Return pip's settings that say how to reach an index, as variables of uv's."""
    reach = {_REACH[name]: value for name, value in settings.items() if name in _REACH and value}
    if settings.get("keyring-provider") in {"import", "subprocess"}:
        reach["UV_KEYRING_PROVIDER"] = "subprocess"
    return reach


def _words(settings: Mapping[str, str], name: str) -> tuple[str, ...]:
    return tuple(settings.get(name, "").split())


def _is_true(text: str) -> bool:
    return text.lower() in {"1", "true", "t", "yes", "y", "on"}


def _links(addresses: Iterable[str], folder: Path | None = None) -> tuple[str, ...]:
    """Return the addresses of pages and folders; leave out folders that do not exist, as pip does."""
    return tuple(filter(_leads, (_address(one, folder) for one in addresses if one)))


def _leads(address: str) -> bool:
    path = local(address)
    return path is None or os.path.exists(path)  # noqa: PTH110 - Path.exists raises for a name that is too long


def _address(text: str, folder: Path | None = None) -> str:
    """Return the address of an index or a folder; a path begins at `folder`, or in the current directory."""
    if not text or "://" in text:
        return text
    if "\0" in text:
        raise UsageError(
            f"no folder has the name {text[:100]!r}",
            where=str(folder or "find-links"),
            next="name a folder of packages",
        )
    return ((folder or Path.cwd()) / plain_file.named(text)).resolve().as_uri()
