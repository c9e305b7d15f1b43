"""A version of the API: operations whose signature says all that goes in and out.

v1 = Version("v1")                                                    # and Version("v2") beside it

@v1.operation("GET", "/notes/<int:number>", role="reader")            # `query: Model` and `body: Model` are validated
def read_note(number: int) -> Note: ...                               # None instead of a model is an answer of 204
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from datetime import datetime
from functools import wraps
from typing import Any, NamedTuple, TypeVar, get_type_hints
from urllib.parse import urlencode

from flask import Blueprint, Response, g, request
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from werkzeug.exceptions import BadRequest, NotFound, PreconditionFailed, PreconditionRequired, UnsupportedMediaType
from werkzeug.http import http_date

from . import auth, store
from .errors import Problem

KEY = re.compile("[!-~]{1,128}")

View = TypeVar("View", bound=Callable[..., Any])


class Model(BaseModel):
    """The base class of what goes in and out: a member that is not known is refused."""

    model_config = ConfigDict(extra="forbid")


class Operation(NamedTuple):
    """An operation. path: the types of the parameters in its rule; if_match: it changes what has an ETag."""

    method: str
    rule: str
    role: str
    status: int
    if_match: bool
    view: Callable[..., Model | None]
    path: dict[str, Any]
    query: type[Model] | None
    body: type[Model] | None
    result: type[Model] | None


class Version(Blueprint):
    """A version, below /api/NAME. With `deprecated` (since when) and `sunset` (its end) all its answers say so."""

    def __init__(
        self, name: str, deprecated: datetime | None = None, sunset: datetime | None = None, successor: str = ""
    ) -> None:
        super().__init__(f"api-{name}", __name__, url_prefix=f"/api/{name}")
        self.version, self.deprecated, self.sunset, self.successor = name, deprecated, sunset, successor
        self.operations: list[Operation] = []
        self.after_request(self._announce)

    def operation(
        self, method: str, rule: str, *, role: str, status: int = 200, if_match: bool = False
    ) -> Callable[[View], View]:
        """Add an operation that answers with `status`. if_match: call `match` in it before it changes a thing."""

        def add(view: View) -> View:
            types = get_type_hints(view, include_extras=True)
            query, body, result = (types.pop(name, None) for name in ("query", "body", "return"))
            kinds = (query, body, None if result is type(None) else result)
            operation = Operation(method, rule, role, status if kinds[2] else 204, if_match, view, types, *kinds)

            @auth.role(role)
            @wraps(view)
            def run(**path: object) -> Response:
                return _run(operation, path)

            self.add_url_rule(rule, view.__name__, run, methods=[method])
            self.operations.append(operation)
            return view

        return add

    def _announce(self, response: Response) -> Response:
        """Add the headers of RFC 9745, RFC 8594 and RFC 5829."""
        if self.deprecated:
            response.headers["Deprecation"] = f"@{int(self.deprecated.timestamp())}"
        if self.sunset:
            response.headers["Sunset"] = http_date(self.sunset)
        if self.successor:
            response.headers.add("Link", f'</api/{self.successor}/>; rel="successor-version"')
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
    return hashlib.sha256(result.model_dump_json().encode()).hexdigest()[:32]


def _run(operation: Operation, path: dict[str, object]) -> Response:
    try:
        given = {name: TypeAdapter(kind).validate_python(path[name]) for name, kind in operation.path.items()}
    except ValidationError:
        raise NotFound from None
    key = request.headers.get("Idempotency-Key") if operation.method == "POST" else None
    if key is not None and not KEY.fullmatch(key):
        raise BadRequest("Idempotency-Key must be 1 to 128 printable ASCII characters, without a space")
    if operation.query:
        values = {name: all_ if len(all_) > 1 else all_[0] for name, all_ in request.args.to_dict(flat=False).items()}
        given["query"] = _valid("query", lambda model: model.model_validate(values), operation.query)
    if operation.body:
        if not request.is_json:
            raise UnsupportedMediaType("send `Content-Type: application/json`")
        text = request.get_data()
        given["body"] = _valid("body", lambda model: model.model_validate_json(text, strict=True), operation.body)
    if key is None:
        return _answer(operation, given)
    name = (g.token.name if "token" in g else "", request.full_path, key)
    return store.once(name, request.get_data(), lambda: _answer(operation, given))


def _valid(place: str, validate: Callable[[type[Model]], Model], model: type[Model]) -> Model:
    try:
        return validate(model)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False, include_input=False)
        if faults[0]["type"] == "json_invalid":
            raise BadRequest(faults[0]["msg"]) from None
        errors = [{"in": place, "pointer": _pointer(fault["loc"]), "detail": fault["msg"]} for fault in faults]
        raise Problem(422, f"the {place} is not valid", errors=errors) from None


def _pointer(place: tuple[int | str, ...]) -> str:
    """Return a JSON pointer (RFC 6901)."""
    return "".join(f"/{str(step).replace('~', '~0').replace('/', '~1')}" for step in place)


def _answer(operation: Operation, given: dict[str, Any]) -> Response:
    result = operation.view(**given)
    text = f"{result.model_dump_json()}\n" if result else ""
    response = Response(text, operation.status, g.pop("headers", []), content_type="application/json")
    if result is None:
        del response.headers["Content-Type"]
        return response
    response.set_etag(_etag(result))
    response.headers["Cache-Control"] = "private, no-cache"  # to be kept, and asked about each time, by its ETag
    response.make_conditional(request)
    return response
