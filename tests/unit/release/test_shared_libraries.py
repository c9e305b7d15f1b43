"""The shared libraries that wheels need, read from their ELF files."""

from __future__ import annotations

import io
import struct
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.engine.errors import UsageError
from tasks.engine.release import shared_libraries
from tests.support import distributions, elf

TAG = "cp311-cp311-linux_x86_64"


def needed(folder: Path, files: dict[str, bytes], tag: str = TAG) -> dict[str, tuple[str, ...]]:
    """Return the needs of a wheel with these files."""
    distributions.wheel(folder, "native", "1.0", tag, files={**files})
    return shared_libraries.needed(folder.glob("*.whl"))


def of_file(file: IO[bytes]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the needs and the folders of one library."""
    size = file.seek(0, 2)
    file.seek(0)
    return shared_libraries._of_file(file, size, shared_libraries._Budget())


@pytest.mark.parametrize("order", ["<", ">"])
def test_needs_of_all_files_and_their_folders_are_found(tmp_path: Path, order: str) -> None:
    wheel = {
        "one.so": elf.library("libpq.so.5", "libc.so.6", folders="$ORIGIN/../lib:/opt/pg/lib", order=order),
        "two.so.1": elf.library("libc.so.6", order=order),
        "three.py": elf.library("libnot.so.1", order=order),
    }
    assert needed(tmp_path, wheel) == {"libc.so.6": ("/opt/pg/lib",), "libpq.so.5": ("/opt/pg/lib",)}


def test_a_library_that_the_wheel_brings_is_not_needed_of_the_host(tmp_path: Path) -> None:
    wheel = {"native.libs/libpq-1234.so.5": elf.library("libm.so.6"), "one.so": elf.library("libpq-1234.so.5")}
    assert needed(tmp_path, wheel) == {"libm.so.6": ()}


def test_a_wheel_for_every_linux_is_not_read(tmp_path: Path) -> None:
    for tag in ("cp311-cp311-manylinux_2_28_x86_64", "py3-none-any"):
        assert needed(tmp_path, {"one.so": elf.library("libpq.so.5")}, tag) == {}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the program of another system is no ELF file")
def test_this_interpreter_needs_the_library_of_c() -> None:
    with Path(sys.executable).open("rb") as file:
        names, _ = of_file(file)
    assert any(name.startswith(("libc.", "ld-musl", "libpython")) for name in names)


WHOLE = elf.library("libpq.so.5", "libc.so.6", folders="/opt/pg/lib")


@given(st.binary(max_size=200) | st.builds(lambda at, new: WHOLE[:at] + new + WHOLE[at + len(new) :],
                                           st.integers(4, len(WHOLE)), st.binary(max_size=9)))  # fmt: skip
def test_a_damaged_file_needs_what_can_be_read_or_nothing(data: bytes) -> None:
    names, folders = of_file(io.BytesIO(data))
    assert all(folder.startswith("/") for folder in folders)
    assert len(names) <= len(data)


@pytest.mark.parametrize(
    "name", ["--eval=%(id >pwned):", "-Ex%(id):", "../libpq.so.5", "lib pq.so", "lib\n.so", "l" * 256, ""]
)
def test_a_name_that_is_none_of_a_library_is_not_looked_for(tmp_path: Path, name: str) -> None:
    """Once: rpm took such a name as an option, and ran a command on the controller."""
    assert needed(tmp_path, {"one.so": elf.library(name, "libstdc++.so.6", folders="relative:/opt/x y")}) == {
        "libstdc++.so.6": ()
    }


def test_a_library_that_names_a_million_others_takes_no_memory() -> None:
    """Once: 45 kB of a wheel took 21 GB, since each entry of a table was the same text of 15 MB."""
    file = io.BytesIO(elf.library(*["x" * 100] * 100_000))
    tracemalloc.start()
    try:
        assert of_file(file) == ((), ())
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


def bomb(path: Path) -> None:
    """Write a wheel with a library that unpacks to 64 MB, from some fifty bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as wheel:
        wheel.writestr("one.so", bytes(64 << 20))


def damaged(path: Path) -> None:
    """Write a wheel with a library whose packed bytes are none."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        wheel.writestr("one.so", elf.library("libpq.so.5"))
    data = bytearray(path.read_bytes())
    data[36:60] = b"\xff" * 24
    path.write_bytes(data)


def encrypted(path: Path) -> None:
    """Write a wheel with a library that a password protects."""
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("one.so", elf.library("libpq.so.5"))
    data = bytearray(path.read_bytes())
    data[6] |= 1
    data[data.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(data)


BROKEN = [bomb, damaged, encrypted, lambda path: path.write_bytes(b"no wheel")]


@pytest.mark.parametrize("write", BROKEN, ids=["bomb", "damaged", "encrypted", "no archive"])
def test_a_wheel_that_cannot_be_read_is_named(tmp_path: Path, write: Callable[[Path], object]) -> None:
    path = tmp_path / f"native-1.0-{TAG}.whl"
    write(path)
    with pytest.raises(UsageError, match="this wheel cannot be read") as caught:
        shared_libraries.needed([path])
    assert str(path) in str(caught.value.where)


def large(size: int) -> bytes:
    """Return a library of this size, whose table stands at its end."""
    start, end = WHOLE[:-96], bytearray(WHOLE[-96:])
    far = size - len(end)
    head = bytearray(start)
    head[64 + 56 + 8 : 64 + 56 + 16] = far.to_bytes(8, "little")
    return bytes(head) + bytes(far - len(head)) + bytes(end)


def listed_again(path: Path, entry: bytes, number: int, names: bool) -> None:
    """Let a wheel with one file list it so many times, under its own name or under others."""
    data = path.read_bytes()
    start, end = data.index(b"PK\1\2"), data.index(b"PK\5\6")
    line = data[start:end]
    lines = [line.replace(entry, b"%0*d.so" % (len(entry) - 3, one)) if names else line for one in range(number)]
    body = data[:start]
    tail = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, number, number, len(line) * number, start, 0)
    path.write_bytes(body + b"".join(lines) + tail)


@pytest.mark.parametrize("names", [False, True], ids=["one name", "many names"])
def test_a_file_that_is_listed_many_times_is_read_once_or_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: bool
) -> None:
    """Once: a wheel of 1 MB listed 8 GB of one file 60,000 times, which would have taken days to read."""
    monkeypatch.setattr(shared_libraries, "_LARGEST", 64 << 20)
    path = tmp_path / f"native-1.0-{TAG}.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        wheel.writestr("000001.so", large(1 << 20))
    listed_again(path, b"000001.so", 2000, names)
    read: list[int] = []
    seek = zipfile.ZipExtFile.seek

    def counted(file: zipfile.ZipExtFile, place: int, whence: int = 0) -> int:
        read.append(place)
        return seek(file, place, whence)

    monkeypatch.setattr(zipfile.ZipExtFile, "seek", counted)
    if names:
        with pytest.raises(UsageError, match="cannot be read: BadZipFile"):
            shared_libraries.needed([path])
    else:
        assert set(shared_libraries.needed([path])) == {"libpq.so.5", "libc.so.6"}
    assert sum(read) <= 64 << 20


def test_bytes_that_are_unpacked_anew_count() -> None:
    data = large(1 << 20)
    budget = shared_libraries._Budget()
    file = shared_libraries._Library(io.BytesIO(data), len(data), budget)
    before = budget._bytes
    for _ in range(3):
        file.at(0, 64, 64)
        file.at(1 << 19, 64, 64)
    assert before - budget._bytes == 3 * ((1 << 19) + 64)


@pytest.mark.parametrize(
    "library",
    [elf.library(*(f"lib{number}.so" for number in range(2000)), folders=":".join(["/a"] * 1000)),
     elf.library(*["?"] * 4000)],
    ids=["folders", "no names"],
)  # fmt: skip
def test_names_without_end_are_refused(tmp_path: Path, library: bytes) -> None:
    """Once: each library that a file needs was kept with each folder that it names, millions of them."""
    with pytest.raises(UsageError, match="more than 262144 names in all"):
        needed(tmp_path, {f"{number}.so": library for number in range(70)})
