"""The forms that texts of hosts.yaml and service.yaml must have, each with a noun and an example for errors. Pure.

They are the first defence against a value of a file that becomes shell, nginx, systemd or terminal syntax.
"""

from __future__ import annotations

import ast
import base64
import binascii
import ipaddress
import re
import shlex
from collections.abc import Callable
from datetime import date

from tasks.engine import quote
from tasks.engine.config.schema import Shape

_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOSTNAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(\.{_LABEL})*")
_SERVER = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*")
_WORKERS = "sync|gthread|gevent|eventlet|tornado|asgi"
_MODULE_CLASS = r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)+"
_DOTTED = r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*"
_KEY_FIELDS = {
    "ssh-ed25519": 2,
    "ecdsa-sha2-nistp256": 3,
    "ecdsa-sha2-nistp384": 3,
    "ecdsa-sha2-nistp521": 3,
    "ssh-rsa": 3,
}
_SHELL_WORDS = frozenset({"&&", "||", "|", ";", "&", ">", ">>", "<", "2>&1"})


def _matches(pattern: str) -> Callable[[str], bool]:
    compiled = re.compile(pattern)
    return lambda text: compiled.fullmatch(text) is not None


def is_ip(text: str) -> bool:
    """Return True for an IPv4 or IPv6 address without a zone."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text


def _is_address(text: str) -> bool:
    address, _, zone = text.partition("%")
    if zone:
        return ":" in address and is_ip(address) and re.fullmatch(r"[A-Za-z0-9._-]{1,15}", zone) is not None
    # A name whose last label is a number is a mistyped IPv4 address, and resolvers read it as one.
    numeric = text.rpartition(".")[2].isdigit()
    return is_ip(text) or (_HOSTNAME.fullmatch(text) is not None and not numeric)


def _is_server_name(text: str) -> bool:
    return _SERVER.fullmatch(text) is not None and not text.rpartition(".")[2].isdigit()


def _is_host_key(text: str) -> bool:
    """Return True for a key type, one space, and a base64 blob of exactly the fields of that type, the type first."""
    kind, _, encoded = text.partition(" ")
    try:
        blob = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return False
    fields = _ssh_strings(blob)
    return kind in _KEY_FIELDS and len(fields) == _KEY_FIELDS[kind] and fields[0] == kind.encode() and all(fields)


def _ssh_strings(blob: bytes) -> list[bytes]:
    """Return the length-prefixed fields of an SSH key blob; none if it is cut or too long."""
    fields: list[bytes] = []
    while blob:
        end = 4 + int.from_bytes(blob[:4], "big")
        if len(blob) < max(end, 4):
            return []
        fields.append(blob[4:end])
        blob = blob[end:]
    return fields


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        return False
    return "%" not in text


def meant_network(text: str) -> str | None:
    """Return the network that contains an address with a prefix, such as 10.0.0.0/8 for 10.1.2.3/8."""
    try:
        return str(ipaddress.ip_network(text, strict=False)) if "/" in text and "%" not in text else None
    except ValueError:
        return None


def split_rate(text: str) -> tuple[int, str]:
    """Split `20/s` or `100/m` into number and unit; ValueError for anything else."""
    parts = re.fullmatch(r"([1-9][0-9]{0,4})/([sm])", text)
    if parts is None:
        raise ValueError(text)
    return int(parts[1]), parts[2]


def _is_rate(text: str) -> bool:
    try:
        split_rate(text)
    except ValueError:
        return False
    return True


def split_listen(text: str) -> tuple[str, int]:
    """Split `127.0.0.1:8080` or `[::1]:8080` into address and port; ValueError for anything else."""
    parts = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+)):([1-9][0-9]{0,4})", text)
    if parts is None or int(parts[3]) > 65535:
        raise ValueError(text)
    address = ipaddress.IPv6Address(parts[1]) if parts[1] else ipaddress.IPv4Address(parts[2])
    return str(address), int(parts[3])


def _is_listen(text: str) -> bool:
    try:
        split_listen(text)
    except ValueError:
        return False
    return True


def _is_day(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _is_app(text: str) -> bool:
    """Return True for what gunicorn loads: a name in a module, or a call of that name with literals."""
    module, _, target = text.partition(":")
    if not re.fullmatch(_DOTTED, module) or len(text) > 300 or not text.isprintable():
        return False
    if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", target):
        return True
    try:
        call = ast.parse(target, mode="eval").body
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name)):
            return False
        for value in (*call.args, *(word.value for word in call.keywords if word.arg)):
            ast.literal_eval(value)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return all(word.arg for word in call.keywords)


def _is_command(text: str) -> bool:
    try:
        words = shlex.split(text)
    except ValueError:
        return False
    return bool(words) and bool(words[0]) and not _SHELL_WORDS.intersection(words)


def _is_inside(text: str) -> bool:
    parts = text.removesuffix("/").split("/")
    # For older Pythons `**` must be the whole of a name. Each `**` multiplies the time of a search.
    return (
        "\\" not in text
        and parts.count("**") <= 2
        and all(part not in {"", ".", ".."} and ("**" not in part or part == "**") for part in parts)
    )


def _is_folder(text: str) -> bool:
    # A colon separates the entries of PYTHONPATH.
    return text == "." or (":" not in text and _is_inside(text))


def _is_place(text: str) -> bool:
    parts = text.split("/")
    return (
        len(text) <= 200
        and len(parts) <= 8
        and not any(part in {".", ".."} or not re.fullmatch(r"[A-Za-z0-9._][A-Za-z0-9._-]*", part) for part in parts)
    )


def _is_schedule(text: str) -> bool:
    # A calendar expression has at most four words; a crontab line has five.
    return re.fullmatch(r"[A-Za-z0-9*.,:/~_+ -]{1,120}", text) is not None and 0 < len(text.split()) <= 4


def _is_specifier(text: str) -> bool:
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    try:
        allowed = SpecifierSet(text)
    except InvalidSpecifier:
        return False
    # No list of versions is that long, and Python refuses to convert very long numbers.
    return len(text) <= 200 and any(f"3.{minor}.{patch}" in allowed for minor in range(6, 31) for patch in range(41))


HOST_NAME = Shape("a host name of a-z, 0-9, . and -", "shire01", _matches(r"[a-z0-9][a-z0-9.-]{0,62}"))
GROUP_NAME = Shape("a group name of a-z, 0-9, . and -", "web", _matches(r"[a-z0-9][a-z0-9.-]{0,62}"))
ADDRESS = Shape("a host name or an IP address", "192.0.2.11", _is_address)
USER = Shape(
    "an account name of letters, digits, . _ and -, not in capitals alone (sudo's aliases)", "deploy", quote.is_account
)
HOST_KEY = Shape("a public host key: TYPE BASE64, whole and without comment", "ssh-ed25519 AAAAC3Nza...", _is_host_key)
IDENTITY = Shape("the path of a private key", "~/.ssh/id_ed25519", _matches(r"[^\s-].*"))
INTERPRETER = Shape(
    "an absolute path or pythonX.Y", "python3.12", _matches(r"python3\.[0-9]{1,2}|(/(?!\.\.?(/|\Z))[A-Za-z0-9._+-]+)+")
)
SERVICE_NAME = Shape("a name of a-z, 0-9 and -, up to 30", "myapp", _matches(r"[a-z]([a-z0-9-]{0,28}[a-z0-9])?"))
PROCESS_NAME = Shape("a name of a-z, 0-9 and -, up to 20", "worker", _matches(r"[a-z]([a-z0-9-]{0,18}[a-z0-9])?"))
APP = Shape(
    "MODULE:CALLABLE, MODULE:FACTORY() or MODULE:FACTORY('text', 1, key=True)",
    "app:create_app()",
    _is_app,
)
WORKER_CLASS = Shape(
    "sync, gthread, gevent, eventlet, tornado, asgi, or MODULE.CLASS",
    "gthread",
    _matches(rf"{_WORKERS}|{_MODULE_CLASS}"),
    ("sync", "gthread", "gevent", "eventlet", "tornado", "asgi"),
)
SPECIFIER = Shape("the Python versions that fit, as PEP 440 writes them", ">=3.9", _is_specifier)
HEALTH_PATH = Shape(
    "a path that starts with /, without spaces or quotes",
    "/readyz",
    _matches(r"/[A-Za-z0-9._~!$&()*+,;=:@%/?-]{0,999}"),
)
PLAIN_PATH = Shape("a path of letters, digits and / . _ -", "/readyz", _matches(r"/[A-Za-z0-9._/-]{0,999}"))
URL_FOLDER = Shape(
    "a path of letters, digits and . _ - that begins and ends with /",
    "/static/",
    lambda text: text[:1] == text[-1:] == "/" and len(text) > 2 and _is_place(text[1:-1]),
)
URL_PREFIX = Shape(
    "a path of letters, digits and . _ - that begins with / and does not end with it",
    "/shop",
    lambda text: text[:1] == "/" and _is_place(text[1:]),
)
LISTEN = Shape("ADDRESS:PORT, IPv6 in brackets", "127.0.0.1:8080", _is_listen)
SERVER_NAME = Shape("one lower-case host name", "myapp.example", _is_server_name)
OTHER_NAME = Shape(
    "a lower-case host name, or *. before one",
    "www.myapp.example",
    lambda text: _is_server_name(text.removeprefix("*.")),
)
NETWORK = Shape("a network or an address", "10.0.0.0/8", _is_network)
RATE = Shape("a number of requests per second or minute", "20/s", _is_rate)
BODY_SIZE = Shape("a number of bytes, with k, m or g for units of 1024", "200m", _matches(r"0|[1-9][0-9]{0,8}[kmg]?"))
FILE = Shape("the path of a file, absolute or from the project's root", "tls/myapp.pem", _matches(r"[^\s~-].*"))
EMAIL = Shape(
    "an e-mail address", "ops@myapp.example", _matches(r"[A-Za-z0-9._+-]{1,64}@[A-Za-z0-9][A-Za-z0-9.-]{0,189}")
)
HTTPS_URL = Shape(
    "an address that begins with https://",
    "https://acme.example/directory",
    _matches(r"https://[A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?"),
)
HOST_FILE = Shape(
    "the absolute path of a file on the host, without ..",
    "/etc/letsencrypt/live/myapp.example/fullchain.pem",
    _matches(r"(/(?!\.\.?(/|\Z))[A-Za-z0-9._@+-]+)+"),
)
INCLUDE = Shape("a path or a glob below service/, without .., and with ** twice at most", "app/static/dist", _is_inside)
FOLDER = Shape("a folder below service/, or . for that itself, without ..", "src", _is_folder)
EXTRA = Shape("the name of an extra or a group", "postgres", _matches(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,98}[A-Za-z0-9])?"))
SHARED = Shape("the path of a directory below service/, of letters, digits and . _ -, without ..", "media", _is_place)
MEMORY = Shape("an amount of memory, with M or G for units of 1024", "512M", _matches(r"[1-9][0-9]{0,5}[MG]"))
CPU = Shape("a share of one processor in percent: 200% is two processors", "200%", _matches(r"[1-9][0-9]{0,5}%"))
COMMAND = Shape("a command with balanced quotes and without shell operators", "python -m jobs", _is_command)
SCHEDULE = Shape("a systemd calendar expression", "*-*-* 03:00:00", _is_schedule)
ADVISORY = Shape("the name of an advisory", "CVE-2024-12345", _matches(r"[A-Za-z0-9][A-Za-z0-9.:_-]{0,99}"))
REASON = Shape("a text of up to 300 characters", "we read no such file", _matches(r"\S(.{0,298}\S)?"))
DAY = Shape("a day, YYYY-MM-DD", "2027-01-31", _is_day)
VARIABLE = Shape("a variable name of letters, 0-9 and _", "GREETING", _matches(r"[A-Za-z_][A-Za-z0-9_]{0,99}"))
