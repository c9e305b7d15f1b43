"""A client of an application behind its front door: pages, forms, uploads and WebSockets over HTTPS, with cookies."""

from __future__ import annotations

import base64
import http.client
import os
import re
import socket
import ssl
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from urllib.parse import urlencode

from tests.support.front_door import Answer, trusting

BOUNDARY = "4f2d1c9bb0"
_INPUT = re.compile(r"<input\b[^>]*>")
_TEXT, _CLOSE, _PING, _PONG = 1, 8, 9, 10


@dataclass
class Client:
    """Asks one host for one name. cookies: those that it was given, by name."""

    address: str
    name: str
    cookies: dict[str, str] = field(default_factory=dict)

    def ask(
        self, path: str, body: bytes | None = None, method: str = "", headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send a request, a POST if it has a body, and return the answer, whatever its status."""
        connection = http.client.HTTPConnection(self.name, 443)
        connection.sock = self._connect()
        sent = {"Connection": "close", "Referer": f"https://{self.name}{path}", **self._cookie(), **(headers or {})}
        try:
            connection.request(method or ("GET" if body is None else "POST"), path, body, sent)
            answer = connection.getresponse()
            for cookie in answer.headers.get_all("Set-Cookie") or ():
                key, _, value = cookie.partition(";")[0].partition("=")
                self.cookies[key] = value
            lower = {key.lower(): value for key, value in answer.getheaders()}
            return Answer(answer.status, answer.read(), lower)
        finally:
            connection.close()

    def get(self, path: str) -> str:
        """Return the body of a page, which must answer 200."""
        answer = self.ask(path)
        assert answer.status == 200, f"{path}: {answer.status} {answer.headers}\n{answer.body.decode()[:2000]}"
        return answer.body.decode()

    def submit(self, page: str, fields: Mapping[str, str], action: str = "", file: File | None = None) -> Answer:
        """Fill in the form of a page and send it to `action`; hidden fields, such as tokens, go with it."""
        values = {**hidden(self.get(page)), **fields}
        if file is None:
            kind, body = "application/x-www-form-urlencoded", urlencode(values).encode()
        else:
            kind, body = f"multipart/form-data; boundary={BOUNDARY}", multipart(values, file)
        answer = self.ask(action or page, body, headers={"Content-Type": kind})
        assert answer.status < 400, f"{action or page}: {answer.status}\n{answer.body.decode()[:2000]}"
        return answer

    def websocket(self, path: str) -> WebSocket:
        """Open a WebSocket."""
        sock = self._connect()
        key = base64.b64encode(os.urandom(16)).decode()
        lines = {
            "Host": self.name,
            "Origin": f"https://{self.name}",
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": key,
            **self._cookie(),
        }
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        sock.sendall(f"GET {path} HTTP/1.1\r\n{head}\r\n".encode())
        return WebSocket(sock)

    def _cookie(self) -> dict[str, str]:
        return {"Cookie": "; ".join(f"{key}={value}" for key, value in self.cookies.items())} if self.cookies else {}

    def _connect(self) -> ssl.SSLSocket:
        # The certificate is the host's own: the tests of TLS look at it.
        context = trusting()
        return context.wrap_socket(socket.create_connection((self.address, 443), 300), server_hostname=self.name)


@dataclass(frozen=True)
class File:
    """A file of a form. field: the name of its input."""

    field: str
    name: str
    content: bytes
    kind: str = "application/octet-stream"


def multipart(fields: Mapping[str, str], file: File) -> bytes:
    """Return a form with a file as a browser sends it."""
    texts = "".join(
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    )
    named = f'Content-Disposition: form-data; name="{file.field}"; filename="{file.name}"'
    head = f"--{BOUNDARY}\r\n{named}\r\nContent-Type: {file.kind}\r\n\r\n"
    return texts.encode() + head.encode() + file.content + f"\r\n--{BOUNDARY}--\r\n".encode()


def hidden(page: str) -> dict[str, str]:
    """Return the hidden fields of a page by name."""
    found = {}
    for tag in _INPUT.findall(page):
        values = dict(re.findall(r"""(\w+)=["']([^"']*)["']""", tag))
        if values.get("type") == "hidden" and "name" in values:
            found[values["name"]] = values.get("value", "")
    return found


class WebSocket:
    """The client's end of a WebSocket, for texts shorter than 64 kB."""

    def __init__(self, sock: ssl.SSLSocket) -> None:
        self._sock = sock
        self._stream = sock.makefile("rb")
        status = self._stream.readline()
        assert b" 101 " in status, status
        while self._stream.readline().strip():
            pass

    def __enter__(self) -> WebSocket:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._send(_CLOSE, struct.pack(">H", 1000))
        self._stream.close()
        self._sock.close()

    def send(self, text: str) -> None:
        """Send a text."""
        self._send(_TEXT, text.encode())

    def until(self, words: str) -> str:
        """Read messages until one has these words; return it. AssertionError if the other end closes first."""
        seen: list[str] = []
        while True:
            kind, content = self._receive()
            assert kind != _CLOSE, f"closed, and never said {words!r}: {seen}"
            if kind == _PING:
                self._send(_PONG, content)
                continue
            seen.append(content.decode(errors="replace"))
            if words in seen[-1]:
                return seen[-1]

    def _receive(self) -> tuple[int, bytes]:
        head = self._stream.read(2)
        assert len(head) == 2, "the connection ended"
        length = head[1] & 0x7F
        if length == 126:
            (length,) = struct.unpack(">H", self._stream.read(2))
        elif length == 127:
            (length,) = struct.unpack(">Q", self._stream.read(8))
        return head[0] & 0x0F, self._stream.read(length)

    def _send(self, kind: int, content: bytes) -> None:
        # A client masks what it sends; a mask of zeros changes nothing.
        length = len(content)
        size = bytes([0x80 | length]) if length < 126 else bytes([0x80 | 126]) + struct.pack(">H", length)
        self._sock.sendall(bytes([0x80 | kind]) + size + bytes(4) + content)
