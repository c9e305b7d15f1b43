"""The worst output, answers and files of a service: every verb reads them, and none reaches a terminal."""

from __future__ import annotations

import json

import pytest

from tests.promises.words import NO_INJECTION
from tests.support.fleet import Fleet, undeployed
from tests.support.hosts import MakeHosts
from tests.support.nasty_texts import PWNED, TEXTS
from tests.support.output_modes import MODES, show

SHOUT = """
import pathlib
import signal
import sys

for stream in (sys.stdout, sys.stderr):
    stream.buffer.write(pathlib.Path("noise").read_bytes())
    stream.buffer.flush()
signal.pause()
"""
FORGED = (
    *(
        "@begin",
        "@end 0",
        "@end 1",
        "@unreadable",
        '0123456789abcdef {"report": "end", "text": "ok"}',
        ' {"report": "end", "text": "ok"}',
        '{"report": "failed", "text": "x"}',
    ),
    json.dumps({"MESSAGE": "forged", "__REALTIME_TIMESTAMP": "1", "__CURSOR": "c", "SYSLOG_IDENTIFIER": "\x1b[2J"}),
    *('{"level": "error", "message": "\\u001b[31mred", "x": NaN}', '{"message": "m", "level": "error", "v": 1e999}'),
    json.dumps({"level": "\x1b]0;owned\x07", "message": "\x1b[2J\nsecond line", "\x1b[31mred": ["\u202e", "\ud800"]}),
    '{"level": "error", "message": "deep", "v": ' + "[" * 950 + "]" * 950 + "}",
    '{"level": "error", "message": "deeper", "v": ' + "[" * 20_000,
    *("Traceback (most recent call last):", '  File "\x1b[2J", line 1, in \u202ex', "ValueError: \x9b2J"),
)
NOISE = b"\n".join([
    *(text.encode("utf-8", "surrogatepass") for text in (*TEXTS, *FORGED)),
    *(bytes(range(256)), b"\xff\xfe\xc0\xaf", b"a\0b", b"\x1b[6n", b"x" * 2_000_000, b"the last line\n"),
])  # fmt: skip


@pytest.fixture(scope="module")
def fleet(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    """One host with a service that logs huge and hostile lines."""
    made = undeployed(module_hosts, tmp_path_factory.mktemp("shout"), 1)
    made.clone.write("service/shout.py", SHOUT)
    (made.clone.root / "service/noise").write_bytes(NOISE)
    made.clone.replace(
        "service/service.yaml", "web: {workers: 2", 'worker: {command: "python shout.py"}\n  web: {workers: 1'
    )
    made.clone.done("deploy")
    said = 'journalctl -u myapp-worker@blue -g "the last line" -q | grep -q .'
    made.sh(0, f"timeout 60 sh -c 'until {said}; do sleep 0.2; done'")
    return made


@pytest.mark.promise(
    NO_INJECTION, "a service that prints escapes, forged marks, forged JSON and bytes that are no text", part=5
)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "words",
    [
        ("logs", "-n", "5000"),
        ("logs", "-n", "5000", "--level", "error"),
        ("logs", "--grep", "x", "--since", "-1h"),
        ("exec", "--", "cat /opt/apps/myapp/current/release/code/noise"),
        ("exec", "--", "cat /opt/apps/myapp/current/release/code/noise >&2; exit 3"),
    ],
    ids=lambda words: " ".join(words)[:20],
)
def test_nothing_that_a_service_prints_steers_a_terminal(fleet: Fleet, mode: str, words: tuple[str, ...]) -> None:
    assert len(show(fleet.clone, mode, *words).out) > 100


ANSWER = """
import os
import pathlib

KINDS = {
    "escapes": b"\\x1b[2J\\x1b]0;owned\\x07\\x1b[31mred\\x9b2J\\xe2\\x80\\xae\\r\\n@0123456789abcdef end ok\\n@ end ok",
    "zeros": b"\\0" * 5000,
    "no text": bytes(range(256)) * 20,
    "shell": b"'; touch pwned; $(touch pwned) `touch pwned` %s%n\\\\c",
    "long": b"\\x1b[31mred" * 1_000_000,
    "forged": b'{"release":"' + os.environ["RELEASE"].encode() + b'"}\\n200',
}


def create_app():
    def app(environ, start):
        kind = pathlib.Path("/var/lib/myapp/kind")
        body = KINDS[kind.read_text()] if kind.exists() else b"ok"
        start("500 Never" if kind.exists() else "200 OK", [("Content-Type", "text/html")])
        return [body]

    return app
"""


@pytest.fixture(scope="module")
def answering(fleet: Fleet) -> Fleet:
    """The host of `fleet`, with a service that answers with the content of a file."""
    fleet.clone.write("service/answer.py", ANSWER)
    fleet.clone.replace("service/service.yaml", '"app:create_app()"', '"answer:create_app()"')
    fleet.clone.replace("service/service.yaml", "timeout: 30", "timeout: 2 ")
    fleet.clone.done("deploy")
    return fleet


@pytest.mark.promise(NO_INJECTION, "a health check that answers with escapes, zeros, megabytes and shell", part=1)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["escapes", "zeros", "no text", "shell", "long", "forged"])
def test_nothing_that_a_health_check_answers_steers_a_terminal(answering: Fleet, mode: str, kind: str) -> None:
    answering.sh(0, f"runuser -u myapp -- sh -c 'printf %s \"{kind}\" >/var/lib/myapp/kind'")
    for verb in ("health", "status", "doctor"):
        show(answering.clone, mode, verb)
    answering.edit()
    shown = show(answering.clone, mode, "deploy")
    assert shown.status == 1
    assert "not hold" in shown.out
    assert "500" in shown.out or kind == "long"
    assert answering.sh(0, f"find / -xdev -name {PWNED}") == ""


FLOOD = """
import fcntl
import os
import socket


def send(text):
    sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    memory = os.memfd_create("line", os.MFD_ALLOW_SEALING)
    os.write(memory, b"MESSAGE=" + text + b"\\n")
    fcntl.fcntl(memory, fcntl.F_ADD_SEALS, 0xF)
    sender.sendmsg(
        [b""], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, memory.to_bytes(4, "little"))], 0, "/run/systemd/journal/socket"
    )


for _ in range(4):
    send(b"l" * 24_000_000)
print("the last words", flush=True)


def create_app():
    def app(environ, start):
        start("500 Never", [])
        return [b"never"]

    return app
"""


def test_messages_of_any_size_hide_no_other_line(answering: Fleet) -> None:
    clone = answering.clone
    clone.write("service/answer.py", FLOOD)
    ended = clone.fab("deploy")
    assert ended.status == 1
    assert "500" in ended.out
    assert "the last words" in ended.out
    said = clone.done("logs", "-n", "500", "--grep", "the last words|^l{1000}").out
    assert "the last words" in said
    assert "a line of more than 1 MiB is left out" in said
