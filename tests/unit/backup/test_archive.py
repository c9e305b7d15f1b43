"""The archive of a service's data: written and put back by the program of the hosts, verified on the controller."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as tries
from hypothesis import strategies as st

from tasks.engine.backup import archive, store
from tests.support.clone import ROOT
from tests.support.forks import ISOLATED, shared

PROGRAM = (ROOT / "templates/state_archive.py").read_text()
ABOUT = {"format": 1, "service": "myapp", "host": "shire01", "time": "2026-01-31T12:00:00Z"}
LIMIT = 1 << 30
HUNG = 300
"""Seconds after which a program hangs; it takes one at most."""


PRELOAD = "import fcntl, gzip, shutil, sqlite3, subprocess, tarfile, typing, urllib.parse"
BODY = "import sys; exec(compile(sys.argv.pop(), 'program', 'exec'))"


def program(
    mode: str, state: Path, given: bytes = b"", command: tuple[str, ...] = (), damaged: bool = False, **variables: str
) -> subprocess.CompletedProcess[bytes]:
    """Run the program of the hosts over a state directory, as run.sock does."""
    request = json.dumps({"about": ABOUT, "command": command, "damaged": damaged})
    places = {"STATE_DIRECTORY": str(state), "CACHE_DIRECTORY": str(state.parent), "RELEASE": "0123456789ab"}
    environment = {**os.environ, **places, **variables}
    text = PROGRAM.replace("LOCKED = 60", "LOCKED = 1")
    words = ["-c", mode, request, text]
    return subprocess.CompletedProcess(
        words, *shared(ISOLATED, PRELOAD, BODY).run(words, environment, given=given, timeout=HUNG)
    )


def written(state: Path, **options: str) -> bytes:
    ended = program("write", state, **options)  # type: ignore[arg-type]
    assert (ended.returncode, ended.stderr) == (0, b"")
    return ended.stdout


def tree(folder: Path) -> dict[str, object]:
    """Return what lies below a folder: path to content, or to the target of a link."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            found[str(path.relative_to(folder))] = f"-> {path.readlink()}"
        else:
            found[str(path.relative_to(folder))] = path.read_bytes() if path.is_file() else "directory"
    return found


@pytest.fixture
def state(tmp_path: Path) -> Path:
    made = tmp_path / "state"
    (made / "media/ö").mkdir(parents=True)
    (made / "empty").mkdir()
    (made / "media/ö/a b").write_bytes(bytes(range(256)) * 999)
    (made / ("n" * 200)).write_text("a long name")
    (made / "tokens").write_text("me")
    (made / "tokens").chmod(0o600)
    (made / "link").symlink_to("/etc/passwd")
    (made / "twice").hardlink_to(made / "tokens")
    os.mkfifo(made / "pipe")
    with closing(sqlite3.connect(made / "app.db")) as database, database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("CREATE TABLE rows (number)")
        database.executemany("INSERT INTO rows VALUES (?)", [(number,) for number in range(1000)])
    return made


@pytest.fixture
def keep(tmp_path: Path) -> Callable[[bytes], Path]:
    """Return a function that puts an archive into a file."""

    def put(data: bytes) -> Path:
        path = tmp_path / "archive.tar.gz"
        path.write_bytes(data)
        return path

    return put


def test_what_is_put_back_is_what_was_there(state: Path, tmp_path: Path, keep: Callable[[bytes], Path]) -> None:
    data = written(state)
    about = archive.read(keep(data), LIMIT)
    assert about[:4] == ("myapp", "0123456789ab", "shire01", "2026-01-31T12:00:00Z")
    assert about.entries == 9
    with tarfile.open(fileobj=io.BytesIO(data)) as plain:
        assert {"state/media/ö/a b", "about.json", "end"} < set(plain.getnames())
    there = tmp_path / "there"
    there.mkdir()
    (there / "other").write_text("goes away")
    ended = program("restore", there, data)
    assert (ended.returncode, ended.stderr) == (0, b"")
    (state / "pipe").unlink()
    before, after = tree(state), tree(there)
    for found in (before, after):
        found.pop("app.db")
    assert after == before
    assert (there / "tokens").stat().st_mode & 0o777 == 0o600
    with closing(sqlite3.connect(there / "app.db")) as database:
        assert database.execute("SELECT count(*) FROM rows").fetchone() == (1000,)


