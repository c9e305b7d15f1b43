"""Log lines that look like the service's sandbox, and the key that is named for each."""

from __future__ import annotations

import json

import pytest

from tasks.engine.config.sections import NEEDS
from tasks.engine.host import sandbox_hints

CODE = "/opt/apps/myapp/releases/0123456789ab/code"
# As Python, libraries and programs write them.
SAID = {
    "network": (
        "OSError: [Errno 97] Address family not supported by protocol",
        "Error: socket EAFNOSUPPORT 192.0.2.7:443",
        "OSError: [Errno 101] Network is unreachable",
        'connection to server at "192.0.2.7", port 5432 failed: Network is unreachable',
        "socket.gaierror: [Errno -3] Temporary failure in name resolution",
        "socket.gaierror: [Errno -2] Name or service not known",
        "requests.exceptions.ConnectionError: Failed to resolve 'api.example' ([Errno -2] Name or service not known)",
        'could not translate host name "db.example" to address: Name or service not known',
        "curl: (6) Could not resolve host: api.example",
        "Error: getaddrinfo ENOTFOUND api.example, connect ENETUNREACH 192.0.2.7:443",
        'connection to server at "192.0.2.7", port 5432 failed: Operation not permitted',
    ),
    "host": (
        "ConnectionRefusedError: [Errno 111] Connection refused",
        "redis.exceptions.ConnectionError: Error 111 connecting to localhost:6379. Connection refused.",
        'connection to server at "127.0.0.1", port 5432 failed: Connection refused',
    ),
    "jit": (
        "MemoryError: Cannot allocate write+execute memory for ffi.callback().",
        "OSError: cannot allocate executable memory",
        "ImportError: libx.so: cannot enable executable stack as shared object requires: Permission denied",
        "RuntimeError: mprotect failed: Operation not permitted",
        "LLVM ERROR: Unable to allocate section memory!",
    ),
    "proc": (
        "FileNotFoundError: [Errno 2] No such file or directory: '/proc/meminfo'",
        "cat: /proc/cpuinfo: No such file or directory",
    ),
    "home": ("PermissionError: [Errno 13] Permission denied: '/home/ann/data.csv'",),
    "STATE_DIRECTORY": (
        f"OSError: [Errno 30] Read-only file system: '{CODE}/media'",
        f"PermissionError: [Errno 13] Permission denied: '{CODE}/app.db'",
        "sqlite3.OperationalError: attempt to write a readonly database",
        "sqlite3.OperationalError: unable to open database file",
    ),
}
INNOCENT = (
    "RuntimeError: boom",
    "[2026-01-01] [7] [INFO] Listening at: unix:/run/myapp/blue.sock",
    "PermissionError: [Errno 13] Permission denied: '/etc/shadow'",
    "FileNotFoundError: [Errno 2] No such file or directory: 'settings.toml'",
    "FileNotFoundError: [Errno 2] No such file or directory: '/proc/4711/stat'",
    "MemoryError",
    "    for res in _socket.getaddrinfo(host, port, family, type, proto, flags):",
)
CASES = [(key, line) for key, lines in SAID.items() for line in lines]


@pytest.mark.parametrize(("key", "line"), CASES)
def test_a_line_names_the_key_that_opens_it_unless_it_is_set(key: str, line: str) -> None:
    (hint,) = sandbox_hints.hints(("RuntimeError: boom", f"app: {line}"), ())
    assert key in hint.way
    assert hint.line == f"app: {line}"
    assert sandbox_hints.advice([line], ()).startswith(". The sandbox may forbid it")
    opened = () if key == "STATE_DIRECTORY" else (key,)
    assert sandbox_hints.advice([line], opened) == ("" if opened else sandbox_hints.advice([line], NEEDS))


def test_no_key_is_named_that_would_not_open_it() -> None:
    """Loopback alone opens no name; all networks open loopback, too."""
    name, refused = SAID["network"][4], SAID["host"][0]
    assert "`needs: [network]`" in sandbox_hints.advice([name], ("host",))
    assert sandbox_hints.advice([refused], ("network",)) == ""
    # Either has internet sockets.
    assert sandbox_hints.advice([SAID["network"][0]], ("host",)) == ""
    for line in INNOCENT:
        assert sandbox_hints.advice([line], ()) == "", line


def test_an_exception_within_a_structured_line_is_found_and_told_alone() -> None:
    traceback = f"Traceback (most recent call last):\n{'  File' * 300}\nOSError: cannot allocate executable memory. Oh"
    line = json.dumps({"level": "error", "message": "Exception on /x", "traceback": traceback})
    (hint,) = sandbox_hints.hints([line[-1000:]], ())
    assert hint.line == 'OSError: cannot allocate executable memory. Oh"}'
    assert "jit" in hint.way


def test_each_kind_is_named_once_by_its_last_line() -> None:
    lines = [*SAID["network"], *SAID["host"], "[Errno 101] last"]
    found = sandbox_hints.hints(lines, ())
    assert [hint.line for hint in found] == ["[Errno 101] last", SAID["host"][-1]]
    assert sandbox_hints.advice(lines, ()).count("`needs: [network]`") == 1
