"""Each section of a service: defaults, limits and messages of its refusals."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tasks.engine.config import gateway, sections, yaml_reader
from tasks.engine.config.gateway import Nginx, Rate, Tls
from tasks.engine.config.nodes import Node
from tasks.engine.config.sections import HEALTH, WEB, Dependencies, Health, Limits, Listen, Process
from tests.support.refusals import refusal, require_error

Reader = Callable[[Node], object]
ON_HOST = Nginx(("a",), Tls("on_host", "/c", "/k"))


def node(written: str) -> Node:
    return yaml_reader.parse(written.encode(), "f.yaml")


@pytest.mark.parametrize(
    ("read", "written", "part"),
    [
        (sections.processes, "{}", (WEB,)),
        (sections.processes, "{web: {}}", (WEB,)),
        (sections.processes, "{web: {workers: 1}}", (Process("web", workers=1),)),
        (
            sections.processes,
            "{b: {command: x}, web: {threads: 1}}",
            (Process("web", threads=1), Process("b", "x")),
        ),
        (sections.processes, "{b: {command: x, schedule: daily}, a: null}", (WEB, Process("b", "x", "daily"))),
        (sections.processes, "{web: {limits: {cpu: 50%}}}", (Process("web", limits=Limits(cpu="50%")),)),
        (sections.processes, "{b: {command: x, limits: {}}}", (WEB, Process("b", "x"))),
        (sections.limits, "{memory: 512M, cpu: 200%, tasks: 8, files: 65536}", Limits("512M", "200%", 8, 65536)),
        (sections.limits, "{memory: null, tasks: 64}", Limits(tasks=64)),
        (sections.health, "{}", HEALTH),
        (sections.health, "{path: /x, status: 204, timeout: 5, passes: 1, settle: 0}", Health("/x", 204, 5, 1, 0.0)),
        (sections.health, "{settle: 0.5}", Health(settle=0.5)),
        (sections.listen, "'[::1]:8080'", Listen("::1", 8080)),
        (gateway.nginx, "{server_name: a.example}", Nginx(("a.example",), Tls("self-signed"))),
        (gateway.nginx, "{server_name: a, max_body: 2g}", Nginx(("a",), max_body="2g")),
        (gateway.nginx, "{server_name: a, max_body: '0'}", Nginx(("a",), max_body="0")),
        (gateway.nginx, "{server_name: [a, '*.b'], aliases: serve}", Nginx(("a", "*.b"), aliases="serve")),
        (gateway.nginx, "{server_name: a, hsts: 0, extra: e}", Nginx(("a",), hsts=0, extra="e")),
        (gateway.nginx, "{server_name: a, allow: [10.0.0.0/8, '::1']}", Nginx(("a",), allow=("10.0.0.0/8", "::1"))),
        (
            gateway.nginx,
            "{server_name: a, static: {/static/: app/static, /a/b/: c}}",
            Nginx(("a",), static=(("/a/b/", "c"), ("/static/", "app/static"))),
        ),
        (gateway.nginx, "{server_name: a, static: {/static/: null}}", Nginx(("a",))),
        (gateway.nginx, "{server_name: a, rate: {requests: 5/m}}", Nginx(("a",), rate=Rate("5/m"))),
        (gateway.nginx, "{server_name: a, timeout: 120}", Nginx(("a",), timeout=120)),
        (gateway.nginx, "{server_name: a, tls: self-signed}", Nginx(("a",), Tls("self-signed"))),
        (gateway.nginx, "{server_name: a, tls: 'off'}", Nginx(("a",), Tls("off"))),
        (gateway.nginx, "{server_name: a, tls: {certificate: c, key: /k}}", Nginx(("a",), Tls("files", "c", "/k"))),
        (gateway.nginx, "{server_name: a, tls: {on_host: {certificate: /c, key: /k}}}", ON_HOST),
        (gateway.nginx, "{server_name: a, tls: {ca: {certificate: c, key: k}}}", Nginx(("a",), Tls("ca", "c", "k"))),
        (
            gateway.nginx,
            "{server_name: a, tls: {ca: {certificate: c, key: k, days: 9}}}",
            Nginx(("a",), Tls("ca", "c", "k", 9)),
        ),
        (
            gateway.nginx,
            "{server_name: a, tls: {acme: {email: a@b}}}",
            Nginx(("a",), Tls("acme", email="a@b", directory="https://acme-v02.api.letsencrypt.org/directory")),
        ),
        (
            gateway.nginx,
            "{server_name: a, tls: {acme: {email: a@b, directory: https://c/d}}}",
            Nginx(("a",), Tls("acme", email="a@b", directory="https://c/d")),
        ),
        (sections.needs, "[]", ()),
        (sections.needs, "[home, network, home, host]", ("host", "network", "home")),
        (sections.pythonpath, "[src, ., lib/deep/]", ("src", ".", "lib/deep")),
        (sections.dependencies, "{extras: [b_b, a, b_b]}", Dependencies(("a", "b_b"))),
        (sections.dependencies, "{groups: [deploy]}", Dependencies((), ("deploy",))),
        (sections.env, "{B: x, A: ''}", (("A", ""), ("B", "x"))),
        (sections.shared, "[media, app/uploads, .data]", (".data", "app/uploads", "media")),
        (sections.env, "{B: null}", ()),
        (sections.env, '\nhttp_proxy: "$A"\nB: |\n  one\n  \ttwo\n', (("B", "one\n\ttwo\n"), ("http_proxy", "$A"))),
    ],
)
def test_a_part_is_read(read: Reader, written: str, part: object) -> None:
    assert read(node(written)) == part


@pytest.mark.parametrize(
    ("read", "written", "path", "message"),
    [
        (
            sections.processes,
            "{web: {command: x}}",
            "web.command",
            'unknown key "command"; known here: workers, threads',
        ),
        (sections.processes, "{web: {workers: 0}}", "web.workers", "a whole number from 1 to 64"),
        (sections.processes, "{web: {threads: 257}}", "web.threads", "a whole number from 1 to 256"),
        (sections.processes, "{web: null}", "web", "expected a mapping"),
        (sections.processes, "{a: {}}", "a.command", "command is missing"),
        (sections.processes, "{a: {command: x, workers: 2}}", "a.workers", 'unknown key "workers"'),
        (sections.processes, "{a: {command: x, schedule: 12:00}}", "a.schedule", "YAML reads 12:00 as a number"),
        (sections.processes, "{a: {command: x, schedule: 0 3 * * *}}", "a.schedule", "a systemd calendar expression"),
        (sections.processes, "{a: {command: 'x \"'}}", "a.command", "balanced quotes"),
        (sections.processes, "{a_b: {command: x}}", "a_b", "expected a name of a-z"),
        (sections.processes, "{listen: {command: x}}", "listen", "expected a name of a-z"),
        (sections.processes, "{live: {command: x}}", "live", "expected a name of a-z"),
        (sections.processes, "{a: x}", "a", "expected a mapping"),
        (sections.processes, "{a: }", "a", '"a" has no value'),
        (sections.processes, "{a: {command: x, limits: {memory: 0M}}}", "a.limits.memory", "with M or G"),
        (sections.limits, "{memory: 512}", "memory", "YAML reads 512 as a number"),
        (sections.limits, "{memory: 512MB}", "memory", "an amount of memory, with M or G"),
        (sections.limits, "{memory: 1.5G}", "memory", "an amount of memory, with M or G"),
        (sections.limits, "{memory: infinity}", "memory", "an amount of memory, with M or G"),
        (sections.limits, "{cpu: 2}", "cpu", "a share of one processor in percent"),
        (sections.limits, "{cpu: 0%}", "cpu", "a share of one processor in percent"),
        (sections.limits, "{tasks: 1}", "tasks", "a whole number from 8 to 65536"),
        (sections.limits, "{files: 1024k}", "files", "a whole number from 64 to 1048576"),
        (sections.limits, "{swap: 1G}", "swap", 'unknown key "swap"; known here: memory, cpu, tasks, files'),
        (sections.health, "{settel: 2}", "settel", 'unknown key "settel"'),
        (sections.health, "{status: 302}", "status", "a whole number from 200 to 299"),
        (sections.health, "{timeout: 0}", "timeout", "a whole number from 1 to 600"),
        (sections.health, "{passes: 21}", "passes", "a whole number from 1 to 20"),
        (sections.health, "{settle: 61}", "settle", "a number from 0 to 60"),
        (sections.health, "{settle: 30}", "settle", "settle (30 s) must be shorter than timeout (30 s)"),
        (sections.health, "{timeout: 2}", "", "settle (2 s) must be shorter than timeout (2 s)"),
        (sections.health, "{path: readyz}", "path", "a path that starts with /"),
        (sections.listen, "8080", "", "expected ADDRESS:PORT"),
        (gateway.nginx, "{}", "server_name", "server_name is missing"),
        (gateway.nginx, "{server_name: '*.a'}", "server_name", "one lower-case host name"),
        (gateway.nginx, "{server_name: []}", "server_name", "expected 1 to 50 host names"),
        (gateway.nginx, "{server_name: ['*.a', a]}", "server_name[0]", "the first name is the canonical one"),
        (gateway.nginx, "{server_name: [a, b, a]}", "server_name[2]", "a stands here twice"),
        (gateway.nginx, "{server_name: [a, 'b.*']}", "server_name[1]", "a lower-case host name, or *. before one"),
        (gateway.nginx, "{server_name: a, aliases: redirected}", "aliases", "expected one of redirect, serve"),
        (gateway.nginx, "{server_name: a, hsts: true}", "hsts", "a whole number from 0 to 315360000"),
        (gateway.nginx, "{server_name: a, tls: 'off', hsts: 5}", "hsts", 'tls is "off"'),
        (gateway.nginx, "{server_name: a, error_page: ''}", "error_page", "the path of a file"),
        (gateway.nginx, "{server_name: a, allow: []}", "allow", "the list is empty"),
        (gateway.nginx, "{server_name: a, allow: 10.0.0.0/8}", "allow", "expected a list"),
        (gateway.nginx, "{server_name: a, allow: [10.0.0.0/8, 10.1.2.3/8]}", "allow[1]", "and no network"),
        (gateway.nginx, "{server_name: a, allow: [10.0.0.0/33]}", "allow[0]", "expected a network or an address"),
        (gateway.nginx, "{server_name: a, allow: ['fe80::1%eth0']}", "allow[0]", "expected a network or an address"),
        (gateway.nginx, "{server_name: a, trusted_proxies: ['::/0']}", "trusted_proxies[0]", "is everybody"),
        (gateway.nginx, "{server_name: a, path: shop}", "path", "expected a path of letters"),
        (gateway.nginx, "{server_name: a, path: /}", "path", "expected a path of letters"),
        (gateway.nginx, "{server_name: a, path: /shop/}", "path", "expected a path of letters"),
        (gateway.nginx, "{server_name: a, path: /a, client_ca: b}", "client_ca", "cannot be of one path alone"),
        (gateway.nginx, "{server_name: a, path: /a, tls: {acme: {email: a@b}}}", "tls", "has several services"),
        (gateway.nginx, "{server_name: a, balancer_check: yes}", "balancer_check", "expected true or false"),
        (gateway.nginx, "{server_name: a, rate: 20/s}", "rate", "expected a mapping"),
        (gateway.nginx, "{server_name: a, rate: {burst: 1}}", "rate.requests", "requests is missing"),
        (gateway.nginx, "{server_name: a, rate: {requests: 20/h}}", "rate.requests", "requests per second or minute"),
        (gateway.nginx, "{server_name: a, tls: 'off', basic_auth: a}", "basic_auth", "would send passwords"),
        (gateway.nginx, "{server_name: a, tls: 'off', client_ca: a}", "client_ca", "asks for a certificate"),
        (gateway.nginx, "{server_name: a, static: app/static}", "static", "expected a mapping"),
        (gateway.nginx, "{server_name: a, static: {/static: a}}", "static./static", "begins and ends with /"),
        (gateway.nginx, "{server_name: a, static: {static/: a}}", "static.static/", "begins and ends with /"),
        (gateway.nginx, "{server_name: a, static: {/: a}}", "static./", "begins and ends with /"),
        (gateway.nginx, "{server_name: a, static: {'/a b/': a}}", "static./a b/", "begins and ends with /"),
        (gateway.nginx, "{server_name: a, static: {/a/../b/: a}}", "static./a/../b/", "begins and ends with /"),
        (gateway.nginx, "{server_name: a, static: {/a//: a}}", "static./a//", "begins and ends with /"),
        (gateway.nginx, "{server_name: a, static: {/a/: a, /a/b/: b}}", "static./a/b/", "/a/b/ lies in /a/"),
        (gateway.nginx, "{server_name: a, static: {/a/: ../b}}", "static./a/", "a directory below service/"),
        (gateway.nginx, "{server_name: a, static: {/a/: /srv}}", "static./a/", "a directory below service/"),
        (gateway.nginx, "{server_name: a, static: {/a/: .}}", "static./a/", "a directory below service/"),
        (gateway.nginx, "{server_name: a, static: {/a/: }}", "static./a/", "has no value"),
        (gateway.nginx, "{server_name: a, extra: [x]}", "extra", "the path of a file"),
        (gateway.nginx, "{server_name: a, tls: off}", "tls", "YAML reads off as false"),
        (gateway.nginx, "{server_name: a, tls: selfsigned}", "tls", "one of self-signed, off"),
        (gateway.nginx, "{server_name: a, tls: {certificate: c}}", "tls.key", "key is missing"),
        (gateway.nginx, "{server_name: a, tls: {onhost: {}}}", "tls.onhost", "unknown key"),
        (gateway.nginx, "{server_name: a, tls: {on_host: {key: /k}}}", "tls.on_host.certificate", "is missing"),
        (
            gateway.nginx,
            "{server_name: a, tls: {on_host: {certificate: c, key: /k}}}",
            "tls.on_host.certificate",
            "the absolute path of a file on the host",
        ),
        (
            gateway.nginx,
            "{server_name: a, tls: {on_host: {certificate: /c, key: /k}, key: k}}",
            "tls.key",
            "a certificate comes from one place, and here stand on_host and key",
        ),
        (gateway.nginx, "{server_name: a, tls: {ca: {certificate: c, key: k, days: 0}}}", "tls.ca.days", "1 to 825"),
        (gateway.nginx, "{server_name: a, tls: {ca: {certificate: c}}}", "tls.ca.key", "key is missing"),
        (gateway.nginx, "{server_name: a, tls: {acme: {}}}", "tls.acme.email", "email is missing"),
        (gateway.nginx, "{server_name: a, tls: {acme: {email: a}}}", "tls.acme.email", "expected an e-mail address"),
        (
            gateway.nginx,
            "{server_name: a, tls: {acme: {email: a@b, directory: http://c}}}",
            "tls.acme.directory",
            "begins with https://",
        ),
        (gateway.nginx, "{server_name: [a, '*.b'], tls: {acme: {email: a@b}}}", "server_name[1]", "cannot prove *.b"),
        (gateway.nginx, "{server_name: a, max_body: 0}", "max_body", "YAML reads 0 as a number"),
        (gateway.nginx, "{server_name: a, max_body: 20 MB}", "max_body", "a number of bytes, with k, m or g"),
        (gateway.nginx, "{server_name: a, timeout: 0}", "timeout", "a whole number from 1 to 86400"),
        (gateway.nginx, "{server_name: a, timeout: 2m}", "timeout", "a whole number from 1 to 86400"),
        (gateway.nginx, "{server_name: a, max_body: '1m;'}", "max_body", "a number of bytes, with k, m or g"),
        (sections.needs, "network", "", "expected a list"),
        (sections.needs, "[network, gpus]", "[1]", "one of host, network, jit, proc, gpu, home, logs"),
        (sections.shared, "[media, ../x]", "[1]", "expected the path of a directory below service/"),
        (sections.shared, "[/var/media]", "[0]", "expected the path of a directory below service/"),
        (sections.shared, "['media/*']", "[0]", "expected the path of a directory below service/"),
        (sections.shared, "[-p]", "[0]", "expected the path of a directory below service/"),
        (sections.shared, "[home/x]", "[0]", "is the service's HOME"),
        (sections.shared, "[media, media/x]", "[1]", "media/x lies in media"),
        (sections.shared, "[media/x, media]", "[1]", "media/x lies in media"),
        (sections.shared, "[media, media]", "[1]", "media is named twice"),
        (sections.env, "{a-b: x}", "a-b", "expected a variable name"),
        (sections.env, "{RELEASE: x}", "RELEASE", "RELEASE is set by the deploy or the system"),
        (sections.env, "{LD_PRELOAD: x}", "LD_PRELOAD", "LD_PRELOAD is set by"),
        (sections.env, "{PYTHONPATH: x}", "PYTHONPATH", "PYTHONPATH is made from the key `pythonpath`"),
        (sections.pythonpath, "src", "", "expected a list"),
        (sections.dependencies, "{groups: deploy}", "groups", "expected a list"),
        (sections.dependencies, "{groups: [--all]}", "groups[0]", "the name of an extra or a group"),
        (sections.pythonpath, "[../lib]", "[0]", "a folder below service/"),
        (sections.pythonpath, "[src, /srv]", "[1]", "a folder below service/"),
        (sections.pythonpath, "['a:b']", "[0]", "a folder below service/"),
        (sections.pythonpath, "['a/../..']", "[0]", "a folder below service/"),
        (sections.env, "{PORT: 22}", "PORT", "YAML reads 22 as a number"),
        (sections.env, "{A: [x]}", "A", "expected a text, found a list"),
        (sections.env, '{A: "x\\0y"}', "A", "a control character"),
    ],
)
def test_a_part_that_is_wrong_is_refused_where_it_stands(read: Reader, written: str, path: str, message: str) -> None:
    error = refusal(read, node(written))
    require_error(error, message)
    assert (error.where or "").partition(" ")[2] == (f"({path})" if path else "")
    assert error.next


def test_a_process_has_the_limits_of_the_service_but_for_its_own() -> None:
    own = Limits(memory="1G", files=2048)
    assert own.beside(Limits("512M", "50%")) == Limits("1G", "50%", None, 2048)
    assert (own.memory_bytes, Limits("512M").memory_bytes, Limits().memory_bytes) == (1 << 30, 512 << 20, None)
