"""Several services behind one name, each below its path: nginx's files of one of them, and what they agree in. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

from tasks.engine import quote
from tasks.engine.config.gateway import Nginx
from tasks.engine.config.service import Service
from tasks.engine.host import templates


def terms(service: Service) -> dict[str, object]:
    """Return the name, the path, and what all services of the name agree in; empty for one that has the whole name."""
    nginx = service.nginx
    if nginx is None or not nginx.path:
        return {}
    return {"server": nginx.server_name, "path": nginx.path, "terms": _agreed(nginx)}


def _agreed(nginx: Nginx) -> dict[str, str]:
    return {
        "server_name": " ".join(map(quote.nginx_name, nginx.names)),
        "aliases": nginx.aliases,
        "tls": nginx.tls.mode,
        "hsts": "not set" if nginx.hsts is None else str(nginx.hsts),
        "trusted_proxies": " ".join(map(quote.nginx, nginx.trusted_proxies)) or "not set",
        "balancer_check": "true" if nginx.balancer_check else "false",
    }


def render(service: Service, nginx: Nginx, values: Mapping[str, str]) -> dict[str, str]:
    """Return the files by path. values: what nginx's templates need, as for a service that has the whole name."""
    lines = "\n".join(f"# nginx.{key}: {value}" for key, value in _agreed(nginx).items())
    within = {**values, "server_name": quote.nginx(nginx.server_name), "terms": lines}
    trusted = values["trusted_proxies"]
    within |= {"trusted_proxies": "", "slot_above": _slot(nginx, within)}
    within |= {name: _filled(name, within) for name in ("maps", "proxy")}
    folder = f"/etc/nginx/loop/{nginx.server_name}/{service.name}"
    files = {
        f"{folder}.http": within["maps"] + "\n",
        f"{folder}.location": _filled("below", {**within, "extra": textwrap.dedent(values["extra"])}) + "\n",
    }
    if nginx.balancer_check:
        files[f"{folder}.balancer"] = textwrap.dedent(values["balancer_file"])
    above = {**within, "maps": _filled("terms", within), "proxy": f"{trusted}\n{_filled('above', within)}", "extra": ""}
    files[f"/etc/{service.name}/nginx/server.conf"] = (
        _filled("plain" if nginx.tls.mode == "off" else "tls", above) + "\n"
    )
    return files


def _slot(nginx: Nginx, values: Mapping[str, str]) -> str:
    return textwrap.dedent(templates.fill("nginx/slot.conf", **values)) if nginx.static else ""


def _filled(name: str, values: Mapping[str, str]) -> str:
    return templates.fill(f"nginx/{name}.conf", **values).rstrip("\n")
