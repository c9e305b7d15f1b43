"""Refuse a host that lacks shared libraries which a wheel needs, before anything is sent there."""

from __future__ import annotations

from tasks.engine.errors import LoopError
from tasks.engine.events import Event
from tasks.engine.fleet.member import Member
from tasks.engine.host.steps import HostStep
from tasks.engine.release import controller, shared_libraries
from tasks.engine.release.wheelhouse import Wheelhouse
from templates.host.fact_schema import Machine


def require(member: Member, step: HostStep, wheels: Wheelhouse, machine: Machine) -> None:
    """Ask the host for the libraries of the wheels; LoopError with the names of those that it lacks."""
    said = {*member.perform(step, _nowhere).all("lacks")}
    lacking = [name for name in wheels.libraries if name in said]
    if not lacking:
        return
    here = controller.here()
    alike = here is not None and here.distribution == machine.distribution
    packages = {name: shared_libraries.package(name) if alike else "" for name in lacking}
    named = [f"{name} (package {package})" if package else name for name, package in packages.items()]
    known = " ".join(dict.fromkeys(filter(None, packages.values())))
    manager = "dnf" if "dnf" in machine.tools and "apt-get" not in machine.tools else "apt-get"
    search = "dnf provides NAME" if manager == "dnf" else "apt-file search NAME"
    raise LoopError(
        f"wheels need shared libraries that the host lacks: {', '.join(named)}",
        where=member.host.name,
        next=f"on the host, as root: {manager} install {known or f'the packages that have them ({search})'}",
        code="libraries",
    )


def _nowhere(_: Event) -> None:
    """Ignore an event: nothing of this question is shown."""
