"""An example of a resource: notes. Write yours like it, then delete it."""

from __future__ import annotations

from typing import Annotated

from flask import request
from pydantic import Field
from werkzeug.exceptions import NotFound

from . import store
from .versions import Model, Version, header, match, next_page

LAST = 2**53 - 1  # the greatest number that every reader of JSON keeps
Number = Annotated[int, Field(ge=1, le=LAST)]

store.TABLES.append(
    "CREATE TABLE IF NOT EXISTS notes (number INTEGER PRIMARY KEY AUTOINCREMENT, text TEXT NOT NULL, done INT NOT NULL)"
)
v1 = Version("v1")


class NewNote(Model):
    """What a client writes."""

    text: str = Field(min_length=1, max_length=2000)
    done: bool = False


class Note(NewNote):
    """A note that there is."""

    number: int


class Page(Model):
    """Which notes: the first `limit` whose numbers follow `after`."""

    limit: int = Field(20, ge=1, le=100)
    after: int = Field(0, ge=0, le=LAST)


class Notes(Model):
    """Notes in the order of their numbers. next: the path of the next page, empty on the last."""

    items: list[Note]
    next: str


@v1.operation("GET", "/notes", role="reader")
def list_notes(query: Page) -> Notes:
    """A page of the notes. A note that comes or goes meanwhile moves no other to another page."""
    wanted = "SELECT text, done, number FROM notes WHERE number > ? ORDER BY number LIMIT ?"
    rows = store.opened().execute(wanted, (query.after, query.limit + 1)).fetchall()
    items = [_note(row) for row in rows[: query.limit]]
    more = len(rows) > query.limit
    return Notes(items=items, next=next_page(limit=query.limit, after=items[-1].number) if more else "")


@v1.operation("POST", "/notes", role="operator", status=201)
def create_note(body: NewNote) -> Note:
    """Write a note; with an Idempotency-Key once, however often the request comes."""
    done = store.opened().execute("INSERT INTO notes (text, done) VALUES (?, ?)", (body.text, body.done))
    note = _note((body.text, body.done, done.lastrowid or 0))
    header("Location", f"{request.path}/{note.number}")
    return note


@v1.operation("GET", "/notes/<int:number>", role="reader")
def read_note(number: Number) -> Note:
    """A note."""
    return _find(number)


@v1.operation("PUT", "/notes/<int:number>", role="operator", if_match=True)
def replace_note(number: Number, body: NewNote) -> Note:
    """Replace a note that nobody else has changed since you read it."""
    match(_find(number))
    store.opened().execute("UPDATE notes SET text = ?, done = ? WHERE number = ?", (body.text, body.done, number))
    return _note((body.text, body.done, number))


@v1.operation("DELETE", "/notes/<int:number>", role="operator", if_match=True)
def delete_note(number: Number) -> None:
    """Delete a note that has not changed since you read it."""
    match(_find(number))
    store.opened().execute("DELETE FROM notes WHERE number = ?", (number,))


def _find(number: int) -> Note:
    row = store.opened().execute("SELECT text, done, number FROM notes WHERE number = ?", (number,)).fetchone()
    if row is None:
        raise NotFound(f"there is no note {number}")
    return _note(row)


def _note(row: tuple[str, bool, int]) -> Note:
    return Note(text=row[0], done=bool(row[1]), number=row[2])