def test_a_database_that_is_written_to_is_whole(state: Path, tmp_path: Path) -> None:
    end = threading.Event()

    def write() -> None:
        with closing(sqlite3.connect(state / "app.db", timeout=60)) as database:
            number = 0
            while not end.is_set():
                number += 1
                with database:
                    database.executemany("INSERT INTO rows VALUES (?)", [(-number,)] * 2)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        data = written(state)
    finally:
        end.set()
        thread.join()
    there = tmp_path / "there"
    there.mkdir()
    assert program("restore", there, data).returncode == 0
    assert not list(there.glob("app.db-*"))
    with closing(sqlite3.connect(there / "app.db")) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert database.execute("SELECT count(*) % 2 FROM rows").fetchone() == (0,)


@pytest.mark.parametrize("end", ["-wal", "-shm", "-journal"])
def test_no_pipe_is_waited_for(state: Path, end: str) -> None:
    os.mkfifo(state / "foo")
    (state / f"foo{end}").touch()
    os.mkfifo(state.parent / ".backup-7-0")
    written(state)
    (state / f"app.db{end}").unlink(missing_ok=True)
    os.mkfifo(state / f"app.db{end}")
    ended = program("write", state)
    assert (ended.returncode, ended.stderr.decode()) == (
        1,
        f"the database state/app.db is damaged: state/app.db{end} is no file\n",
    )


@pytest.mark.parametrize("damaged", [False, True], ids=["backup", "save"])
def test_a_database_that_stays_locked_is_named(state: Path, damaged: bool) -> None:
    with closing(sqlite3.connect(state / "locked.db", isolation_level=None)) as database:
        database.execute("CREATE TABLE rows (number)")
        database.execute("BEGIN EXCLUSIVE")
        ended = program("write", state, damaged=damaged)
        assert ended.returncode == 1
        assert ended.stderr.startswith(b"state/locked.db is locked: "), ended.stderr


@pytest.mark.parametrize("how", ["torn", "header alone", "pipe"])
def test_a_damaged_database_is_no_backup_and_is_saved_as_it_is(
    state: Path, tmp_path: Path, keep: Callable[[bytes], Path], how: str
) -> None:
    content = (state / "app.db").read_bytes()
    torn = content[:4096] + b"\xff" * (len(content) - 4096) if how != "header alone" else content[:16] + b"\1" * 9000
    (state / "torn.db").write_bytes(torn)
    if how == "pipe":
        os.mkfifo(state / "torn.db-journal")
        (state / "torn.db-wal").write_bytes(b"wal")
    ended = program("write", state)
    assert (ended.returncode, b"the database state/torn.db is damaged: " in ended.stderr) == (1, True)
    ended = program("write", state, damaged=True)
    assert ended.returncode == 0
    assert ended.stderr.startswith(b"the database state/torn.db is damaged, and saved as it is: ")
    archive.read(keep(ended.stdout), LIMIT)
    there = tmp_path / "there"
    there.mkdir()
    assert program("restore", there, ended.stdout).returncode == 0
    assert (there / "torn.db").read_bytes() == torn
    assert (there / "torn.db-wal").exists() is (how == "pipe")
    assert not (there / "app.db-wal").exists()


def test_a_deep_tree_is_saved_and_is_replaced(state: Path, keep: Callable[[bytes], Path]) -> None:
    deep = state
    for _ in range(1200):
        deep /= "d"
        deep.mkdir()
    assert archive.read(keep(written(state)), LIMIT).entries == 1209
    ended = program("restore", state, made(SMALL))
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert tree(state) == {"file": b"content"}


@pytest.mark.parametrize("mode", ["write", "restore"])
def test_a_program_that_is_interrupted_ends_and_changes_nothing(state: Path, mode: str) -> None:
    data = program("write", state, command=("echo",)).stdout
    (state / "pipe").unlink()
    before = tree(state)
    # Its parent is the program, which waits for it.
    ended = program(mode, state, data, command=("sh", "-c", f"kill -INT $PPID; exec sleep {2 * HUNG}"))
    assert (ended.returncode, ended.stderr) == (1, b"it was stopped\n")
    assert tree(state) == before
    assert [path.name for path in state.parent.iterdir()] == ["state"]


def test_a_command_whose_output_grows_shows_that_it_is_alive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made: dict[str, Any] = {}
    exec(compile(PROGRAM, "state_archive", "exec"), made)  # noqa: S102 - the program as the hosts get it
    monkeypatch.setitem(made, "BEAT", 0.01)
    end = tmp_path / "end"

    class Output(io.FileIO):
        def fileno(self) -> int:
            if capsys.readouterr().err:
                end.touch()
            return super().fileno()

    with Output(tmp_path / "output", "w") as output:
        words = ["sh", "-c", f"while [ ! -e {end} ]; do echo more; sleep 0.01; done"]
        made["run"](words, {}, output)
    assert end.exists()


