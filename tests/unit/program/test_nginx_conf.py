"""What nginx's own configuration says of its workers and of conf.d."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from templates.host import accounts, nginx_conf, nginx_site, programs
from templates.host.accounts import Account
from templates.host.run import Refused

SOCKET = b"[Socket]\nSocketGroup=www-data\nSocketMode=0660\n"
OURS = "/etc/nginx/conf.d/shop.conf"


def written(monkeypatch: pytest.MonkeyPatch, folder: Path, text: str, *there: str) -> None:
    """Stand in for a host with this nginx.conf, and with these accounts."""
    (folder / "nginx.conf").write_text(text)
    monkeypatch.setattr(nginx_conf, "FOLDER", str(folder))
    monkeypatch.setattr(accounts, "find", lambda name: Account(name, 1, 1) if name in there else None)


BOTH = ("www-data", "nginx")


@pytest.mark.parametrize(
    ("text", "there", "names"),
    [
        ("user www-data;\n", BOTH, ("www-data",)),
        ("# user www-data;\nuser  nginx;\n", BOTH, ("nginx",)),
        ("  user nginx web;\n", BOTH, ("nginx",)),
        ("user nginx;\n", ("www-data",), ()),
        ("user site;\n", BOTH, ()),
        ("events {}\n", BOTH, BOTH),
        ("", ("nginx",), ("nginx",)),
    ],
)
def test_the_account_is_that_of_nginx_conf(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, there: tuple[str, ...], names: tuple[str, ...]
) -> None:
    written(monkeypatch, tmp_path, text, *there)
    assert accounts.web_names() == names
    if names:
        assert accounts.of_nginx().name == names[0]
        return
    with pytest.raises(Refused, match=r"nginx's workers run as .* on this host, and must run as www-data or nginx"):
        accounts.of_nginx()


def test_without_nginx_the_accounts_that_exist_are_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    written(monkeypatch, tmp_path, "", "www-data")
    (tmp_path / "nginx.conf").unlink()
    assert accounts.web_names() == ("www-data",)


def test_a_pipe_in_the_place_of_nginx_conf_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where an account may edit /etc/nginx, root waited there for ever, in facts as in a setup."""
    os.mkfifo(tmp_path / "nginx.conf")
    monkeypatch.setattr(nginx_conf, "FOLDER", str(tmp_path))
    look = threading.Thread(target=nginx_conf.worker, daemon=True)
    look.start()
    look.join(20)
    assert not look.is_alive()


def test_a_file_of_line_feeds_is_read_in_a_moment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where an account may edit /etc/nginx, root looked for minutes, in a setup with the lock of changes."""
    empty = "\n" * 200_000
    written(monkeypatch, tmp_path, f"{empty}\tuser\n nginx;", *BOTH)
    dumped(monkeypatch, f"{empty}http {{ }}{empty}include conf.d/*.conf;")
    began = time.process_time()
    assert nginx_conf.worker() == "nginx"
    assert nginx_conf.reads(f"{tmp_path}/conf.d/shop.conf")
    assert time.process_time() - began < 5


def dumped(monkeypatch: pytest.MonkeyPatch, text: str, status: int = 0) -> None:
    monkeypatch.setattr(programs, "ask", lambda *_, **__: programs.Completed(status, text))


@pytest.mark.parametrize(
    "text",
    [
        "include /etc/nginx/conf.d/*.conf;",
        "http {\n\tinclude  conf.d/*.conf;\n}",
        "    include '/etc/nginx/conf.d/*';",
        "include /etc/nginx/*.d/*.conf;",
    ],
)
def test_an_include_of_conf_d_is_found(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    dumped(monkeypatch, text)
    assert nginx_conf.reads(OURS)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# include /etc/nginx/conf.d/*.conf;",
        "include /etc/nginx/sites-enabled/*;",
        "include /etc/nginx/*;",
        "include conf.d/default.conf;",
    ],
)
def test_without_one_it_is_not(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    dumped(monkeypatch, text)
    assert not nginx_conf.reads(OURS)
    # What is invalid is told as such, later.
    dumped(monkeypatch, text, 1)
    assert nginx_conf.reads(OURS)


def test_an_nginx_that_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    written(monkeypatch, tmp_path, "user www-data;", "www-data", "nginx")
    monkeypatch.setattr(nginx_conf, "reads", lambda _: True)
    nginx_site.require_fitting("shop", SOCKET)
    written(monkeypatch, tmp_path, "user nginx;", "www-data", "nginx")
    with pytest.raises(Refused, match="run as nginx on this host, which this run did not know: run it again"):
        nginx_site.require_fitting("shop", SOCKET)
    monkeypatch.setattr(nginx_conf, "reads", lambda _: False)
    with pytest.raises(Refused, match=r"does not read .*/conf\.d/shop\.conf: add"):
        nginx_site.require_fitting("shop", SOCKET)
