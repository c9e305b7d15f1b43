"""Fetching wheels for a target whose index does not answer: the fetch ends soon, and delays no other host."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import pytest

from tasks.engine.errors import LoopError, UsageError
from tasks.engine.fleet.project import Project
from tasks.engine.release import pip, wheelhouse
from tasks.engine.release.lockfile import Lock, LockedRequirement
from tasks.engine.release.python_target import Target
from tests.promises.words import OTHERS
from tests.support import distributions
from tests.support.stand_ins import mute

HERE = Target("3.11.2", "cp311", "x86_64", ("glibc", 2, 36))
ELSEWHERE = Target("3.11.2", "cp311", "riscv64", ("glibc", 2, 36))


@pytest.fixture
def links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "links"
    folder.mkdir()
    distributions.isolate(monkeypatch, folder)
    monkeypatch.setattr(pip, "_SILENT", 3.0)
    return folder


def pin(name: str, *hashes: str) -> LockedRequirement:
    return LockedRequirement(name, "1.0", None, hashes, line=7)


def fetch(links: Path, *entries: LockedRequirement, target: Target = ELSEWHERE) -> wheelhouse.Wheelhouse:
    return wheelhouse.fetch(Lock(entries), target, lambda _: None, links.parent, links.parent / "cache")


def index_at(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    for name in ("PIP_NO_INDEX", "UV_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{port}/simple")


class Dripping(BaseHTTPRequestHandler):
    """An index of one wheel, sent in ten pieces, each larger than pip's single writes.

    piece: seconds for each.
    """

    wheel = Path()
    piece = 0.7

    def do_GET(self) -> None:
        content = self.wheel.read_bytes()
        page = f'<a href="/{self.wheel.name}">{self.wheel.name}</a>'.encode()
        is_page = self.path.startswith("/simple/")
        self.send_response(200)
        self.send_header("Content-Type", "text/html" if is_page else "application/octet-stream")
        self.send_header("Content-Length", str(len(page if is_page else content)))
        self.end_headers()
        size = len(page) if is_page else len(content) // 10 + 1
        with suppress(OSError):
            for start in range(0, len(page if is_page else content), size):
                self.wfile.write((page if is_page else content)[start : start + size])
                time.sleep(0 if is_page else self.piece)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@contextmanager
def dripping(wheel: Path) -> Iterator[int]:
    """Yield the port of an index that is slow but not silent."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Slow", (Dripping,), {"wheel": wheel}))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.promise(OTHERS, "a package index that accepts and says nothing")
