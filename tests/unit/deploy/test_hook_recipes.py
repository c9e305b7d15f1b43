"""The recipes of docs/HOOKS.md, run as hooks: a chat, a mail server and Grafana get what they take."""

from __future__ import annotations

import json
import re
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from tasks.engine.config.sections import Hooks
from tasks.engine.deploy.prepared import Progress
from tasks.engine.deploy.run_hooks import RunHooks
from tasks.engine.errors import LoopError
from tasks.engine.parallel import Stop
from tests.unit.deploy.test_run_hooks import member, prepared

PAGE = Path(__file__).resolve().parents[3] / "docs/HOOKS.md"
RECIPES = dict(re.findall(r"```\w+\n# (ops/[a-z]+\.[a-z]+)[^\n]*\n(.*?)```", PAGE.read_text(), re.DOTALL))
ABOUT = {"action": "deploy", "service": "myapp", "who": {"user": "ann"}}


def run(folder: Path, command: str) -> list[str]:
    """Run a recipe after a failed run; return what is shown."""
    for path, text in RECIPES.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(text)
    made = RunHooks(Hooks(on_failure=command), folder, ABOUT)
    one = member(error=LoopError('no "quotes" or $(shell)'))
    return [event.text for event in made.after([one], prepared(one, Progress.STAGED), Stop())][1:]


@contextmanager
def served(server: socketserver.TCPServer) -> Iterator[int]:
    """Let a server answer during the block; yield its port."""
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.socket.getsockname()[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def web() -> Iterator[tuple[str, list[Any]]]:
    """A web server that keeps what is posted, with its path and token; its address."""
    posted: list[Any] = []

    class Keeps(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            posted.append((self.path, self.headers["Authorization"], json.loads(body)))
            self.send_response(404 if self.path == "/gone" else 200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with served(HTTPServer(("127.0.0.1", 0), Keeps)) as port:
        yield f"http://127.0.0.1:{port}", posted


def test_a_chat_is_told(tmp_path: Path, web: tuple[str, list[Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    address, posted = web
    monkeypatch.setenv("CHAT_WEBHOOK", f"{address}/hook")
    assert run(tmp_path, "sh ops/chat.sh") == []
    assert posted == [("/hook", None, {"text": "myapp: deploy by ann: failed (shire01 failed)"})]
    monkeypatch.setenv("CHAT_WEBHOOK", f"{address}/gone")
    *_, why, end = run(tmp_path, "sh ops/chat.sh")
    assert "404" in why
    assert end.startswith("on_failure failed on this machine, which changes nothing of the run: it ended with status")


def test_a_program_gets_the_whole_document_without_a_script(tmp_path: Path, web: tuple[str, list[Any]]) -> None:
    address, posted = web
    told = re.search(r'after_deploy: "(curl [^"]*)"', PAGE.read_text())
    assert told
    assert run(tmp_path, told[1].replace("https://hooks.example", address)) == []
    assert posted[0][2]["hosts"][0]["error"]["message"] == 'no "quotes" or $(shell)'


def test_graphs_are_marked(tmp_path: Path, web: tuple[str, list[Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    address, posted = web
    monkeypatch.setenv("GRAFANA_URL", address)
    monkeypatch.setenv("GRAFANA_TOKEN", "glsa_x")
    assert run(tmp_path, "python3 ops/annotate.py") == []
    ((path, token, mark),) = posted
    assert (path, token, mark["tags"]) == ("/api/annotations", "Bearer glsa_x", ["deploy", "myapp", "failed"])
    assert mark["text"] == "deploy of bbbbbbbbbbbb by ann"


def test_a_mail_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mails: list[str] = []

    class Takes(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"220 here\r\n")
            while line := self.rfile.readline().decode().strip():
                word = line.upper()
                self.wfile.write(
                    b"354 go on\r\n" if word == "DATA" else b"221 bye\r\n" if word == "QUIT" else b"250 ok\r\n"
                )
                if word == "QUIT":
                    return
                if word == "DATA":
                    lines = iter(lambda: self.rfile.readline().decode(), ".\r\n")
                    mails.append("".join(lines))
                    self.wfile.write(b"250 taken\r\n")

    with served(socketserver.TCPServer(("127.0.0.1", 0), Takes)) as port:
        monkeypatch.setenv("MAIL_SERVER", f"127.0.0.1:{port}")
        assert run(tmp_path, "python3 ops/mail.py") == []
    (mail,) = mails
    assert "Subject: myapp: deploy failed\r\n" in mail
    assert '"host": "shire01"' in mail


def test_the_document_of_the_page_is_one_that_hooks_get(tmp_path: Path) -> None:
    shown = re.search(r"```json\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert shown
    page = json.loads(shown[1])
    run(tmp_path, "sh -c 'cat >document'")
    told = json.loads((tmp_path / "document").read_text())
    assert set(page) >= set(told)
    assert set(page["hosts"][0]) == set(told["hosts"][0])
