"""Let a request through if its token has the role of the route. A route that names none is for admins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from flask import Flask, current_app, g, request
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import Forbidden, Unauthorized

from . import tokens

OPEN = "open"  # the role of a route that needs no token

View = TypeVar("View", bound=Callable[..., Any])


def init_app(app: Flask) -> None:
    """Check the shared tokens now, and every request before its view runs; add `flask token`."""
    tokens.check()
    app.before_request(_check)
    app.cli.add_command(tokens.commands)


def role(name: str) -> Callable[[View], View]:
    """Mark a view, below the line of its route, with the least role that may use it, or OPEN."""
    if name not in (OPEN, *tokens.ROLES):
        raise ValueError(f"{name!r} is no role")

    def mark(view: View) -> View:
        vars(view)["role"] = name
        return view

    return mark


def role_of(view: Callable[..., Any]) -> str:
    """Return the role of a view; admin if it is not marked."""
    return str(getattr(view, "role", "admin"))


def require(name: str) -> None:
    """Raise Unauthorized or Forbidden unless the request has a token of this role, or of a higher one."""
    if name == OPEN:
        return
    if "token" not in g:
        g.token = _token()
    if tokens.ROLES.index(g.token.role) < tokens.ROLES.index(name):
        raise Forbidden(f"this needs the role {name}; the token {g.token.name} has {g.token.role}")


def _check() -> None:
    if request.endpoint:  # else no view runs: the answer is 404 or 405
        require(role_of(current_app.view_functions[request.endpoint]))


def _token() -> tokens.Token:
    given = request.authorization
    secret = given.token if given and given.type == "bearer" else None
    if secret and (token := tokens.find(secret)):
        return token
    fields = {"realm": current_app.config["SERVICE"], **({"error": "invalid_token"} if secret else {})}
    reason = "the token is unknown, revoked or expired" if secret else "send `Authorization: Bearer TOKEN`"
    raise Unauthorized(reason, www_authenticate=WWWAuthenticate("bearer", fields))
