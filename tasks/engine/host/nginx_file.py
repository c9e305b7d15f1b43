"""Render the nginx file of a service; a comment at the end of a line names the key that made it. Pure."""

from __future__ import annotations

from tasks.engine import quote
from tasks.engine.config.gateway import Nginx
from tasks.engine.config.service import Service
from tasks.engine.host import layout, templates


def render(service: Service, *, ipv6: bool) -> str:
    """Return the file. ipv6: the host has such addresses."""
    nginx = service.nginx
    assert nginx is not None
    plain = nginx.tls.mode == "off"
    # In nginx an add_header in a location disables those of the server block, so this repeats HSTS there.
    hsts = "" if plain else '\n        add_header Strict-Transport-Security "max-age=63072000" always;'
    values = {
        "name": service.name,
        "variable": service.name.replace("-", "_"),
        "root": layout.root(service),
        "hsts": hsts,
        "max_body": quote.nginx(nginx.max_body),
        "timeout": f"{layout.gateway_timeout(service)}s",
        "timeout_key": _timeout_key(nginx),
        "server_name": quote.nginx(nginx.server_name),
        "tag": layout.nginx_tag(service),
        "listen_80_ipv6": "\n    listen [::]:80;" if ipv6 else "",
        "listen_443_ipv6": "\n    listen [::]:443 ssl;" if ipv6 else "",
    }
    parts = {part: templates.fill(f"nginx/{part}.conf", **values).rstrip("\n") for part in ("maps", "proxy")}
    return templates.fill("nginx/plain.conf" if plain else "nginx/tls.conf", **values, **parts)


def _timeout_key(nginx: Nginx) -> str:
    return "nginx.timeout" if nginx.timeout is not None else "nginx.timeout is not set: drain, 30 at least"
