"""The host's own way past maintenance, and to a slot that has no traffic yet: a secret in a header.

nginx has it in /etc/NAME/check/map, and the deploy account in one file for each way, which curl reads. It stands in no
other file, and in no argument.
"""

from __future__ import annotations

import os
import re
import secrets

from .accounts import Account
from .files import read
from .folders import Folder

WAYS = ("blue", "green", "live")
NAMES = (*WAYS, "map")
_MAP = re.compile(rb'"([0-9a-f]{32}) blue" blue;\n')


class Check:
    """The secret of one service. renewed: it is a new one, of which nginx has to be told."""

    def __init__(self, name: str, account: Account) -> None:
        self._folder, self._account = f"/etc/{name}/check", account
        self._token, self.renewed = "", False

    def make(self, run: str) -> None:
        """Make a secret, unless there is one that this account knows: another account gets another one."""
        os.makedirs(self._folder, 0o755, exist_ok=True)
        former = read(f"{self._folder}/map")
        found = _MAP.match(former.data) if former else None
        with Folder.open(self._folder) as folder:
            for left in folder.names():
                if ".new-" in left:
                    folder.remove(left)
            status, live = folder.status("live"), read(f"{self._folder}/live")
            given = status and status.st_uid == self._account.uid and live and found and found[1] in live.data
            if found and given:
                self._token = found[1].decode()
                return
            # 32 digits: with more of them nginx needs a larger map_hash_bucket_size.
            self._token, self.renewed = secrets.token_hex(16), True
            text = "".join(f'"{self._token} {way}" {way};\n' for way in WAYS)
            folder.replace("map", text.encode(), 0o600, f"map.new-{run}")

    def hand_out(self, run: str) -> None:
        """Give it to the account, once nginx has it: a setup that does not come to this makes another one."""
        for way in WAYS:
            data, part = f"X-Loop-Check: {self._token} {way}\n".encode(), f"{way}.new-{run}"
            former = read(f"{self._folder}/{way}")
            if not self.renewed and former and former.data == data:
                continue
            with Folder.open(self._folder) as folder:
                folder.write(part, data, 0o400)
                os.chown(part, self._account.uid, -1, dir_fd=folder.descriptor, follow_symlinks=False)
                folder.rename(part, way)
