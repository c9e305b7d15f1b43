"""The record of what setup made on this host: /etc/NAME/setup, one fact a line, read by operators with `cat`.

    made user myapp              an account, directory or group that was not there before setup
    origin git@example:shop.git  the git remote of the clone that set the service up
    by {"user": "ann", ...}      who did, from where
    since 2026-01-01T00:00:00Z
    layout 2                     what lies where on this host; setup came to its end
    user deploy                  the deploy account
    account of layout 2, ...     the deploy account in the first layout; clones that know no other stop at this
    file DIGEST PATH             a file of root's, as it was written
    tls DIGEST PATH              the certificate and its key

Before the first change the record says what is about to be made, so a setup that was killed is finished by the next.
"""

from __future__ import annotations

import os
import stat

from .folders import Folder
from .run import Refused

LIMIT = 1 << 20
FIRST = "1"
"""The layout of a record that names none."""
_SINGLE = ("origin", "by", "since", "account")


class Record:
    """What the record says. files: path to (word, digests); of a setup that was killed a file may have two digests.

    layout: of what lies on the host.
    """

    def __init__(self, name: str) -> None:
        self.name, self.there = name, False
        self.made: set[tuple[str, str]] = set()
        self.files: dict[str, tuple[str, tuple[str, ...]]] = {}
        self.values: dict[str, str] = {}
        self.layout = FIRST
        self._lies_there = ""

    @property
    def path(self) -> str:
        """Where it lies."""
        return f"/etc/{self.name}/setup"

    @property
    def account(self) -> str | None:
        """The deploy account; None while no setup has come to its end."""
        return self.values.get("account")

    @property
    def paths(self) -> tuple[str, ...]:
        """Every file that it names."""
        return tuple(sorted(self.files))

    def digests(self, path: str) -> tuple[str, ...]:
        """The contents that setup has given this file, or was about to."""
        return self.files.get(path, ("", ()))[1]

    def add(self, word: str, path: str, digest: str) -> None:
        """One more content that a file has from us; the former one stays the first, which is what others look at."""
        _, known = self.files.get(path, (word, ()))
        if digest not in known:
            self.files[path] = (word, (*known, digest))

    def text(self) -> str:
        """As it is written."""
        lines = [f"made {kind} {name}" for kind, name in sorted(self.made)]
        values = dict(self.values)
        if self.account is not None and self.layout != FIRST:
            lines += [f"layout {self.layout}", f"user {self.account}"]
            values["account"] = f"of layout {self.layout}, which needs a newer version of this tool"
        lines += [f"{word} {values[word]}" for word in _SINGLE if word in values]
        lines += [f"{word} {digest} {path}" for path, (word, found) in sorted(self.files.items()) for digest in found]
        return "".join(f"{line}\n" for line in lines)

    def write(self, run: str) -> None:
        """Put it in its place, on the disk when this returns; nothing happens where it says this already."""
        text = self.text()
        if text == self._lies_there:
            return
        with Folder.open(f"/etc/{self.name}") as folder:
            folder.replace("setup", text.encode(), 0o644, f"setup.new-{run}")
            os.fsync(folder.descriptor)
        self.there, self._lies_there = True, text


def read(name: str) -> Record:
    """The record of a service; an empty one where there is none. Refused for one that root did not write.

    Where this account may not look there is none for it: setup makes a directory that everybody may read.
    """
    try:
        with Folder.open(f"/etc/{name}") as folder:
            found = folder.status("setup")
            if found is None:
                return Record(name)
            if not stat.S_ISREG(found.st_mode) or found.st_uid != 0:
                raise Refused(f"/etc/{name}/setup is no file of root's: look at it, and move it away")
            record = parse(name, folder.read("setup", LIMIT).decode("utf-8", "replace"))
            record._lies_there = record.text()
            return record
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return Record(name)


def parse(name: str, text: str) -> Record:
    """What a record says; lines of a word that is not known are left out."""
    record = Record(name)
    record.there, user = True, ""
    for line in text.splitlines():
        word, _, rest = line.partition(" ")
        if word in {"file", "tls"}:
            digest, _, path = rest.partition(" ")
            _, known = record.files.get(path, (word, ()))
            record.files[path] = (word, (*known, digest))
        elif word == "made":
            kind, _, name = rest.partition(" ")
            record.made.add((kind, name))
        elif word == "layout":
            record.layout = rest
        elif word == "user":
            user = rest
        elif word in _SINGLE:
            record.values[word] = rest
    if user:
        record.values["account"] = user
    return record
