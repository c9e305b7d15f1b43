"""A host with other services: they work before, during and after ours."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tasks.engine.sandbox import Machine
from tests.promises.words import NEIGHBOURS
from tests.support.clone import Clone, make
from tests.support.echo_service import deployed, put
from tests.support.front_door import NAME, ask, release_of, spoken
from tests.support.hosts import Hosts
from tests.support.nginx_reload import reload_nginx

FOREIGN = """
server {{
    listen 80{default};
    listen 443 ssl{http2}{default};
    server_name {name};
    ssl_certificate /etc/ssl/foreign.pem;
    ssl_certificate_key /etc/ssl/foreign.key;
    return 200 "the neighbour";
}}
"""


def set_up_neighbour(
    machine: Machine, name: str = "neighbour.example", default: str = " default_server", http2: str = ""
) -> None:
    """Set up another owner's site before ours."""
    machine.sh("rm -f /etc/nginx/sites-enabled/default")
    made = machine.sh(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=neighbour"
        " -keyout /etc/ssl/foreign.key -out /etc/ssl/foreign.pem"
        " && cat >/etc/nginx/sites-enabled/foreign && systemctl start nginx",
        FOREIGN.format(name=name, default=default, http2=http2).encode(),
    )
    assert made.returncode == 0, made.stderr


def neighbour_answers(address: str, name: str = "neighbour.example") -> bool:
    return all(ask(address, "/", name, port).body == b"the neighbour" for port in (80, 443))


@contextmanager
def requests_to_neighbour(address: str) -> Iterator[list[str]]:
    """Send requests to the neighbour for the block; yield the failures."""
    over, wrong = threading.Event(), list[str]()

    def client() -> None:
        while not over.wait(0.02):
            try:
                if not neighbour_answers(address):
                    wrong.append("another answer")
            except OSError as error:
                wrong.append(repr(error))

    thread = threading.Thread(target=client)
    thread.start()
    try:
        yield wrong
    finally:
        over.set()
        thread.join()


@pytest.mark.promise(NEIGHBOURS, "a deploy and a remove beside a default server")
def test_a_foreign_default_server_keeps_answering_before_during_and_after(clone: Clone, one_host: Hosts) -> None:
    set_up_neighbour(one_host[0])
    with requests_to_neighbour(one_host[0].address) as wrong:
        deployed(clone, one_host)
        assert release_of(one_host[0].address) == clone.release()
        assert neighbour_answers(one_host[0].address, "unknown.example")
        clone.done("remove", "-H", "shire01", "--yes")
    assert wrong == []


@pytest.mark.further("tests/hosts/deploy/test_suites.py::test_the_whole_loop_runs")
def test_a_neighbour_speaks_the_protocol_of_its_own_choice_before_and_after(clone: Clone, one_host: Hosts) -> None:
    """In an nginx before 1.25.1 a word for HTTP/2 in one site's `listen` counts for all sites of the port."""
    machine, address = one_host[0], one_host[0].address
    set_up_neighbour(machine)
    assert spoken(address, "neighbour.example") == "http/1.1"
    deployed(clone, one_host)
    newer = machine.sh("test -e /etc/myapp/nginx/http2.conf").returncode == 0
    assert [spoken(address, name) for name in ("neighbour.example", NAME)] == [
        "http/1.1",
        "h2" if newer else "http/1.1",
    ]
    set_up_neighbour(machine, http2=" http2")
    reload_nginx(machine)
    for size in ("30m", "20m"):
        put(clone, nginx={"server_name": NAME, "max_body": size}).done("setup", "-H", "shire01")
        assert spoken(address, "neighbour.example") == "h2"
    clone.done("remove", "-H", "shire01", "--yes")
    assert spoken(address, "neighbour.example") == "h2"
    assert neighbour_answers(address)


# As nginx.org's package has it.
NGINX_ORG = """user  nginx;
worker_processes  auto;
error_log  /var/log/nginx/error.log notice;
pid        /run/nginx.pid;
events { worker_connections  1024; }
http {
    include       /etc/nginx/mime.types;
    default_type  application/octet-stream;
    sendfile        on;
    keepalive_timeout  65;
    include INCLUDED;
}
"""
DEFAULT = "server { listen 80; server_name localhost; location / { return 200 default; } }"


