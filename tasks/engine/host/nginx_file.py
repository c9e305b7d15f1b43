"""Render the nginx file of a service; a comment at the end of a line names the key that made it. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

from tasks.engine import quote
from tasks.engine.config import formats
from tasks.engine.config.gateway import Nginx
from tasks.engine.config.service import Service
from tasks.engine.host import layout, shared_name, templates

_PLACES = {
    "error_page": ("error.html", 0o644),
    "extra": ("extra.conf", 0o600),
    # Setup gives a file of this mode to the group of nginx's workers.
    "basic_auth": ("users", 0o640),
    "client_ca": ("clients.pem", 0o644),
    # nginx does not read it: setup compares it, and issues a certificate anew if the CA is another one.
    "ca": ("ca.pem", 0o644),
}
_KEYS = ("trusted_proxies", "allow", "basic_auth", "client_ca", "rate", "error_page", "static", "extra")
"""The keys with parts of their own, in this order."""
_PARTS = frozenset(
    {"redirect", "trusted_proxies", "trusted_proxies_maps", "allow_maps", "refuse", "basic_auth", "basic_auth_maps"}
    | {"client_ca", "client_ca_maps", "rate", "rate_maps", "rate_limit", "error_page", "extra"}
    | {"static", "static_maps", "static_miss"}
)
# Words that a `map` takes for its own settings, not for values to match: a name among them is escaped.
_MAP_WORDS = frozenset({"default", "hostnames", "include", "volatile"})


def place(service: Service, key: str) -> tuple[str, int]:
    """Return the path on the host and the mode of a file that a key names."""
    name, mode = _PLACES[key]
    return f"/etc/{service.name}/nginx/{name}", mode


def render(service: Service, *, ipv6: bool) -> dict[str, str]:
    """Return nginx's own files of a service, by path. ipv6: the host has such addresses."""
    nginx = service.nginx
    assert nginx is not None
    values = _values(service, nginx, ipv6=ipv6)
    if nginx.path:
        return shared_name.render(service, nginx, values)
    values |= _filled(values, "maps", "proxy")
    template = "nginx/plain.conf" if nginx.tls.mode == "off" else "nginx/tls.conf"
    return {f"/etc/nginx/conf.d/{service.name}.conf": templates.fill(template, **values)}


def _values(service: Service, nginx: Nginx, *, ipv6: bool) -> dict[str, str]:
    """Return what the templates need, but for the maps and the locations."""
    header = f'add_header Strict-Transport-Security "max-age={nginx.hsts}" always;  # nginx.hsts'
    hsts = header if nginx.hsts is not None else ""
    values = {
        "name": service.name,
        # The prefix keeps ours apart from nginx's own: `arg_page` would be an argument of every site's requests.
        "variable": f"loop_{service.name.replace('-', '_')}",
        "root": layout.root(service),
        "hsts": f"\n    {hsts}" if hsts else "",
        # In nginx an add_header in a location disables those of the server block, so a location repeats it.
        "hsts_within": f"\n        {hsts}" if hsts else "",
        "max_body": quote.nginx(nginx.max_body),
        "timeout": f"{layout.gateway_timeout(service)}s",
        "timeout_key": "nginx.timeout" if nginx.timeout else "nginx.timeout is not set: drain, 30 at least",
        "server_names": " ".join(map(quote.nginx_name, nginx.names)),
        "served_as": "\n".join(f"    {_map_key(name)} {served};" for name, served in _served_as(nginx)),
        # A pair of the host's own is one file, so that a rename changes both.
        "certificate": f"/etc/{service.name}/tls/{'pair' if nginx.tls.kept_on_host else 'certificate'}.pem",
        "certificate_key": f"/etc/{service.name}/tls/{'pair' if nginx.tls.kept_on_host else 'key'}.pem",
        "certificate_from": f"  # nginx.tls.{nginx.tls.mode}" if nginx.tls.kept_on_host else "",
        "acme": templates.fill("nginx/acme.conf", name=service.name) if nginx.tls.mode == "acme" else "",
        "tag": layout.nginx_tag(service),
        "listen_80_ipv6": "\n    listen [::]:80;" if ipv6 else "",
        "listen_443_ipv6": "\n    listen [::]:443 ssl;" if ipv6 else "",
    }
    values |= _about_clients(nginx, values["variable"])
    values |= _below(nginx, values)
    values |= _about_static_files(nginx, values)
    values |= _parts(nginx, values)
    return values | _balancer(service, values)


def _parts(nginx: Nginx, values: Mapping[str, str]) -> dict[str, str]:
    """Return the parts of the keys, empty where a key is not set. A part may hold those before it."""
    found: dict[str, str] = {}
    wanted_parts = {"redirect": nginx.redirected, "refuse": values["refusals"] and not nginx.path}
    for part in (*wanted_parts, *_KEYS):
        wanted = wanted_parts[part] if part in wanted_parts else getattr(nginx, part)
        for name in (part, f"{part}_maps", f"{part}_limit", f"{part}_miss"):
            found[name] = _part(name, {**values, **found}) if wanted and name in _PARTS else ""
    return found


