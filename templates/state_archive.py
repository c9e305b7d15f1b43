"""Write the service's data as an archive to standard output, or put one back from standard input.

`fab backup` and `fab restore` run it by run.sock: as the service's user, in the service's sandbox, so that neither a
wrong archive nor a hostile service reaches anything that the service itself could not write. An archive is a tar (GNU
format, gzip): `about.json`, `state/...`, what a database and a command have written, and `end`, the SHA-256 of all
before it. Python 3.9 and newer, standard library alone.
"""

from __future__ import annotations

import errno
import fcntl
import gzip
import hashlib
import io
import json
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from itertools import islice
from typing import IO, Any
from urllib.parse import parse_qsl, unquote, urlsplit

ASIDE = ".restore"
"""Directory in the state directory in which a restore unpacks; it also holds what was there, until all is in place."""
MOVED = "moved"
"""A mark: all former data lies in `former` now, and whatever lies in the state directory comes from the archive."""
SPARE = ".backup-"
"""The beginning of the names of files in the service's cache, each locked while a backup uses it."""
DUMP, OUTPUT = "postgresql.dump", "command.out"
PIECE = 1 << 20
ENTRIES = 1_000_000
"""Files that a state directory may have; the controller refuses more."""
LOCKED = 60
"""Seconds to wait for a database that others lock."""
BEAT = 60
"""Seconds after which a command whose output has grown counts as alive."""
SQLITE = b"SQLite format 3\0"
BESIDE_SQLITE = ("-wal", "-shm", "-journal")
VARIABLES = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD", "dbname": "PGDATABASE",
             "passfile": "PGPASSFILE", "sslmode": "PGSSLMODE", "sslrootcert": "PGSSLROOTCERT"}  # fmt: skip
# A dump drops what it has; a table that came after it goes, too, or a later migration would find it in its way.
EMPTY = r"""SELECT format('DROP TABLE %I.%I CASCADE', schemaname, tablename) FROM pg_tables
WHERE tableowner = current_user AND schemaname NOT LIKE 'pg\_%' \gexec
"""


class Failed(Exception):
    """The archive cannot be written or put back. Its text says why."""


class Digested:
    """A stream to write to that knows the SHA-256 and the length of what it got."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._length, self.digest = stream, 0, hashlib.sha256()

    def write(self, data: bytes) -> int:
        """Write, and count it in."""
        self.digest.update(data)
        self._length += len(data)
        return self._stream.write(data)

    def tell(self) -> int:
        """Return the length so far."""
        return self._length


def write(request: dict[str, Any]) -> None:
    """Write the archive.

    request: `about`; `command`, whose output is a part of it; `damaged`: a database that is damaged is written as it is
    """
    state = os.environ["STATE_DIRECTORY"]
    # Level 1: a slow host compresses as fast as a usual link takes it.
    with gzip.GzipFile("", "wb", 1, sys.stdout.buffer, 0) as packed:
        out = Digested(packed)  # type: ignore[arg-type]
        with tarfile.TarFile(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:  # type: ignore[arg-type]
            about = {**request["about"], "release": os.environ.get("RELEASE", "")}
            add(tar, "about.json", json.dumps(about).encode())
            kept: set[str] | None = set() if request.get("damaged") else None
            for path in walk(state):
                add_path(tar, path, f"state/{os.path.relpath(path, state)}", kept)
                # Else tarfile would keep every entry in memory.
                tar.members = []  # type: ignore[attr-defined]
            if (variables := postgresql()) is not None:
                words = ["pg_dump", "--format=custom", "--no-owner", "--no-privileges"]
                add_output(tar, DUMP, words, variables)
            if request["command"]:
                add_output(tar, OUTPUT, request["command"], {})
            add(tar, "end", out.digest.hexdigest().encode())


def walk(folder: str) -> Iterator[str]:
    """Yield directories, regular files and links below a directory, each after its directory; follow no link."""
    waiting, count = listed(folder), 0
    while waiting:
        entry = waiting.pop()
        count += 1
        if count > ENTRIES:
            raise Failed(f"the state directory has more than {ENTRIES} files")
        if entry.name == ASIDE:
            continue
        if entry.is_dir(follow_symlinks=False):
            yield entry.path
            waiting += listed(entry.path)
        elif entry.is_symlink() or entry.is_file(follow_symlinks=False):
            yield entry.path


def listed(folder: str) -> list[os.DirEntry[str]]:
    """Return the entries of a directory, the first one last; none if it is gone meanwhile."""
    try:
        with os.scandir(folder) as found:
            entries = list(islice(found, ENTRIES + 1))
    except FileNotFoundError:
        return []
    return sorted(entries, key=lambda entry: entry.name, reverse=True)


def opened(path: str) -> IO[bytes] | None:
    """Open a regular file for reading; None if it is gone, or another thing. Never wait, as for a pipe's writer."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENXIO):
            return None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return None
    return open(descriptor, "rb")


