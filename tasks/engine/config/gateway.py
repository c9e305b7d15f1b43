"""The section `nginx` of service.yaml: the nginx in front of the service. A fault raises UsageError."""

from __future__ import annotations

from typing import NamedTuple

from tasks.engine.config import formats, keys, schema
from tasks.engine.config.keys import SETUP, Key, Reader, Required
from tasks.engine.config.nodes import Mapping, Node


class Tls(NamedTuple):
    """Certificate of nginx. mode: self-signed, files or off; certificate, key: paths on the controller, for `files`."""

    mode: str = "self-signed"
    certificate: str | None = None
    key: str | None = None


class Nginx(NamedTuple):
    """The nginx in front of the service.

    max_body: the largest body of a request, as nginx writes it; "0": no limit
    timeout: seconds that a request may take; None: it follows `drain`
    """

    server_name: str
    tls: Tls = Tls()
    max_body: str = "20m"
    timeout: int | None = None


TLS_KEYS = (
    Key("certificate", keys.text(formats.FILE), Required("tls/myapp.pem"), SETUP,
        "The certificate and its chain, a file on your machine"),
    Key("key", keys.text(formats.FILE), Required("tls/myapp.key"), SETUP, "Its private key, a file on your machine"),
)  # fmt: skip
_TLS = ("self-signed", "off")


def _tls(node: Node) -> Tls:
    if not isinstance(node, Mapping):
        return Tls(schema.choice(node, _TLS))
    return Tls("files", **keys.read(node, TLS_KEYS))


NGINX_KEYS = (
    Key("server_name", keys.text(formats.SERVER_NAME), Required("myapp.example"), SETUP,
        "The name that clients ask for; nginx answers no other"),
    Key("tls", Reader(_tls, f"one of {', '.join(_TLS)}, or a mapping", _TLS[0], (("", TLS_KEYS),)), Tls(), SETUP,
        "The certificate: one that setup makes on the host, none (quote `off`: YAML reads it as false), or yours",
        '"off"'),
    Key("max_body", keys.text(formats.BODY_SIZE), Nginx("").max_body, SETUP,
        'The largest body of a request, such as an upload; nginx answers 413 to a larger one. "0" is no limit', "200m"),
    Key("timeout", keys.integer(1, 86400), None, SETUP,
        "Seconds that a request may take, and that a WebSocket or an event stream may be silent; nginx answers 504 to "
        "a longer one. Without it, `drain`, and 30 at least. Also a setting of gunicorn's sync workers, which only a "
        "deploy changes", "120"),
)  # fmt: skip


def nginx(node: Node) -> Nginx:
    """Read the nginx in front of the service."""
    return Nginx(**keys.read(node, NGINX_KEYS))
