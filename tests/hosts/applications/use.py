"""What people do with each application: a page, a static file, a form, an upload, a WebSocket; and what stays of it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from tests.hosts.applications.client import BOUNDARY, Client, File, multipart
from tests.support.clone import Clone


@dataclass
class Served:
    """An application that serves. noted: what a client has to remember."""

    client: Client
    clone: Clone
    noted: str = ""

    def run(self, *words: str) -> str:
        """Run a command in the live release; return its output."""
        return self.clone.done("run", "-H", "shire01", "--", *words).out


def ihatemoney(served: Served) -> None:
    """Make a budget and add a member; the session is a cookie."""
    client = served.client
    assert "{" in client.get("/static/css/main.css")
    project = {"name": "Shire", "password": "s3cret", "contact_email": "sam@shire.example", "default_currency": "XXX"}
    assert client.submit("/", project, "/create").headers["location"] == "/shire/"
    client.submit("/shire/", {"name": "Samwise"}, "/shire/members/add")
    ihatemoney_kept(served)


def ihatemoney_kept(served: Served) -> None:
    """Find the member."""
    assert "Samwise" in served.client.get("/shire/")


def ara(served: Served) -> None:
    """Record a playbook by its API."""
    assert "{" in served.client.get("/static/css/ara.css")
    playbook = {"path": "/srv/mordor.yml", "started": "2026-01-31T00:00:00Z", "ansible_version": "2.19"}
    sent = served.client.ask(
        "/api/v1/playbooks", json.dumps(playbook).encode(), headers={"Content-Type": "application/json"}
    )
    assert sent.status == 201, sent.body
    ara_kept(served)


def ara_kept(served: Served) -> None:
    """Find the playbook on the page and by its own command."""
    assert "/srv/mordor.yml" in served.client.get("/")
    counted = "from ara.api.models import Playbook; print(Playbook.objects.count())"
    assert "1" in served.run("ara-manage", "shell", "-c", counted).split()


def marimo(served: Served) -> None:
    """Run its notebook over a WebSocket."""
    page = served.client.get("/")
    served.client.get("/" + re.findall(r'"\./(assets/[^"]*\.css)"', page)[0])
    assert "seen" in visit(served)


def marimo_kept(served: Served) -> None:
    """Find that the notebook has seen former visits."""
    assert "seen seen" in visit(served)


def visit(served: Served) -> str:
    """Open the notebook, which runs its cells; return what the cell printed."""
    with served.client.websocket("/ws?session_id=s_tried1") as socket:
        socket.until("kernel-ready")
        return socket.until("seen")


LARGE = File("file", "ring.bin", bytes(range(256)) * 4096)


def bepasty(served: Served) -> None:
    """Upload a file of a megabyte by its form."""
    client = served.client
    assert "{" in client.get("/static/app/css/style.css")
    fields = {"contenttype": "", "filename": "", "text": "", "maxlife-value": "1", "maxlife-unit": "WEEKS"}
    client.submit("/", fields, "/+upload", LARGE)
    bepasty_kept(served)


def bepasty_kept(served: Served) -> None:
    """Find it in the list, and get the same bytes."""
    item = re.findall(r'href="/(\w{8})', served.client.get("/+list"))[0]
    assert served.client.ask(f"/{item}/+download").body == LARGE.content


def gdbgui(served: Served) -> None:
    """Open a session, a WebSocket of Socket.IO, and type to its program, which has a terminal on the host.

    A host has no gdb; any program does.
    """
    page = served.client.get("/")
    assert "{" in served.client.get("/static/vendor/css/bootstrap.min.css")
    token = re.findall(r'csrf_token": "([^"]*)"', page)[0]
    query = f"EIO=4&transport=websocket&csrf_token={token}&gdb_command=sh%20-c%20cat"
    with served.client.websocket(f"/socket.io/?{query}") as socket:
        socket.until('"sid"')
        socket.send("40/gdb_listener,{}")
        said = socket.until("debug_session_connection_event")
        assert '"ok":true' in said, said
        typed = {"data": {"pty_name": "user_pty", "key": "mellon", "action": "write"}}
        socket.send(f"42/gdb_listener,{json.dumps(['pty_interaction', typed])}")
        socket.until("mellon")


def echopile(served: Served) -> None:
    """Load its page, a script of Dash, and let a callback answer."""
    client = served.client
    scripts = re.findall(r'src="(/_dash-component-suites/[^"]*)"', client.get("/"))
    assert client.ask(scripts[0]).status == 200
    assert "btn-upload" in client.get("/_dash-layout")
    body = {
        "output": "slt-log-colorscale-row.style",
        "outputs": {"id": "slt-log-colorscale-row", "property": "style"},
        "inputs": [{"id": "SLT_output", "property": "value", "value": "amplitude"}],
        "changedPropIds": ["SLT_output.value"],
        "state": [],
    }
    answer = client.ask(
        "/_dash-update-component", json.dumps(body).encode(), headers={"Content-Type": "application/json"}
    )
    assert (answer.status, list(answer.json()["response"])) == (200, ["slt-log-colorscale-row"]), answer.body


SONG = """
import sys, wave

with wave.open(sys.argv[1], "wb") as file:
    file.setparams((1, 2, 8000, 0, "NONE", ""))
    file.writeframes(bytes(16000))