def add_path(tar: tarfile.TarFile, path: str, name: str, kept: set[str] | None) -> None:
    """Add one thing. One that is gone meanwhile is left out; a file that grows is added as long as it was.

    kept: filled with the damaged databases, which are added as they are; with None, such a database is a failure
    """
    try:
        entry = tar.gettarinfo(path, name)
    except FileNotFoundError:
        return
    if entry is not None and (entry.isdir() or entry.issym()):
        tar.addfile(entry)
        return
    file = opened(path)
    if file is None:
        return
    with file:
        database = path.rpartition("-")[0] if path.endswith(BESIDE_SQLITE) else ""
        if database and database not in (kept or ()) and is_sqlite(database):
            return
        mode = os.fstat(file.fileno()).st_mode
        if file.read(len(SQLITE)) != SQLITE or not added_sqlite(tar, path, name, mode, kept):
            file.seek(0)
            add_file(tar, file, name, mode)


def add_file(tar: tarfile.TarFile, file: IO[bytes], name: str, mode: int) -> None:
    """Add an open file as long as it is now. If it is cut meanwhile, zeros stand for the rest."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = os.fstat(file.fileno()).st_size, stat.S_IMODE(mode)
    entry.mtime = int(os.fstat(file.fileno()).st_mtime)
    tar.addfile(entry, Padded(file))  # type: ignore[arg-type]


class Padded:
    """A file that gives as many bytes as it is asked for: zeros after its end."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, size: int) -> bytes:
        """Read exactly so many bytes."""
        return self._file.read(size).ljust(size, b"\0")


def is_sqlite(path: str) -> bool:
    """Return whether a file is a database of SQLite."""
    with suppress(OSError):
        file = opened(path)
        if file is not None:
            with file:
                return file.read(len(SQLITE)) == SQLITE
    return False


def added_sqlite(tar: tarfile.TarFile, path: str, name: str, mode: int, kept: set[str] | None) -> bool:
    """Add a whole copy of a database, while others write to it; False if it is damaged, and `kept` takes that."""
    with spare() as (copy, file):
        why = copy_sqlite(path, copy, name)
        if not why:
            add_file(tar, file, name, mode)
            return True
    if kept is None:
        raise Failed(f"the database {name} is damaged: {why}")
    kept.add(path)
    sys.stderr.write(f"the database {name} is damaged, and saved as it is: {why}\n")
    return False


