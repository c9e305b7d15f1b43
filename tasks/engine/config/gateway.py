"""The section `nginx` of service.yaml: the nginx in front of the service. A fault raises UsageError."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from tasks.engine.config import formats, keys, schema
from tasks.engine.config.keys import RUN, SETUP, Key, Reader, Required
from tasks.engine.config.nodes import Mapping as MappingNode
from tasks.engine.config.nodes import Node, Scalar, Sequence


class Tls(NamedTuple):
    """Certificate of nginx.

    mode: self-signed, files, on_host, ca, acme or off
    certificate, key: paths on the controller, for `on_host` on the host; for `ca` those of the CA
    days: for which the CA issues a certificate
    email, directory: for `acme`
    """

    mode: str = "self-signed"
    certificate: str | None = None
    key: str | None = None
    days: int = 365
    email: str = ""
    directory: str = ""

    @property
    def kept_on_host(self) -> bool:
        """True if the host keeps the pair, which changes without setup."""
        return self.mode in {"on_host", "ca", "acme"}


class Rate(NamedTuple):
    """The limit of each client's address. requests: `20/s` or `100/m`; burst: requests beyond it; None: as many."""

    requests: str
    burst: int | None = None


class Nginx(NamedTuple):
    """The nginx in front of the service.

    max_body: the largest body of a request, as nginx writes it; "0": no limit
    names: the canonical name first; a wildcard is never the first
    timeout: seconds that a request may take; None: it follows `drain`
    path: below which the service has its URLs, beside other services of the name; empty: it has the whole name
    aliases: redirect or serve: what the other names do. A wildcard is always served
    hsts: seconds for which browsers are told to use HTTPS alone; None: they are not told
    trusted_proxies: networks whose word for the client's address and scheme counts
    allow: networks of the clients that are served; empty: of all
    balancer_check: the health path answers under any address of the host
    error_page, extra, basic_auth, client_ca: paths on the controller; see `files`
    static: paths of URLs, each with the directory below service/ whose files nginx serves there, sorted
    """

    names: tuple[str, ...]
    tls: Tls = Tls()
    max_body: str = "20m"
    timeout: int | None = None
    aliases: str = "redirect"
    hsts: int | None = None
    error_page: str | None = None
    extra: str | None = None
    trusted_proxies: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    basic_auth: str | None = None
    client_ca: str | None = None
    rate: Rate | None = None
    balancer_check: bool = False
    static: tuple[tuple[str, str], ...] = ()
    path: str = ""

    @property
    def static_urls(self) -> tuple[tuple[str, str], ...]:
        """The paths of URLs of static files as clients ask for them, each with its directory."""
        return tuple((f"{self.path}{url}", directory) for url, directory in self.static)

    @property
    def server_name(self) -> str:
        """The canonical name."""
        return self.names[0]

    @property
    def redirected(self) -> tuple[str, ...]:
        """The names that are redirected to the canonical one."""
        return tuple(name for name in self.names[1:] if self.aliases == "redirect" and not name.startswith("*."))

    @property
    def files(self) -> dict[str, str]:
        """The paths on the controller of the files that setup installs, by key."""
        known = {key: path for key in FILES if (path := getattr(self, key)) is not None}
        return {**known, "ca": self.tls.certificate} if self.tls.mode == "ca" and self.tls.certificate else known

    @property
    def is_closed(self) -> bool:
        """True if only some clients are served, so that no cache may keep an answer for all."""
        return bool(self.allow or self.basic_auth or self.client_ca)


FILES = ("error_page", "extra", "basic_auth", "client_ca")
"""The keys that name a file of the operator's, which setup installs."""
_NAMES = 50


TLS_KEYS = (
    Key("certificate", keys.text(formats.FILE), Required("tls/myapp.pem"), SETUP,
        "The certificate and its chain, a file on your machine"),
    Key("key", keys.text(formats.FILE), Required("tls/myapp.key"), SETUP, "Its private key, a file on your machine"),
)  # fmt: skip
ON_HOST_KEYS = (
    Key("certificate", keys.text(formats.HOST_FILE), Required("/etc/letsencrypt/live/myapp.example/fullchain.pem"),
        SETUP, "A certificate and its chain that another program of the host keeps; nginx gets each new one"),
    Key("key", keys.text(formats.HOST_FILE), Required("/etc/letsencrypt/live/myapp.example/privkey.pem"), SETUP,
        "Its private key, a file on the host"),
)  # fmt: skip
CA_KEYS = (
    Key("certificate", keys.text(formats.FILE), Required("tls/ca.pem"), SETUP,
        "The certificate of your own CA, a file on your machine; `fab cert` renews what it has issued"),
    Key("key", keys.text(formats.FILE), Required("tls/ca.key"), RUN,
        "The CA's private key, a file that only you may read; it stays on your machine"),
    Key("days", keys.integer(1, 825), 365, RUN, "The days for which it issues a certificate", "90"),
)  # fmt: skip
ACME_KEYS = (
    Key("email", keys.text(formats.EMAIL), Required("ops@myapp.example"), SETUP,
        "Whom the CA may write to; certbot of the host gets and renews the certificate, and agrees to the CA's terms"),
    Key("directory", keys.text(formats.HTTPS_URL), "https://acme-v02.api.letsencrypt.org/directory", SETUP,
        "The CA's address for ACME; by default Let's Encrypt", "https://acme.example/directory"),
)  # fmt: skip
_TLS = ("self-signed", "off")
_ORIGINS = {"on_host": ON_HOST_KEYS, "ca": CA_KEYS, "acme": ACME_KEYS}
"""The other places that a certificate may come from, each with its keys."""