def nginx_org(machine: Machine, included: str) -> None:
    """Give the host nginx.org's configuration, with this word for the files of its sites."""
    machine.sh("id nginx || useradd --system --user-group --home-dir /nonexistent nginx")
    machine.sh("cat >/etc/nginx/conf.d/default.conf", DEFAULT.encode())
    conf = NGINX_ORG.replace("INCLUDED", included).encode()
    made = machine.sh("cat >/etc/nginx/nginx.conf && nginx -t && systemctl restart nginx", conf)
    assert made.returncode == 0, made.stderr


def test_an_nginx_that_would_not_read_our_file_is_told_before_anything_is_written(
    clone: Clone, one_host: Hosts
) -> None:
    machine = one_host[0]
    nginx_org(machine, "/etc/nginx/sites/*.conf")
    clone.inventory = one_host.inventory
    ended = put(clone).fab("deploy", "-H", "shire01")
    assert ended.status == 1
    assert "add `include /etc/nginx/conf.d/*.conf;` to the block `http`" in " ".join(ended.both.split())
    written = machine.sh("ls -d /etc/myapp /opt/apps /etc/*/*myapp* /etc/*/*/*myapp* /run/myapp; id -u myapp").stdout
    assert written == b""


def test_an_nginx_of_another_origin_reaches_the_service_as_its_own_account(clone: Clone, one_host: Hosts) -> None:
    """Once: where both accounts exist, sockets and files were for www-data, whatever nginx.conf says."""
    machine, address = one_host[0], one_host[0].address
    nginx_org(machine, "conf.d/*.conf")
    clone.write("service/static/a.css", "a")
    clone.write("users.htpasswd", "ann:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n")
    (clone.root / "users.htpasswd").chmod(0o600)
    gateway = {"server_name": NAME, "static": {"/static/": "static"}}
    deployed(clone, one_host, nginx=gateway)
    assert release_of(address) == clone.release()
    answer = ask(address, "/static/a.css")
    assert (answer.status, "etag" in answer.headers) == (200, True)
    assert ask(address, "/", "localhost", 80).body == b"default"
    put(clone, nginx={**gateway, "basic_auth": "users.htpasswd"}).done("setup", "-H", "shire01")
    known = {"Authorization": "Basic YW5uOnNlY3JldA=="}
    assert [ask(address, headers=headers).status for headers in ({}, known)] == [401, 200]
    clone.done("remove", "-H", "shire01", "--yes")
    assert ask(address, "/", "localhost", 80).body == b"default"


def test_a_site_that_answers_for_unknown_names_without_saying_so_keeps_them(clone: Clone, one_host: Hosts) -> None:
    """Once: a setup that put the former nginx file back ended before nginx had reloaded it."""
    set_up_neighbour(one_host[0], default="")
    clone.inventory = one_host.inventory
    ended = put(clone).fab("setup", "-H", "shire01")
    assert ended.status == 1
    assert "default_server" in ended.out
    assert neighbour_answers(one_host[0].address, "unknown.example")


def test_a_site_that_has_the_name_already_keeps_it(clone: Clone, one_host: Hosts) -> None:
    set_up_neighbour(one_host[0], name="myapp.example")
    clone.inventory = one_host.inventory
    ended = put(clone).fab("setup", "-H", "shire01")
    assert ended.status == 1
    assert "myapp.example" in ended.out
    assert neighbour_answers(one_host[0].address, "myapp.example")


@pytest.mark.promise(NEIGHBOURS, "their nginx file is bad")
def test_a_configuration_that_was_broken_before_is_named_and_left(clone: Clone, one_host: Hosts) -> None:
    set_up_neighbour(one_host[0])
    one_host[0].sh("echo 'nonsense on;' >/etc/nginx/conf.d/theirs.conf")
    clone.inventory = one_host.inventory
    ended = put(clone).fab("setup", "-H", "shire01")
    assert ended.status == 1
    assert "theirs.conf" in ended.out
    assert "not for a file of this service" in ended.out
    assert one_host[0].sh("ls /etc/nginx/conf.d").stdout == b"theirs.conf\n"
    assert neighbour_answers(one_host[0].address)
    one_host[0].sh("rm /etc/nginx/conf.d/theirs.conf")
    clone.done("setup", "-H", "shire01")


