"""Ask the database of OSV itself, which learns the names and versions of the packages."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Collection, Iterable
from functools import partial
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote

from tasks.engine import untrusted_json
from tasks.engine.audit import advisory
from tasks.engine.audit.export import Database
from tasks.engine.errors import Unreachable
from tasks.engine.parallel import pool

URL = "https://api.osv.dev/v1"
_ONCE, _MOST = 500, 2000
"""Packages of one question, and advisories that are fetched at most."""
_PAGES = 20
_SILENT, _SECONDS = 10, 60
"""Seconds without a byte, and of one answer in all."""


def ask(packages: Iterable[tuple[str, str]], url: str = URL) -> Database:
    """Return the advisories of these packages (canonical name, version); Unreachable if OSV does not answer them."""
    wanted = sorted(set(packages))
    try:
        found = _names(wanted, url)
        if len(found) > _MOST:
            raise ValueError(f"it names {len(found)} advisories")
        names = frozenset(name for name, _ in wanted)
        with pool(len(found)) as executor:
            asked = partial(_advisory, url=url, wanted=names, room=advisory.Room())
            records = list(executor.map(asked, sorted(found)))
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise Unreachable(
            f"no database of vulnerabilities was reached: {str(reason)[:200]}",
            where=url,
            next="bring an export along, and name it: fab audit --db all.zip (docs/SECURITY.md says where it is)",
            code="no-database",
        ) from None
    return Database(url, tuple(record for record in records if record))


def _names(wanted: list[tuple[str, str]], url: str) -> set[str]:
    """Return the names of the advisories of all packages."""
    questions: list[dict[str, object]] = [
        {"package": {"ecosystem": advisory.ECOSYSTEM, "name": name}, "version": version} for name, version in wanted
    ]
    found: set[str] = set()
    for _ in range(_PAGES):
        further = []
        for start in range(0, len(questions), _ONCE):
            asked = questions[start : start + _ONCE]
            for question, result in zip(asked, _results(asked, url), strict=True):
                found |= _listed(result)
                if result.get("next_page_token"):
                    further.append({**question, "page_token": result["next_page_token"]})
        questions = further
    if questions:
        raise ValueError("its answer has no end")
    return found


def _results(questions: list[dict[str, object]], url: str) -> list[dict[str, Any]]:
    answer = _json(f"{url}/querybatch", json.dumps({"queries": questions}).encode())
    results = answer.get("results") if isinstance(answer, dict) else None
    if not isinstance(results, list) or len(results) != len(questions):
        raise ValueError("it answered something else")
    return [result if isinstance(result, dict) else {} for result in results]


def _listed(result: dict[str, Any]) -> set[str]:
    """Return the names of the advisories of one package."""
    listed = result.get("vulns") or []
    items = listed if isinstance(listed, list) else [listed]
    found = [one["id"] for one in items if isinstance(one, dict) and isinstance(one.get("id"), str)]
    if len(found) != len(items):
        raise ValueError("it answered something else")
    return set(found)


def _advisory(name: str, url: str, wanted: Collection[str], room: advisory.Room) -> advisory.Advisory | None:
    # Ask no more once there is no room.
    room.keep(None)
    return room.keep(advisory.read(_json(f"{url}/vulns/{quote(name, safe='')}"), wanted))


def _json(address: str, data: bytes | None = None) -> object:
    """Return the answer to a question, of a limited size, within a limited time."""
    end, pieces, left = time.monotonic() + _SECONDS, [], untrusted_json.SIZE + 1
    request = urllib.request.Request(address, data, {"Content-Type": "application/json"})  # noqa: S310 - `url` is ours
    try:
        with urllib.request.urlopen(request, timeout=_SILENT) as answer:  # noqa: S310
            while left > 0 and (piece := answer.read1(min(left, 1 << 16))):
                pieces.append(piece)
                left -= len(piece)
                if time.monotonic() > end:
                    raise TimeoutError(f"its answer had not ended after {_SECONDS} s")
    except HTTPError as error:
        error.close()
        raise ValueError(f"it answered {error.code} {error.reason}") from None
    return untrusted_json.load(b"".join(pieces).decode())
