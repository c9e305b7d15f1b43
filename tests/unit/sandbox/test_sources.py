"""The machine's apt sources, read as apt reads them, and limited to one suite."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.engine.errors import UsageError
from tasks.engine.sandbox import sources
from tasks.engine.sandbox.sources import Source

DEB822 = """\
# the distribution
Types: deb deb-src
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates bookworm-backports
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abc

Types: deb
URIs: http://mirror.example/off
Suites: bookworm
Components: main
Enabled: no

Types: deb-src
URIs: http://mirror.example/source
Suites: bookworm
Components: main
"""
ONE_LINE = """\
# deb http://mirror.example/off bookworm main
deb http://mirror.example/debian bookworm main contrib  # the distribution
deb [arch=amd64 signed-by=/usr/share/keyrings/x.gpg] http://mirror.example/security bookworm-security main
deb-src http://mirror.example/debian bookworm main
deb http://vendor.example/apt stable main
"""


def test_deb822_stanzas_are_read_with_their_key_block() -> None:
    (source,) = sources.parse_deb822(DEB822)
    assert source.uris == "http://mirror.example/debian"
    assert source.suites == ("bookworm", "bookworm-updates", "bookworm-backports")
    assert source.text().endswith("Signed-By: \n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\n")


def test_one_line_sources_are_read_with_their_keyring() -> None:
    assert list(sources.parse_one_line(ONE_LINE)) == [
        Source("http://mirror.example/debian", ("bookworm",), "main contrib"),
        Source("http://mirror.example/security", ("bookworm-security",), "main", "/usr/share/keyrings/x.gpg"),
        Source("http://vendor.example/apt", ("stable",), "main"),
    ]


def test_both_kinds_of_file_are_found(tmp_path: Path) -> None:
    directory = tmp_path / "sources.list.d"
    directory.mkdir()
    (tmp_path / "sources.list").write_text("deb http://a.example/ bookworm main\n")
    (directory / "b.sources").write_text("Types: deb\nURIs: http://b.example/\nSuites: bookworm\nComponents: main\n")
    (directory / "c.list.disabled").write_text("deb http://c.example/ bookworm main\n")
    assert [source.uris for source in sources.machine_sources(tmp_path)] == ["http://a.example/", "http://b.example/"]


@pytest.mark.parametrize(
    ("suite", "suites"),
    [
        ("bookworm", ["Suites: bookworm", "Suites: bookworm-security"]),
        ("trixie", ["Suites: trixie", "Suites: trixie-security"]),
    ],
)
def test_only_the_distribution_is_kept_and_moved_to_the_suite(suite: str, suites: list[str]) -> None:
    text = sources.for_suite(sources.parse_one_line(ONE_LINE), "bookworm", suite)
    assert [line for line in text.splitlines() if line.startswith("Suites")] == suites
    assert "vendor" not in text


def test_sources_without_the_machines_own_suite_are_refused() -> None:
    with pytest.raises(UsageError, match="do not name its own suite trixie"):
        sources.for_suite(sources.parse_one_line(ONE_LINE), "trixie", "trixie")
