"""Say for each host what `doctor` found fine, could not find out, or leaves open to the operator. Pure."""

from __future__ import annotations

from typing import NamedTuple

from tasks.engine.config.service import Service
from tasks.engine.diagnose import status
from tasks.engine.host import layout
from tasks.engine.host.facts import Facts
from templates.host.fact_schema import Slot

FINE, OPEN, UNKNOWN = "fine", "open", "unknown"
SKEW_SECONDS = 30
RATING, WIDER = 10, 15
"""The rating of systemd-analyze security, in tenths, that a unit has at most; with `needs` other than networks."""
RELEASES = 3


class Condition(NamedTuple):
    """One sentence about a host. state: fine, open (for the operator to decide), or unknown; mend: a way, if any."""

    state: str
    text: str
    mend: str = ""


def conditions(service: Service, facts: Facts, skew: float) -> tuple[Condition, ...]:
    """Return one sentence for each subject on which `doctor` has no finding."""
    found = (
        _security(service, facts), _network(service, facts), _memory(service, facts), _clock(skew), _disk(facts),
        _certificate(service, facts), _upgrades(facts), _reboot(facts),
    )  # fmt: skip
    return tuple(condition for condition in found if condition)


def rating_limit(service: Service) -> int:
    """Return the rating that the service's unit has at most, unless something opens it further."""
    return WIDER if {*service.needs} - {"host", "network"} else RATING


def needed_memory(service: Service, facts: Facts) -> int | None:
    """Return the bytes that a second release may take beside the first: its limits, or else what the first takes."""
    return layout.memory(service, 1) or status.memory(facts.state.slots.get(facts.slot, Slot()))[0]


def short_of_memory(service: Service, facts: Facts) -> bool:
    """Return whether a second release does not fit, as far as that is known."""
    machine, needed = facts.machine, needed_memory(service, facts)
    limits = layout.memory(service, 2) or 0
    return bool(machine.memory and needed and (needed > machine.available or limits > machine.memory))


def needed_disk(facts: Facts) -> int:
    """Return the bytes of the next releases, each with a venv of its own; 0 for unknown."""
    upkeep = facts.survey.upkeep
    return RELEASES * (upkeep.release_bytes + upkeep.venv_bytes) if upkeep.release_bytes else 0


def size(count: int) -> str:
    """Format bytes."""
    return f"{count / 1e9:.1f} GB" if count >= 10**9 else f"{(count + 999_999) // 10**6} MB"


def _security(service: Service, facts: Facts) -> Condition | None:
    rating = facts.survey.upkeep.rating
    if rating is None:
        return Condition(UNKNOWN, "security: systemd-analyze has not rated a slot, or none serves")
    if rating > rating_limit(service):
        return None
    return Condition(FINE, f"security: systemd rates the slot {rating / 10:.1f} (0 is best, 9.6 a plain unit)")


def _network(service: Service, facts: Facts) -> Condition | None:
    isolation, needs = facts.survey.isolation, set(service.needs)
    if "network" in needs:
        return Condition(FINE, "network: open, as `needs: [network]` asks")
    if not isolation.seen:
        return Condition(UNKNOWN, "network: isolation can be seen only while a release serves")
    if "host" in needs:
        text = "network: isolation is in force: no address but the host's own"
        return Condition(FINE, text) if isolation.filtered else None
    if isolation.outside:
        return None
    return Condition(FINE, "network: isolation is in force: the service has a network of its own, without addresses")


def _memory(service: Service, facts: Facts) -> Condition | None:
    needed, machine = needed_memory(service, facts), facts.machine
    if not needed or not machine.memory:
        return Condition(UNKNOWN, "memory: no limit is set and no use is measured, so it is unknown whether two fit")
    if short_of_memory(service, facts):
        return None
    text = f"memory: a second release fits: it may take {size(needed)}, and {size(machine.available)} are available"
    return Condition(FINE, text)


def _clock(skew: float) -> Condition | None:
    if abs(skew) > SKEW_SECONDS:
        return None
    return Condition(FINE, f"clock: within {max(1, round(abs(skew)))} s of this machine's")


def _disk(facts: Facts) -> Condition | None:
    needed, free = needed_disk(facts), facts.survey.free_bytes
    if not needed or not free:
        return Condition(UNKNOWN, "disk: the size of a release is known only while one serves")
    if needed > free:
        return None
    one = f"a release takes {size(facts.survey.upkeep.release_bytes)}, a venv {size(facts.survey.upkeep.venv_bytes)}"
    return Condition(FINE, f"disk: {RELEASES} more releases fit: {one}, and {size(free)} are free")


def _certificate(service: Service, facts: Facts) -> Condition | None:
    if not service.nginx or service.nginx.tls.mode == "off":
        return None
    days = status.days_left(facts)
    if days is None:
        return Condition(UNKNOWN, "certificate: it cannot be read, or there is none yet")
    return Condition(FINE, f"certificate: valid for {days} days") if days >= status.CERTIFICATE_DAYS else None


def _upgrades(facts: Facts) -> Condition:
    upgrades, tools = facts.survey.upkeep.upgrades, facts.machine.tools
    if upgrades == "on":
        return Condition(FINE, "upgrades: security updates install themselves")
    if upgrades != "off":
        return Condition(UNKNOWN, "upgrades: neither apt nor dnf is there to ask")
    package = "unattended-upgrades" if "apt-get" in tools else "dnf-automatic"
    way = f"install {package} and enable it, or see to it another way"
    return Condition(OPEN, "upgrades: no security updates install themselves", way)


def _reboot(facts: Facts) -> Condition | None:
    upkeep = facts.survey.upkeep
    if upkeep.reboot:
        return None
    if not upkeep.reboot_known:
        return Condition(UNKNOWN, "reboot: nothing here tells whether one is needed (a container has no kernel)")
    return Condition(FINE, "reboot: none is needed")
