"""The secret header with which the host's own checks pass maintenance and reach a slot without traffic.

nginx reads the secret in /etc/NAME/check/map; curl, run by the deploy account, reads it in a file for each
place that a check asks: blue, green and live. No other file has the secret, and no program gets it as an argument.
"""

from __future__ import annotations

import os
import re
import secrets
import stat

from .accounts import Account
from .files import read
from .folders import Folder
from .slot_names import SLOTS

WAYS = (*SLOTS, "live")
NAMES = (*WAYS, "map")
_MAP = re.compile(rb'"([0-9a-f]{32}) blue" blue;\n')


def as_written(name: str) -> bool:
    """Return whether nginx's file lets one secret in, and no other; only root can read it."""
    there = read(f"/etc/{name}/check/map")
    token = _MAP.match(there.data) if there else None
    return bool(there and token and there.data == _map(token[1].decode()))


def _map(token: str) -> bytes:
    return "".join(f'"{token} {way}" {way};\n' for way in WAYS).encode()


class Check:
    """The secret of one service. renewed: the secret is new, so nginx must be reloaded."""

    def __init__(self, name: str, account: Account) -> None:
        self._name, self._folder, self._account = name, f"/etc/{name}/check", account
        self._token, self.renewed = "", False

    def make(self, run: str) -> None:
        """Make a secret, unless this account has one: a secret of another account is replaced."""
        os.makedirs(self._folder, 0o755, exist_ok=True)
        former = read(f"{self._folder}/map")
        token = _MAP.match(former.data) if former else None
        with Folder.open(self._folder) as folder:
            for name in folder.names():
                if ".new-" in name:
                    folder.remove(name)
            if token and as_written(self._name) and self._has(folder, "live"):
                self._token = token[1].decode()
                return
            # 32 digits: more would need a larger map_hash_bucket_size in nginx.
            self._token, self.renewed = secrets.token_hex(16), True
            folder.replace("map", _map(self._token), 0o600, f"map.new-{run}")

    def hand_out(self, run: str) -> None:
        """Give the account the secret, after nginx has it. If setup is killed before, the next one makes another."""
        with Folder.open(self._folder) as folder:
            time = os.stat("map", dir_fd=folder.descriptor, follow_symlinks=False).st_mtime_ns
            for way in WAYS:
                data, part = f"X-Loop-Check: {self._token} {way}\n".encode(), f"{way}.new-{run}"
                if not self.renewed and self._has(folder, way):
                    continue
                folder.write(part, data, 0o400)
                os.chown(part, self._account.uid, -1, dir_fd=folder.descriptor, follow_symlinks=False)
                os.utime(part, ns=(time, time), dir_fd=folder.descriptor, follow_symlinks=False)
                folder.rename(part, way)

    def _has(self, folder: Folder, way: str) -> bool:
        """Return whether the account was given a file, as root has made it: with the time of nginx's file.

        Root does not open it: the account owns it, and may have a lease on it (F_SETLEASE).
        """
        theirs, ours = folder.status(way), folder.status("map")
        if theirs is None or ours is None or not stat.S_ISREG(theirs.st_mode):
            return False
        return (theirs.st_uid, theirs.st_mtime_ns) == (self._account.uid, ours.st_mtime_ns)
