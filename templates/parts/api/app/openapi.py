"""The OpenAPI 3.1 document of a version: pydantic writes the schemas, apispec what is around them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from apispec import APISpec
from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import models_json_schema
from werkzeug.http import HTTP_STATUS_CODES

from . import auth

KEY = re.compile("[!-~]{1,128}")
REFERENCE = "#/components/schemas/{model}"
TEXT = {"type": "string"}
MEMBERS = {"type": TEXT, "title": TEXT, "status": {"type": "integer"}, "detail": TEXT, "request_id": TEXT}
PROBLEM = {
    "description": "Problem details (RFC 9457).",
    "type": "object",
    "properties": MEMBERS,
    "required": [*MEMBERS],
}


View = Callable[..., Any]


class Operation(NamedTuple):
    """An operation. path: the types of the parameters in its rule; if_match: it changes what has an ETag."""

    method: str
    rule: str
    role: str
    status: int
    if_match: bool
    view: View
    path: dict[str, Any]
    query: type[BaseModel] | None
    body: type[BaseModel] | None
    result: type[BaseModel] | None


def document(title: str, version: str, deprecated: bool, operations: Sequence[Operation]) -> dict[str, Any]:
    """Return the document of the operations below /api/VERSION."""
    used: list[Any] = [(model, "validation") for one in operations for model in (one.query, one.body) if model]
    used += [(one.result, "serialization") for one in operations if one.result]
    schemas, definitions = models_json_schema(used, ref_template=REFERENCE)
    spec = APISpec(title, version, "3.1.0")
    spec.components.security_scheme("token", {"type": "http", "scheme": "bearer"})
    spec.components.schema("ProblemDetails", PROBLEM)
    for name, schema in definitions.get("$defs", {}).items():
        spec.components.schema(name, schema)
    for one in operations:
        about = {
            "operationId": one.view.__name__,
            "summary": (one.view.__doc__ or "").partition("\n")[0],
            "description": f"Role: {one.role}.",
            "deprecated": deprecated,
            "security": [] if one.role == auth.OPEN else [{"token": []}],
            "parameters": _parameters(one),
            "responses": _responses(one, one.result and schemas[one.result, "serialization"]),
        }
        if one.body:
            about["requestBody"] = {"required": True, "content": _json(schemas[one.body, "validation"])}
        path = re.sub("<(?:[^:<>]+:)?([^<>]+)>", r"{\1}", f"/api/{version}{one.rule}")
        spec.path(path, operations={one.method.lower(): about})
    return spec.to_dict()


def _json(schema: object, kind: str = "application/json") -> dict[str, object]:
    return {kind: {"schema": schema}}


def _parameters(one: Operation) -> list[dict[str, object]]:
    found = [("path", name, TypeAdapter(kind).json_schema(), True) for name, kind in one.path.items()]
    query = one.query.model_json_schema(ref_template=REFERENCE) if one.query else {"properties": {}}
    found += [("query", name, kind, name in query.get("required", ())) for name, kind in query["properties"].items()]
    if one.if_match:
        found.append(("header", "If-Match", TEXT, True))
    if one.method == "POST":
        found.append(("header", "Idempotency-Key", {**TEXT, "pattern": f"^{KEY.pattern}$"}, False))
    return [{"in": place, "name": name, "schema": kind, "required": must} for place, name, kind, must in found]


def _responses(one: Operation, result: object) -> dict[str, dict[str, object]]:
    contents = {one.status: _json(result) if result else {}, **({304: {}} if one.method == "GET" else {})}
    contents |= dict.fromkeys(_refusals(one), _json("ProblemDetails", "application/problem+json"))
    headers = ("ETag", *(["Location"] if one.status == 201 else [])) if result else ()
    found: dict[str, dict[str, object]] = {}
    for status, content in contents.items():
        found[str(status)] = {"description": HTTP_STATUS_CODES[status], "content": content}
    found[str(one.status)]["headers"] = {name: {"schema": TEXT} for name in headers}
    return found


def _refusals(one: Operation) -> list[int]:
    """Return the statuses of the refusals that it can answer with."""
    closed, post = one.role != auth.OPEN, one.method == "POST"
    can = {400: post or one.body, 401: closed, 403: closed, 404: one.path, 412: one.if_match, 413: one.body}
    can |= {415: one.body, 422: post or one.query or one.body, 428: one.if_match, 503: True}
    return [status for status, it_can in can.items() if it_can]
