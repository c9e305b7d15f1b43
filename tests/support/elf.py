"""The smallest shared library that names others: nothing in it runs."""

from __future__ import annotations

import struct
import sys
from itertools import accumulate
from pathlib import Path

_HEAD, _SEGMENT = 64, 56


def library(*needs: str, folders: str = "", order: str = "<", machine: int | None = None) -> bytes:
    """Return an ELF file of 64 bits. needs: libraries that it names; folders: where it says that they are.

    order: of its bytes; machine: number of its processor, by default that of this machine
    """
    names = [text.encode() + b"\0" for text in (*needs, folders)]
    places = list(accumulate(map(len, names), initial=1))[:-1]
    texts = b"\0" + b"".join(names)
    entries = [(1, place) for place in places[:-1]] + ([(29, places[-1])] if folders else [])
    start = _HEAD + 2 * _SEGMENT
    # In memory everything lies 64 kB further on than in the file.
    entries += [(5, 0x10000 + start), (10, len(texts)), (0, 0)]
    dynamic = b"".join(struct.pack(f"{order}QQ", *entry) for entry in entries)
    size = start + len(texts) + len(dynamic)
    own = int.from_bytes(Path(sys.executable).read_bytes()[18:20], sys.byteorder)
    head = b"\x7fELF\2" + (b"\1" if order == "<" else b"\2") + b"\1" + bytes(9)
    head += struct.pack(f"{order}HHIQQQIHHHHHH", 3, machine or own, 1, 0, _HEAD, 0, 0, _HEAD, _SEGMENT, 2, 0, 0, 0)
    load = struct.pack(f"{order}IIQQQQQQ", 1, 5, 0, 0x10000, 0, size, size, 4096)
    named = struct.pack(f"{order}IIQQQQQQ", 2, 6, start + len(texts), 0, 0, len(dynamic), len(dynamic), 8)
    return head + load + named + texts + dynamic
