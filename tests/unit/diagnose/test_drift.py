"""What is told of the files whose text setup chooses on the host."""

from __future__ import annotations

from base64 import b64encode

import pytest

from tasks.engine.diagnose import drift
from tasks.engine.host import layout
from tasks.engine.host.facts import Facts
from templates.host.fact_schema import Record

HTTP2, ADDRESSES = "/etc/shop/nginx/http2.conf", "/etc/shop/nginx/addresses.conf"
KEEPER = "/etc/nginx/conf.d/loop-a.example.conf"
NOW = "server_name 192.0.2.11;\nserver_name [2001:db8::11];\n"


def found(path: str, wanted: str, there: str | None, *lines: str, version: int = layout.VERSION) -> list[drift.Finding]:
    """Return the findings of a host that has this in a file, and reports these lines, too."""
    told = (f"chosen {path} {b64encode(wanted.encode()).decode()}", *lines)
    contents = {} if there is None else {path: there.encode()}
    record = Record(account="deploy", layout=str(version))
    return list(drift.examine((), Facts(record=record, contents=contents, drift=told), lambda *_: None))


@pytest.mark.parametrize(
    ("path", "wanted", "there", "kind"),
    [
        (HTTP2, "http2 on;\n", "http2 off;\n", "edited"),
        (HTTP2, "", "http2 on;\n", "extra"),
        (KEEPER, "include a;\n", "include a;\nload_module x;\n", "edited"),
        (KEEPER, "include a;\n", "", "edited"),
        (ADDRESSES, NOW, "server_name 192.0.2.99;\n", "outdated"),
        (ADDRESSES, NOW, "server_name 192.0.2.11 evil.example;\n", "edited"),
    ],
)
def test_a_changed_one_is_told_with_its_difference(path: str, wanted: str, there: str, kind: str) -> None:
    (finding,) = found(path, wanted, there)
    assert (finding.kind, finding.path, finding.drifted) == (kind, path, kind != "outdated")
    assert {line[1:] for line in finding.diff[2:] if line[:1] in "+-"} == (
        {*wanted.splitlines()} ^ {*there.splitlines()}
    )


def test_one_as_it_should_be_is_not_told() -> None:
    assert found(HTTP2, "http2 on;\n", "http2 on;\n") == []
    assert found(HTTP2, "", None) == []


def test_one_that_is_missing_is_told_unless_setup_never_wrote_it() -> None:
    (finding,) = found(HTTP2, "http2 on;\n", None, f"missing {HTTP2}")
    assert (finding.kind, finding.text) == ("missing", "it is not there any more")
    (finding,) = found(HTTP2, "http2 on;\n", None, f"missing {HTTP2}", version=1)
    assert (finding.kind, finding.drifted) == ("outdated", False)


def test_a_link_and_one_that_this_account_may_not_read_are_told() -> None:
    (finding,) = found(KEEPER, "x", None, f"link {KEEPER} /tmp/x")
    assert (finding.kind, finding.text) == ("linked", "it is a link to /tmp/x")
    (finding,) = found(KEEPER, "x", None, f"unreadable {KEEPER}")
    assert (finding.kind, finding.drifted) == ("unreadable", False)


def test_a_second_secret_is_told_and_none_is_shown() -> None:
    (finding,) = found(HTTP2, "", None, "edited /etc/shop/check/map")
    assert (finding.kind, finding.diff) == ("edited", ())
    assert "it is not the one secret of the host's own checks" in finding.text