"""


def supysonic(served: Served) -> None:
    """Make an account and name a directory of music, by its own command."""
    assert "{" in served.client.get("/static/css/supysonic.css")
    served.run("supysonic-cli", "user", "add", "frodo", "-p", "ring")
    served.run("supysonic-cli", "folder", "add", "music", "/var/lib/supysonic/music")
    assert served.client.submit("/user/login", {"user": "frodo", "password": "ring"}).status == 302
    supysonic_kept(served)


def supysonic_kept(served: Served) -> None:
    """Put one more song into the directory, and wait until its daemon has found it."""
    before = songs(served)
    served.run("python", "-c", SONG, f"music/{len(before)}.wav")
    while songs(served) != before | {f"{len(before)}.wav"}:
        pass


def songs(served: Served) -> set[str]:
    """Return the songs that it plays."""
    found = served.client.ask("/rest/getRandomSongs.view?u=frodo&p=ring&c=tests&v=1.8.0&f=json&size=99").json()
    return {song["path"] for song in found["subsonic-response"]["randomSongs"].get("song", ())}


def trac(served: Served) -> None:
    """Write a ticket."""
    assert "{" in served.client.get("/chrome/common/css/trac.css")
    ticket = {"field_summary": "The ring", "field_description": "Into the fire", "submit": "Create"}
    sent = served.client.submit("/newticket", ticket)
    # Its address has the scheme and the name that the client used.
    assert sent.headers["location"] == "https://trac.example/ticket/1"
    trac_kept(served)


def trac_kept(served: Served) -> None:
    """Find the ticket."""
    assert "Into the fire" in served.client.get("/ticket/1")


def datasette(served: Served) -> None:
    """Write a row by its form."""
    assert "{" in served.client.get("/-/static/app.css")
    served.client.submit("/data/add", {"note": "one ring"})
    datasette_kept(served)


def datasette_kept(served: Served) -> None:
    """Find the row."""
    assert served.client.ask("/data/notes.json?_shape=array").json() == [{"rowid": 1, "note": "one ring"}]


ADMIN = {"username": "gandalf", "password": "mithrandir"}


def chaka(served: Served) -> None:
    """Make an administrator by its own command, sign in, and let it push a message to a WebSocket."""
    assert "{" in served.client.get("/static/style.css")
    named = ("--username", ADMIN["username"], "--password", ADMIN["password"], "--email", "gandalf@shire.example")
    served.run("chaka", "user", "create", *named)
    assert served.client.submit("/login", ADMIN).status == 303
    made = served.client.ask("/api/tokens", b'{"name": "palantir"}', headers={"Content-Type": "application/json"})
    assert made.status == 201, made.body
    served.noted = made.json()["token"]
    chaka_kept(served)


def chaka_kept(served: Served) -> None:
    """Push a message to the token, with the session of before."""
    client = served.client
    with client.websocket(f"/ws?token={served.noted}") as socket:
        # The connection is registered after the handshake.
        while not client.ask("/api/clients").json():
            pass
        sent = client.ask("/api/send", b'{"title": "You shall pass"}', headers={"Content-Type": "application/json"})
        assert sent.json()["sent"] == 1
        socket.until("You shall pass")


EVENT = """\
BEGIN:VCALENDAR\r
VERSION:2.0\r
PRODID:-//tests//EN\r
BEGIN:VEVENT\r
UID:party\r
DTSTAMP:20260101T000000Z\r
DTSTART:20260922T180000Z\r
SUMMARY:A long-expected party\r
END:VEVENT\r
END:VCALENDAR\r
"""


# It takes any password; the first request of a person makes the place of that person's calendars.
BILBO = {"Authorization": "Basic YmlsYm86cmluZw=="}


def radicale(served: Served) -> None:
    """Make a calendar and put an event there, with the methods of CalDAV."""
    client = served.client
    assert "{" in client.get("/.web/css/main.css")
    assert client.ask("/bilbo/birthdays/", b"", "MKCALENDAR", BILBO).status == 201
    put = client.ask("/bilbo/birthdays/party.ics", EVENT.encode(), "PUT", {"Content-Type": "text/calendar", **BILBO})
    assert put.status == 201, put.body
    radicale_kept(served)


def radicale_kept(served: Served) -> None:
    """Find the event."""
    event = served.client.ask("/bilbo/birthdays/party.ics", headers=BILBO)
    assert b"A long-expected party" in event.body
    listed = served.client.ask("/bilbo/birthdays/", b"", "PROPFIND", {"Depth": "1", **BILBO})
    assert (listed.status, b"party.ics" in listed.body) == (207, True)


PACKAGE = File("content", "ring-1.0-py3-none-any.whl", bytes(range(256)) * 8192)


def pypiserver(served: Served) -> None:
    """Upload a package of two megabytes, as twine does."""
    body = multipart({":action": "file_upload", "protocol_version": "1"}, PACKAGE)
    kind = f"multipart/form-data; boundary={BOUNDARY}"
    sent = served.client.ask("/", body, headers={"Content-Type": kind})
    assert sent.status == 200, sent.body
    pypiserver_kept(served)


def pypiserver_kept(served: Served) -> None:
    """Find it in the index, and get the same bytes."""
    (path,) = re.findall(r'href="([^"#]*\.whl)', served.client.get("/simple/ring/"))
    assert served.client.ask(path).body == PACKAGE.content
