"""A host that lacks a shared library is refused, with the package that has it if that can be known."""

from __future__ import annotations

import dataclasses
from typing import Any, cast

import pytest

from tasks.engine.deploy import libraries
from tasks.engine.errors import LoopError
from tasks.engine.host.protocol import Report, Transcript
from tasks.engine.host.steps import HostStep
from tasks.engine.release import controller, shared_libraries
from tasks.engine.release.python_target import Target
from templates.host.fact_schema import Machine
from tests.unit.deploy.test_plan import WHEELS, host, planned

DEBIAN = Machine(tools={"apt-get": "/usr/bin/apt-get"}, distribution="debian 12")
ROCKY = Machine(tools={"dnf": "/usr/bin/dnf"}, distribution="rocky 9.4")
NATIVE = WHEELS._replace(libraries={"libpq.so.5": (), "libx.so.1": ()})


def require(*lacks: str, machine: Machine = DEBIAN) -> None:
    """Ask a host that lacks these."""
    said = Transcript()
    for name in lacks:
        said.add(Report("lacks", name))
    member = type("Told", (), {"perform": lambda *_: said, "host": type("Host", (), {"name": "shire01"})})
    libraries.require(cast(Any, member()), HostStep("libraries", "", 1), NATIVE, machine)


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine has Debian 12, and a package with libpq."""
    target = dataclasses.replace(Target("3.11.2", "cp311", "x86_64", ("glibc", 2, 36)), distribution="debian 12")
    monkeypatch.setattr(controller, "here", lambda: target)
    monkeypatch.setattr(shared_libraries, "package", {"libpq.so.5": "libpq5", "libx.so.1": ""}.__getitem__)


def test_a_host_with_all_of_them_is_taken() -> None:
    require()
    require("what no wheel needs")


def test_a_missing_library_is_named_with_its_package() -> None:
    with pytest.raises(LoopError, match=r"lacks: libpq\.so\.5 \(package libpq5\), libx\.so\.1$") as caught:
        require("libx.so.1", "libpq.so.5")
    assert (caught.value.where, caught.value.code) == ("shire01", "libraries")
    assert str(caught.value.next) == "on the host, as root: apt-get install libpq5"


def test_the_package_of_another_distribution_is_not_guessed() -> None:
    with pytest.raises(LoopError, match=r"lacks: libpq\.so\.5$") as caught:
        require("libpq.so.5", machine=ROCKY)
    assert str(caught.value.next).endswith("dnf install the packages that have them (dnf provides NAME)")


def test_only_a_venv_that_is_still_to_be_built_needs_the_question() -> None:
    made = planned(host({}))
    assert made.library_step is None
    native = made._replace(delivery=made.delivery._replace(wheelhouse=NATIVE, venv_there=False))
    assert native.library_step is not None
    assert '"libpq.so.5": []' in native.library_step.text
    assert native._replace(delivery=native.delivery._replace(venv_there=True)).library_step is None