def copy_sqlite(path: str, copy: str, name: str) -> str:
    """Copy a database; return how it is damaged. Raise Failed if it stays locked."""
    for end in BESIDE_SQLITE:
        # SQLite would wait for the writer of a pipe.
        if os.path.lexists(path + end) and not stat.S_ISREG(os.lstat(path + end).st_mode):
            return f"{name}{end} is no file"
    try:
        source = sqlite3.connect(path, timeout=LOCKED, isolation_level=None)
        with closing(source) as there, closing(sqlite3.connect(copy)) as here:
            # `backup` would try for ever to read a database that is locked; within a transaction it can.
            there.execute("BEGIN")
            there.execute("SELECT count(*) FROM sqlite_master").fetchone()
            there.backup(here)
            said = str(here.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            raise Failed(f"{name} is locked: no process let go of it within {LOCKED} s") from error
        return str(error)
    except sqlite3.Error as error:
        return str(error)
    return "" if said == "ok" else said


def add_output(tar: tarfile.TarFile, name: str, words: list[str], variables: dict[str, str]) -> None:
    """Add what a command prints, which must succeed."""
    with spare() as (_, output):
        run(words, variables, output, stdin=subprocess.DEVNULL)
        output.seek(0)
        add_file(tar, output, name, 0o600)


@contextmanager
def spare() -> Iterator[tuple[str, IO[bytes]]]:
    """Yield the path of an empty file in the service's cache, and the file; remove those that killed backups left."""
    folder = os.environ["CACHE_DIRECTORY"]
    for name in os.listdir(folder):
        if name.startswith(SPARE):
            left = os.path.join(folder, name)
            with suppress(OSError), opened(left) or nullcontext() as file:
                if file is not None:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(left)
    path = os.path.join(folder, f"{SPARE}{os.getpid()}-{os.urandom(4).hex()}")
    with open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield path, file
        finally:
            with suppress(FileNotFoundError):
                os.unlink(path)


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    """Add a file of this content."""
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))


def postgresql() -> dict[str, str] | None:
    """Return the variables by which the programs of PostgreSQL find the service's database; None if it has none."""
    url = urlsplit(os.environ.get("DATABASE_URL", ""))
    if url.scheme.partition("+")[0] not in ("postgres", "postgresql"):
        return None
    given = {"host": url.hostname, "port": url.port, "user": url.username, "password": url.password}
    given = {**given, "dbname": url.path[1:], **dict(parse_qsl(url.query))}
    return {VARIABLES[key]: unquote(str(value)) for key, value in given.items() if value and key in VARIABLES}


