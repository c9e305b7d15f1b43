"""The shared libraries that wheels need, read from their ELF files."""

from __future__ import annotations

import io
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

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
        names, _ = shared_libraries._of_file(file)
    assert any(name.startswith(("libc.", "ld-musl", "libpython")) for name in names)


WHOLE = elf.library("libpq.so.5", "libc.so.6", folders="/opt/pg/lib")


@given(st.binary(max_size=200) | st.builds(lambda at, new: WHOLE[:at] + new + WHOLE[at + len(new) :],
                                           st.integers(4, len(WHOLE)), st.binary(max_size=9)))  # fmt: skip
def test_a_damaged_file_needs_what_can_be_read_or_nothing(data: bytes) -> None:
    names, folders = shared_libraries._of_file(io.BytesIO(data))
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
        assert shared_libraries._of_file(file) == ((), ())
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
