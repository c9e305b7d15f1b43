"""The formats of texts: accepted forms, and characters that never pass."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import pytest

from tasks.engine.config import formats
from tasks.engine.config.schema import Shape
from tests.support.nasty_texts import ACCOUNTS, NO_ACCOUNTS


def blob(*fields: bytes) -> str:
    return base64.b64encode(b"".join(len(field).to_bytes(4, "big") + field for field in fields)).decode()


ED25519 = blob(b"ssh-ed25519", b"k" * 32)
ECDSA = blob(b"ecdsa-sha2-nistp256", b"nistp256", b"k" * 65)
EVERY = [value for value in vars(formats).values() if isinstance(value, Shape)]

CASES: list[tuple[Shape, list[str], list[str]]] = [
    (formats.HOST_NAME, ["shire01", "a", "1.b-c", "a" * 63], ["-a", ".a", "A", "a_b", "a" * 64, "a,b", "a*"]),
    (formats.GROUP_NAME, ["web", "eu-1"], ["-web", "we b", "Web"]),
    (
        formats.ADDRESS,
        ["192.0.2.11", "2001:db8::1", "fe80::1%eth0", "shire01.example", "Shire_01", "a" * 63],
        [
            "-oProxyCommand=x",
            "300.1.1.1",
            "1.2.3",
            "a..b",
            ".a",
            "a.",
            "[::1]",
            "u@h",
            "a b",
            "fe80::1%",
            "fe80::1%$(x)",
            "192.0.2.1%eth0",
            "a" * 64,
            "b." * 127 + "bb",
            "h:22",
            "a/b",
        ],
    ),
    (formats.USER, ACCOUNTS, NO_ACCOUNTS),
    (
        formats.HOST_KEY,
        [f"ssh-ed25519 {ED25519}", f"ecdsa-sha2-nistp256 {ECDSA}"],
        [
            ED25519,
            f"ssh-rsa {ED25519}",
            f"ssh-dss {blob(b'ssh-dss', b'k')}",
            f"ssh-ed25519  {ED25519}",
            f"ssh-ed25519 {ED25519} me@home",
            f"ssh-ed25519 {ED25519[:-8]}",
            f"ssh-ed25519 {blob(b'ssh-ed25519')}",
            f"ssh-ed25519 {blob(b'ssh-ed25519', b'')}",
            f"ssh-ed25519 {blob(b'ssh-ed25519', b'k', b'more')}",
            "ssh-ed25519 AAAA...",
            "ssh-ed25519 ",
        ],
    ),
    (formats.IDENTITY, ["~/.ssh/id_ed25519", "/k", "keys/a b"], ["-oX", " k"]),
    (
        formats.INTERPRETER,
        ["python3.12", "/usr/bin/python3", "/opt/py-3.12/bin/python3.12"],
        ["python", "python3", "python3.", "python2.7", "bin/python3", "/usr/../x", "/a b", "/a;b", "/", "/a/", "/a//b"],
    ),
    (formats.SERVICE_NAME, ["a", "my-app2", "a" * 30], ["", "1a", "-a", "a-", "A", "a_b", "a.b", "a" * 31, "a@b"]),
    (formats.PROCESS_NAME, ["worker", "a" * 20], ["a-", "a" * 21, "a%i"]),
    (
        formats.APP,
        ["app:app", "app:create_app()", "a.b_c:d", "app:create_app('prod')", "app:f(1, key=[True, None])"],
        [
            "app",
            "app:",
            ":app",
            "app:f(x)",
            "app:f(*[1])",
            "app:f(**{})",
            "app:f(g())",
            "app:a.f(1)",
            "app:app.server",
            "a-b:c",
            "app:f();x",
            "a:b:c",
            "é:a",
            "app:app\n",
            "app:f('a\nb')",
            "app:" + "f(" * 200,
            "app:f('" + "x" * 300 + "')",
        ],
    ),
    (
        formats.WORKER_CLASS,
        ["sync", "gthread", "gevent", "uvicorn_worker.UvicornWorker", "a.b.C"],
        ["Sync", "uvicorn", "a:B", ".a", "a.", "a b", "a.B()", "é.a"],
    ),
    (formats.SPECIFIER, [">=3.9", "==3.11.4", "~=3.10", ">=3.9,<3.13"], ["3.9", ">=4", ">=3.12,<3.10", "x", "==3.x"]),
    (
        formats.HEALTH_PATH,
        ["/", "/readyz", "/a/b?c=d&e=%20"],
        ["readyz", "/a b", '/"', "/'", "/a\\b", "/a#b", "/é", "/{a}", "/a\n", "http://h/"],
    ),
    (
        formats.LISTEN,
        ["127.0.0.1:8080", "0.0.0.0:1", "[::1]:65535"],
        [
            "8080",
            ":8080",
            "localhost:8080",
            "::1:8080",
            "[127.0.0.1]:80",
            "127.0.0.1:0",
            "127.0.0.1:65536",
            "[::1%lo]:80",
            "127.0.0.1:080",
            "1.2.3:80",
            "127.0.0.1",
            "[]:80",
            "127.0.0.1:8080;",
        ],
    ),
    (
        formats.OTHER_NAME,
        ["www.myapp.example", "*.myapp.example", "localhost"],
        ["*", "*.", "a.*.example", ".example", "MyApp.example", "192.0.2.1", "~a", "a;b", ""],
    ),
    (
        formats.NETWORK,
        ["10.0.0.0/8", "192.0.2.1", "::/0", "fd00::/8"],
        ["10.0.0.1/8", "10.0.0.0/33", "all", "fe80::1%eth0", "10.0.0.0/8;", ""],
    ),
    (formats.RATE, ["20/s", "100/m", "1/s"], ["20", "0/s", "-1/s", "20/h", "1.5/s", "20 /s", "20/s;", "", "20r/s"]),
    (formats.PLAIN_PATH, ["/", "/readyz", "/a-b/c_d.e"], ["", "readyz", "/a b", "/a?b", "/a;", "/é", "/%41"]),
    (
        formats.BODY_SIZE,
        ["0", "200m", "1", "64k", "999999999g"],
        ["", "-1", "1.5m", "20 m", "20M", "20mb", "1m;", "01m"],
    ),
    (
        formats.MEMORY,
        ["1M", "512M", "2G", "999999M"],
        ["", "0M", "512", "512m", "512MB", "1.5G", "-1G", "1 G", "1T", "01M", "50%", "infinity", "1000000M", "1M\n"],
    ),
    (formats.CPU, ["1%", "50%", "200%", "1600%"], ["", "0%", "%", "50", "1.5%", "-50%", "50 %", "050%", "50%%", "5%i"]),
    (
        formats.EXTRA,
        ["postgres", "a", "Big_Data", "x.y-z", "3d"],
        ["", "-x", "x-", "a b", "a,b", "a[b]", "a/b", "é", "a" * 101],
    ),
    (
        formats.FOLDER,
        ["src", "src/", ".", "lib/deep", "a b", ".hidden"],
        ["", "..", "/src", "./src", "a//b", "a/../b", "a:b", "a\\b", "/"],
    ),
    (
        formats.INCLUDE,
        [
            "app/static/dist",
            "app/static/dist/",
            "models/*.bin",
            "**/*.css",
            "**/a/**/b",
            "a b",
            ".well-known",
            "[ab].bin",
            "...",
            "é",
        ],
        ["", "/", "/etc/passwd", "../x", "a/../b", "a//b", "./a", "a/.", "a**", "a/b**/c", "a\\b", "**/**/**/a"],
    ),
    (
        formats.SERVER_NAME,
        ["myapp.example", "localhost", "xn--caf-dma.example"],
        [
            "*.example",
            ".example",
            "_",
            "MyApp.example",
            "a b",
            "a;b",
            "192.0.2.1",
            "a.example.",
            "~a",
            "a_b.example",
            "",
        ],
    ),
    (formats.EMAIL, ["a@b.example", "a.b+c@x"], ["a", "@b", "a@", "a b@c", "-a@b;", "a@-b"]),
    (
        formats.HTTPS_URL,
        ["https://a.example", "https://a:14000/dir"],
        ["http://a", "https://", "https://a/?b", "https://a/ b"],
    ),
    (formats.FILE, ["/etc/tls/a.pem", "tls/a.pem"], ["-a", "~/a", " a"]),
    (
        formats.HOST_FILE,
        ["/etc/tls/a.pem", "/x_y/A+@1"],
        ["a", "/", "/a/../b", "/a/", "//a", "/a b", "/a;", "~/a", "/%n"],
    ),
    (
        formats.COMMAND,
        ["python -m jobs", "sh -c 'a && b'", "a 'b c'"],
        ["a 'b", 'a "b', "a && b", "a | b", "a > b", "a ; b", "a &", " ", "''", "a \\"],
    ),
    (
        formats.SCHEDULE,
        ["daily", "*-*-* 03:00:00", "Mon..Fri *-*-* 12:00 Europe/Berlin", "*:0/15", "*-*~1"],
        ["0 3 * * *", "daily%i", "daily\nx", " ", "a;b", "$(x)", "é"],
    ),
    (
        formats.SHARED,
        ["media", "app/uploads", ".data", "a..b", "/".join("abcdefgh")],
        ["/media", "media/", "a//b", ".", "a/../b", "-p", "a b", "ä", "media/*", "a\\b", "/".join("abcdefghi"), ""],
    ),
    (
        formats.URL_FOLDER,
        ["/static/", "/app/v1.2/", "/a..b/"],
        ["/", "//", "static/", "/static", "/a//b/", "/../", "/a/./b/", "/a b/", "/ä/", "/-p/", "/a;/", "/$x/", ""],
    ),
    (formats.ADVISORY, ["CVE-2024-12345", "GHSA-2h4p-vjrc-8xpq", "PYSEC-2024-1"], ["", "-a", "a b", "a\n", "a" * 101]),
    (formats.REASON, ["x", "we read no such file", "a" * 300], ["", " x", "x ", "a\nb", "a" * 301]),
    (formats.DAY, ["2027-01-31", "2028-02-29"], ["2027-02-29", "2027-1-31", "31.01.2027", "2027-01-31T00:00", ""]),
    (
        formats.URL_PREFIX,
        ["/shop", "/app/v1.2", "/a..b"],
        ["/", "//", "shop", "/shop/", "/a//b", "/..", "/a/./b", "/a b", "/ä", "/-p", "/a;", "/$x", "/a{", ""],
    ),
    (formats.VARIABLE, ["GREETING", "_A1", "http_proxy"], ["1A", "Ä", "A-B", "A B", "A=B", ""]),
]


@pytest.mark.parametrize(("shape", "good", "bad"), CASES, ids=[shape.expected for shape, _, _ in CASES])
def test_good_texts_fit_and_bad_ones_never_do(shape: Shape, good: Sequence[str], bad: Sequence[str]) -> None:
    assert [text for text in good if not shape.fits(text)] == []
    assert [text for text in bad if shape.fits(text)] == []


def test_every_shape_has_cases() -> None:
    assert {shape.expected for shape in EVERY} == {shape.expected for shape, _, _ in CASES}


def test_the_example_of_an_error_fits() -> None:
    shapes = [shape for shape in EVERY if shape is not formats.HOST_KEY]
    assert [shape.example for shape in shapes if not shape.fits(shape.example)] == []


def test_a_listen_address_comes_apart() -> None:
    assert formats.split_listen("127.0.0.1:8080") == ("127.0.0.1", 8080)
    assert formats.split_listen("[0:0::1]:80") == ("::1", 80)
