"""A small project, its tar, and the files that a host unpacks from it."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

from tasks.engine.errors import UsageError
from tasks.engine.release import archive
from tasks.engine.report import output
from tests.support.nasty_texts import harmless


def project(folder: Path) -> Path:
    """Make a project with a package in service/, and a file beside it that no release may contain."""
    (folder / "clone/service/app").mkdir(parents=True)
    (folder / "clone/service/app/__init__.py").write_text("x = 1\n")
    (folder / "outside").mkdir()
    (folder / "outside/__init__.py").write_text("precious, and not of this service")
    return folder / "clone"


def packed(root: Path) -> bytes | UsageError:
    """Return the tar of a release as a host gets it, or its refusal, in words that a terminal may get."""
    try:
        entries = archive.collect(root).entries
        return b"".join(archive.pack(entries, {"MANIFEST": archive.manifest(entries)}))
    except UsageError as error:
        refused = error
    told = list(output.error_lines(refused))
    assert refused.where
    assert refused.next
    assert all(harmless(line) for line in told), told
    return refused


def unpacked(data: bytes, folder: Path) -> dict[bytes, bytes]:
    """Unpack with the host's checks: path to content, without MANIFEST."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "code").mkdir(parents=True)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for member in tar.getmembers():
            assert member.isreg()
            assert not member.name.startswith("/")
            assert ".." not in member.name.split("/")
    subprocess.run(["tar", "-x", "-m", "--no-same-owner", "-f", "-"], input=data, cwd=folder / "code", check=True)
    (folder / "code/MANIFEST").rename(folder / "MANIFEST")
    check = ["sha256sum", "--quiet", "--strict", "-c", "../MANIFEST"]
    subprocess.run(check, cwd=folder / "code", check=True, capture_output=True)
    assert (folder / "MANIFEST").read_bytes().count(b"\n") == sum(
        1 for path in folder.rglob("code/**/*") if path.is_file()
    )
    files = [path for path in (folder / "code").rglob("*") if path.is_file()]
    return {os.fsencode(path.relative_to(folder / "code")): path.read_bytes() for path in files}