@pytest.mark.parametrize("mode", ["write", "restore"])
def test_any_fault_is_one_sentence(state: Path, mode: str) -> None:
    ended = program(mode, state, made(SMALL) if mode == "restore" else b"", DATABASE_URL="postgresql://[db")
    assert ended.returncode == 1
    assert len(ended.stderr.splitlines()) == 1, ended.stderr


def test_entries_are_not_kept_in_memory(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    most = 0

    class Watched(tarfile.TarFile):
        def __setattr__(self, name: str, value: object) -> None:
            nonlocal most
            if name == "offset":
                most = max(most, len(getattr(self, "members", ())))
            super().__setattr__(name, value)

    monkeypatch.setattr(tarfile, "TarFile", Watched)
    monkeypatch.setattr(tarfile, "open", Watched.open)
    monkeypatch.setenv("STATE_DIRECTORY", str(state))
    monkeypatch.setenv("CACHE_DIRECTORY", str(state.parent))
    for number in range(100):
        (state / f"{number}").touch()
    archived = io.BytesIO()
    made: dict[str, Callable[[dict[str, object]], None]] = {}
    exec(compile(PROGRAM, "state_archive", "exec"), made)  # noqa: S102 - the program as the hosts get it
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(archived))
    made["write"]({"about": ABOUT, "command": ()})
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(archived.getvalue())))
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    made["restore"]({"command": ()})
    assert 0 < most < 10


def test_copies_that_killed_backups_left_are_removed(state: Path) -> None:
    (state.parent / ".backup-7-0").write_text("left")
    written(state)
    assert [path.name for path in state.parent.iterdir()] == ["state"]


def test_the_output_of_a_command_is_a_part_and_comes_back(state: Path, tmp_path: Path) -> None:
    data = program("write", state, command=("sh", "-c", "echo rows")).stdout
    target = tmp_path / "given"
    ended = program("restore", state, data, command=("sh", "-c", f"cat >{target}"))
    assert (ended.returncode, target.read_text()) == (0, "rows\n")
    assert b"has no `restore` for it" in program("restore", state, data).stderr


@pytest.mark.parametrize("words", [("sh", "-c", "exit 3"), ("nowhere",)])
def test_a_command_that_fails_is_no_backup(state: Path, words: tuple[str, ...]) -> None:
    ended = program("write", state, command=words)
    assert ended.returncode == 1
    assert words[0].encode() in ended.stderr


@pytest.mark.parametrize("piece", [0, 1, 100, -1000, -30, -1])
def test_an_archive_that_is_cut_is_refused_and_changes_nothing(
    state: Path, piece: int, keep: Callable[[bytes], Path]
) -> None:
    data = written(state)[:piece]
    with pytest.raises(archive.Damaged):
        archive.read(keep(data), LIMIT)
    (state / "pipe").unlink()
    before = tree(state)
    assert program("restore", state, data).returncode == 1
    assert tree(state) == before


def test_a_cut_between_two_entries_is_seen(state: Path, keep: Callable[[bytes], Path]) -> None:
    plain = gzip.decompress(written(state))
    data = gzip.compress(plain[:1024] + bytes(10240))
    with pytest.raises(archive.Damaged):
        archive.read(keep(data), LIMIT)
    assert b"its end is missing" in program("restore", state, data).stderr


SMALL = {"about.json": json.dumps({**ABOUT, "release": "0123456789ab"}).encode(), "state/file": b"content"}


