"""Access control lists, as the kernel keeps them with a file."""

from __future__ import annotations

import os
import struct
from pathlib import Path

_NO_ID = 0xFFFFFFFF
_OWNER, _USER, _GROUP, _MASK, _OTHERS = 0x01, 0x02, 0x04, 0x10, 0x20


def let_write(path: Path, uid: int) -> None:
    """Let an account write; the group and all others may only read."""
    entries = ((_OWNER, 7, _NO_ID), (_USER, 7, uid), (_GROUP, 5, _NO_ID), (_MASK, 7, _NO_ID), (_OTHERS, 5, _NO_ID))
    rights = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    os.setxattr(path, "system.posix_acl_access", rights)
