"""Facts of a host for tests: one that serves, and variants of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasks.engine.config.service import Service
from tasks.engine.host import layout, system_files
from tasks.engine.host.facts import Facts
from templates.host.fact_schema import Answers, Machine, Record, Slot, State
from tests.support.small_service import SERVICE

NEW, OLD = "b" * 12, "a" * 12
TOOLS = {name: f"/usr/bin/{name}" for name in
         ("curl", "flock", "nginx", "openssl", "ss", "sudo", "tar", "visudo", "apt-get")}  # fmt: skip
COMMITTED, TRIED = "state slots blue release", "state slots green release"
"""The paths of each slot's release."""


def written_digests(service: Service = SERVICE) -> dict[str, str]:
    """Return the digests of a host where setup has written everything."""
    files = system_files.render(service, system_files.HostTraits("deploy", "www-data", True))
    return {file.path: file.sha256 for file in files}


def serving() -> Facts:
    """Return a host that serves NEW in slot blue, as it should."""
    slots = {"blue": Slot("active", NEW), "green": Slot("inactive")}
    return Facts(
        Machine(tools=TOOLS, web_accounts=("www-data",), ipv6=True),
        Record(str(layout.VERSION), "deploy", files=written_digests()),
        {**written_digests(), "/etc/myapp/tls/certificate.pem": "c" * 64},
        state=State("blue", "blue", slots, main_unit="active", health=Answers("ok", "ok")),
    )


def vary(facts: Facts, changes: Mapping[str, object]) -> Facts:
    """Return the same host with other values, each by its path; None removes a key."""
    for path, value in changes.items():
        facts = _changed(facts, path.split(" "), value)
    return facts


def _changed(value: Any, path: list[str], new: object) -> Any:
    if not path:
        return new
    first, *rest = path
    if isinstance(value, Mapping):
        inner = new if not rest else _changed(value[first], rest, new)
        return {key: one for key, one in {**value, first: inner}.items() if one is not None}
    return value._replace(**{first: _changed(getattr(value, first), rest, new)})