def made(entries: dict[str, bytes], *more: tuple[str, bytes, str]) -> bytes:
    """Make an archive with these files, and with entries of other kinds: name, kind, target."""
    out = io.BytesIO()
    with tarfile.TarFile(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, content in entries.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
        for name, kind, target in more:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, target
            tar.addfile(entry)
        entry = tarfile.TarInfo("end")
        content = hashlib.sha256(out.getvalue()).hexdigest().encode()
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
    return gzip.compress(out.getvalue())


def test_the_small_archive_is_good(keep: Callable[[bytes], Path], state: Path) -> None:
    assert archive.read(keep(made(SMALL)), LIMIT).entries == 1
    assert program("restore", state, made(SMALL)).returncode == 0
    assert tree(state) == {"file": b"content"}


@pytest.mark.parametrize(
    ("entries", "more"),
    [
        ({**SMALL, "../out": b"x"}, ()),
        ({**SMALL, "state/../../out": b"x"}, ()),
        ({**SMALL, "/OUT": b"x"}, ()),
        (SMALL, (("state/disk", tarfile.BLKTYPE, ""),)),
        (SMALL, (("state/pipe", tarfile.FIFOTYPE, ""),)),
        (SMALL, (("state/hard", tarfile.LNKTYPE, "OUT"),)),
        ({**SMALL, f"state/{'n' * 70_000}": b"x"}, ()),
    ],
)
def test_what_may_be_in_no_archive_is_refused_on_both_sides(
    entries: dict[str, bytes], more: tuple[tuple[str, bytes, str], ...], state: Path, keep: Callable[[bytes], Path]
) -> None:
    out = state.parent / "out"
    named = {name.replace("/OUT", str(out)): content for name, content in entries.items()}
    data = made(named, *((name, kind, target.replace("OUT", str(out))) for name, kind, target in more))
    with pytest.raises(archive.Damaged):
        archive.read(keep(data), LIMIT)
    (state / "pipe").unlink()
    before = tree(state)
    assert program("restore", state, data).returncode == 1
    assert tree(state) == before
    assert not out.exists()


def test_no_file_is_written_through_a_link_of_the_archive(state: Path) -> None:
    out = state.parent / "out"
    out.mkdir()
    link = ("state/media", tarfile.SYMTYPE, str(out))
    ended = program("restore", state, made({**SMALL, "state/media/x": b"x"}, link))
    assert ended.returncode == 1
    assert list(out.iterdir()) == []


def test_no_link_is_made_through_a_link_of_the_archive(state: Path) -> None:
    """Once: such a link stayed outside of the data."""
    out = state.parent / "out"
    out.mkdir()
    links = (("state/media", tarfile.SYMTYPE, str(out)), ("state/media/evil", tarfile.SYMTYPE, "/etc"))
    before = tree(state)
    ended = program("restore", state, made(SMALL, *links))
    assert (ended.returncode, list(out.iterdir())) == (1, [])
    assert b"below a link" in ended.stderr + ended.stdout
    assert tree(state) == before


def test_a_link_in_the_place_of_the_data_is_not_followed(state: Path) -> None:
    out = state.parent / "out"
    out.mkdir()
    (out / "kept").write_text("kept")
    (state / "aside").symlink_to(out)
    (state / ".restore").symlink_to(out)
    assert program("restore", state, made(SMALL)).returncode == 0
    assert tree(out) == {"kept": b"kept"}
    assert tree(state) == {"file": b"content"}


@pytest.mark.parametrize("moved", [True, False])
def test_a_restore_that_was_cut_is_undone_by_the_next(state: Path, moved: bool) -> None:
    (state / "pipe").unlink()
    before = tree(state)
    former = state / ".restore/former"
    former.mkdir(parents=True)
    for path in sorted(state.iterdir())[1 if moved else 3 :]:
        if path.name != ".restore":
            path.rename(former / path.name)
    if moved:
        (state / ".restore/moved").mkdir()
        (state / "half").write_text("new")
        (state / "tokens").write_text("new")
    assert program("restore", state, b"nothing").returncode == 1
    assert tree(state) == before


def test_a_restore_that_was_done_is_not_undone(state: Path) -> None:
    (state / "pipe").unlink()
    before = tree(state)
    for name in ("replaced", "moved"):
        (state / ".restore" / name).mkdir(parents=True)
    assert program("restore", state, b"nothing").returncode == 1
    assert tree(state) == before


@pytest.mark.parametrize(
    "about",
    [
        b"",
        b"[]",
        b"{}",
        b"{",
        json.dumps({**ABOUT, "release": 1}).encode(),
        json.dumps({**ABOUT, "format": 2}).encode(),
    ],
)
def test_an_archive_without_an_origin_is_refused(about: bytes, keep: Callable[[bytes], Path]) -> None:
    with pytest.raises(archive.Damaged):
        archive.read(keep(made({**SMALL, "about.json": about})), LIMIT)


def test_an_archive_may_not_unpack_to_more_than_the_limit(keep: Callable[[bytes], Path]) -> None:
    path = keep(made({**SMALL, "state/zeros": bytes(1 << 24)}))
    assert path.stat().st_size < 1 << 16
    with pytest.raises(archive.Damaged, match="more than 1048576 bytes"):
        archive.read(path, 1 << 20)
    path = keep(gzip.compress(gzip.decompress(made(SMALL)) + bytes(1 << 24)))
    with pytest.raises(archive.Damaged, match="behind its end"):
        archive.read(path, 1 << 20)


def test_a_file_is_one_member_whose_name_takes_no_time(keep: Callable[[bytes], Path]) -> None:
    """A host could fill the limit of a backup with members of nothing, each read in Python, or with one long name."""
    whole, nothing = made(SMALL), gzip.compress(b"")
    named = b"\x1f\x8b\x08\x08" + bytes(6) + b"n" * 30_000_000 + b"\0" + nothing[10:]
    began = time.process_time()
    for data in (nothing * 100_000 + whole, whole + nothing, whole + b"\0"):
        with pytest.raises(archive.Damaged, match="behind its end"):
            archive.read(keep(data), LIMIT)
    with pytest.raises(archive.Damaged):
        archive.read(keep(named), LIMIT)
    assert time.process_time() - began < 3


def headers(*entries: tuple[bytes, int]) -> bytes:
    """Make a compressed sequence of headers: type and size, each with its content."""
    out = b""
    for kind, size in entries:
        entry = tarfile.TarInfo("././@LongLink")
        entry.type, entry.size = kind, size
        out += entry.tobuf(tarfile.GNU_FORMAT) + b"n".ljust(512, b"\0") * (size > 0)
    return gzip.compress(out)


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        ([(tarfile.GNUTYPE_LONGNAME, 1)] * 2, "two names"),
        ([(tarfile.GNUTYPE_LONGLINK, 1), (tarfile.GNUTYPE_LONGNAME, 1), (tarfile.GNUTYPE_LONGLINK, 1)], "two names"),
        ([(tarfile.GNUTYPE_LONGNAME, -512)], "a text of -512 bytes"),
        ([(tarfile.GNUTYPE_LONGLINK, -1)], "a text of -1 bytes"),
    ],
    ids=["two names", "two targets", "negative name", "negative target"],
)
def test_an_entry_has_one_long_name_and_one_long_target(
    entries: list[tuple[bytes, int]], why: str, keep: Callable[[bytes], Path]
) -> None:
    with pytest.raises(archive.Damaged, match=why):
        archive.read(keep(headers(*entries)), LIMIT)


