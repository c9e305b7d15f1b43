"""Describe a host's Python, and select the locked packages and the wheel tags that fit it. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from packaging.markers import Marker
from packaging.version import Version

from tasks.engine.errors import UsageError
from tasks.engine.release.lockfile import Lock, LockedRequirement

_SHORT = {"cpython": "cp", "pypy": "pp"}
_SPELLED = {"cpython": "CPython", "pypy": "PyPy"}
_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,60}")
_VERSION = re.compile(r"[0-9]{1,3}(\.[0-9]{1,3}){1,2}[A-Za-z0-9.+-]{0,40}")
_DISTRIBUTION = re.compile(r"[a-z0-9._-]{1,40} [a-z0-9._~-]{1,40}")
_LEGACY = {(2, 17): "manylinux2014", (2, 12): "manylinux2010", (2, 5): "manylinux1"}


@dataclass(frozen=True)
class Target:
    """A Python on a Linux host, as the host reported it.

    python: the full version, such as "3.11.2". abi: "cp311". machine: `uname -m` of that Python, "x86_64".
    libc: ("glibc", 2, 36) or ("musl", 1, 2). distribution: such as "debian 12"; empty if it is not known
    """

    python: str
    abi: str
    machine: str
    libc: tuple[str, int, int]
    implementation: str = "cpython"
    distribution: str = ""

    def __post_init__(self) -> None:
        # All of it goes into the arguments of pip, and each minor version of the libc adds a tag.
        plain = all(_WORD.fullmatch(word) for word in (self.abi, self.machine)) and _VERSION.fullmatch(self.python)
        small = all(0 <= number < 1000 for number in self.libc[1:])
        if not (plain and small) or self.implementation not in _SHORT or self.libc[0] not in {"glibc", "musl"}:
            raise UsageError(
                f"wheels are chosen for CPython and PyPy on glibc or musl, not for {str(self)[:200]}",
                next="name another interpreter as `python:` of the host in hosts.yaml",
            )

    def __str__(self) -> str:
        name, major, minor = self.libc
        python = f"{_SPELLED.get(self.implementation, self.implementation)} {self.python}"
        return f"{python}, {self.machine}, {name} {major}.{minor}"

    @property
    def minor(self) -> str:
        """The Python version that wheels are made for, such as "3.11"."""
        return ".".join(self.python.split(".")[:2])

    @property
    def short(self) -> str:
        """The implementation as wheel names and pip write it: cp or pp."""
        return _SHORT[self.implementation]

    @property
    def platforms(self) -> tuple[str, ...]:
        """The platform tags this host takes, in the order in which its own pip would prefer them."""
        name, major, minor = self.libc
        tags = _manylinux(major, minor, self.machine) if name == "glibc" else _musllinux(major, minor, self.machine)
        return (f"linux_{self.machine}", *tags)

    @property
    def identity(self) -> str:
        """One line that is equal for two hosts exactly when the same wheels fit both."""
        name, major, minor = self.libc
        return f"{self.short} {self.minor} {self.abi} {name} {major}.{minor} {self.machine}"

    @property
    def place(self) -> str:
        """One line that is equal for two machines exactly when a wheel that one of them builds fits the other."""
        return f"{self.identity} {self.distribution}"

    def is_like(self, other: Target) -> bool:
        """Return True if a wheel that one of the two builds fits the other."""
        return bool(self.distribution) and self.place == other.place

    def environment(self) -> dict[str, str]:
        """Return the marker variables of PEP 508; the kernel's release and version are left empty."""
        return {
            "implementation_name": self.implementation,
            "implementation_version": self.python,
            "os_name": "posix",
            "platform_machine": self.machine,
            "platform_python_implementation": _SPELLED[self.implementation],
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": self.python,
            "python_version": self.minor,
            "sys_platform": "linux",
        }


def described(python: str, soabi: str, machine: str, libc: str, implementation: str, distribution: str = "") -> Target:
    """Return the target that an interpreter describes by its own words, such as "cpython-311-..." and "glibc 2.36"."""
    abi = re.match(r"cpython-(\d+t?)", soabi)
    name, _, version = libc.partition(" ")
    numbers = re.match(r"([0-9]{1,4})\.([0-9]{1,4})(?![0-9])", version)
    known = ("glibc", int(numbers[1]), int(numbers[2])) if name == "glibc" and numbers else ("musl", 1, 2)
    plain = distribution if _DISTRIBUTION.fullmatch(distribution) else ""
    return Target(python, f"cp{abi[1]}" if abi else soabi, machine, known, implementation, plain)


def select(lock: Lock, target: Target) -> tuple[LockedRequirement, ...]:
    """Return the entries that apply to the target, sorted by name; UsageError when the lock was not made for it."""
    if lock.lowest and Version(target.minor) < Version(lock.lowest):
        raise UsageError(
            f"the lock is made for Python {lock.lowest} and later, the host has {target.python}",
            where=lock.path,
            next=f'set `python: ">={target.minor}"` in service/service.yaml, then: fab lock',
        )
    chosen: dict[str, LockedRequirement] = {}
    for entry in lock.entries:
        if entry.marker and not Marker(entry.marker).evaluate(target.environment()):
            continue
        other = chosen.setdefault(entry.name, entry)
        if other.version != entry.version:
            raise UsageError(
                f"the lock has both {other} and {entry} for {target}",
                where=f"{lock.path}:{entry.line}:1",
                next="fab lock",
            )
    return tuple(chosen[name] for name in sorted(chosen))


def _manylinux(major: int, minor: int, machine: str) -> Iterator[str]:
    """Yield the glibc tags down to the oldest that exists for the machine, each old alias after its number."""
    oldest = 5 if machine in {"x86_64", "i686"} else 17
    for step in range(minor, oldest - 1, -1):
        yield f"manylinux_{major}_{step}_{machine}"
        if (major, step) in _LEGACY:
            yield f"{_LEGACY[major, step]}_{machine}"


def _musllinux(major: int, minor: int, machine: str) -> Iterator[str]:
    for step in range(minor, -1, -1):
        yield f"musllinux_{major}_{step}_{machine}"
