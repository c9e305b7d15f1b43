"""Two services of one host behind one name, each below its path."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.certificates import Authority, serial
from tests.support.clone import Clone, hurried, make
from tests.support.front_door import NAME, ask, spoken
from tests.support.hosts import Hosts, MakeHosts
from tests.support.one_name import check, check_outside, put
from tests.support.waiting import until

CHOICE = f"/etc/nginx/conf.d/loop-{NAME}.conf"
KEPT = "/etc/ssl/kept"


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


@pytest.fixture(scope="module")
def pair(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    hosts, clones = module_hosts(), []
    for name in ("shop", "cart"):
        clone = hurried(make(tmp_path_factory.mktemp(name)))
        clone.inventory = hosts.inventory
        put(clone, name).done("deploy", "-H", "shire01")
        clones.append(clone)
    return Pair(hosts, *clones)


def test_each_has_its_path_and_knows_it(pair: Pair) -> None:
    for name, clone in (("shop", pair.shop), ("cart", pair.cart)):
        check(pair.address, name, clone.release())
        assert clone.done("status", "-H", "shire01").err == ""
        assert clone.done("drift", "-H", "shire01").err == ""
        assert f"{name} at https://{NAME}/{name}" in clone.done("hosts").out
    check_outside(pair.address)
    assert ask(pair.address, "/shop/echo", "www.myapp.example").headers["location"] == f"https://{NAME}/shop/echo"
    logged = pair.hosts[0].sh("journalctl --sync; journalctl -q -o cat -t cart_nginx").stdout.decode()
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
    # Once: nginx went where the answer of the other service led it, past what refuses clients there.
    led = ask(pair.address, "/cart/lead")
    assert (led.status, led.body) == (200, b"not led")
    put(pair.shop, "shop", rate={"requests": "1/m", "burst": 1}).done("setup", "-H", "shire01")
    assert [ask(pair.address, "/shop/echo").status for _ in range(3)] == [200, 200, 429]
    assert ask(pair.address, "/cart/echo").status == 200


def drift(clone: Clone, *words: str) -> dict[str, Any]:
    """Return path to finding, of those that are drift."""
    found = clone.fab("drift", "-H", "shire01", "--json", *words).json()["hosts"][0]["findings"]
    return {one["path"]: one for one in found if one["drift"]}


def test_what_root_wrote_for_the_name_is_watched_and_setup_mends_it(pair: Pair) -> None:
    machine, folder = pair.hosts[0], f"/etc/nginx/loop/{NAME}"
    strange, other = f"{folder}/evil.location", "/etc/nginx/conf.d/loop-other.example.conf"
    old = spoken(pair.address, NAME) == "http/1.1"
    kinds = {
        CHOICE: "edited",
        strange: "extra",
        other: "extra",
        "/etc/cart/nginx/addresses.conf": "edited",
        "/etc/cart/nginx/http2.conf": "extra" if old else "edited",
    }
    written = machine.sh(f"cat {CHOICE}").stdout
    machine.sh(f"for path in {' '.join(kinds)} /etc/cart/check/map; do echo '# by night' >>$path; done")
    found = drift(pair.cart)
    assert {path: one["kind"] for path, one in found.items()} == kinds
    assert [path for path, one in found.items() if "+# by night" not in one["diff"]] == []
    assert drift(pair.cart, "--as", "root").keys() - found.keys() == {"/etc/cart/check/map"}
    assert CHOICE in drift(pair.shop)
    refused = pair.cart.fab("setup", "-H", "shire01")
    assert (refused.status, f"edited on this host since setup wrote it: {CHOICE}" in refused.out) == (1, True)
    machine.sh(f"rm {strange} {other}")
    ended = pair.cart.done("setup", "-H", "shire01", "--overwrite")
    assert f"{CHOICE} was not as setup wrote it; a copy is kept as /var/backups" in ended.both
    assert machine.sh(f"cat {CHOICE}").stdout == written
    assert drift(pair.cart, "--as", "root") == {}
    machine.sh(f"rm {CHOICE}")
    assert {path: one["kind"] for path, one in drift(pair.shop).items()} == {CHOICE: "missing"}
    pair.shop.done("setup", "-H", "shire01")
    assert machine.sh(f"cat {CHOICE}").stdout == written
    assert drift(pair.shop) == {}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The authority that the clients of these tests trust."""
    return Authority(tmp_path_factory.mktemp("ca"))