def test_an_index_that_says_nothing_ends_the_fetch_once_and_for_all(
    links: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distributions.sdist(links, "three", "1.0")
    with mute() as silent:
        index_at(monkeypatch, silent.port)
        began = time.monotonic()
        with pytest.raises(LoopError, match=r"riscv64.*nothing came for 3 s \(one==1.0, two==1.0\)") as caught:
            fetch(links, pin("one", "0" * 64), pin("two", "1" * 64))
    # One silence in all, not one for each package and each attempt.
    assert time.monotonic() - began < 20
    assert (caught.value.code, caught.value.exit_status) == ("index", 1)
    assert f"answers: http://127.0.0.1:{silent.port}/simple" in str(caught.value.next)
    assert not list((links.parent / "cache").glob(".part-*"))


def test_an_index_that_is_slow_is_waited_for(links: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = os.urandom(4_000_000)
    digest = distributions.wheel(links, "one", "1.0", files={"one.bin": content})
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    with dripping(links / "one-1.0-py3-none-any.whl") as port:
        index_at(monkeypatch, port)
        # With much to do, a machine starts pip in a time in which an idle one has fetched it.
        for silent in (3, 15, 75):
            monkeypatch.setattr(pip, "_SILENT", float(silent))
            monkeypatch.setattr(Dripping, "piece", 0.7 * silent / 3)
            began = time.monotonic()
            with suppress(LoopError):
                assert [wheel.sha256 for wheel in fetch(links, pin("one", digest)).wheels] == [digest]
                break
        else:
            pytest.fail("it was not waited for")
        assert time.monotonic() - began > 2 * pip._SILENT


def test_one_run_of_pip_has_an_end_however_it_gets_on(links: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = distributions.wheel(links, "one", "1.0", files={"one.bin": os.urandom(4_000_000)})
    monkeypatch.setattr(pip, "_MOST", 4.0)
    monkeypatch.setattr(pip, "_SILENT", 60.0)
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    with dripping(links / "one-1.0-py3-none-any.whl") as port:
        index_at(monkeypatch, port)
        with pytest.raises(LoopError, match="had not ended after 4 s"):
            fetch(links, pin("one", digest))


@pytest.mark.usefixtures("forked_pip")
def test_no_source_is_built_of_what_has_wheels_too(links: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both = (
        distributions.wheel(links, "one", "1.0", "cp311-cp311-linux_x86_64"),
        distributions.sdist(links, "one", "1.0"),
    )
    monkeypatch.setattr(pip, "build", lambda *_: pytest.fail("a source was built"))
    with pytest.raises(UsageError, match=r"no wheel of one==1\.0 for .*riscv64.* could be fetched$"):
        fetch(links, pin("one", *both))
    assert len(fetch(links, pin("one", *both), target=HERE).wheels) == 1


def test_a_build_that_gets_nowhere_is_ended_with_all_that_it_started(
    links: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = tmp_path / "pid"
    hanging = f"import os, pathlib, time\npathlib.Path({str(note)!r}).write_text(str(os.getpid()))\ntime.sleep(600)\n"
    monkeypatch.setattr(distributions, "BACKEND", hanging + distributions.BACKEND)
    entry = pin("plain", distributions.sdist(links, "plain", "1.0"))
    # A machine with much to do begins with the build only after a while.
    for silent in (3, 20, 120):
        monkeypatch.setattr(pip, "_SILENT", float(silent))
        with pytest.raises(LoopError, match=f"nothing came for {silent} s"):
            fetch(links, entry)
        if note.exists():
            break
    until = time.monotonic() + 10
    while Path(f"/proc/{note.read_text()}").exists() and time.monotonic() < until:
        time.sleep(0.1)
    assert not Path(f"/proc/{note.read_text()}").exists()


def test_a_host_that_lies_about_its_python_chooses_no_package_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock may have a package for some patch versions alone, as redis has async-timeout before 3.11.3."""
    monkeypatch.setattr(wheelhouse, "fetch", lambda _, target, *__: target.python)
    project = Project(Path(), cast(Any, None), cast(Any, None), {})
    made = cast(Any, type("Made", (), {"lock": Lock(())}))
    pythons = ["3.11.99", "3.11.2", "3.11.0a1"]
    chosen: list[Any] = [project.wheelhouse(made, replace(HERE, python=one), lambda _: None) for one in pythons]
    assert chosen == pythons


def in_threads(*works: Callable[[], object]) -> list[threading.Thread]:
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    return threads


@pytest.mark.promise(OTHERS, "a host whose Python no other has, and for which nothing comes")
def test_one_target_waits_for_no_other_and_those_alike_fetch_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Target] = []
    stalled = threading.Event()

    def fetched(_: Lock, target: Target, *__: object) -> wheelhouse.Wheelhouse:
        asked.append(target)
        if target == ELSEWHERE:
            stalled.wait(30)
            raise LoopError("nothing came", code="index")
        return wheelhouse.Wheelhouse(hashlib.sha256(target.identity.encode()).hexdigest(), ())

    monkeypatch.setattr(wheelhouse, "fetch", fetched)
    project = Project(Path(), cast(Any, None), cast(Any, None), {})
    made = cast(Any, type("Made", (), {"lock": Lock(())}))
    errors: list[str] = []

    def failing() -> None:
        try:
            project.wheelhouse(made, ELSEWHERE, lambda _: None)
        except LoopError as error:
            errors.append(error.code)

    threads = in_threads(failing, failing)
    try:
        began = time.monotonic()
        houses = [project.wheelhouse(made, HERE, lambda _: None) for _ in range(2)]
        assert time.monotonic() - began < 10
        assert houses[0] is houses[1]
        assert errors == []
    finally:
        stalled.set()
        for thread in threads:
            thread.join()
    assert errors == ["index", "index"]
    failing()
    assert sorted(map(str, asked)) == sorted(map(str, (ELSEWHERE, HERE)))
