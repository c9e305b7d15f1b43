"""Check and revoke the deploy account's access to the host's journals; the service's tmpfiles.d file grants it.

The file uses access control lists. A group would not do: a former member keeps its rights in a setgid program.
"""

from __future__ import annotations

import glob
import os
import stat
import struct
from contextlib import suppress

from . import programs, record
from .accounts import Account, as_account, find
from .folders import Folder
from .record import Record
from .run import Refused, Run

FILES = ("/run/log/journal", "/var/log/journal")
_GROUP = "systemd-journal"
_LISTS = ("system.posix_acl_access", "system.posix_acl_default")
_ENTRY = struct.Struct("<HHI")
_USER = 0x02
"""Tag of an access control entry for one account."""


def require(run: Run, account: Account) -> None:
    """Warn if the account cannot read the journals, to which setup has granted it access."""
    files = glob.glob(f"{FILES[0]}/*/system.journal") + glob.glob(f"{FILES[1]}/*/system.journal")
    if account.uid == 0 or not files:
        return

    def work(_: object) -> None:
        for path in files:
            with open(path, "rb"):
                pass

    try:
        as_account(account, work, 30, 1 << 16)
    except OSError as error:
        problem = (
            "fab logs shows nothing of this host. Do the host's file system and systemd support access control lists?"
        )
        run.report("warning", f"{error.strerror}: {problem}")


def revoke(run: Run, known: Record, uids: set[int]) -> None:
    """Revoke these accounts' access to the journals, and remove the recorded one from an older version's group.

    An account that deploys another service of this host keeps both.
    """
    others = _deploying(known)
    named = known.account or "root"
    in_group = named not in {"root", *others} and known.reader is None and find(named)
    if in_group and programs.ask("gpasswd", "--delete", named, _GROUP).well:
        run.say("account", f"{named} leaves the group {_GROUP}, which an earlier version of this tool put it in")
    uids = uids - {0, *(account.uid for account in map(find, others) if account)}
    if uids and _strip_all(uids):
        # A process reads on in a journal that it has open, or that another process has passed to it: begin new files.
        programs.ask("journalctl", "--rotate")


def _deploying(known: Record) -> set[str]:
    """Return the accounts that deploy other services of this host."""
    names = set()
    for path in glob.glob("/etc/*/setup"):
        with suppress(Refused, OSError):
            other = record.read(path.split("/")[2])
            if other.name != known.name and other.account:
                names.add(other.account)
    return names


def _strip_all(uids: set[int]) -> bool:
    """Remove the accounts from the lists of all journals and their directories; return whether any had one."""
    had = False
    for top in FILES:
        with suppress(FileNotFoundError), Folder(os.open(top, os.O_RDONLY | os.O_DIRECTORY), top) as folder:
            had = _strip_below(folder, uids) or had
    return had


def _strip_below(folder: Folder, uids: set[int]) -> bool:
    """Strip an open directory and what is below it, but not in directories of others: setup has granted nothing there.

    No name is used twice: the account of systemd-journal-remote could exchange it, and get a list on a file of root's.
    """
    had = _strip(folder.descriptor, uids)
    for name in folder.names():
        # journald may have removed it meanwhile.
        with suppress(FileNotFoundError):
            had = _strip_named(folder, name, uids) or had
    return had


def _strip_named(folder: Folder, name: str, uids: set[int]) -> bool:
    found = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=folder.descriptor)
    try:
        status = os.fstat(found)
        if stat.S_ISREG(status.st_mode):
            return _strip(found, uids)
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != 0:
            return False
        inner = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=found)
        with Folder(inner, f"{folder.path}/{name}") as below:
            return _strip_below(below, uids)
    finally:
        os.close(found)


def _strip(descriptor: int, uids: set[int]) -> bool:
    """Remove the accounts from the lists of an open file or directory; return whether they had one."""
    had, path = False, f"/proc/self/fd/{descriptor}"
    for name in _LISTS:
        with suppress(OSError):
            data = os.getxattr(path, name)
            entries = list(_ENTRY.iter_unpack(data[4:]))
            left = [entry for entry in entries if not (entry[0] == _USER and entry[2] in uids)]
            if left != entries:
                os.setxattr(path, name, data[:4] + b"".join(_ENTRY.pack(*entry) for entry in left))
                had = True
    return had
