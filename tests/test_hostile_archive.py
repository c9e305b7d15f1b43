"""What may lie in service/, under every name, at every moment: a release holds plain files, byte for byte, or nothing."""

from __future__ import annotations

import io
import os
import shutil
import socket
import stat
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tasks.engine import admission, archive, report
from tasks.engine.errors import UsageError
from tests import repository
from tests.nasty import ANY, TEXTS, harmless
from tests.promises.words import PLAIN

NAMES = sorted({text.encode("utf-8", "surrogateescape" if text == "\udc80" else "surrogatepass") for text in TEXTS})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project with a package in service/, and a file beside it that no release may have."""
    (tmp_path / "clone/service/app").mkdir(parents=True)
    (tmp_path / "clone/service/app/__init__.py").write_text("x = 1\n")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/__init__.py").write_text("precious, and not of this service")
    return tmp_path / "clone"


def packed(root: Path) -> bytes | UsageError:
    """The tar of a release as a host gets it, or what is said in its place, in words that a terminal can be given."""
    try:
        entries = archive.collect(root).entries
        return b"".join(archive.pack(entries, {"MANIFEST": archive.manifest(entries)}))
    except UsageError as error:
        refused = error
    told = list(report.error_lines(refused))
    assert refused.where
    assert refused.next
    assert all(harmless(line) for line in told), told
    return refused


def unpacked(data: bytes, folder: Path) -> dict[bytes, bytes]:
    """What `tar` makes of it on a host, checked as a host does: path to content, MANIFEST aside."""
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


def put(root: Path, name: bytes, content: bytes = b"content") -> bool:
    """Make a file of this name in service/; whether a file system has such a name at all."""
    parts = name.split(b"/")
    if b"\0" in name or not all(0 < len(part) < 256 and part not in (b".", b"..") for part in parts):
        return False
    path = os.path.join(os.fsencode(root), b"service", name)  # noqa: PTH118 - a name that may be no text
    if len(path) > 1000:
        return False
    os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120
    with open(path, "wb") as file:  # noqa: PTH123
        file.write(content)
    return True


@pytest.mark.promise(PLAIN, "a file with a nasty name")
@pytest.mark.parametrize("git", [False, True], ids=["no git", "git"])
def test_a_nasty_name_arrives_as_it_is_or_is_refused(
    root: Path, tmp_path: Path, git: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if git:
        repository.create(root, monkeypatch)
    taken = 0
    for number, name in enumerate(NAMES):
        content = b"%d" % number
        if not put(root, name, content):
            continue
        found = packed(root)
        if isinstance(found, bytes):
            assert unpacked(found, tmp_path / "out")[name] == content
            taken += 1
        first = name.split(b"/")[0]
        path = os.path.join(os.fsencode(root), b"service", first)  # noqa: PTH118
        shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)  # noqa: PTH108, PTH112
    assert taken > 100


@pytest.mark.promise(PLAIN, "a file with a nasty name")
@given(name=ANY)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much])
def test_any_name_arrives_as_it_is_or_is_refused(root: Path, tmp_path: Path, name: str) -> None:
    shutil.rmtree(root / "service", ignore_errors=True)
    raw = name.encode("utf-8", "surrogatepass")
    assume(put(root, raw))
    found = packed(root)
    if isinstance(found, bytes):
        assert unpacked(found, tmp_path / "out") == {os.path.normpath(raw): b"content"}


def link_of_a_folder(root: Path) -> None:
    shutil.rmtree(root / "service/app")
    (root / "service/app").symlink_to("../../outside")


def link_that_git_ignores(root: Path) -> None:
    """git lists what it tracks below, and the link itself it was told to leave out."""
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
    """There, as the path of a socket is short."""
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
    if git:
        repository.create(root, monkeypatch)
        repository.commit(root)
    try:
        make(root)
    except PermissionError:
        pytest.skip("only root makes devices")
    found = packed(root)
    # git lists no pipes, devices and sockets: what it would not track is not the release's.
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
        file.truncate(admission.LIMIT + 1000)


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
                assert len(content) <= admission.LIMIT
                assert content.strip(b"\0") in (b"as it was", b"")
    finally:
        end.set()
        thread.join()


@pytest.mark.promise(PLAIN, "a manifest that was damaged")
@given(text=st.one_of(ANY, st.lists(st.tuples(ANY, ANY)).map(lambda lines: "".join(f"{a}  {b}\n" for a, b in lines))))
def test_a_manifest_is_read_whole_or_not_at_all(text: str) -> None:
    try:
        found = archive.parse_manifest(text)
    except ValueError:
        return
    assert "".join(f"{digest}  {path}\n" for path, digest in found.items()).strip("\n") == text.strip("\n")
