"""The record of what setup made on this host: /etc/NAME/setup, one fact a line, read by operators with `cat`.

    made user myapp              an account or directory that was not there before setup
    origin git@example:shop.git  the git remote of the clone that set the service up
    by {"user": "ann", ...}      who did, from where
    since 2026-01-01T00:00:00Z
    reader deploy                reads the host's journals by access control lists
    secret API_TOKEN             a secret that is on this host, in /etc/NAME/secrets
    changing API_TOKEN           its value has changed, and no restart with the new one is known to be committed
    layout N                     the layout of this host; setup has finished
    user deploy                  the deploy account
    account of layout N, ...     not an account: a clone that knows only layout 1 takes these words for the account,
                                 and stops
    file DIGEST PATH             a file of root's, as it was written
    tls DIGEST PATH              the certificate and its key

Before the first change the record says what is about to be made, so a setup that was killed is finished by the next.
A secret may be recorded before the first setup.
"""

from __future__ import annotations

import os
import stat

from .folders import Folder
from .run import Refused

LIMIT = 1 << 20
FIRST = "1"
"""The layout of a record that names none."""
_SINGLE = ("origin", "by", "since", "reader", "account")


class Record:
    """The record of one service. layout: the version of what is where on the host.

    secrets, changing: names of secrets that are there, and of those whose change is not committed.
    files: path to (word, digests); after a setup that was killed a file may have two digests.
    """

    def __init__(self, name: str) -> None:
        self.name, self.there = name, False
        self.made: set[tuple[str, str]] = set()
        self.secrets: set[str] = set()
        self.changing: set[str] = set()
        self.files: dict[str, tuple[str, tuple[str, ...]]] = {}
        self.values: dict[str, str] = {}
        self.layout = FIRST
        self._written = ""

    @property
    def path(self) -> str:
        """The path of the record."""
        return f"/etc/{self.name}/setup"

    @property
    def account(self) -> str | None:
        """The deploy account; None until a setup has finished."""
        return self.values.get("account")

    @property
    def reader(self) -> str | None:
        """Who reads the journals by access control lists; None where an older version made the last setup."""
        return self.values.get("reader")

    @property
    def paths(self) -> tuple[str, ...]:
        """The files that the record names."""
        return tuple(sorted(self.files))

    def digests(self, path: str) -> tuple[str, ...]:
        """Return the digests of what setup wrote into a file, or was about to write."""
        return self.files.get(path, ("", ()))[1]

    def add(self, word: str, path: str, digest: str) -> None:
        """Add a digest to those of a file. The former one stays first, where readers look."""
        _, known = self.files.get(path, (word, ()))
        if digest not in known:
            self.files[path] = (word, (*known, digest))

    def text(self) -> str:
        """Return the text of the record."""
        lines = [f"made {kind} {name}" for kind, name in sorted(self.made)]
        lines += [f"secret {name}" for name in sorted(self.secrets)]
        lines += [f"changing {name}" for name in sorted(self.changing)]
        values = dict(self.values)
        if self.account is not None and self.layout != FIRST:
            lines += [f"layout {self.layout}", f"user {self.account}"]
            values["account"] = f"of layout {self.layout}, which needs a newer version of this tool"
        lines += [f"{word} {values[word]}" for word in _SINGLE if word in values]
        files = sorted(self.files.items())
        lines += [f"{word} {digest} {path}" for path, (word, digests) in files for digest in digests]
        return "".join(f"{line}\n" for line in lines)

    def write(self, run: str) -> None:
        """Write the record and sync it to the disk, unless its text is written already."""
        text = self.text()
        if text == self._written:
            return
        with Folder.open(f"/etc/{self.name}") as folder:
            folder.replace("setup", text.encode(), 0o644, f"setup.new-{run}")
            os.fsync(folder.descriptor)
        self.there, self._written = True, text


def read(name: str) -> Record:
    """Return the record of a service; an empty one if there is none. Refused if root did not write it.

    A directory that this account cannot read has no record: setup makes the directory readable for all.
    """
    try:
        with Folder.open(f"/etc/{name}") as folder:
            status = folder.status("setup")
            if status is None:
                return Record(name)
            foreign = Refused(f"/etc/{name}/setup is no file of root's: look at it, and move it away")
            if not stat.S_ISREG(status.st_mode):
                raise foreign
            with folder.reader("setup") as file:
                # Of the open file: the name may mean another one a moment later.
                if os.fstat(file.fileno()).st_uid != 0:
                    raise foreign
                record = parse(name, file.read(LIMIT).decode("utf-8", "replace"))
            record._written = record.text()
            return record
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return Record(name)


def parse(name: str, text: str) -> Record:
    """Parse the text of a record; skip lines that begin with an unknown word."""
    record = Record(name)
    record.there, user = True, ""
    for line in text.splitlines():
        word, _, value = line.partition(" ")
        if word in {"file", "tls"}:
            digest, _, path = value.partition(" ")
            _, known = record.files.get(path, (word, ()))
            record.files[path] = (word, (*known, digest))
        elif word == "made":
            kind, _, made = value.partition(" ")
            record.made.add((kind, made))
        elif word in {"secret", "changing"}:
            (record.secrets if word == "secret" else record.changing).add(value)
        elif word == "layout":
            record.layout = value
        elif word == "user":
            user = value
        elif word in _SINGLE:
            record.values[word] = value
    if user:
        record.values["account"] = user
    return record
