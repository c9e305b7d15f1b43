"""Modules of the host's program for a stage: receive, link, and start."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import resource
import select
import shutil
import signal
import subprocess
import tarfile
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tasks.engine.release import archive
from templates.host import descent, receive, release, stage, unchanged, venv_build
from templates.host.descent import Descent
from templates.host.flush import flush
from templates.host.folders import Folder
from templates.host.locks import Lock
from templates.host.payload import Payload
from templates.host.run import Edited, Interrupted, Refused, Run
from tests.support.program_run import run

__all__ = ["run"]

CODE = b"print('hello')\n"


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@contextmanager
def piped(run: Run, data: bytes, *, more: bool = False) -> Iterator[None]:
    """Feed a run from a pipe. more: the write end stays open."""
    out, into = os.pipe()
    feeder = threading.Thread(target=_feed, args=(into, data, more))
    feeder.start()
    with os.fdopen(out, "rb") as stream:
        run.payload = stream
        yield
    feeder.join()
    if more:
        os.close(into)


@contextmanager
def sent(run: Run, data: bytes, *, more: bool = False) -> Iterator[Payload]:
    """Feed a run with data; return its payload."""
    with piped(run, data, more=more):
        yield Payload(run)


def names(*path: Path | str) -> list[str]:
    """Return the names in a directory."""
    return sorted(one.name for one in Path(*path).iterdir())


def _feed(into: int, data: bytes, more: bool) -> None:
    try:
        while data:
            data = data[os.write(into, data) :]
    except BrokenPipeError:
        pass
    if not more:
        os.close(into)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Folder]:
    (tmp_path / "place").mkdir()
    with Folder.open(str(tmp_path / "place")) as folder:
        yield folder


def below(folder: Folder) -> dict[str, bytes]:
    """Return all files in it, by path."""
    top = Path(folder.path)
    return {str(path.relative_to(top)): path.read_bytes() for path in top.rglob("*") if path.is_file()}


# ---- receiving


def test_bytes_that_came_with_the_lines_before_are_not_lost(run: Run) -> None:
    out, into = os.pipe()
    os.write(into, b"a step\nfirst\nsecond")
    with os.fdopen(out, "rb") as stream:
        assert stream.readline() == b"a step\n"
        run.payload = stream
        payload = Payload(run)
        assert os.get_blocking(out)
        os.write(into, b" line\nrest")
        os.close(into)
        assert (payload.line(), payload.line()) == ("first", "second line")
        assert (payload.read(2), payload.read(9), payload.ended) == (b"re", b"st", False)
        assert (payload.read(1), payload.ended) == (b"", True)


def test_a_signal_is_heeded_while_nothing_comes(run: Run) -> None:
    with sent(run, b"half a line", more=True) as payload:
        threading.Timer(0.2, run._note).start()
        began = time.monotonic()
        with pytest.raises(Interrupted):
            payload.line()
        assert time.monotonic() - began < 20


@pytest.mark.parametrize(
    "text",
    [
        f"1 {'0' * 64} ../x\n",
        f"1 {'0' * 64} .coming\n",
        f"1 {'0' * 64} /etc/x\n",
        f"1 {'0' * 64} a\0b\n",
        f"-1 {'0' * 64} a.whl\n",
        f"1 {'0' * 63} a.whl\n",
        "\x00",
        "x" * 100_000,
        f"1 {'0' * 64} a.whl\n",
        f"1 {'0' * 64} a.whl",
    ],
)
def test_wheels_are_announced_by_plain_names_or_not_taken(run: Run, place: Folder, text: str) -> None:
    with sent(run, text.encode()) as payload, pytest.raises(Refused):
        receive.wheels(run, payload, place)
    assert below(place) == {}


@pytest.mark.parametrize("came", [b"whee", b"wheal", b""])
def test_a_wheel_that_is_cut_or_another_is_none(run: Run, place: Folder, came: bytes) -> None:
    announced = f"5 {digest(b'wheel')} a.whl\n\n".encode()
    with sent(run, announced + came) as payload, pytest.raises(Refused, match=r"a\.whl did not arrive as it was sent"):
        receive.wheels(run, payload, place)
    assert "a.whl" not in names(place.path)


@contextmanager
def full_after(size: int) -> Iterator[None]:
    """Limit the size of files, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    former = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, former)