@tries(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_changed_archive_is_refused_without_a_crash(data: st.DataObject, keep: Callable[[bytes], Path]) -> None:
    plain = bytearray(gzip.decompress(made(SMALL)))
    at = data.draw(st.integers(0, plain.index(b"end\0") - 1))
    plain[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(archive.Damaged):
        archive.read(keep(gzip.compress(bytes(plain))), LIMIT)


@given(st.binary(max_size=3000))
@tries(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_refused_without_a_crash(keep: Callable[[bytes], Path], data: bytes) -> None:
    for packed in (data, gzip.compress(data)):
        with pytest.raises(archive.Damaged):
            archive.read(keep(packed), LIMIT)


@pytest.mark.parametrize(
    ("url", "variables"),
    [
        ("postgresql:///myapp?host=/run/postgresql", "PGDATABASE=myapp PGHOST=/run/postgresql"),
        ("postgresql+psycopg://me:a%20b@db:5433/x", "PGDATABASE=x PGHOST=db PGPASSWORD=a b PGPORT=5433 PGUSER=me"),
        ("postgres://db/x?passfile=/p&pool=3", "PGDATABASE=x PGHOST=db PGPASSFILE=/p"),
        ("sqlite:///x", None),
        ("", None),
    ],
)
def test_postgresql_is_asked_as_the_url_says(url: str, variables: str | None, tmp_path: Path) -> None:
    state, stub = tmp_path / "state", tmp_path / "bin"
    state.mkdir()
    stub.mkdir()
    (stub / "pg_dump").write_text("#!/bin/sh\nenv | grep ^PG | sort\n")
    (stub / "pg_dump").chmod(0o755)
    data = written(state, DATABASE_URL=url, PATH=f"{stub}:{os.environ['PATH']}")
    with tarfile.open(fileobj=io.BytesIO(data)) as plain:
        names = plain.getnames()
        assert ("postgresql.dump" in names) is (variables is not None)
        if variables:
            file = plain.extractfile("postgresql.dump")
            assert file
            assert " ".join(file.read().decode().splitlines()) == variables


def test_only_the_newest_archives_of_a_service_stay(tmp_path: Path) -> None:
    names = [f"myapp-2026010{day}T000000Z.tar.gz" for day in range(1, 6)]
    others = ["myapp-2026.tar.gz", "other-20260101T000000Z.tar.gz", "notes"]
    for name in (*names, *others):
        (tmp_path / name).touch()
    assert [path.name for path in store.prune(tmp_path, "myapp", 2)] == names[:3]
    assert {path.name for path in tmp_path.iterdir()} == {*names[3:], *others}


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 KiB"), (3 << 40, "3072.0 GiB")]
)
def test_a_size_in_words(count: int, text: str) -> None:
    assert store.size(count) == text