def _tls(node: Node) -> Tls:
    if not isinstance(node, MappingNode):
        return Tls(schema.choice(node, _TLS))
    fields = schema.keys(node, [*(key.name for key in TLS_KEYS), *_ORIGINS])
    origin = next((name for name in _ORIGINS if name in fields), None)
    if origin is None:
        return Tls("files", **keys.read(node, TLS_KEYS))
    other = next((name for name in fields if name != origin), None)
    if other:
        message = f"a certificate comes from one place, and here stand {origin} and {other}"
        raise schema.refuse(fields[other], message, "remove one of the two")
    return Tls(origin, **keys.read(fields[origin], _ORIGINS[origin]))


def _names(node: Node) -> tuple[str, ...]:
    if not isinstance(node, Sequence):
        return (schema.text(node, formats.SERVER_NAME),)
    if not 1 <= len(node.items) <= _NAMES:
        message = f"expected 1 to {_NAMES} host names, found {len(node.items)}"
        raise schema.refuse(node, message, "write server_name: [myapp.example, www.myapp.example]")
    names: list[str] = []
    for item in node.items:
        name = schema.text(item, formats.OTHER_NAME)
        if not names and name.startswith("*."):
            raise schema.refuse(item, "the first name is the canonical one, and no wildcard", "put a whole name first")
        if name in names:
            raise schema.refuse(item, f"{name} stands here twice", "remove one of the two")
        names.append(name)
    return tuple(names)


def _networks(node: Node) -> tuple[str, ...]:
    """Return the networks in the order of the file."""
    networks = []
    for item in schema.items(node):
        meant = formats.meant_network(item.text) if isinstance(item, Scalar) else None
        if meant and isinstance(item, Scalar) and not formats.NETWORK.fits(item.text):
            raise schema.refuse(item, f"{item.text} is an address with a prefix, and no network", f"write {meant}")
        networks.append(schema.text(item, formats.NETWORK))
    if not networks:
        raise schema.refuse(
            node, "the list is empty", f"name a network, or remove the key: [{formats.NETWORK.example}]"
        )
    return tuple(networks)


def _trusted(node: Node) -> tuple[str, ...]:
    networks = _networks(node)
    for item, network in zip(schema.items(node), networks, strict=True):
        if network.endswith("/0"):
            message = f"{network} is everybody, and any client could claim any address"
            raise schema.refuse(item, message, "name the networks of your proxies alone")
    return networks


RATE_KEYS = (
    Key("requests", keys.text(formats.RATE), Required("20/s"), SETUP, "Requests per second or minute"),
    Key("burst", keys.integer(0, 10000), None, SETUP,
        "Requests that may come at once beyond that; without it, the number of `requests`", "40"),
)  # fmt: skip


def _rate(node: Node) -> Rate:
    return Rate(**keys.read(node, RATE_KEYS))


def _static(node: Node) -> tuple[tuple[str, str], ...]:
    """Return the paths of URLs with their directories, sorted."""
    schema.entries(node)
    found: dict[str, str] = {}
    for path, value, place in schema.named(node):
        if schema.is_null(value):
            continue
        if not formats.URL_FOLDER.fits(path):
            message = f"expected {formats.URL_FOLDER.expected}, found {schema.quoted(path)}"
            raise schema.refuse(place, message, f"write it like {formats.URL_FOLDER.example}: app/static")
        other = next((one for one in found if path.startswith(one) or one.startswith(path)), None)
        if other is not None:
            outer, inner = sorted((other, path), key=len)
            raise schema.refuse(place, f"{inner} lies in {outer}", "keep one of the two")
        found[path] = schema.text(value, formats.SHARED)
    return tuple(sorted(found.items()))


