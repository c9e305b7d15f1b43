"""Which of several services keeps the server block of their name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from templates.host import name_keeper, shared_name
from templates.host.files import RootFiles
from templates.host.run import Refused

TERMS = {"server_name": "a.example", "tls": "self-signed"}


class Changes:
    """Stands in for RootFiles: it writes and removes at once."""

    def replace(self, files: dict[str, tuple[bytes, int]]) -> None:
        """Write files."""
        for path, (data, mode) in files.items():
            assert mode == 0o644
            Path(path).write_bytes(data)

    def remove(self, path: str) -> None:
        """Remove a file."""
        Path(path).unlink()


class Host:
    """The directories of nginx, and what setup writes there for a service."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        (root / "conf.d").mkdir()
        monkeypatch.setattr(name_keeper, "CHOICES", f"{root}/conf.d")
        monkeypatch.setattr(name_keeper, "FOLDER", f"{root}/loop")
        # The text on the host names /etc, and the block is below `root`.
        monkeypatch.setattr(name_keeper, "block", self.block)
        monkeypatch.setattr(name_keeper, "_KEEPER", re.compile(rf"^include {root}/([a-z]+)\.con\[f\];$", re.MULTILINE))

    def block(self, name: str) -> str:
        """Return the path of a service's server block."""
        return f"{self.root}/{name}.conf"

    def set_up(self, name: str, host: str = "a.example", **terms: str) -> None:
        """Do what setup does for a service."""
        shared: dict[str, Any] = {"server": host, "path": f"/{name}", "terms": {**TERMS, **terms}}
        shared_name.check(name, shared)
        self.write(name, shared)
        shared_name.choose_keeper(changes(), name, shared)

    def write(self, name: str, shared: dict[str, Any]) -> None:
        """Write the files of a service."""
        folder = self.root / "loop" / shared["server"]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.location").write_text(f"# nginx.path: {shared['path']}\n")
        Path(self.block(name)).write_text("".join(f"# nginx.{key}: {one}\n" for key, one in shared["terms"].items()))

    def forget(self, name: str, host: str = "a.example") -> None:
        """Remove the files of a service."""
        (self.root / "loop" / host / f"{name}.location").unlink()
        Path(self.block(name)).unlink()


def known(host: Host) -> set[str]:
    """Return the files that the services' records name."""
    return {str(path) for path in (host.root / "loop").rglob("*.location") if path.stem != "evil"}


def changes() -> RootFiles:
    found: Any = Changes()
    return found  # type: ignore[no-any-return]


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(tmp_path, monkeypatch)


def test_the_first_keeps_the_name_until_it_leaves(host: Host) -> None:
    for name in ("shop", "cart", "news"):
        host.set_up(name)
        assert name_keeper.find("a.example") == "shop"
    host.forget("shop")
    shared_name.leave("shop", "run")
    assert name_keeper.find("a.example") == "cart"
    host.forget("news")
    shared_name.leave("news", "run")
    assert name_keeper.find("a.example") == "cart"
    host.forget("cart")
    shared_name.leave("cart", "run")
    assert (name_keeper.find("a.example"), [*host.root.iterdir()]) == ("", [host.root / "conf.d"])
    assert shared_name.as_written() == ()


def test_a_service_with_another_name_leaves_the_former_to_the_others(host: Host) -> None:
    host.set_up("shop")
    host.set_up("cart")
    host.forget("shop")
    host.set_up("shop", "b.example")
    assert [name_keeper.find(name) for name in ("a.example", "b.example")] == ["cart", "shop"]
    host.forget("shop", "b.example")
    shared_name.choose_keeper(changes(), "shop", {})
    assert [name_keeper.find(name) for name in ("a.example", "b.example")] == ["cart", ""]


def test_a_name_whose_keeper_has_lost_its_server_block_gets_another_keeper(host: Host) -> None:
    host.set_up("shop")
    Path(host.block("shop")).unlink()
    host.set_up("cart")
    assert name_keeper.find("a.example") == "cart"


@pytest.mark.parametrize("text", ["", "# nothing\n", "include {evil}.con[f];\n", "{written}deny all;\n"])
def test_an_edited_file_is_no_written_one_and_setup_writes_it_anew(host: Host, text: str) -> None:
    host.set_up("shop")
    host.set_up("cart")
    path = host.root / "conf.d/loop-a.example.conf"
    written = path.read_text()
    shared = {"server": "a.example", "path": "/shop", "terms": TERMS}
    assert shared_name.wanted("shop", shared) == {str(path): written.encode()}
    assert (shared_name.as_written(), shared_name.strays(shared, known(host))) == ((str(path),), [])
    # A server block that no service of the name has.
    Path(host.block("evil")).write_text("")
    path.write_text(text.format(evil=f"{host.root}/evil", written=written))
    assert shared_name.wanted("shop", shared) == {str(path): written.encode()}
    assert shared_name.as_written() == ()
    other = {"server": "b.example", "path": "/news", "terms": TERMS}
    assert shared_name.strays(other, known(host)) == [str(path)]
    host.set_up("shop")
    assert path.read_text() == written


def test_what_no_setup_wrote_beside_the_services_is_strange(host: Host) -> None:
    host.set_up("shop")
    host.set_up("news", "b.example")
    shared = {"server": "a.example", "path": "/shop", "terms": TERMS}
    own = host.root / "conf.d/loop-own.conf"
    strange = [host.root / "conf.d/loop-c.example.conf", host.root / "loop/a.example/evil.location"]
    for path in (own, *strange):
        path.write_text("")
    # A service may have such a name itself.
    assert shared_name.strays(shared, {*known(host), str(own)}) == [str(path) for path in strange]
    assert shared_name.strays({}, known(host)) == []
    # A remove that was killed leaves a file that names a service which is gone.
    host.forget("news", "b.example")
    assert str(host.root / "conf.d/loop-b.example.conf") in shared_name.strays(shared, known(host))
    assert str(host.root / "conf.d/loop-b.example.conf") in shared_name.as_written()


def test_a_path_is_of_one_service(host: Host) -> None:
    host.set_up("shop")
    host.set_up("shop")
    with pytest.raises(Refused, match=r"shop on this host has the path /shop of a\.example already"):
        shared_name.check("cart", {"server": "a.example", "path": "/shop", "terms": TERMS})
    shared_name.check("cart", {"server": "b.example", "path": "/shop", "terms": TERMS})
    shared_name.check("cart", {})


def test_who_keeps_the_name_may_change_its_terms_and_the_others_follow(host: Host) -> None:
    host.set_up("shop")
    host.set_up("cart")
    with pytest.raises(Refused, match=r"agree in nginx.tls, and for a.example shop has self-signed, cart off"):
        host.set_up("cart", tls="off")
    host.set_up("shop", tls="off")
    with pytest.raises(Refused, match="shop has off, cart self-signed"):
        host.set_up("cart")
    host.set_up("cart", tls="off")
