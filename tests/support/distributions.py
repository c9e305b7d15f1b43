"""Tiny wheels and sdists made on the spot, and an environment in which pip and uv see nothing else."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

BACKEND = """
import zipfile
TAG = {tag!r}
FILES = {files!r}
def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    name = "{name}-{version}-" + TAG + ".whl"
    with zipfile.ZipFile(wheel_directory + "/" + name, "w") as wheel:
        info = "{name}-{version}.dist-info/"
        for path, text in (
            ("METADATA", "Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n"),
            ("WHEEL", "Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: " + TAG + "\\n"),
            ("RECORD", "".join(path + ",,\\n" for path in FILES)),
        ):
            wheel.writestr(zipfile.ZipInfo(info + path, (1980, 1, 1, 0, 0, 0)), text)
        for path, content in FILES.items():
            wheel.writestr(zipfile.ZipInfo(path, (1980, 1, 1, 0, 0, 0)), content)
    return name
"""

PROJECT = """
[project]
name = {name!r}
version = {version!r}
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""


def isolate(monkeypatch: pytest.MonkeyPatch, links: Path) -> None:
    """Let pip and uv see the distributions in `links` and no index, whatever this machine configures."""
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_"))]:
        monkeypatch.delenv(name)
    settings = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(links)}
    settings |= {"UV_NO_CONFIG": "1", "UV_OFFLINE": "1", "UV_FIND_LINKS": str(links)}
    settings |= {"PIP_CACHE_DIR": str(links.parent / "pip"), "UV_CACHE_DIR": str(links.parent / "uv")}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)


def wheel(
    links: Path,
    name: str,
    version: str,
    tag: str = "py3-none-any",
    requires: tuple[str, ...] = (),
    files: Mapping[str, str | bytes] | None = None,
    python: str = ">=3.6",
) -> str:
    """Write a wheel with these files (by default none) for these Pythons; return its hex SHA-256.

    files may have others in place of METADATA, WHEEL and RECORD.
    """
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nRequires-Python: {python}\n"
    metadata += "".join(f"Requires-Dist: {other}\n" for other in requires)
    texts: dict[str, str | bytes] = {
        f"{info}/METADATA": metadata,
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n",
        **(files or {}),
    }
    texts.setdefault(f"{info}/RECORD", "".join(f"{filename},,\n" for filename in files or {}))
    path = links / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for filename, content in texts.items():
            archive.writestr(filename, content)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def sdist(
    links: Path, name: str, version: str, tag: str = "py3-none-any", files: Mapping[str, str | bytes] | None = None
) -> str:
    """Write a source distribution that builds without any tool into a wheel of these files; return its hex SHA-256."""
    texts = {
        "PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        "pyproject.toml": PROJECT.format(name=name, version=version),
        "backend.py": BACKEND.format(name=name, version=version, tag=tag, files={**(files or {})}),
    }
    path = links / f"{name}-{version}.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for filename, text in texts.items():
            member = tarfile.TarInfo(f"{name}-{version}/{filename}")
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    return hashlib.sha256(path.read_bytes()).hexdigest()
