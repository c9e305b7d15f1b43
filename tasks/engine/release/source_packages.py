"""Known packages that their index has as source alone: others in their place, and what their build needs. Pure."""

from __future__ import annotations

from typing import NamedTuple


class _Source(NamedTuple):
    """instead: packages that have wheels; build: packages of Debian's that a build needs beside a compiler."""

    instead: str
    build: str


_SOURCES = {
    "psycopg2": _Source("psycopg[binary] or psycopg2-binary", "libpq-dev"),
    "psycopg-c": _Source("psycopg[binary]", "libpq-dev"),
    "mysqlclient": _Source("PyMySQL", "default-libmysqlclient-dev pkg-config"),
    "misaka": _Source("mistune", "libffi-dev"),
    "python-ldap": _Source("ldap3", "libldap-dev libsasl2-dev"),
}


def instead(name: str) -> str:
    """Return the beginning of an advice: packages that could take the place of this one; empty if none is known."""
    known = _SOURCES.get(name)
    return f"write {known.instead} in its place, which has wheels; or " if known else ""


def to_build(name: str) -> str:
    """Return an advice on what a build on this machine needs."""
    known = _SOURCES.get(name)
    named = f" (Debian: apt-get install gcc python3-dev {known.build})" if known else ""
    return f"install what its build needs on this machine{named}"
