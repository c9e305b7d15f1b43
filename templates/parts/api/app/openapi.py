"""The OpenAPI 3.1 document of a version, from its operations, and a page of it.

Pydantic writes the schemas: its dialect is that of OpenAPI 3.1. What is around them is one dictionary.
"""

from __future__ import annotations

import re
import secrets
from typing import Any

from flask import Flask, Response, current_app, jsonify, make_response, render_template
from pydantic import BaseModel, ConfigDict, TypeAdapter
from pydantic.json_schema import models_json_schema
from werkzeug.http import HTTP_STATUS_CODES

from . import auth
from .versions import KEY, Operation, Version

REFERENCE = "#/components/schemas/{model}"


class ProblemDetails(BaseModel):
    """Why a request is refused (RFC 9457). An invalid one has `errors`, each with a JSON pointer."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    request_id: str


def add(app: Flask, version: Version) -> None:
    """Add openapi.json and the page of a version."""

    @auth.role("reader")
    def describe() -> Response:
        """This version of the API, as OpenAPI 3.1."""
        return jsonify(document(version))

    @auth.role("reader")
    def page() -> Response:
        """This version of the API, to read."""
        nonce = secrets.token_urlsafe(16)
        response = make_response(render_template("api.html", nonce=nonce, **document(version)))
        response.content_security_policy.default_src = "'none'"
        response.content_security_policy.style_src = f"'nonce-{nonce}'"
        return response

    for path, view in (("openapi.json", describe), ("", page)):
        app.add_url_rule(f"/api/{version.version}/{path}", f"{version.name}-{view.__name__}", view)


def document(version: Version) -> dict[str, Any]:
    """Return the document."""
    used = {(one.body, "validation") for one in version.operations if one.body}
    used |= {(one.result, "serialization") for one in version.operations if one.result}
    order = sorted(used, key=lambda pair: (pair[0].__name__, pair[1]))
    models: Any = [*order, (ProblemDetails, "serialization")]
    schemas, definitions = models_json_schema(models, ref_template=REFERENCE)
    paths: dict[str, dict[str, object]] = {}
    for one in version.operations:
        path = re.sub("<(?:[^:<>]+:)?([^<>]+)>", r"{\1}", f"/api/{version.version}{one.rule}")
        paths.setdefault(path, {})[one.method.lower()] = _operation(one, schemas, version)
    return {
        "openapi": "3.1.0",
        "info": {"title": current_app.config["SERVICE"], "version": version.version},
        "paths": paths,
        "components": {
            "schemas": definitions["$defs"],
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(one: Operation, schemas: Any, version: Version) -> dict[str, object]:
    about: dict[str, object] = {
        "operationId": one.view.__name__,
        "summary": (one.view.__doc__ or "").partition("\n")[0],
        "description": f"Role: {one.role}.",
        "security": [] if one.role == auth.OPEN else [{"token": []}],
        "parameters": _parameters(one),
        "responses": _responses(one, schemas),
    }
    if one.body:
        about["requestBody"] = {"required": True, "content": _json(schemas[one.body, "validation"])}
    if version.deprecated:
        about["deprecated"] = True
    return about


def _json(schema: object) -> dict[str, object]:
    return {"application/json": {"schema": schema}}


def _parameters(one: Operation) -> list[dict[str, object]]:
    def parameter(name: str, place: str, schema: object, required: bool) -> dict[str, object]:
        return {"name": name, "in": place, "required": required, "schema": schema}

    found = [parameter(name, "path", TypeAdapter(kind).json_schema(), True) for name, kind in one.path.items()]
    query = one.query.model_json_schema() if one.query else {"properties": {}}
    for name, schema in query["properties"].items():
        found.append(parameter(name, "query", schema, name in query.get("required", ())))
    if one.if_match:
        found.append(parameter("If-Match", "header", {"type": "string"}, True))
    if one.method == "POST":
        found.append(parameter("Idempotency-Key", "header", {"type": "string", "pattern": f"^{KEY.pattern}$"}, False))
    return found


def _responses(one: Operation, schemas: Any) -> dict[str, object]:
    success: dict[str, object] = {"description": HTTP_STATUS_CODES[one.status]}
    text = {"schema": {"type": "string"}}
    if one.result:
        success["content"] = _json(schemas[one.result, "serialization"])
        success["headers"] = {"ETag": text, **({"Location": text} if one.status == 201 else {})}
    found: dict[str, object] = {str(one.status): success}
    if one.method == "GET":
        found["304"] = {"description": HTTP_STATUS_CODES[304]}
    problem = {"application/problem+json": {"schema": schemas[ProblemDetails, "serialization"]}}
    statuses = {503}
    statuses |= {401, 403} if one.role != auth.OPEN else set()
    statuses |= {404} if one.path else set()
    statuses |= {422} if one.query else set()
    statuses |= {400, 422} if one.method == "POST" else set()
    statuses |= {400, 413, 415, 422} if one.body else set()
    statuses |= {412, 428} if one.if_match else set()
    for status in sorted(statuses):
        found[str(status)] = {"description": HTTP_STATUS_CODES[status], "content": problem}
    return found
