"""What clients are told while a service is closed: a page, the same as JSON, and who closed it. Pure."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from datetime import datetime

from tasks.engine import untrusted_json
from tasks.engine.config.service import Service
from tasks.engine.errors import UsageError
from tasks.engine.host import templates
from tasks.engine.host.facts import Facts

DEFAULT = "We are working on this service, and will be back shortly."
_LIMIT = 2000


def accepted(message: str) -> str:
    """The message as it may be shown; UsageError for one that is not text."""
    text = " ".join(message.split()) or DEFAULT
    if not text.isprintable() or len(text) > _LIMIT:
        raise UsageError(
            f"a message is printable text of {_LIMIT} characters at most",
            where="--message",
            next='fab maintenance on --message "Back at 14:00 UTC."',
        )
    return text


def accept(service: Service, host: str) -> None:
    """UsageError for a service that has nobody who could answer in its place."""
    if service.nginx is None:
        raise UsageError(
            f"{service.name} has no gateway that could answer in its place: its clients reach it at `listen:`",
            where=host,
            next="add `nginx:` to service.yaml; or fab stop, which closes the door without a word",
        )


def files(service: Service, message: str, moment: datetime, who: str) -> dict[str, bytes]:
    """File name to content. ASCII alone, so that no charset can make something else of it. who: a line of JSON."""
    since = moment.strftime("%Y-%m-%dT%H:%M:%SZ")
    page = templates.fill("maintenance.html", name=html.escape(service.name), message=html.escape(message))
    told = {"error": {"code": "maintenance", "message": message}, "service": service.name, "since": since}
    state = {"since": since, "message": message, "who": json.loads(who)}
    return {
        "page.html": page.encode("ascii", "xmlcharrefreplace"),
        "page.json": json.dumps(told).encode() + b"\n",
        "state.json": json.dumps(state).encode() + b"\n",
    }


def state(facts: Facts) -> Mapping[str, object] | None:
    """Since when, by whom and with which message it is closed; empty when a hand closed it, None when it is open."""
    text = facts.state.maintenance
    if text is None:
        return None
    try:
        found = untrusted_json.load(text)
    except ValueError:
        return {}
    # Nothing else of it: it stands in a document beside what is ours to say.
    return {key: found[key] for key in ("since", "message", "who") if key in found} if isinstance(found, dict) else {}


def describe(found: Mapping[str, object]) -> str:
    """It in words."""
    who = found.get("who")
    by = (who.get("git") or who.get("user") or "?") if isinstance(who, dict) else "hand"
    return f"since {found.get('since', '?')}, by {by}: {found.get('message', 'no message')}"


def warn(facts: Facts) -> str:
    """What to say at the end of a run; empty when it is open."""
    return "maintenance is on: clients get 503 until `fab maintenance off`" if state(facts) is not None else ""