@pytest.mark.promise(NEIGHBOURS, "nginx refuses our file")
def test_our_file_refused_by_nginx_gives_way_to_the_former_one(clone: Clone, one_host: Hosts) -> None:
    deployed(clone, one_host)
    before = one_host[0].sh("cat /etc/nginx/conf.d/myapp.conf /etc/myapp/setup; ls /etc/systemd/system").stdout
    one_host[0].sh("cat >/etc/nginx/sites-enabled/clash", b"log_format loop_myapp_json other;")
    served = clone.release()
    ended = put(clone, nginx={"server_name": "new.example"}).fab("deploy", "-H", "shire01")
    assert ended.status == 1
    assert 'duplicate "log_format" name "loop_myapp_json"' in ended.out
    after = one_host[0].sh("cat /etc/nginx/conf.d/myapp.conf /etc/myapp/setup; ls /etc/systemd/system").stdout
    assert after == before
    assert release_of(one_host[0].address) == served


def test_a_port_that_another_program_holds_is_named_with_the_program(clone: Clone, one_host: Hosts) -> None:
    machine = one_host[0]
    machine.sh("systemd-run --unit=squatter python3 -m http.server 80")
    machine.sh("until ss -Hltn 'sport = :80' | grep -q .; do sleep 0.05; done")
    clone.inventory = one_host.inventory
    ended = put(clone).fab("setup", "-H", "shire01")
    assert ended.status == 1
    assert "port 80" in ended.out
    assert "python3" in ended.out
    assert machine.sh("ls /etc/nginx/conf.d").stdout == b""
    machine.sh("systemctl stop squatter; rm -f /etc/nginx/sites-enabled/default; systemctl start nginx")
    machine.sh("systemd-run --unit=squatter-of-443 python3 -m http.server 443")
    machine.sh("until ss -Hltn 'sport = :443' | grep -q .; do sleep 0.05; done")
    ended = clone.fab("setup", "-H", "shire01")
    assert ended.status == 1
    assert "port 443" in ended.out
    machine.sh("systemctl stop squatter-of-443")
    clone.done("setup", "-H", "shire01")


@pytest.mark.promise(NEIGHBOURS, "one of two services is removed")
def test_two_services_share_a_host_and_one_leaves_without_the_other(
    clone: Clone, one_host: Hosts, tmp_path: Path
) -> None:
    deployed(clone, one_host)
    other = make(tmp_path / "other")
    deployed(other, one_host, name="other", nginx={"server_name": "other.example"}, env={"WHOSE": "the other's"})
    address = one_host[0].address
    assert release_of(address) == clone.release()
    assert release_of(address, "other.example") == other.release()
    assert other.release() != clone.release()
    clone.done("remove", "-H", "shire01", "--yes", "--data")
    assert release_of(address, "other.example") == other.release()
    assert one_host[0].sh("systemctl is-active other.service nginx.service").stdout == b"active\nactive\n"
    other.done("restart", "-H", "shire01")
    assert one_host[0].sh("systemctl --failed --plain --no-legend").stdout == b""


def test_without_nginx_and_without_a_mirror_the_packages_are_named(clone: Clone, one_host: Hosts) -> None:
    one_host[0].sh("systemctl stop nginx; dpkg --purge --force-depends $(dpkg-query -W -f '${Package}\\n' 'nginx*')")
    clone.inventory = one_host.inventory
    ended = put(clone).fab("deploy", "-H", "shire01")
    assert ended.status == 1
    assert "nginx" in next(line for line in ended.out.splitlines() if "FAILED" in line)
    assert "no mirror" in ended.out
    assert one_host[0].sh("ls -d /opt/apps/myapp /etc/myapp").stdout == b""