def _part(name: str, values: Mapping[str, str]) -> str:
    """Return the lines of a part, to stand after others."""
    return "\n" + templates.fill(f"nginx/{name}.conf", **values).rstrip("\n")


def _filled(values: Mapping[str, str], *parts: str) -> dict[str, str]:
    return {part: templates.fill(f"nginx/{part}.conf", **values).rstrip("\n") for part in parts}


def _below(nginx: Nginx, values: Mapping[str, str]) -> dict[str, str]:
    """Return the values of `path`; empty strings without it."""
    path = quote.nginx(nginx.path) if nginx.path else ""
    within = {**values, "path": path, "path_pattern": path.replace(".", r"\.")}
    outside = _part("outside", within) if path else ""
    led = _part("led", within) if path else ""
    refuse = textwrap.indent(_part("refuse", values), "    ") if path and values["refusals"] else ""
    return {"path": path, "prefix": path or '""', "outside": outside, "led": led, "refuse_within": refuse}


def _about_clients(nginx: Nginx, variable: str) -> dict[str, str]:
    """Return the values of the keys by which clients are told apart, trusted and refused."""
    refusing = [(f"nginx.{key}", f"${variable}_{word}")
                for key, word in (("allow", "refused"), ("client_ca", "unknown")) if getattr(nginx, key)]  # fmt: skip
    number, unit = formats.split_rate(nginx.rate.requests) if nginx.rate else (1, "s")
    burst = number if nginx.rate is None or nginx.rate.burst is None else nginx.rate.burst
    return {
        "trusted": "".join(f"\n    set_real_ip_from {quote.nginx(network)};" for network in nginx.trusted_proxies),
        "trusted_ones": "\n".join(f"    {quote.nginx(network)} 1;" for network in nginx.trusted_proxies),
        "allowed": "\n".join(f"    {quote.nginx(network)} 0;" for network in nginx.allow),
        "refuse_keys": " and ".join(key for key, _ in refusing),
        "refusals": "".join(word for _, word in refusing),
        "scheme": f"${variable}_scheme" if nginx.trusted_proxies else "$scheme",
        "client_subject": "$ssl_client_s_dn" if nginx.client_ca else '""',
        "requests": f"{number}r/{unit}",
        # nginx refuses `burst=0`, which is what it does without the word.
        "burst": f" burst={burst} nodelay" if burst else "",
        "retry_after": str(1 if unit == "s" else -(-60 // number)),
    }


def _about_static_files(nginx: Nginx, values: Mapping[str, str]) -> dict[str, str]:
    """Return the values of `static`. caches: who may keep a file, any cache (public) or the client's own (private)."""
    locations = [
        templates.fill("nginx/static_location.conf", **values, url=quote.nginx(url)).rstrip("\n")
        for url, _ in nginx.static_urls
    ]
    # Below a path nginx would run these lines in one location alone: there they stand above it.
    slot = "" if nginx.path else templates.fill("nginx/slot.conf", **values)
    caches = "private" if nginx.is_closed else "public"
    return {"static_locations": "\n".join(locations), "caches": caches, "slot": slot}


def _balancer(service: Service, values: Mapping[str, str]) -> dict[str, str]:
    """Return the parts of balancer_check: where a balancer asks, and what else is answered there."""
    assert service.nginx is not None
    if not service.nginx.balancer_check:
        empty = dict.fromkeys(("balancer_check", "balancer_listen", "balancer_names", "balancer_server"), "")
        return {**empty, "nobody": "    return 444;", "balancer_file": ""}
    within = {**values, "health_path": quote.nginx(service.health.path), "server_name": service.nginx.server_name}
    file = templates.fill("nginx/balancer_check.conf", **within)
    check = templates.fill("nginx/balancer_include.conf", **within) if service.nginx.path else file
    within["balancer_names"] = "\n" + templates.fill("nginx/balancer_names.conf", **within).rstrip("\n")
    within["nobody"] = f"{check}    location / {{ return 444; }}"
    listen = f"\n    listen 80;{values['listen_80_ipv6']}"
    server = templates.fill("nginx/balancer_server.conf", **within)
    found = {name: within[name] for name in ("balancer_names", "nobody")}
    shown = {"balancer_check": check, "balancer_listen": listen, "balancer_server": server}
    return {**found, **shown, "balancer_file": file}


def _served_as(nginx: Nginx) -> list[tuple[str, str]]:
    """Return each name, and the one that it is served as: the canonical one, if it is redirected."""
    canonical = quote.nginx(nginx.server_name)
    served = [(name, canonical if name in nginx.redirected else "$host") for name in nginx.names[1:]]
    return [(canonical, canonical), *served]


def _map_key(name: str) -> str:
    return f"\\{name}" if name in _MAP_WORDS else quote.nginx_name(name)
