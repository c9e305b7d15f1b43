"""Make what clients get while a service is closed: a page, the same as JSON; and record who closed it. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime

from tasks.engine import untrusted_json
from tasks.engine.config.service import Service
from tasks.engine.errors import UsageError
from tasks.engine.host import system_files, templates
from tasks.engine.host.facts import Facts

DEFAULT = "We are working on this service, and will be back shortly."
_LIMIT = 2000


def parse_message(message: str) -> str:
    """Return the message on one line; UsageError if it is too long or not printable."""
    text = " ".join(message.split()) or DEFAULT
    if not text.isprintable() or len(text) > _LIMIT:
        raise UsageError(
            f"a message is printable text of {_LIMIT} characters at most",
            where="--message",
            next='fab maintenance on --message "Back at 14:00 UTC."',
        )
    return text


def require_nginx(service: Service, host: str) -> None:
    """Raise UsageError for a service without nginx, which would answer in its place."""
    if service.nginx is None:
        raise UsageError(
            f"{service.name} has no nginx that could answer in its place: its clients reach it at `listen:`",
            where=host,
            next="add `nginx:` to service.yaml; or fab stop, which answers clients with nothing",
        )


def files(service: Service, message: str, moment: datetime, who: str) -> dict[str, bytes]:
    """Return file name to content, in ASCII, which every charset reads alike. who: a line of JSON."""
    # Imported here, since a deploy does without it.
    import html

    since = moment.strftime("%Y-%m-%dT%H:%M:%SZ")
    page = templates.fill("maintenance.html", name=html.escape(service.name), message=html.escape(message))
    problem = {"type": "about:blank", "title": "Service Unavailable", "status": 503, "detail": message}
    state = {"since": since, "message": message, "who": json.loads(who)}
    return {
        "page.html": page.encode("ascii", "xmlcharrefreplace"),
        "page.json": json.dumps({**problem, "service": service.name, "since": since}).encode() + b"\n",
        "state.json": json.dumps(state).encode() + b"\n",
    }


def state(facts: Facts) -> Mapping[str, object] | None:
    """Return `since`, `message` and `who` of a closed service; empty if closed by hand, None if it is open."""
    text = facts.state.maintenance
    if text is None:
        return None
    try:
        entry = untrusted_json.load(text)
    except ValueError:
        return {}
    # Only known keys: they go into a JSON document beside our own.
    return {key: entry[key] for key in ("since", "message", "who") if key in entry} if isinstance(entry, dict) else {}


def describe(closed: Mapping[str, object], address: str) -> str:
    """Return a state that `state` returned, in words. address: of `bypass`."""
    who = closed.get("who")
    by = (who.get("git") or who.get("user") or "?") if isinstance(who, dict) else "hand"
    note = stays_open(address)
    return f"since {closed.get('since', '?')}, by {by}: {closed.get('message', 'no message')}{note and '; '}{note}"


def bypass(service: Service) -> str:
    """Return the address at which clients bypass nginx, and so the maintenance; empty without one."""
    return system_files.listen_address(service)


def stays_open(address: str) -> str:
    """Return the note about an address that `bypass` returned; empty without one."""
    return f"`listen: {address}` stays open to clients that reach it" if address else ""


def warn(facts: Facts, service: Service) -> str:
    """Return the warning for the end of a run; empty if the service is open."""
    if state(facts) is None:
        return ""
    note = stays_open(bypass(service))
    return f"maintenance is on: clients get 503 until `fab maintenance off`{note and '; '}{note}"
