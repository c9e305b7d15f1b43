"""Files in service/ of every kind, changing at any moment: plain files are sent, or none."""

from __future__ import annotations

import io
import os
import shutil
import socket
import stat
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tasks.engine.errors import UsageError
from tasks.engine.release import archive, file_rules
from tests.promises.words import PLAIN
from tests.support import git_repository as repository
from tests.support.tarballs import packed, project, unpacked


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return project(tmp_path)


def link_of_a_folder(root: Path) -> None:
    shutil.rmtree(root / "service/app")
    (root / "service/app").symlink_to("../../outside")


def link_that_git_ignores(root: Path) -> None:
    """git lists its files below the link, and was told to ignore the link itself."""
    link_of_a_folder(root)
    (root / ".gitignore").write_text("/service/app\n")


def link_up(root: Path) -> None:
    (root / "service/up").symlink_to("..")


def link_to_itself(root: Path) -> None:
    (root / "service/loop").symlink_to("loop")


def link_to_nothing(root: Path) -> None:
    (root / "service/nothing").symlink_to("nowhere")


def link_to_a_secret(root: Path) -> None:
    (root / "service/shadow").symlink_to("/etc/shadow")


def pipe(root: Path) -> None:
    os.mkfifo(root / "service/pipe")


def block_device(root: Path) -> None:
    os.mknod(root / "service/disk", stat.S_IFBLK | 0o600, os.makedev(7, 0))


def endless_device(root: Path) -> None:
    os.mknod(root / "service/zero", stat.S_IFCHR | 0o666, os.makedev(1, 5))


def unix_socket(root: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made, _inside(root / "service"):
        made.bind("sock")


@contextmanager
def _inside(folder: Path) -> Iterator[None]:
    """Change to a directory, as the path of a socket is short."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def terabyte(root: Path) -> None:
    with (root / "service/huge").open("wb") as file:
        file.truncate(10**12)


def same_to_every_eye(root: Path) -> None:
    for name in ("caf\u00e9", "cafe\u0301"):
        (root / "service" / name).write_text(name)


def pgp_key(root: Path) -> None:
    (root / "service/notes").write_text("-----BEGIN PGP PRIVATE KEY BLOCK-----\n")


def putty_key(root: Path) -> None:
    (root / "service/notes").write_text("PuTTY-User-Key-File-3: ssh-ed25519\n")


def service_account(root: Path) -> None:
    (root / "service/account.json").write_text('{"private_key": "-----BEGIN PRIVATE KEY-----\\nMII"}')


@pytest.mark.promise(PLAIN, "links, devices, pipes, sockets, keys and sizes in service/")
@pytest.mark.parametrize("git", [False, True], ids=["no git", "git"])
@pytest.mark.parametrize(
    "make",
    [
        *(link_of_a_folder, link_up, link_to_itself, link_to_nothing, link_to_a_secret, pipe, block_device),
        *(endless_device, unix_socket, terabyte, same_to_every_eye, pgp_key, putty_key, service_account),
        link_that_git_ignores,
    ],
)
def test_what_is_no_plain_file_of_the_service_is_refused_by_name(
    root: Path, make: Callable[[Path], None], git: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once: a file from outside service/ was packed, reached through an ignored link."""
    if git:
        repository.create(root, monkeypatch)
        repository.commit(root)
    try:
        make(root)
    except PermissionError:
        pytest.skip("only root makes devices")
    found = packed(root)
    # git lists no pipes, devices and sockets: an untracked file is not part of the release.
    if git and isinstance(found, bytes):
        assert make in (pipe, block_device, endless_device, unix_socket)
        with tarfile.open(fileobj=io.BytesIO(found)) as tar:
            assert tar.getnames() == ["MANIFEST", "app/__init__.py"]
    else:
        assert isinstance(found, UsageError)
        assert (found.where or "").startswith("service/")


@pytest.mark.promise(PLAIN, "links, devices, pipes, sockets, keys and sizes in service/")
def test_a_hard_link_is_a_file_of_its_own(root: Path, tmp_path: Path) -> None:
    (root / "service/one").write_text("same")
    os.link(root / "service/one", root / "service/two")
    found = packed(root)
    assert isinstance(found, bytes)
    assert unpacked(found, tmp_path / "out") == {b"one": b"same", b"two": b"same", b"app/__init__.py": b"x = 1\n"}


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.truncate(file_rules.LIMIT + 1000)


def shrink(path: Path) -> None:
    path.write_bytes(b"")


def vanish(path: Path) -> None:
    path.unlink(missing_ok=True)


def become_a_link(path: Path) -> None:
    other = path.with_name(".other")
    other.symlink_to("/dev/zero")
    other.replace(path)


def become_a_pipe(path: Path) -> None:
    other = path.with_name(".other")
    os.mkfifo(other)
    other.replace(path)


def become_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


CHANGES = [grow, shrink, vanish, become_a_link, become_a_pipe, become_a_folder]


@pytest.mark.promise(PLAIN, "a file that changes while it is read", part=6)
@pytest.mark.parametrize("change", CHANGES)
def test_what_changed_between_its_digest_and_its_bytes_is_not_sent(root: Path, change: Callable[[Path], None]) -> None:
    (root / "service/file").write_text("as it was")
    entries = archive.collect(root).entries
    change(root / "service/file")
    with pytest.raises(UsageError, match="changed while"):
        list(archive.pack(entries))


@pytest.mark.promise(PLAIN, "a file that changes while it is read", part=6)
@pytest.mark.parametrize("change", CHANGES)
def test_a_release_of_files_that_never_hold_still_is_whole_or_none(
    root: Path, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    """Once: a file that vanished or grew while the release was made was a traceback, or was packed in part."""
    path, end = root / "service/file", threading.Event()

    def fidget() -> None:
        while not end.is_set():
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            path.unlink(missing_ok=True)
            path.write_text("as it was")
            change(path)

    thread = threading.Thread(target=fidget)
    thread.start()
    try:
        for _ in range(60):
            found = packed(root)
            if isinstance(found, bytes):
                content = unpacked(found, tmp_path / "out").get(b"file", b"as it was")
                assert len(content) <= file_rules.LIMIT
                assert content.strip(b"\0") in (b"as it was", b"")
    finally:
        end.set()
        thread.join()
