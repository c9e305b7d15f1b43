"""The section `audit` of service.yaml: advisories that do not count in `fab audit`, each with a reason and an end."""

from __future__ import annotations

from typing import NamedTuple

from tasks.engine.config import formats, keys, schema
from tasks.engine.config.keys import RUN, Key, Reader, Required
from tasks.engine.config.nodes import Node, Scalar


class Ignored(NamedTuple):
    """An advisory that does not count up to and on the day `until` (YYYY-MM-DD). id: one of its names."""

    id: str
    reason: str
    until: str


class Audit(NamedTuple):
    """The advisories that `fab audit` does not count, in the order of the file."""

    ignore: tuple[Ignored, ...] = ()


AUDIT = Audit()


def _day(node: Node) -> str:
    """Return a day as text, quoted in the file or not."""
    plain = isinstance(node, Scalar) and node.kind == "timestamp"
    return schema.text(node._replace(kind="str") if isinstance(node, Scalar) and plain else node, formats.DAY)


IGNORED_KEYS = (
    Key("id", keys.text(formats.ADVISORY), Required("CVE-2024-12345"), RUN,
        "One of the names that `fab audit` shows for the advisory: CVE, GHSA or PYSEC"),
    Key("reason", keys.text(formats.REASON), Required('"we read no such file"'), RUN, "Why it may stay for now"),
    Key("until", Reader(_day, formats.DAY.expected, formats.DAY.example), Required("2027-01-31"), RUN,
        "The last day on which the advisory is ignored; then it counts again"),
)  # fmt: skip


def _ignore(node: Node) -> tuple[Ignored, ...]:
    found: dict[str, Ignored] = {}
    for item in schema.items(node):
        one = Ignored(**keys.read(item, IGNORED_KEYS))
        if one.id in found:
            raise schema.refuse(item, f"{one.id} is named twice", "keep one of the two")
        found[one.id] = one
    return tuple(found.values())


AUDIT_KEYS = (
    Key("ignore", Reader(_ignore, "a list of mappings with id, reason and until",
        '[{id: CVE-2024-12345, reason: "we read no such file", until: 2027-01-31}]', (("", IGNORED_KEYS),)), (), RUN,
        "Advisories that `fab audit` shows apart, and that do not change its exit status"),
)  # fmt: skip


def audit(node: Node) -> Audit:
    """Read the advisories that an audit does not count."""
    return Audit(**keys.read(node, AUDIT_KEYS))