def change_tls(pair: Pair, tls: dict[str, object]) -> None:
    """Set both up with another kind of certificate, the keeper of the name first."""
    for name, clone in (("shop", pair.shop), ("cart", pair.cart)):
        put(clone, name, tls=tls).done("setup", "-H", "shire01")
        assert drift(clone, "--as", "root") == {}
    for name in ("shop", "cart"):
        assert ask(pair.address, f"/{name}/echo").status == 200


def serials(pair: Pair, authority: Authority) -> set[str]:
    """Return the serial numbers of the certificates that are shown for the names."""
    return {serial(pair.address, authority.certificate, name) for name in (NAME, "www.myapp.example")}


def shown(pair: Pair, authority: Authority) -> str:
    """Return the serial number of the certificate that is shown, for each of the names."""
    (one,) = serials(pair, authority)
    return one


def test_a_pair_that_the_host_keeps_is_shown_for_both_and_renewed(pair: Pair, authority: Authority) -> None:
    def keep() -> None:
        certificate, key = authority.folder / "kept.pem", authority.folder / "kept.key"
        authority.issue(certificate, key, f"{NAME},DNS:www.myapp.example")
        pair.hosts[0].sh(f"cat >{KEPT}.new && mv {KEPT}.new {KEPT}", key.read_bytes() + certificate.read_bytes())

    keep()
    change_tls(pair, {"on_host": {"certificate": KEPT, "key": KEPT}})
    before = shown(pair, authority)
    keep()
    until(lambda: before not in serials(pair, authority))
    assert shown(pair, authority) != before
    for clone in (pair.shop, pair.cart):
        assert clone.done("status", "-H", "shire01", "--json").json()["hosts"][0]["certificate_days"] in {29, 30}


def test_a_certificate_of_a_ca_is_renewed_for_the_one_that_is_shown(pair: Pair, authority: Authority) -> None:
    for clone in (pair.shop, pair.cart):
        for name in ("ca.pem", "ca.key"):
            clone.write(f"tls/{name}", (authority.folder / name).read_text())
            (clone.root / "tls" / name).chmod(0o600)
    change_tls(pair, {"ca": {"certificate": "tls/ca.pem", "key": "tls/ca.key"}})
    before = shown(pair, authority)
    pair.cart.done("cert", "-H", "shire01", "--rotate")
    assert shown(pair, authority) == before
    pair.shop.done("cert", "-H", "shire01", "--rotate")
    assert shown(pair, authority) != before
    for clone in (pair.shop, pair.cart):
        assert "nginx shows another certificate" not in clone.done("status", "-H", "shire01").both


def test_the_keeper_may_leave_and_the_other_stays(pair: Pair, authority: Authority) -> None:
    """The certificate of the other is shown from then on, and its checks ask for it."""
    machine, before = pair.hosts[0], shown(pair, authority)
    assert machine.sh("grep -o '/etc/.*/nginx' /etc/nginx/conf.d/loop-*.conf").stdout == b"/etc/shop/nginx\n"
    pair.shop.done("remove", "-H", "shire01", "--yes")
    assert [ask(pair.address, f"/{name}/echo").status for name in ("shop", "cart")] == [404, 200]
    assert shown(pair, authority) != before
    pair.cart.write("service/changed.txt", "changed\n")
    pair.cart.done("deploy", "-H", "shire01")
    assert json.loads(ask(pair.address, "/cart/echo").body)["release"] == pair.cart.release()
    pair.cart.done("remove", "-H", "shire01", "--yes")
    assert machine.sh("ls /etc/nginx/conf.d /etc/nginx/loop 2>/dev/null; nginx -t -q && echo fine").stdout.endswith(
        b"/etc/nginx/conf.d:\nfine\n"
    )
