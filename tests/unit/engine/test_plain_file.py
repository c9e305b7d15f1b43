"""Files of the operator's machine: anything but a plain file of a fair size is refused at once, with its path."""

from __future__ import annotations

import ast
import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tasks.engine import plain_file
from tasks.engine.config import yaml_reader
from tasks.engine.config.gateway import Nginx, Tls
from tasks.engine.config.service import Service
from tasks.engine.errors import LoopError, UsageError
from tasks.engine.host import payload
from tasks.engine.release import lockfile, relock
from tasks.engine.report import runs
from tasks.engine.ssh import host_keys
from tests.support.clone import Clone
from tests.unit.ssh.test_host_keys import ONE, endpoint, loaded

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def _soon() -> Iterator[None]:
    """Fail a test that waits for a pipe, or reads an endless device."""

    def late(*_: object) -> None:
        raise AssertionError("it waits, or reads on")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def pipe(path: Path) -> None:
    os.mkfifo(path)


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def folder(path: Path) -> None:
    path.mkdir()


def huge(path: Path) -> None:
    path.touch()
    os.truncate(path, 65_000_000)


def certificate(path: Path) -> None:
    service = Service("myapp", "app:app", nginx=Nginx(("myapp.example",), Tls("files", path.name, path.name)))
    payload.certificate(service, path.parent)


def key(path: Path) -> None:
    path.with_name("certificate.pem").write_text("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n")
    payload.check(Tls("files", "certificate.pem", path.name), path.parent)


def source(path: Path) -> None:
    (path.parent / "service").mkdir()
    path.rename(path.parent / "service/requirements.in")
    relock.make(path.parent, ">=3.9")


def included(path: Path) -> None:
    (path.parent / "service").mkdir()
    (path.parent / "service/requirements.in").write_text(f"-r ../{path.name}\n")
    relock.make(path.parent, ">=3.9")


def trusted(path: Path) -> None:
    host_keys.load_trust(endpoint(path))


def recorded(path: Path) -> None:
    host_keys.record(endpoint(path), loaded(ONE))


def revoked(path: Path) -> None:
    at = endpoint(path.with_name("known_hosts"))
    host_keys.verify(at._replace(revoked=(path,)), host_keys.Trust((loaded(ONE),), (), ""), loaded(ONE))


def last_run(path: Path) -> None:
    path.rename(path.with_name("last.json"))
    runs.left_behind(path.parent)


READERS: dict[str, Callable[[Path], object]] = {
    "a lock": lockfile.read,
    "what a lock is made from": source,
    "what that includes": included,
    "yaml": lambda path: yaml_reader.read(path, missing="write it"),
    "a certificate": certificate,
    "a key": key,
    "known_hosts": trusted,
    "known_hosts, to be added to": recorded,
    "revoked keys": revoked,
    "the last run": last_run,
}


@pytest.mark.parametrize("make", [pipe, endless, folder, huge], ids=lambda one: one.__name__)
@pytest.mark.parametrize("reader", READERS)
def test_what_is_no_plain_file_is_refused_at_once(reader: str, make: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "odd"
    make(path)
    with pytest.raises(LoopError) as caught:
        READERS[reader](path)
    if reader not in {"revoked keys", "the last run"}:
        assert isinstance(caught.value, UsageError)
        assert re.search("odd|requirements.in", str(caught.value.where)), caught.value.where


def test_a_pipe_that_has_a_writer_is_none_either(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = os.open(tmp_path / "pipe", os.O_RDWR)
    try:
        os.write(writer, b"all of it")
        with pytest.raises(plain_file.NotPlain, match="no regular file"):
            plain_file.read(tmp_path / "pipe")
    finally:
        os.close(writer)


def test_exactly_the_limit_is_read_and_a_link_is_followed_unless_it_must_not_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("file")
    assert plain_file.read(tmp_path / "link", 5) == b"12345"
    with pytest.raises(plain_file.NotPlain, match="more than"):
        plain_file.read(tmp_path / "file", 4)
    with pytest.raises(OSError, match="symbolic links"):
        plain_file.read(tmp_path / "link", follow=False)


def test_known_hosts_may_be_dev_null_as_for_ssh() -> None:
    assert host_keys.load_trust(endpoint(Path(os.devnull))).keys == ()
    with pytest.raises(UsageError, match="no regular file"):
        host_keys.record(endpoint(Path(os.devnull)), loaded(ONE))


@pytest.mark.parametrize(
    ("path", "make", "words"),
    [
        ("service/requirements.txt", endless, ("plan", "-H", "all")),
        ("service/requirements.in", pipe, ("lock",)),
        ("service/service.yaml", pipe, ("hosts",)),
    ],
)
def test_a_command_that_meets_one_ends_with_2_and_its_path(
    clone: Clone, path: str, make: Callable[[Path], None], words: tuple[str, ...]
) -> None:
    clone.write("hosts.yaml", "hosts: {shire01: {address: 127.0.0.1, port: 1}}\n")
    (clone.root / path).unlink()
    make(clone.root / path)
    ended = clone.fab(*words)
    assert ended.status == 2, ended.both
    assert path in ended.both
    assert "Traceback" not in ended.both


# Any other reader reads a file written by the kernel, this program or this very run.
OWN = {"plain_file", "host/templates", "host/payload", "release/relock"}


def test_no_other_way_to_read_a_file_is_left_in_the_engine() -> None:
    found = set()
    for path in sorted((ROOT / "tasks/engine").rglob("*.py")):
        name = path.relative_to(ROOT / "tasks/engine").with_suffix("").as_posix()
        called = {
            node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Call)
        }
        if called & {"read_text", "read_bytes"} and not name.startswith("sandbox/"):
            found.add(name)
    assert found <= OWN