def test_what_the_disk_does_not_take_is_named(run: Run, place: Folder) -> None:
    wheel = bytes(1_000_000)
    announced = f"{len(wheel)} {digest(wheel)} a.whl\n\n".encode()
    with sent(run, announced + wheel) as payload, full_after(100_000), pytest.raises(OSError, match="too large") as one:
        receive.wheels(run, payload, place)
    assert one.value.filename == f"{place.path}/a.whl"
    tar = b"".join(archive.pack((), {"code/b": wheel}))
    with sent(run, tar) as payload, full_after(100_000), pytest.raises(OSError, match="too large") as other:
        receive.unpack(run, payload, place)
    assert other.value.filename == f"{place.path}/code/b"


def made(*members: tuple[str, bytes, bytes], **more: str) -> bytes:
    """Return a tar of members: name, kind and content."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as packed:
        for name, kind, content in members:
            info = tarfile.TarInfo(name)
            info.type, info.size, info.linkname = kind, len(content), "/etc/passwd"
            info.pax_headers = dict(more)
            packed.addfile(info, io.BytesIO(content))
    return target.getvalue()


REGULAR = tarfile.REGTYPE


@pytest.mark.parametrize(
    "packed",
    [
        made(("../x", REGULAR, b"x")),
        made(("code/../../x", REGULAR, b"x")),
        made(("/srv/x", REGULAR, b"x")),
        made(("code//x", REGULAR, b"x")),
        made(("./x", REGULAR, b"x")),
        made(("..", REGULAR, b"x")),
        made(("code/x/", REGULAR, b"x")),
        made(("code", tarfile.DIRTYPE, b"")),
        made(("code/x", tarfile.SYMTYPE, b"")),
        made(("code/x", tarfile.LNKTYPE, b"")),
        made(("code/x", tarfile.CHRTYPE, b"")),
        made(("code/x", tarfile.BLKTYPE, b"")),
        made(("code/x", tarfile.FIFOTYPE, b"")),
        made(("code/x", REGULAR, b"x"), path="../y"),
        made(("code/x", tarfile.GNUTYPE_SPARSE, b"")),
        b"no tar at all" * 100,
        b"",
    ],
)
def test_a_tar_brings_plain_files_below_the_release_and_nothing_else(run: Run, place: Folder, packed: bytes) -> None:
    with sent(run, packed) as payload, pytest.raises(Refused):
        receive.unpack(run, payload, place)
    assert below(place) == {}
    assert not (Path(place.path).parent / "x").exists()


def test_a_path_that_comes_twice_and_one_that_leads_by_a_link_are_refused(run: Run, place: Folder) -> None:
    with sent(run, made(("a", REGULAR, b"1"), ("a", REGULAR, b"2"))) as payload, pytest.raises(FileExistsError):
        receive.unpack(run, payload, place)
    outside = Path(place.path).parent / "outside"
    outside.mkdir()
    (Path(place.path) / "code").symlink_to(outside)
    with sent(run, made(("code/x", REGULAR, b"1"))) as payload, pytest.raises(OSError, match="code/x"):
        receive.unpack(run, payload, place)
    assert names(outside) == []


def test_a_tar_that_is_cut_anywhere_is_refused(run: Run, tmp_path: Path) -> None:
    whole = b"".join(archive.pack((), {"MANIFEST": CODE, "run/web": CODE, "tool/x" + "y" * 120: CODE * 50}))
    # The last record is padded: the content of a file ends earlier.
    ends = len(whole.rstrip(b"\0"))
    for cut in [*range(0, ends + 512, 512), ends - 1, ends - 700]:
        (tmp_path / str(cut)).mkdir()
        place = Folder.open(str(tmp_path / str(cut)))
        with place, sent(run, whole[:cut]) as payload, pytest.raises(Refused, match="did not arrive whole"):
            receive.unpack(run, payload, place)


@pytest.mark.parametrize("size", [len(CODE) * 900, 18 * 512, 17 * 512, 19 * 512])
@pytest.mark.parametrize("first", [1, 513, 3000, 9800, 10_241, 12_223])
def test_nothing_of_a_tar_is_left_to_be_taken_for_the_next_step(run: Run, place: Folder, first: int, size: int) -> None:
    """Once the padding of the last record was, after a tar that came in pieces; and once of a tar of each twentieth
    size, whose two empty blocks lie in two records.
    """
    whole = b"".join(archive.pack((), {"run/web": bytes(size)}))
    out, into = os.pipe()
    with os.fdopen(out, "rb") as stream:
        run.payload = stream
        payload = Payload(run)
        os.write(into, whole[:first])
        later = threading.Timer(0.05, lambda: os.write(into, whole[first:]))
        later.start()
        receive.unpack(run, payload, place)
        later.join()
        assert not payload.waiting
        assert not select.select([out], [], [], 0)[0]
        os.close(into)


def test_the_files_get_the_modes_of_a_release(run: Run, place: Folder) -> None:
    members = {"EXECUTABLE": b"x\n", "MANIFEST": b"d", "code/a b/-x": CODE, "code/zü": b"", "run/web": b"#!"}
    with sent(run, b"".join(archive.pack((), members))) as payload:
        receive.unpack(run, payload, place)
    assert below(place) == members
    assert {oct(path.stat().st_mode & 0o7777) for path in Path(place.path).rglob("*") if path.is_file()} == {"0o644"}


def test_memory_does_not_grow_with_what_comes(run: Run, place: Folder) -> None:
    """The input is a wheel and a file of 16 MB each, and three thousand small ones."""
    size, piece = 16_000_000, bytes(1000)
    whole = hashlib.sha256()
    for _ in range(size // 1000):
        whole.update(piece)

    def feed(into: int) -> None:
        with os.fdopen(into, "wb") as pipe:
            pipe.write(f"{size} {whole.hexdigest()} a.whl\n\n".encode())
            for _ in range(size // 1000):
                pipe.write(piece)
            info = tarfile.TarInfo("code/large")
            info.size = size
            pipe.write(info.tobuf(tarfile.PAX_FORMAT))
            for _ in range(size // 1000):
                pipe.write(piece)
            pipe.write(b"".join(archive.pack((), {f"code/{n:04}": b"x" for n in range(3000)})))

    out, into = os.pipe()
    feeder = threading.Thread(target=feed, args=(into,))
    with os.fdopen(out, "rb") as stream:
        run.payload = stream
        tracemalloc.start()
        try:
            payload = Payload(run)
            feeder.start()
            assert receive.wheels(run, payload, place) == {"a.whl": whole.hexdigest()}
            tracemalloc.reset_peak()
            receive.unpack(run, payload, place)
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    feeder.join()
    assert len(names(place.path, "code")) == 3001
    # The test itself packs the three thousand files in one piece.
    assert most < 8_000_000


# ---- linking


def base(place: Folder, files: dict[str, bytes]) -> None:
    for path, data in files.items():
        target = Path(place.path) / "base/code" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    (Path(place.path) / "base/MANIFEST").write_bytes(manifest(files))
    (Path(place.path) / "part/code").mkdir(parents=True)


def manifest(files: dict[str, bytes]) -> bytes:
    return "".join(f"{digest(data)}  {path}\n" for path, data in sorted(files.items())).encode()


def link(run: Run, place: Folder, wanted: dict[str, bytes]) -> None:
    run.step = {"others": {}, **run.step, "base": "base"}
    with place.below("part") as part:
        part.write("MANIFEST", manifest(wanted), 0o644)
        part.write("EXECUTABLE", b"", 0o644)
        unchanged.link_from(run, place, part)


FILES = {"a/b/c.py": b"1", "a/b.py": b"2", "z\u00fc.py": b"3", "a b/-odd": b"4"}


def test_what_has_not_changed_is_linked(run: Run, place: Folder) -> None:
    base(place, {**FILES, "gone.py": b""})
    link(run, place, {**FILES, "a/b.py": b"new"})
    top = Path(place.path)
    linked = {path for path in (*FILES, "gone.py") if (top / "part/code" / path).exists()}
    assert linked == {*FILES} - {"a/b.py"}
    assert all((top / "part/code" / path).samefile(top / "base/code" / path) for path in linked)


def test_a_base_that_has_gone_asks_for_everything(run: Run, place: Folder) -> None:
    base(place, FILES)
    (Path(place.path) / "base").rename(Path(place.path) / "other")
    with pytest.raises(Edited):
        link(run, place, FILES)


@pytest.mark.parametrize("other", ["old", "gone", "led-away"])
def test_large_files_are_linked_from_another_release(run: Run, place: Folder, other: str) -> None:
    base(place, FILES)
    (Path(place.path) / "old/code/models").mkdir(parents=True)
    (Path(place.path) / "old/code/models/m.bin").write_bytes(b"large")
    (Path(place.path) / "led-away").symlink_to("old")
    run.step = {**run.step, "others": {other: ["models/m.bin", "models/none.bin"]}}
    link(run, place, {**FILES, "models/m.bin": b"large"})
    made, old = (Path(place.path) / name / "code/models/m.bin" for name in ("part", "old"))
    assert made.exists() == (other == "old")
    assert not made.exists() or made.samefile(old)


def test_files_of_the_site_that_the_code_has_are_linked_and_none_that_was_sent_is_replaced(place: Folder) -> None:
    code = {"src/shop/a.py": b"1", "src/shop/b.py": b"2", "b.py": b"3", "run": b"4"}
    base(place, code)
    top = Path(place.path)
    for path, data in code.items():
        (top / "part/code" / path).parent.mkdir(parents=True, exist_ok=True)
        (top / "part/code" / path).write_bytes(data)
    (top / "part/site").mkdir()
    (top / "part/site/run").write_bytes(b"4")
    site = {"shop/a.py": b"1", "shop/b.py": b"3", "shop/c.py": b"1", "run": b"4"}
    with place.below("part") as part:
        part.write("MANIFEST", manifest(code), 0o644)
        unchanged.link_site(part)
        assert [path.name for path in (top / "part/site").iterdir()] == ["run"]
        part.write("SITE", manifest(site), 0o644)
        unchanged.link_site(part)
    made = {str(path.relative_to(top / "part/site")) for path in (top / "part/site").rglob("*") if path.is_file()}
    assert made == {"shop/a.py", "shop/b.py", "run"}
    assert (top / "part/site/shop/a.py").samefile(top / "part/code/src/shop/a.py")
    assert (top / "part/site/shop/b.py").samefile(top / "part/code/b.py")
    assert not (top / "part/site/run").samefile(top / "part/code/run")


def test_a_full_disk_is_no_edit(run: Run, place: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    base(place, FILES)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "b.py")

    monkeypatch.setattr(unchanged, "link", full)
    with pytest.raises(OSError, match="No space") as failed:
        link(run, place, FILES)
    assert failed.value.filename.startswith(f"{place.path}/part/code/a")


def test_what_is_removed_may_be_removed_by_another_meanwhile(place: Folder) -> None:
    top = Path(place.path) / ".part-old"
    for _ in range(10):
        for number in range(200):
            (top / f"{number}/code").mkdir(parents=True)
            (top / f"{number}/code/app.py").touch()
        other = threading.Thread(target=shutil.rmtree, args=(top, True))
        other.start()
        descent.clear(place, ".part-old")
        other.join()
        assert names(place.path) == []


def test_what_is_removed_may_be_deep_and_leads_nowhere_else(place: Folder) -> None:
    outside = Path(place.path).parent / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    deep = "/".join("d" * 1500)
    subprocess.run(["mkdir", "-p", f"{place.path}/part/{deep}"], check=True)
    (Path(place.path) / "part/link").symlink_to(outside)
    (Path(place.path) / "link").symlink_to(outside)
    for name in ("part", "link", "none"):
        descent.clear(place, name)
    assert (names(place.path), names(outside)) == ([], ["kept"])


def test_a_descent_leads_nowhere_else(place: Folder) -> None:
    (Path(place.path) / "here").mkdir()
    (Path(place.path) / "link").symlink_to("/etc")
    with Descent(place, make=True) as folders:
        for path in ("..", "here/..", "link", "here//x", "/etc", "link/x"):
            with pytest.raises(OSError, match=r"not a name of a directory|Not a directory"):
                folders.at(path)
        assert folders.at("").path == place.path
        assert folders.at("here/x/y").path.endswith("here/x/y")
        with pytest.raises(FileNotFoundError):
            descent.link(folders.at("here"), place, "none")


# ---- releases


@pytest.mark.parametrize(
    ("change", "whole"),
    [
        (lambda _: None, True),
        (lambda code: (code / "a.pyc").touch(), True),
        (lambda code: ((code / "__pycache__").mkdir(), (code / "__pycache__/a.cpython-311.pyc.1234").touch()), True),
        (lambda code: (code / "a.pyc.1234").touch(), False),
        (lambda code: (code / "more").touch(), False),
        (lambda code: (code / "more").symlink_to("app.py"), False),
        (lambda code: os.mkfifo(code / "more"), False),
        (lambda code: (code / "app.py").write_bytes(b""), False),
        (lambda code: (code / "app.py").unlink(), False),
        (lambda code: ((code / "app.py").rename(code.parent / "x"), (code / "app.py").symlink_to("../x")), False),
        (lambda code: (code.parent / "MANIFEST").write_bytes(b""), False),
        (lambda code: (code.parent / "MANIFEST").unlink(), False),
        (lambda code: (code.parent / "run/web").write_bytes(b""), False),
        (lambda code: (code.parent / "LAUNCHERS").unlink(), False),
        (lambda code: (code.parent / "MANIFEST").write_bytes(2 * manifest({"app.py": CODE})), False),
        (lambda code: (code.parent / "MANIFEST").write_bytes(manifest({"app.py": CODE}) + b"x\n"), False),
        (lambda code: (code.parent / "site/a.pyc").touch(), True),
        (lambda code: (code.parent / "site/more").touch(), False),
        (lambda code: (code.parent / "site/lib.py").write_bytes(b""), False),
        (lambda code: (code.parent / "site/lib.py").unlink(), False),
        (lambda code: (code.parent / "site").rename(code.parent / "x"), False),
        (lambda code: (code.parent / "SITE").unlink(), False),
        (lambda code: (code.parent / "SITE").write_bytes(b""), False),
    ],
)
def test_a_release_is_as_its_lists_say_or_has_none(
    place: Folder, change: Callable[[Path], object], whole: bool
) -> None:
    code = Path(place.path) / "code"
    code.mkdir()
    (code / "app.py").write_bytes(CODE)
    (code.parent / "run").mkdir()
    (code.parent / "run/web").write_bytes(CODE)
    (code.parent / "site").mkdir()
    (code.parent / "site/lib.py").write_bytes(CODE)
    wanted = {"MANIFEST": manifest({"app.py": CODE}), "LAUNCHERS": manifest({"run/web": CODE}),
              "SITE": manifest({"lib.py": CODE})}  # fmt: skip
    for name, data in wanted.items():
        (code.parent / name).write_bytes(data)
    change(code)
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in wanted.items()}
    assert release.list_digests(place) == (digests if whole else {})


# ---- starting


WHOLE = {"code/app.py": CODE, "MANIFEST": manifest({"app.py": CODE}), "WHEELS": b"",
         "run/web": b"", "LAUNCHERS": manifest({"run/web": b""}), "tool/build_venv.py": b""}  # fmt: skip


@pytest.fixture
def host(run: Run, tmp_path: Path) -> Path:
    """The root of a service, for a stage that builds with `python` in it."""
    root = tmp_path / "root"
    root.mkdir()
    run.step = {
        **run.step,
        "root": str(root),
        "release": "b" * 12,
        "venv": "1" * 16,
        "base": "",
        "others": {},
        "present": False,
    }
    lists = {name: digest(WHOLE[name]) for name in ("MANIFEST", "LAUNCHERS")}
    run.step = {**run.step, "python": str(root / "python"), "lists": lists}
    return root


def python(root: Path, text: str) -> None:
    (root / "python").write_text(f"#!/bin/sh\n{text}\n")
    (root / "python").chmod(0o755)


def whole() -> bytes:
    return b"\n" + b"".join(archive.pack((), WHOLE))


BUILDS = """case "$*" in *'/build_venv.py '*) mkdir -p "$5/bin"; cp "$0" "$5/bin/python"
cp "$0" "$5/bin/gunicorn" ;; esac"""


def test_a_program_that_is_started_inherits_no_lock(run: Run, host: Path) -> None:
    python(host, f"ls -l /proc/self/fd >>{host}/open\n{BUILDS}")
    with piped(run, whole()):
        stage.perform(run)
    seen = (host / "open").read_text()
    assert "/dev/null" in seen
    assert "lock/stage" not in seen
    assert names(host, "releases") == ["b" * 12]
    with Lock("myapp", "stage") as lock:
        assert lock.read() == str(os.getpgrp())
        assert lock.take()


@pytest.mark.parametrize("point", ["stage.verify", "stage.wheels", "stage.venv", "stage.finish"])
def test_whatever_ends_it_what_compiles_is_waited_for_and_nothing_is_left(run: Run, host: Path, point: str) -> None:
    compiles = (
        f'case "$*" in *SourceFileLoader*) for p in "$@"; do :; done; sleep 0.4; touch "$p/x.pyc" {host}/did ;; esac'
    )
    python(host, f"{compiles}\n{BUILDS}")
    run._failpoint = f"{point}=fail"
    with piped(run, whole()), pytest.raises(Refused, match="failpoint"):
        stage.perform(run)
    assert (host / "did").exists()
    assert [name for path in ("releases", "wheels") for name in names(host, path)] == []
    assert not any(name.startswith(".") for name in names(host, "venvs"))


def test_without_an_interpreter_nothing_compiles_and_nothing_is_built(run: Run, host: Path) -> None:
    with piped(run, whole()), pytest.raises(Refused, match="does not build the venv"):
        stage.perform(run)
    assert names(host, "releases") == []
    venv_build.Compiling("/none", str(host)).wait()


def test_a_disk_that_cannot_be_written_to_is_told(place: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/none")
    with pytest.raises(Refused, match=f"{place.path} cannot be flushed to the disk"):
        flush(place.path)


def test_a_group_that_is_ours_or_none_is_never_ended(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[Any] = []
    monkeypatch.setattr(Lock, "end_holders", lambda _, number, group: ended.append((number, group)))
    monkeypatch.setattr(Lock, "take_within", lambda *_, **__: False)
    with Lock("myapp", "stage") as held, Lock("myapp", "stage") as lock:
        assert held.take(shared=True)
        for line in ("", "0", "-1", "x", str(os.getpgrp())):
            held.write(line)
            assert not stage._alone(run, lock)
        assert ended == []
        held.write("999999")
        assert not stage._alone(run, lock)
    assert ended == [(signal.SIGTERM, 999999), (signal.SIGKILL, 999999)]
