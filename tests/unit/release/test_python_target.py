"""The tags and markers of a target equal those of the Python itself."""

from __future__ import annotations

import platform
import sys

import pytest
from packaging import markers, tags

from tasks.engine.errors import UsageError
from tasks.engine.host import facts
from tasks.engine.release import controller
from tasks.engine.release import python_target as targets
from tasks.engine.release.lockfile import Lock, LockedRequirement
from tasks.engine.release.python_target import Target
from templates.host import machine, this_interpreter
from templates.host.fact_schema import Python

X86 = Target("3.11.2", "cp311", "x86_64", ("glibc", 2, 19))
ARM = Target("3.13.1", "cp313", "aarch64", ("glibc", 2, 18))
MUSL = Target("3.12.1", "cp312", "x86_64", ("musl", 1, 2))


@pytest.mark.parametrize(
    ("target", "first", "last"),
    [
        (X86, ["linux_x", "2_19", "2_18", "2_17", "manylinux2014", "2_16"], ["2_6", "2_5", "manylinux1"]),
        (ARM, ["linux_a", "2_18", "2_17", "manylinux2014"], ["2_17", "manylinux2014"]),
        (MUSL, ["linux_x", "musllinux_1_2", "musllinux_1_1", "musllinux_1_0"], ["musllinux_1_0"]),
    ],
)
def test_platforms(target: Target, first: list[str], last: list[str]) -> None:
    found = target.platforms
    assert len(set(found)) == len(found)
    for wanted, tag in zip(first + last, found[: len(first)] + found[-len(last) :], strict=True):
        assert wanted in tag
        assert tag.endswith(target.machine)


@pytest.mark.skipif(
    sys.platform != "linux" or platform.libc_ver()[0] != "glibc", reason="asks the Python that runs here"
)
def test_agrees_with_what_this_python_says_of_itself() -> None:
    major, minor = map(int, platform.libc_ver()[1].split(".")[:2])
    here = Target(platform.python_version(), "cp", platform.machine(), ("glibc", major, minor), sys.implementation.name)
    assert list(here.platforms) == list(tags.platform_tags())
    own = {**markers.default_environment(), "platform_release": "", "platform_version": ""}
    assert here.environment() == own


def entry(name: str, version: str, marker: str | None = None) -> LockedRequirement:
    return LockedRequirement(name, version, marker, ("a" * 64,), line=3)


def test_select_evaluates_markers_for_the_target() -> None:
    lock = Lock(
        (
            entry("zoo", "1", "platform_machine == 'aarch64'"),
            entry("click", "8.1", "python_full_version < '3.12'"),
            entry("click", "8.5", "python_full_version >= '3.12'"),
            entry("win", "1", "sys_platform == 'win32' or os_name == 'nt'"),
            entry("c", "1", "platform_python_implementation == 'CPython'"),
        )
    )
    assert [str(item) for item in targets.select(lock, X86)] == ["c==1", "click==8.1"]
    assert [str(item) for item in targets.select(lock, ARM)] == ["c==1", "click==8.5", "zoo==1"]


def test_select_takes_a_python_built_from_a_working_copy() -> None:
    built = Target("3.12.0+", "cp312", "x86_64", ("glibc", 2, 36))
    assert targets.select(Lock((entry("a", "1", "python_full_version >= '3.12'"),)), built)


def test_select_refuses_two_versions_and_a_python_too_old() -> None:
    with pytest.raises(UsageError, match=r"both a==1 and a==2") as caught:
        targets.select(Lock((entry("a", "1"), entry("a", "2"))), X86)
    assert caught.value.where == "service/requirements.txt:3:1"
    with pytest.raises(UsageError, match=r"Python 3\.12 and later, the host has 3\.11\.2") as caught:
        targets.select(Lock((), lowest="3.12"), X86)
    assert ">=3.11" in str(caught.value.next)


@pytest.mark.parametrize(("implementation", "libc"), [("graalpy", ("glibc", 2, 36)), ("cpython", ("bionic", 1, 0))])
def test_unknown_kinds_are_refused(implementation: str, libc: tuple[str, int, int]) -> None:
    with pytest.raises(UsageError, match="not for"):
        Target("3.11.2", "cp311", "x86_64", libc, implementation)


def test_text_and_identity() -> None:
    assert str(X86) == "CPython 3.11.2, x86_64, glibc 2.19"
    assert X86.identity == "cp 3.11 cp311 glibc 2.19 x86_64"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="this machine is none that a host can be")
def test_this_machine_describes_itself_as_a_host_does() -> None:
    told = this_interpreter.describe(sys.executable)
    there = facts.target(Python(**told), machine.look(can_be_root=False).distribution)
    here = controller.here()
    assert here == there
    assert here is not None
    assert here.is_like(there) == bool(here.distribution)
