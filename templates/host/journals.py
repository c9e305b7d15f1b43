"""Check and revoke the deploy account's access to the host's journals; the service's tmpfiles.d file grants it.

The file uses access control lists. A group would not do: a former member keeps its rights in a setgid program.
"""

from __future__ import annotations

import glob
import os
import struct
from collections.abc import Iterator
from contextlib import suppress

from . import programs, record
from .accounts import Account, as_account, find
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
    stripped = [_strip(path, uids) for path in _paths()] if uids else []
    if any(stripped):
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


def _paths() -> Iterator[str]:
    """Yield the directories of the journals, and all files in them; root owns them."""
    for top in FILES:
        for folder, _, names in os.walk(top):
            yield folder
            yield from (f"{folder}/{name}" for name in names)


def _strip(path: str, uids: set[int]) -> bool:
    """Remove the accounts from the lists of a file or directory; return whether they had one."""
    had = False
    for name in _LISTS:
        with suppress(OSError):
            data = os.getxattr(path, name, follow_symlinks=False)
            entries = list(_ENTRY.iter_unpack(data[4:]))
            left = [entry for entry in entries if not (entry[0] == _USER and entry[2] in uids)]
            if left != entries:
                os.setxattr(path, name, data[:4] + b"".join(_ENTRY.pack(*entry) for entry in left),
                            follow_symlinks=False)  # fmt: skip
                had = True
    return had
