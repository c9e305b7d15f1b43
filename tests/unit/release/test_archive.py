"""The content of a release: files taken, files refused by name, and a tar of the same bytes everywhere."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.engine.errors import UsageError
from tasks.engine.release import archive, file_rules, git
from tests.support import git_repository as repository
from tests.support.clone import ROOT

KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "service" / "app").mkdir(parents=True)
    (tmp_path / "service" / "app" / "__init__.py").write_text("x = 1\n")
    return tmp_path


def paths(root: Path) -> list[str]:
    return [entry.path for entry in archive.collect(root).entries]


def test_entries_know_mode_size_and_digest(root: Path) -> None:
    script = root / "service" / "run"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o700)
    package, run = archive.collect(root).entries
    assert (package.path, package.mode, package.size) == ("app/__init__.py", 0o644, 6)
    assert (run.mode, run.sha256) == (0o755, hashlib.sha256(b"#!/bin/sh\n").hexdigest())


def test_bytecode_that_was_committed_stays_out(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository.create(root, monkeypatch)
    (root / "service/app/__pycache__").mkdir()
    (root / "service/app/__pycache__/__init__.cpython-311.pyc").write_bytes(b"x")
    repository.commit(root)
    assert paths(root) == ["app/__init__.py"]


def test_own_wheels_stay_out_however_large_but_not_all_of_that_name(root: Path) -> None:
    for name in ("wheels/own-1.0-py3-none-any.whl", "wheels/__init__.py", "wheels/deep/a.whl", "app/b.whl"):
        (root / "service" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "service" / name).write_text("x")
    with (root / "service/wheels/large-1.0-py3-none-any.whl").open("wb") as file:
        file.truncate(file_rules.LIMIT + 1)
    assert paths(root) == ["app/__init__.py", "app/b.whl", "wheels/__init__.py", "wheels/deep/a.whl"]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        (".env", "A=1", "environment"),
        ("deep/.env.production", "A=1", "environment"),
        ("id_ed25519", "", "private key"),
        ("client.p12", "", "private key"),
        ("notes.txt", f"see\n{KEY}", "private key"),
        ("model.bin", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "pointer of Git LFS"),
        ("chain.pem", "certificate\n" * 1000 + KEY, "private key"),
        ("big.bin", "x" * (file_rules.LIMIT + 1), "10.0 MB"),
        ("two\nlines", "", "invisible"),
        ("turn\u202eed", "", "invisible"),
        ("back\\slash", "", "backslash"),
        ("-", "", "dash"),
        (b"latin-\xe9", "", "UTF-8"),
    ],
)
def test_refused_by_name(root: Path, name: str | bytes, content: str, reason: str) -> None:
    path = root / "service" / os.fsdecode(name)
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
    with pytest.raises(UsageError, match=reason) as caught:
        archive.collect(root)
    assert caught.value.where is not None
    assert caught.value.where.startswith("service/")
    assert caught.value.where.isascii()
    assert caught.value.next


def link(path: Path) -> None:
    path.symlink_to("app/__init__.py")


def folder_link(path: Path) -> None:
    path.symlink_to("app")


@pytest.mark.parametrize(
    ("make", "reason"), [(link, "symbolic link"), (folder_link, "symbolic link"), (os.mkfifo, "no plain file")]
)
def test_refused_by_kind(root: Path, make: Callable[[Path], None], reason: str) -> None:
    make(root / "service" / "odd")
    with pytest.raises(UsageError, match=reason):
        archive.collect(root)


def test_all_that_is_refused_is_told_at_once(root: Path) -> None:
    for name in (".env", "id_rsa"):
        (root / "service" / name).write_text("")
    with pytest.raises(UsageError) as caught:
        archive.collect(root)
    assert caught.value.where == "service/.env"
    assert "docs/SECRETS.md" in str(caught.value.next)
    assert (ROOT / "docs/SECRETS.md").read_text().startswith("# Secrets\n")
    assert caught.value.detail[0].startswith("service/id_rsa: ")


LITTER = (
    ".DS_Store",
    "._app.py",
    "Thumbs.db",
    "desktop.ini",
    ".app.py.swp",
    "app.py~",
    ".#app.py",
    "#app.py#",
    "a.pyo",
)


def test_files_of_desktops_and_editors_stay_out_even_if_committed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository.create(root, monkeypatch)
    for name in LITTER:
        (root / "service/app" / name).write_text("x")
    assert git.read(root).dirty == ("app/__init__.py",)
    repository.commit(root)
    assert paths(root) == ["app/__init__.py"]


@pytest.mark.parametrize("name", [".env.example", "ca.pem", "sp ace é.txt", ".flaskenv", ".swp", "a.swp", "~"])
def test_fair_names_pass(root: Path, name: str) -> None:
    (root / "service" / name).write_text("-----BEGIN CERTIFICATE-----\n")
    assert name in paths(root)


def test_an_empty_service_is_refused(root: Path) -> None:
    (root / "service" / "app" / "__init__.py").unlink()
    with pytest.raises(UsageError, match="holds no file"):
        archive.collect(root)


def test_pack_is_reproducible_and_holds_plain_files_only(root: Path) -> None:
    (root / "service" / ("long-" * 40 + "é.txt")).write_bytes(b"y" * 700)
    entries = archive.collect(root).entries
    extra = {"MANIFEST": archive.manifest(entries)}
    packed = b"".join(archive.pack(entries, extra))
    for entry in entries:
        os.utime(entry.source, (1, 1))
    assert packed == b"".join(archive.pack(reversed(archive.collect(root).entries), extra))
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        members = tar.getmembers()
        first = tar.extractfile("app/__init__.py")
        assert first is not None
        assert first.read() == b"x = 1\n"
    assert [member.name for member in members] == sorted({*extra, *(entry.path for entry in entries)})
    assert all(member.isreg() for member in members)
    assert {(m.mode, m.mtime, m.uid, m.gid, m.uname, m.gname) for m in members} == {(0o644, 0, 0, 0, "", "")}


def test_pack_does_not_change_between_versions_of_python() -> None:
    packed = b"".join(archive.pack([], {"é": b"content", "a" * 120: b""}))
    digest = "5633b40106dd0d4cfc98ec60d018251891e172f1cbed81c1d86b3a41ee4cf056"
    assert hashlib.sha256(packed).hexdigest() == digest


def test_pack_streams_what_tar_unpacks(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    entries = archive.collect(root).entries
    packed = b"".join(archive.pack(entries, {"MANIFEST": archive.manifest(entries)}))
    subprocess.run(["tar", "-x"], input=packed, cwd=out, check=True)
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "MANIFEST"], cwd=out, check=True)


def test_pack_refuses_a_file_that_changed_or_takes_our_name(root: Path) -> None:
    entries = archive.collect(root).entries
    with pytest.raises(UsageError, match="name is taken"):
        list(archive.pack(entries, {"app/__init__.py": b""}))
    entries[0].source.write_text("x = 2\n")
    with pytest.raises(UsageError, match="changed while"):
        list(archive.pack(entries))


def test_a_large_file_is_read_in_pieces_and_checked_before_its_last(root: Path) -> None:
    large = root / "service/model.bin"
    large.write_bytes(b"x" * (3 << 20))
    entry = archive.collect(root).entries[1]
    assert max(map(len, entry.pieces())) == 1 << 20
    assert entry.read() == large.read_bytes()
    for changed in (b"x" * (3 << 20) + b"y", b"x" * (2 << 20), b"x" * ((3 << 20) - 1) + b"y"):
        large.write_bytes(changed)
        sent: list[bytes] = []
        with pytest.raises(UsageError, match="changed while"):
            sent.extend(entry.pieces())
        assert sum(map(len, sent)) < 3 << 20


def test_manifest_round_trip(root: Path) -> None:
    (root / "service" / " two  spaces").write_text("")
    entries = archive.collect(root).entries
    text = archive.manifest(entries).decode()
    assert archive.parse_manifest(text) == {entry.path: entry.sha256 for entry in entries}
    assert archive.parse_manifest("") == {}


@pytest.mark.parametrize(
    "text", ["x", "\n", f"{'a' * 64} one\n", f"{'a' * 64}  one\n{'a' * 64}  one\n", "A" * 64 + "  one"]
)
def test_parse_manifest_refuses(text: str) -> None:
    with pytest.raises(ValueError, match=r"line \d of the manifest"):
        archive.parse_manifest(text)