def run(words: list[str], variables: dict[str, str], output: IO[bytes] | None = None, **streams: Any) -> None:
    """Run a command, which must succeed. output: a file for its output, whose growth shows that it is alive."""
    process = None
    try:
        with uninterrupted():
            process = subprocess.Popen(words, env={**os.environ, **variables}, stdout=output, **streams)
        status = watched(process, output)
    except OSError as error:
        raise Failed(f"{words[0]} cannot be started: {error.strerror}") from error
    finally:
        if process is not None:
            process.kill()
            process.wait()
    if status:
        raise Failed(f"{words[0]} ended with {status}")


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Heed an interrupt at the end: raised within Popen, after the fork, it would leave a child that we do not know."""
    received = []
    former = signal.signal(signal.SIGINT, lambda *_: received.append(True))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)
    if received:
        raise KeyboardInterrupt


def watched(process: subprocess.Popen[bytes], output: IO[bytes] | None) -> int:
    """Return the status of a process at its end; until then, write an empty line whenever its output has grown."""
    size = 0
    while True:
        try:
            return process.wait(BEAT)
        except subprocess.TimeoutExpired:
            before, size = size, os.fstat(output.fileno()).st_size if output else 0
            if size > before:
                sys.stderr.write("\n")
                sys.stderr.flush()


def restore(request: dict[str, Any]) -> None:
    """Put the archive back: unpack it beside the data, then change places. request: `command`, for its output."""
    state = os.environ["STATE_DIRECTORY"]
    aside = os.path.join(state, ASIDE)
    settle(state, aside)
    new, former = os.path.join(aside, "new"), os.path.join(aside, "former")
    os.makedirs(os.path.join(new, "state"), 0o700)
    try:
        unpack(new)
        put_back(new, request["command"])
    except BaseException:
        remove(aside)
        raise
    # Nothing may come between here and the end.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.mkdir(former, 0o700)
    move(state, former)
    os.mkdir(os.path.join(aside, MOVED))
    move(os.path.join(new, "state"), state)
    os.sync()
    # From here on it is done: `settle` takes nothing back.
    os.rename(former, os.path.join(aside, "replaced"))
    remove(aside)


def settle(state: str, aside: str) -> None:
    """Undo a restore that was cut: what was there comes back."""
    former = os.path.join(aside, "former")
    if not os.path.islink(aside) and os.path.isdir(former):
        if os.path.isdir(os.path.join(aside, MOVED)):
            for name in os.listdir(state):
                if name != ASIDE:
                    remove(os.path.join(state, name))
        move(former, state)
    remove(aside)


def move(source: str, target: str) -> None:
    """Move all that lies in one directory into another."""
    for name in os.listdir(source):
        if name != ASIDE:
            os.rename(os.path.join(source, name), os.path.join(target, name))


def remove(path: str) -> None:
    """Remove whatever is there, however deep, without following a link."""
    run(["rm", "-rf", "--", path], {}, stdin=subprocess.DEVNULL)


def unpack(new: str) -> None:
    """Unpack into an empty directory. Links come last, and none below another, so nothing is written through one."""
    links, last = [], ""
    try:
        with gzip.GzipFile(fileobj=sys.stdin.buffer) as packed, tarfile.open(fileobj=packed, mode="r|") as tar:
            for entry in tar:
                tar.members = []  # type: ignore[attr-defined]
                last = entry.name
                path = os.path.join(new, entry.name)
                if ".." in entry.name.split("/") or entry.name.startswith("/"):
                    raise Failed(f"the archive has {entry.name!r}")
                if entry.isdir():
                    os.makedirs(path, 0o700, exist_ok=True)
                elif entry.issym():
                    links.append((entry.linkname, path))
                elif entry.isreg():
                    write_file(path, tar.extractfile(entry), entry)
                else:
                    raise Failed(f"{entry.name!r} is neither a file, a directory nor a link")
            # To its very end, where its checksum is.
            while packed.read(PIECE):
                pass
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise Failed(f"the archive is damaged: {error}") from error
    if last != "end":
        raise Failed("the archive is cut: its end is missing")
    make_links(new, links)


def make_links(new: str, links: list[tuple[str, str]]) -> None:
    """Make links, each by its target and path; none below another."""
    whole = os.path.realpath(new)
    for target, path in links:
        above = os.path.dirname(os.path.relpath(path, new))
        if os.path.realpath(os.path.dirname(path)) != os.path.normpath(os.path.join(whole, above)):
            raise Failed(f"the archive has {path!r} below a link")
        os.symlink(target, path)


def write_file(path: str, content: IO[bytes] | None, entry: tarfile.TarInfo) -> None:
    """Write a file that must not be there yet."""
    assert content
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with open(os.open(path, flags, entry.mode & 0o700), "wb") as file:
        shutil.copyfileobj(content, file, PIECE)
        file.flush()
        os.fsync(file.fileno())
    os.utime(path, (entry.mtime, entry.mtime))


def put_back(new: str, command: list[str]) -> None:
    """Give the dump of the database, and the output of the backup's command, to those that read them."""
    dump, output = os.path.join(new, DUMP), os.path.join(new, OUTPUT)
    variables = postgresql()
    if os.path.exists(dump) and variables is None:
        raise Failed("the archive has a PostgreSQL database, and DATABASE_URL of this release names none")
    if os.path.exists(output) and not command:
        raise Failed("the archive has the output of a command, and `backup` in service.yaml has no `restore` for it")
    if os.path.exists(dump):
        script = os.path.join(new, "postgresql.sql")
        with open(script, "wb") as sql:
            sql.write(EMPTY.encode())
            sql.flush()
            words = ["pg_restore", "--no-owner", "--no-privileges", "--clean", "--if-exists", "--file=-", dump]
            run(words, {}, sql, stdin=subprocess.DEVNULL)
        # It prints a line per statement, which shows that it is alive.
        words = ["psql", "--no-psqlrc", "--single-transaction", "--set=ON_ERROR_STOP=1", f"--file={script}"]
        run(words, variables or {}, stdin=subprocess.DEVNULL)
    if os.path.exists(output):
        with open(output, "rb") as stdin:
            run(command, {}, stdin=stdin)


def main(mode: str, request: str) -> None:
    """Do what the controller asks for."""
    try:
        {"write": write, "restore": restore}[mode](json.loads(request))
    except Failed as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("it was stopped")
    except Exception as error:
        # What lies there is the service's, and may be anything.
        sys.exit(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main(*sys.argv[1:])
