"""Two services of one host behind one name, each below its path."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest

from tests.support.clone import Clone, make
from tests.support.echo_service import APP, description
from tests.support.front_door import NAME, ask
from tests.support.hosts import Hosts, MakeHosts

PAGES = """

from flask import redirect, url_for


@app.get("/go")
def go():
    return redirect(url_for("healthz", _external=True))
"""
SHARED = {"server_name": [NAME, "www.myapp.example"], "hsts": 300, "error_page": "pages/502.html"}


@dataclass(frozen=True)
class Pair:
    """Two clones, of the services `shop` and `cart`, on one host."""

    hosts: Hosts
    shop: Clone
    cart: Clone

    @property
    def address(self) -> str:
        """The address of the host."""
        return self.hosts[0].address


def put(clone: Clone, name: str, **nginx: object) -> Clone:
    """Write the service of this name, below the path of that name."""
    given = {**SHARED, "path": f"/{name}", "static": {"/static/": "static"}, "balancer_check": True, **nginx}
    present = {key: value for key, value in given.items() if value is not None}
    clone.write("service/echo.py", APP + PAGES)
    clone.write("service/static/name.txt", name)
    clone.write("pages/502.html", f"<p>{name} is down")
    clone.write("service/service.yaml", description(name=name, nginx=present))
    return clone


@pytest.fixture(scope="module")
def pair(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    hosts, clones = module_hosts(), []
    for name in ("shop", "cart"):
        clone = make(tmp_path_factory.mktemp(name))
        clone.inventory = hosts.inventory
        put(clone, name).done("deploy", "-H", "shire01")
        clones.append(clone)
    return Pair(hosts, *clones)


def test_each_has_its_path_and_knows_it(pair: Pair) -> None:
    for name, clone in (("shop", pair.shop), ("cart", pair.cart)):
        answer = ask(pair.address, f"/{name}/echo")
        told = json.loads(answer.body)
        assert told["release"] == clone.release()
        assert told["headers"]["X-Forwarded-Prefix"] == f"/{name}"
        assert answer.headers["strict-transport-security"] == "max-age=300"
        assert ask(pair.address, f"/{name}/go").headers["location"] == f"https://{NAME}/{name}/healthz"
        moved = ask(pair.address, f"/{name}?a=b")
        assert (moved.status, moved.headers["location"]) == (301, f"https://{NAME}/{name}/?a=b")
        assert ask(pair.address, f"/{name}/static/name.txt").body == name.encode()
        assert ask(pair.address, f"/{name}/static/none.txt").status == 404
        assert ask(pair.address, f"/{name}/healthz", pair.address, 80).status == 200
        assert clone.done("status", "-H", "shire01").err == ""
        assert clone.done("drift", "-H", "shire01").err == ""
        assert f"{name} at https://{NAME}/{name}" in clone.done("hosts").out
    for path in ("/", "/echo", "/shopping/echo", "/shop/../cart/echo", "/%73hop/echo", "/healthz"):
        assert ask(pair.address, path).status == 404, path
    assert ask(pair.address, "/shop/echo", "www.myapp.example").headers["location"] == f"https://{NAME}/shop/echo"
    logged = pair.hosts[0].sh("journalctl -q -o cat -t cart_nginx").stdout.decode()
    assert "/cart/echo" in logged
    assert "/shop/echo" not in logged


def test_maintenance_and_errors_are_of_one_of_them(pair: Pair) -> None:
    pair.cart.done("maintenance", "on", "-H", "shire01")
    assert [ask(pair.address, f"/{name}/echo").status for name in ("shop", "cart")] == [200, 503]
    assert b"nginx" not in ask(pair.address, "/cart/echo").body
    assert [ask(pair.address, f"/{name}/static/name.txt").status for name in ("shop", "cart")] == [200, 503]
    pair.cart.done("maintenance", "off", "-H", "shire01")
    pair.cart.done("stop", "-H", "shire01")
    assert [ask(pair.address, f"/{name}/echo").status for name in ("shop", "cart")] == [200, 502]
    assert ask(pair.address, "/cart/echo").body == b"<p>cart is down"
    pair.cart.done("start", "-H", "shire01")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"path": "/shop"}, "shop on this host has the path /shop of myapp.example already"),
        ({"hsts": 600}, "agree in nginx.hsts, and for myapp.example shop has 300, cart 600"),
        ({"server_name": NAME}, "agree in nginx.server_name"),
        ({"path": None, "static": None, "balancer_check": None}, "another site of this nginx has the name"),
    ],
)
def test_what_cannot_be_beside_the_other_is_refused(pair: Pair, change: dict[str, object], told: str) -> None:
    put(pair.cart, "cart", **change)
    ended = pair.cart.fab("setup", "-H", "shire01")
    assert ended.status == 1
    assert told in " ".join(ended.both.split())
    put(pair.cart, "cart")
    assert [ask(pair.address, f"/{name}/echo").status for name in ("shop", "cart")] == [200, 200]


def test_some_are_refused_below_one_path(pair: Pair) -> None:
    put(pair.shop, "shop", allow=["192.0.2.0/24"], rate={"requests": "1/m", "burst": 1})
    pair.shop.done("setup", "-H", "shire01")
    for path in ("/shop/echo", "/shop/static/name.txt"):
        assert ask(pair.address, path).status == 403
    assert ask(pair.address, "/cart/echo").status == 200
    put(pair.shop, "shop", rate={"requests": "1/m", "burst": 1}).done("setup", "-H", "shire01")
    assert [ask(pair.address, "/shop/echo").status for _ in range(3)] == [200, 200, 429]
    assert ask(pair.address, "/cart/echo").status == 200


def test_the_keeper_may_leave_and_the_other_stays(pair: Pair) -> None:
    """The certificate of the other is shown from then on, and its checks ask for it."""
    machine = pair.hosts[0]
    assert machine.sh("grep -o '/etc/.*/nginx' /etc/nginx/conf.d/loop-*.conf").stdout == b"/etc/shop/nginx\n"
    pair.shop.done("remove", "-H", "shire01", "--yes")
    assert [ask(pair.address, f"/{name}/echo").status for name in ("shop", "cart")] == [404, 200]
    pair.cart.write("service/changed.txt", "changed\n")
    pair.cart.done("deploy", "-H", "shire01")
    assert json.loads(ask(pair.address, "/cart/echo").body)["release"] == pair.cart.release()
    pair.cart.done("remove", "-H", "shire01", "--yes")
    assert machine.sh("ls /etc/nginx/conf.d /etc/nginx/loop 2>/dev/null; nginx -t -q && echo fine").stdout.endswith(
        b"/etc/nginx/conf.d:\nfine\n"
    )
