"""A version of the API: operations whose signature says all that goes in and out. notes.py has an example."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from datetime import datetime
from functools import partial, wraps
from typing import Any, get_type_hints
from urllib.parse import urlencode

from flask import Blueprint, Response, current_app, g, jsonify, make_response, render_template, request
from pydantic import BaseModel, TypeAdapter, ValidationError
from werkzeug.exceptions import BadRequest, NotFound, PreconditionFailed, PreconditionRequired, UnsupportedMediaType
from werkzeug.http import generate_etag, http_date, quote_etag

from . import auth, store
from .errors import Problem
from .openapi import KEY, Operation, View, document


class Model(BaseModel, extra="forbid"):
    """The base class of what goes in and out: a member that is not known is refused."""


class Version(Blueprint):
    """A version, below /api/NAME. With `deprecated` (since when) and `sunset` (its end) all its answers say so."""

    def __init__(
        self, name: str, deprecated: datetime | None = None, sunset: datetime | None = None, successor: str = ""
    ) -> None:
        super().__init__(f"api-{name}", __name__, url_prefix=f"/api/{name}")
        self.version, self.deprecated, self.operations = name, bool(deprecated), list[Operation]()
        # RFC 9745, RFC 8594 and RFC 5829
        self.headers = {"Deprecation": f"@{int(deprecated.timestamp())}"} if deprecated else {}
        self.headers |= {"Sunset": http_date(sunset)} if sunset else {}
        self.headers |= {"Link": f'</api/{successor}/>; rel="successor-version"'} if successor else {}
        self.after_request(self._announce)
        for path, view in (("/openapi.json", self.describe), ("/", self.page)):
            self.add_url_rule(path, view.__name__, view)

    @auth.role("reader")
    def describe(self) -> Response:
        """This version of the API, as OpenAPI 3.1."""
        return jsonify(document(current_app.config["SERVICE"], self.version, self.deprecated, self.operations))

    @auth.role("reader")
    def page(self) -> Response:
        """This version of the API, to read."""
        nonce = secrets.token_urlsafe(16)
        response = make_response(render_template("api.html", nonce=nonce, **self.describe().get_json()))
        response.content_security_policy.default_src = "'none'"
        response.content_security_policy.style_src = f"'nonce-{nonce}'"
        return response

    def operation(
        self, method: str, rule: str, *, role: str, status: int = 200, if_match: bool = False
    ) -> Callable[[View], View]:
        """Add an operation that answers with `status`. if_match: call `match` in it before it changes a thing."""

        def add(view: View) -> View:
            types = get_type_hints(view, include_extras=True)
            query, body, result = (types.pop(name, None) for name in ("query", "body", "return"))
            result = None if result is type(None) else result
            one = Operation(method, rule, role, status if result else 204, if_match, view, types, query, body, result)
            run = auth.role(role)(wraps(view)(lambda **path: _run(one, path)))
            self.add_url_rule(rule, view.__name__, run, methods=[method])
            self.operations.append(one)
            return view

        return add

    def _announce(self, response: Response) -> Response:
        response.headers.extend(self.headers)
        return response


def header(name: str, value: str) -> None:
    """Add a header to the answer of this operation."""
    g.setdefault("headers", []).append((name, value))


def next_page(**query: object) -> str:
    """Return the path of the next page, and name it in a Link header."""
    path = f"{request.path}?{urlencode(query)}"
    header("Link", f'<{path}>; rel="next"')
    return path


def match(current: Model) -> None:
    """Let the operation go on if the client knows the current state: its If-Match has the ETag."""
    if "If-Match" not in request.headers:
        raise PreconditionRequired("send `If-Match: ETAG`, with the ETag of the answer to GET")
    if not request.if_match.contains(_etag(current)):
        raise PreconditionFailed("it has changed since: GET it again")


def _etag(result: Model) -> str:
    return generate_etag(result.model_dump_json().encode())


def _run(one: Operation, path: dict[str, object]) -> Response:
    given = _given(one, path)
    key = request.headers.get("Idempotency-Key") if one.method == "POST" else None
    if key is not None and not KEY.fullmatch(key):
        raise BadRequest("Idempotency-Key must be 1 to 128 printable ASCII characters, without a space")
    name = (g.token.name if "token" in g else "", request.full_path, key or "")
    with store.transaction():
        text, headers = store.once(name, lambda: _answer(one, given)) if key else _answer(one, given)
    response = Response(text, one.status, headers)
    if not text:
        del response.headers["Content-Type"]
    response.make_conditional(request)
    return response


def _answer(one: Operation, given: dict[str, Any]) -> list[Any]:
    result = one.view(**given)
    headers = g.pop("headers", [])
    if result is None:
        return ["", headers]
    headers += [("ETag", quote_etag(_etag(result))), ("Content-Type", "application/json")]
    headers += [("Cache-Control", "private, no-cache")]  # to be kept, and asked about each time, by its ETag
    return [f"{result.model_dump_json()}\n", headers]


def _given(one: Operation, path: dict[str, object]) -> dict[str, Any]:
    try:
        given = {name: TypeAdapter(kind).validate_python(path[name]) for name, kind in one.path.items()}
    except ValidationError:
        raise NotFound from None
    if one.query:
        values = {name: all_ if len(all_) > 1 else all_[0] for name, all_ in request.args.to_dict(flat=False).items()}
        given["query"] = _valid("query", one.query.model_validate, values)
    if one.body:
        if not request.is_json:
            raise UnsupportedMediaType("send `Content-Type: application/json`")
        given["body"] = _valid("body", partial(one.body.model_validate_json, strict=True), request.get_data())
    return given


def _valid(place: str, validate: Callable[[Any], BaseModel], given: object) -> BaseModel:
    try:
        return validate(given)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False, include_input=False)
    if faults[0]["type"] == "json_invalid":
        raise BadRequest(faults[0]["msg"])
    errors = [{"in": place, "pointer": _pointer(fault["loc"]), "detail": fault["msg"]} for fault in faults]
    raise Problem(422, f"the {place} is not valid", errors=errors)


def _pointer(place: tuple[int | str, ...]) -> str:
    """Return a JSON pointer (RFC 6901)."""
    return "".join(f"/{str(step).replace('~', '~0').replace('/', '~1')}" for step in place)
