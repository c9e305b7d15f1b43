"""A file system of another account (FUSE) that never answers: mounted as fusermount does it for any account."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

FORCE_AND_DETACH = 3
# Arguments: the directory, uid and gid. It answers the first request (FUSE_INIT), and reads the others.
DAEMON = """
import ctypes, os, struct, sys
where, uid, gid = sys.argv[1:]
fuse = os.open("/dev/fuse", os.O_RDWR)
options = f"fd={fuse},rootmode=40000,user_id={uid},group_id={gid}"
libc = ctypes.CDLL(None, use_errno=True)
if libc.mount(b"fuse", where.encode(), b"fuse", 6, options.encode()):
    sys.exit(os.strerror(ctypes.get_errno()))
number = struct.unpack("IIQ", os.read(fuse, 1 << 20)[:16])[2]
answer = struct.pack("IIIIHHIIHH8I", 7, 31, 0, 0, 16, 12, 1 << 17, 1, 0, 0, *[0] * 8)
os.setgid(int(gid))
os.setuid(int(uid))
os.write(fuse, struct.pack("IiQ", 16 + len(answer), 0, number) + answer)
print("mounted", flush=True)
while True:
    os.read(fuse, 1 << 20)
"""


@contextmanager
def mounted(place: str, uid: int, gid: int) -> Iterator[None]:
    """Mount it at a directory, for this account; skip the test where that cannot be done."""
    if os.geteuid() != 0 or not Path("/dev/fuse").exists():
        pytest.skip("only root can mount, where the kernel has FUSE")
    words = (sys.executable, "-I", "-S", "-c", DAEMON, place, str(uid), str(gid))
    with subprocess.Popen(words, stdout=subprocess.PIPE) as daemon:
        assert daemon.stdout
        try:
            if daemon.stdout.readline() != b"mounted\n":
                pytest.skip("this machine mounts no FUSE")
            yield
        finally:
            ctypes.CDLL(None).umount2(place.encode(), FORCE_AND_DETACH)
            daemon.kill()