_NETWORK_LIST = f"a list, each {formats.NETWORK.expected}"
NGINX_KEYS = (
    Key("server_name", Reader(_names, "one lower-case host name, or a list: the canonical one, then others or *.NAME",
        "myapp.example"), Required("myapp.example"), SETUP,
        "The name that clients ask for, or several; nginx answers no other. The first of a list is canonical",
        "[myapp.example, www.myapp.example]"),
    Key("path", keys.text(formats.URL_PREFIX), "", SETUP,
        "The path below which this service has its URLs, beside other services of this host behind the same name. A "
        "deploy brings its `static` files there", "/shop"),
    Key("aliases", keys.choice("redirect", "serve"), "redirect", SETUP,
        "What the other names of the list do: they are redirected to the first, or served. Wildcards are always served",
        "serve"),
    Key("tls", Reader(_tls, f"one of {', '.join(_TLS)}, or a mapping", _TLS[0],
        (("", TLS_KEYS), *_ORIGINS.items())), Tls(), SETUP,
        "The certificate: one that setup makes on the host, none (quote `off`: YAML reads it as false), or yours",
        '"off"'),
    Key("max_body", keys.text(formats.BODY_SIZE), "20m", SETUP,
        'The largest body of a request, such as an upload; nginx answers 413 to a larger one. "0" is no limit', "200m"),
    Key("timeout", keys.integer(1, 86400), None, SETUP,
        "Seconds that a request may take, and that a WebSocket or an event stream may be silent; nginx answers 504 to "
        "a longer one. Without it, `drain`, and 30 at least. Also a setting of gunicorn's sync workers, which only a "
        "deploy changes", "120"),
    Key("hsts", keys.integer(0, 315360000), None, SETUP,
        "Seconds for which a browser that was here uses HTTPS alone, and demands a good certificate. 0 takes it back",
        "63072000"),
    Key("error_page", keys.text(formats.FILE), None, SETUP,
        "The HTML page, a file on your machine, that clients get with 502 and 504: the service does not answer",
        "pages/502.html"),
    Key("trusted_proxies", Reader(_trusted, _NETWORK_LIST, "[10.0.0.0/8]"), (), SETUP,
        "The networks of balancers and proxies in front, whose `X-Forwarded-For` and `X-Forwarded-Proto` count"),
    Key("allow", Reader(_networks, _NETWORK_LIST, "[192.0.2.0/24]"), (), SETUP,
        "The networks of the clients that are served; all others get 403"),
    Key("basic_auth", keys.text(formats.FILE), None, SETUP,
        "The names and hashed passwords of those who are let in, a file on your machine that only you may read",
        "users.htpasswd"),
    Key("client_ca", keys.text(formats.FILE), None, SETUP,
        "The CA, a file on your machine, one of whose certificates a client must show; all others get 403. The "
        "application gets the subject as `X-Client-Subject`", "tls/clients.pem"),
    Key("rate", Reader(_rate, "a mapping", "", (("", RATE_KEYS),)), None, SETUP,
        "The requests of each client's address; nginx answers 429 to more"),
    Key("balancer_check", keys.boolean(), False, SETUP,
        "The path of `health` answers to a balancer that asks for an address of the host or for no name, by HTTP too, "
        "with the status alone", "true"),
    Key("static", Reader(_static, f"a mapping, each {formats.URL_FOLDER.expected}, to {formats.SHARED.expected}",
        "{/static/: app/static}"), (), SETUP,
        "Directories of `service/` whose files nginx serves itself, each at the path of its URLs"),
    Key("extra", keys.text(formats.FILE), None, SETUP,
        "Lines of nginx for the server block, a file on your machine; `nginx -t` decides", "nginx/extra.conf"),
)  # fmt: skip


def nginx(node: Node) -> Nginx:
    """Read the nginx in front of the service."""
    values = keys.read(node, NGINX_KEYS)
    nginx = Nginx(names=values.pop("server_name"), **values)
    if nginx.tls.mode == "off":
        _refuse_tls_keys(nginx, schema.entries(node))
    if nginx.tls.mode == "acme":
        _refuse_wildcards(schema.entries(node)["server_name"])
    if nginx.path:
        _require_shareable(nginx, schema.entries(node))
    return nginx


def _require_shareable(nginx: Nginx, fields: Mapping[str, Node]) -> None:
    """Refuse keys that belong to the whole name, where `path` is set."""
    if nginx.client_ca:
        message = "client_ca is asked before nginx knows the path, so it cannot be of one path alone"
        raise schema.refuse(fields["client_ca"], message, "remove client_ca or path")
    if nginx.tls.mode == "acme":
        message = "acme gets one certificate for a name, and with path the name has several services"
        raise schema.refuse(fields["tls"], message, "let certbot of the host keep the pair: tls: {on_host: ...}")


def _refuse_wildcards(node: Node) -> None:
    """Refuse a wildcard, for which the CA would ask by DNS."""
    for item in node.items if isinstance(node, Sequence) else ():
        if isinstance(item, Scalar) and item.text.startswith("*."):
            fix = "name each host name, or get the certificate by DNS, with tls: {on_host: ...}"
            raise schema.refuse(item, f"acme asks by HTTP, which cannot prove {item.text}", fix)


def _refuse_tls_keys(nginx: Nginx, fields: Mapping[str, Node]) -> None:
    """Refuse keys that need TLS at this nginx."""
    balancer = "a balancer that has the TLS can do it"
    for key, why in (
        ("hsts", "asks for HTTPS"),
        ("basic_auth", "would send passwords in plain HTTP"),
        ("client_ca", "asks for a certificate of TLS"),
    ):
        if getattr(nginx, key) is not None:
            message = f'{key} {why}, and tls is "off"'
            raise schema.refuse(fields[key], message, f"remove {key}, or let nginx have a certificate; {balancer}")
