"""Render the nginx file of a service; a comment at the end of a line names the key that made it. Pure."""

from __future__ import annotations

from tasks.engine import quote
from tasks.engine.config.gateway import Nginx
from tasks.engine.config.service import Service
from tasks.engine.host import layout, templates

_PLACES = {"error_page": ("error.html", 0o644), "extra": ("extra.conf", 0o600)}
# To a `map` these are no values.
_MAP_WORDS = frozenset({"default", "hostnames", "include", "volatile"})


def place(service: Service, key: str) -> tuple[str, int]:
    """Return the path on the host and the mode of a file that a key names."""
    name, mode = _PLACES[key]
    return f"/etc/{service.name}/nginx/{name}", mode


def render(service: Service, *, ipv6: bool) -> str:
    """Return the file. ipv6: the host has such addresses."""
    nginx = service.nginx
    assert nginx is not None
    plain = nginx.tls.mode == "off"
    header = f'add_header Strict-Transport-Security "max-age={nginx.hsts}" always;  # nginx.hsts'
    hsts = header if nginx.hsts is not None else ""
    values = {
        "name": service.name,
        "variable": service.name.replace("-", "_"),
        "root": layout.root(service),
        "hsts": f"\n    {hsts}" if hsts else "",
        # In nginx an add_header in a location disables those of the server block, so a location repeats it.
        "hsts_within": f"\n        {hsts}" if hsts else "",
        "max_body": quote.nginx(nginx.max_body),
        "timeout": f"{layout.gateway_timeout(service)}s",
        "timeout_key": "nginx.timeout" if nginx.timeout else "nginx.timeout is not set: drain, 30 at least",
        "server_names": " ".join(map(quote.nginx_name, nginx.names)),
        "served_as": "\n".join(f"    {_map_key(name)} {served};" for name, served in _served_as(nginx)),
        "tag": layout.nginx_tag(service),
        "listen_80_ipv6": "\n    listen [::]:80;" if ipv6 else "",
        "listen_443_ipv6": "\n    listen [::]:443 ssl;" if ipv6 else "",
    }
    optional = {"redirect": bool(nginx.redirected), "error_page": bool(nginx.error_page), "extra": bool(nginx.extra)}
    for part, wanted in optional.items():
        values[part] = "\n" + templates.fill(f"nginx/{part}.conf", **values).rstrip("\n") if wanted else ""
    parts = {part: templates.fill(f"nginx/{part}.conf", **values).rstrip("\n") for part in ("maps", "proxy")}
    return templates.fill("nginx/plain.conf" if plain else "nginx/tls.conf", **values, **parts)


def _served_as(nginx: Nginx) -> list[tuple[str, str]]:
    """Return each name, and the one that it is served as: the canonical one, if it is redirected."""
    canonical = quote.nginx(nginx.server_name)
    served = [(name, canonical if name in nginx.redirected else "$host") for name in nginx.names[1:]]
    return [(canonical, canonical), *served]


def _map_key(name: str) -> str:
    return f"\\{name}" if name in _MAP_WORDS else quote.nginx_name(name)
