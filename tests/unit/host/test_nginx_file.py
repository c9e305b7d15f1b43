"""The nginx file: each key makes its lines and no others, whatever its value is."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.engine.config import formats
from tasks.engine.config.gateway import NGINX_KEYS, Nginx, Rate, Tls
from tasks.engine.host import nginx_file, shared_name, system_files
from tasks.engine.host.system_files import HostTraits
from templates.host import static_files
from tests.promises.words import NO_INJECTION
from tests.support.nasty_texts import ANY
from tests.support.small_service import SERVICE

NAME = "myapp.example"
# A string, a comment, an end or a brace, or a word; in this order, as nginx reads them.
TOKEN = re.compile(r"""\s*(?:"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|#[^\n]*|[;{}]|(?:\\.|\$\{|[^\s;{}"'\\])+)""")


def text(nginx: Nginx, *, ipv6: bool = True) -> str:
    """Return all that nginx reads of the service."""
    return "".join(nginx_file.render(SERVICE._replace(nginx=nginx), ipv6=ipv6).values())


def directives(written: str) -> list[str]:
    """Return the first word of each directive, and each brace, as nginx reads the file."""
    words: list[str] = []
    first, at = True, 0
    written = written.rstrip()
    while at < len(written):
        token = TOKEN.match(written, at)
        assert token, written[at : at + 80]
        word, at = token[0].strip(), token.end()
        if not word.startswith("#"):
            if first or word in "{}":
                words.append(word)
            first = word in ";{}"
    return words


def added(nginx: Nginx) -> list[str]:
    """Return the lines that a service without these keys does not have."""
    usual = text(Nginx((NAME,))).splitlines()
    return [line.strip() for line in text(nginx).splitlines() if line not in usual]


@pytest.mark.parametrize("name", ["a;b", "$host", "a b", "a}", "*", "a.*", "*.*.a", "~a", '"a"', ""])
def test_a_server_name_that_nginx_would_misread_is_refused(name: str) -> None:
    for names in ((name,), (NAME, name)):
        with pytest.raises(ValueError, match="nginx cannot carry"):
            text(Nginx(names))


def test_the_gateway_listens_where_the_host_has_addresses() -> None:
    assert "listen [::]:443 ssl;" in text(Nginx((NAME,)))
    assert "[::]" not in text(Nginx((NAME,)), ipv6=False)
    plain = text(Nginx((NAME,), Tls("off")))
    assert "443" not in plain
    assert "ssl" not in plain
    assert not re.search(r"^\s*(upstream|keepalive)\s", text(Nginx((NAME,))), re.MULTILINE)


def test_a_pair_that_the_host_keeps_is_one_file() -> None:
    lines = added(Nginx((NAME,), Tls("on_host", "/c.pem", "/k.pem")))
    assert lines == [
        "ssl_certificate     /etc/myapp/tls/pair.pem;  # nginx.tls.on_host",
        "ssl_certificate_key /etc/myapp/tls/pair.pem;",
    ]


def test_the_ca_asks_by_plain_http_before_the_redirect() -> None:
    written = text(Nginx((NAME,), Tls("acme", email="a@b", directory="https://c/d")))
    assert "location ^~ /.well-known/acme-challenge/ {\n        root /etc/myapp/acme;" in written
    assert "ssl_certificate     /etc/myapp/tls/pair.pem;  # nginx.tls.acme" in written
    assert written.index("acme-challenge") < written.index("location / { return 301")
    assert "acme" not in text(Nginx((NAME,)))


def test_what_gunicorn_takes_for_the_place_of_the_application_is_nginx_own_word() -> None:
    """Once: it passed where the first server of the port had underscores_in_headers on, and past every location."""
    for path, word in (("", '""'), ("/shop", "/shop")):
        made = text(Nginx((NAME,), path=path))
        assert f"proxy_set_header SCRIPT_NAME {word};" in made
        assert 'proxy_set_header PATH_INFO "";' in made


def test_the_largest_body_is_the_one_of_the_service() -> None:
    assert "client_max_body_size 20m;" in text(Nginx((NAME,)))
    assert "client_max_body_size 2g;" in text(Nginx((NAME,), max_body="2g"))


@pytest.mark.parametrize(("drain", "timeout", "seconds"), [(5, None, 30), (60, None, 60), (60, 4, 4), (5, 3600, 3600)])
def test_a_request_may_take_as_long_as_the_service_says(drain: int, timeout: int | None, seconds: int) -> None:
    service = SERVICE._replace(drain=drain, nginx=Nginx((NAME,), timeout=timeout))
    (written,) = nginx_file.render(service, ipv6=False).values()
    assert f"proxy_read_timeout {seconds}s;" in written


def test_the_first_name_is_canonical_and_wildcards_are_served() -> None:
    names = (NAME, "www.myapp.example", "*.myapp.example", "hostnames")
    lines = added(Nginx(names))
    assert {"www.myapp.example myapp.example;", "*.myapp.example $host;", "\\hostnames myapp.example;"} <= {*lines}
    assert f"server_name {' '.join(names)};" in lines
    assert sum("# nginx.aliases" in line for line in lines) == 1
    served = added(Nginx(names, aliases="serve"))
    assert {"www.myapp.example $host;", "\\hostnames $host;"} <= {*served}
    assert not any("# nginx.aliases" in line for line in served)


def test_a_key_that_is_not_set_makes_no_line() -> None:
    usual = text(Nginx((NAME,)))
    assert not re.search("Strict-Transport|/.failed|include /etc/myapp/nginx/(?!http2)|nginx.aliases|static", usual)


@pytest.mark.parametrize(
    ("nginx", "line", "times"),
    [
        (Nginx((NAME,), hsts=0), 'add_header Strict-Transport-Security "max-age=0" always;  # nginx.hsts', 2),
        (Nginx((NAME,), error_page="a"), "error_page 502 504 /.failed-myapp;  # nginx.error_page", 1),
        (Nginx((NAME,), hsts=9, error_page="a"), "alias /etc/myapp/nginx/error.html;", 1),
        (Nginx((NAME,), balancer_check=True), "auth_request /.health-myapp;", 2),
        (Nginx((NAME,), balancer_check=True), "location / { return 444; }", 1),
        (Nginx((NAME,), Tls("off"), balancer_check=True), "auth_request /.health-myapp;", 1),
        (Nginx((NAME,), allow=("192.0.2.0/24",)), "192.0.2.0/24 0;", 1),
        (Nginx((NAME,), allow=("::/0",)), 'set $loop_myapp_turn "$loop_myapp_refused";', 1),
        (
            Nginx((NAME,), allow=("::/0",), client_ca="a"),
            'set $loop_myapp_turn "$loop_myapp_refused$loop_myapp_unknown";',
            1,
        ),
        (Nginx((NAME,), trusted_proxies=("2001:db8::1",)), "set_real_ip_from 2001:db8::1;", 1),
        (Nginx((NAME,), trusted_proxies=("10.0.0.0/8",)), "proxy_set_header X-Forwarded-Proto $loop_myapp_scheme;", 1),
        (Nginx((NAME,), basic_auth="a"), "auth_basic $loop_myapp_realm;  # nginx.basic_auth", 1),
        (Nginx((NAME,), client_ca="a"), "proxy_set_header X-Client-Subject $ssl_client_s_dn;", 1),
        (Nginx((NAME,), rate=Rate("7/m")), "limit_req zone=loop_myapp_rate burst=7 nodelay;  # nginx.rate", 1),
        (Nginx((NAME,), rate=Rate("7/m", 0)), "limit_req zone=loop_myapp_rate;  # nginx.rate", 1),
        (Nginx((NAME,), rate=Rate("7/m")), "limit_req_zone $loop_myapp_counted zone=loop_myapp_rate:10m rate=7r/m;", 1),
        (Nginx((NAME,), rate=Rate("7/m")), "add_header Retry-After 9 always;", 1),
        (Nginx((NAME,), rate=Rate("90/m")), "add_header Retry-After 1 always;", 1),
        (Nginx((NAME,), static=(("/a/", "b"),)), "location ^~ /a/ {  # nginx.static", 1),
        (Nginx((NAME,), static=(("/a/", "b"), ("/c/", "d"))), "root /opt/apps/myapp/static;", 2),
        (Nginx((NAME,), static=(("/a/", "b"), ("/c/", "d"))), "location = /.application-myapp {", 1),
        (Nginx((NAME,), extra="a"), "include /etc/myapp/nginx/extra.conf;  # nginx.extra", 1),
    ],
)
def test_a_key_makes_its_lines(nginx: Nginx, line: str, times: int) -> None:
    assert added(nginx).count(line) == times


def test_files_of_the_operator_are_roots_and_only_pages_are_for_everybody() -> None:
    service = SERVICE._replace(nginx=Nginx((NAME,), error_page="a", extra="b"))
    files = system_files.render(service, HostTraits("deploy", None, True), {"error_page": "page", "extra": "more;"})
    found = {file.path: (file.mode, file.text) for file in files if file.path.startswith("/etc/myapp/nginx/")}
    assert found == {"/etc/myapp/nginx/error.html": (0o644, "page"), "/etc/myapp/nginx/extra.conf": (0o600, "more;")}


NAMES = st.lists(st.one_of(ANY, st.from_regex("[*a-z.]{1,20}", fullmatch=True)), min_size=1, max_size=3)
NETWORK = st.ip_addresses(network="10.0.0.0/8").map(str) | st.ip_addresses(v=6).map(str)
MADE = st.builds(
    Nginx,
    NAMES.map(tuple),
    max_body=st.one_of(ANY, st.just("1m")),
    timeout=st.integers(1, 86400),
    hsts=st.none() | st.integers(0, 10**8),
    aliases=st.sampled_from(["redirect", "serve"]),
    error_page=st.none() | ANY,
    extra=st.none() | ANY,
    trusted_proxies=st.lists(ANY | NETWORK, max_size=2).map(tuple),
    allow=st.lists(ANY | NETWORK, max_size=2).map(tuple),
    basic_auth=st.none() | ANY,
    client_ca=st.none() | ANY,
    balancer_check=st.booleans(),
    rate=st.none() | st.builds(Rate, ANY | st.just("5/s"), st.none() | st.integers(0, 99)),
    path=st.just("") | ANY | st.from_regex(r"/[a-z.;{}]{1,5}", fullmatch=True),
    static=st.lists(st.tuples(ANY | st.from_regex(r"/[a-z.;{}]{1,5}/", fullmatch=True), ANY), max_size=2).map(tuple),
)


@pytest.mark.promise(NO_INJECTION, "any value of any key of nginx adds no directive")
@given(nginx=MADE)
@settings(deadline=None)
def test_no_value_of_a_key_adds_a_directive(nginx: Nginx) -> None:
    try:
        written = text(nginx)
    except ValueError:
        return
    like = nginx._replace(
        names=(NAME, *(f"a{number}.example" for number in range(len(nginx.names) - 1))),
        max_body="1m",
        aliases="redirect" if nginx.redirected else "serve",
        error_page=nginx.error_page and "a",
        extra=nginx.extra and "a",
        trusted_proxies=("10.0.0.1",) * len(nginx.trusted_proxies),
        allow=("10.0.0.1",) * len(nginx.allow),
        basic_auth=nginx.basic_auth and "a",
        client_ca=nginx.client_ca and "a",
        rate=nginx.rate and Rate("5/s"),
        static=(("/a/", "b"),) * len(nginx.static),
        path=nginx.path and "/a",
    )
    # In a map the first word of a line is a value.
    values = {*nginx.names, *like.names, *nginx.trusted_proxies, *nginx.allow, "10.0.0.1"}
    values |= {f"\\{name}" for name in nginx.names}
    assert [word for word in directives(written) if word not in values] == [
        word for word in directives(text(like)) if word not in values
    ]


def test_the_values_that_are_tried_are_those_of_all_keys() -> None:
    assert {key.name for key in NGINX_KEYS} == {"server_name", "tls", *Nginx._fields} - {"names"}
    assert formats.OTHER_NAME.fits("*.a")


WHOLE = Nginx((NAME,), allow=("10.0.0.0/8",), rate=Rate("20/s", 40), error_page="a", static=(("/static/", "b"),))


def test_what_a_service_has_below_its_path_is_the_same_as_without_it() -> None:
    below = nginx_file.render(SERVICE._replace(nginx=WHOLE._replace(path="/a.b")), ipv6=True)
    location = below[f"/etc/nginx/loop/{NAME}/myapp.location"]
    assert not re.findall(r"^ *location (?!= /a\.b[ /]|\^~ /a\.b/|/a\.b/)[^\n]*", location, re.MULTILINE)
    assert not re.findall(r"^ *error_page (?:=?[0-9]+ )+(?![0-9=])(?!/a\.b/)[^\n]*", location, re.MULTILINE)
    assert 'if ($request_uri !~ "^/a\\.b/") { return 404; }' in location
    assert "proxy_set_header SCRIPT_NAME /a.b;" in location
    # An answer of the service leads nginx to no location of another service.
    assert "\n        proxy_ignore_headers X-Accel-Redirect;" in location
    balanced = SERVICE._replace(nginx=WHOLE._replace(path="/a.b", balancer_check=True))
    asked = nginx_file.render(balanced, ipv6=True)[f"/etc/nginx/loop/{NAME}/myapp.balancer"]
    assert asked.count("proxy_pass ") == asked.count("proxy_ignore_headers X-Accel-Redirect;") == 1
    # nginx runs an `if` in the location that answers, and in no other.
    assert location.count('if ($loop_myapp_turn ~ "^1") { return 403; }') == 2
    (whole,) = nginx_file.render(SERVICE._replace(nginx=WHOLE), ipv6=True).values()
    kept = {
        line.strip()
        for line in whole.splitlines()
        if "/" not in line and "-Prefix" not in line and "SCRIPT_NAME" not in line
    }
    assert kept <= {line.strip() for text in below.values() for line in text.splitlines()}


def test_the_services_of_a_name_agree_in_what_its_server_block_says() -> None:
    nginx = WHOLE._replace(path="/shop", names=(NAME, "*.a"), hsts=5)
    service = SERVICE._replace(nginx=nginx)
    assert shared_name.terms(service) == {
        "server": NAME,
        "path": "/shop",
        "terms": {
            "server_name": f"{NAME} *.a",
            "aliases": "redirect",
            "tls": "self-signed",
            "hsts": "5",
            "trusted_proxies": "not set",
            "balancer_check": "false",
        },
    }
    assert shared_name.terms(SERVICE) == {}
    one, other = (
        nginx_file.render(service._replace(name=name, nginx=changed), ipv6=True)[f"/etc/{name}/nginx/server.conf"]
        for name, changed in (
            ("shop", nginx),
            ("cart", nginx._replace(path="/cart", max_body="1m", allow=(), rate=None)),
        )
    )
    assert one.replace("shop", "cart") == other


@pytest.mark.parametrize("name", ["arg", "http", "cookie", "sent-http", "upstream", "request", "server"])
def test_no_name_of_a_service_makes_a_variable_of_nginx(name: str) -> None:
    """Once: with `name: arg` our maps answered for the arguments of every site of the host."""
    whole = Nginx((NAME,), trusted_proxies=("10.0.0.0/8",), allow=("10.0.0.0/8",), rate=Rate("20/s", 40))
    (written,) = nginx_file.render(SERVICE._replace(name=name, nginx=whole), ipv6=True).values()
    made = re.findall(r"^(?:map|geo|split_clients)\s.*?\$(\w+)\s*\{", written, re.MULTILINE)
    assert made
    assert all(variable.startswith(f"loop_{name.replace('-', '_')}_") for variable in made), made


# The names of files in packages and in the output of bundlers.
HASHED = [
    *("main.3f2a9c1b.js", "main.3f2a9c1b.chunk.css", "admin.55e7cbb9ba48.css", "1234.0aa1bb2cc3dd4ee5ff60.js.map"),
    *("app-IN6LZZT7.js", "index-BX3k9dRt.js", "index.BX3k9d_t.css", "inter-latin-400-normal-QOG2XED5.woff2"),
]
PLAIN = [
    *(
        "main.js",
        "jquery-3.7.1.min.js",
        "report.20240115.pdf",
        "dataTables.bootstrap5.min.css",
        "select2-bootstrap4.css",
    ),
    *("fa-solid-900.woff2", "fa-v4compatibility.ttf", "android-chrome-512x512.png", "photo-1024x7680.jpg"),
    *("apple-touch-icon-180x180.png", "roboto-v20-latin-regular.woff2", "a-facebook.js", "x-20240115T103000.txt"),
    *("3f2a9c1b.js", "main.3f2a9c1b", "jquery.DataTables.min.js", "style.css"),
]


@pytest.mark.parametrize(("name", "carries"), [*((name, True) for name in HASHED), *((name, False) for name in PLAIN)])
@pytest.mark.parametrize("folder", ["/green/static/", "/kept/static/a.3f2a9c1b.d/"])
def test_only_a_name_that_carries_a_hash_is_immutable(folder: str, name: str, carries: bool) -> None:
    written = text(Nginx((NAME,), static=(("/static/", "a"),)))
    rules = re.findall(r'^    "~(.*)" "public, max-age=31536000, immutable";$', written, re.MULTILINE)
    assert len(rules) == 3
    assert any(re.search(rule, folder + name) for rule in rules) == carries
    # Whatever is immutable is kept for pages of other releases, too.
    assert bool(static_files.HASHED.search(name)) >= carries


@pytest.mark.parametrize(
    "nginx",
    [Nginx((NAME,), allow=("10.0.0.1",)), Nginx((NAME,), basic_auth="a"), Nginx((NAME,), client_ca="a")],
    ids=["allow", "basic_auth", "client_ca"],
)
def test_what_only_some_clients_may_have_is_in_no_shared_cache(nginx: Nginx) -> None:
    written = text(nginx._replace(static=(("/static/", "a"),)))
    assert "public" not in written
    assert written.count("private, max-age") == 3
