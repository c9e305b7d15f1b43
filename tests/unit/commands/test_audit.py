"""`fab audit`: what it prints, ignores and refuses, and its exit status; no host and no internet is needed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import advisories
from tests.support.advisories import record
from tests.support.clone import Clone

ALL = ({"introduced": "0"},)


@pytest.fixture
def bad(clone: Clone, tmp_path: Path) -> str:
    """An export with two advisories for the locked flask, and one for a package of `fab` itself; each as `--db=`."""
    version = next(line for line in lock(clone) if line.startswith("flask==")).partition("==")[2].partition(" ")[0]
    clone.write("requirements-dev.lock", f"fabric==1.0 \\\n    --hash=sha256:{'0' * 64}\n")
    path = advisories.export(
        tmp_path / "all.zip",
        record(
            "GHSA-1", "Flask", {"introduced": "0"}, {"last_affected": version}, aliases=["CVE-1"], summary="it leaks"
        ),
        record("PYSEC-1", "flask", {"introduced": "0"}, {"fixed": "99.1"}, aliases=["CVE-1"]),
        record("GHSA-2", "fabric", *ALL),
        record("GHSA-3", "django", *ALL),
    )
    return f"--db={path}"


def lock(clone: Clone) -> list[str]:
    return (clone.root / "service/requirements.txt").read_text().splitlines()


def ignore(clone: Clone, *lines: str) -> None:
    written = (clone.root / "service/service.yaml").read_text()
    clone.write("service/service.yaml", "\n".join([written, "audit:", "  ignore:", *lines, ""]))


def test_a_finding_is_told_with_its_places_and_ends_with_one(clone: Clone, bad: str) -> None:
    ended = clone.fab("audit", "--locked", bad)
    line = next(number for number, text in enumerate(lock(clone), 1) if text.startswith("flask=="))
    assert ended.status == 1
    lines = ended.out.splitlines()
    assert lines[:3] == ["fabric 1.0  GHSA-2  no version without it is known", "    GHSA-2 is bad",
                         "    in requirements-dev.lock:1"]  # fmt: skip
    assert lines[3].startswith("flask ")
    assert lines[3].endswith("  CVE-1 (GHSA-1, PYSEC-1)  fixed in 99.1")
    assert lines[4:6] == ["    it leaks", f"    in service/requirements.txt:{line}"]
    assert lines[6].endswith("packages compared with all.zip, 4 advisories, the newest of 2026-11-01")
    assert lines[7:] == ["2 known vulnerabilities"]


def test_without_a_finding_it_ends_with_zero(clone: Clone, tmp_path: Path) -> None:
    path = advisories.export(tmp_path / "all.jsonl", record("GHSA-3", "django", *ALL))
    assert clone.done("audit", "--locked", f"--db={path}").out.splitlines()[-1] == "no known vulnerability"


def test_json_has_all_of_it(clone: Clone, bad: str) -> None:
    ended = clone.fab("audit", "--locked", bad, "--json")
    document = ended.json()
    assert ended.status == 1
    assert document["database"] == {"source": "all.zip", "advisories": 4, "newest": "2026-11-01"}
    assert [(one["package"], one["names"], one["ignored"]) for one in document["findings"]] == [
        ("fabric", ["GHSA-2"], None), ("flask", ["CVE-1", "GHSA-1", "PYSEC-1"], None)
    ]  # fmt: skip


def test_an_ignore_counts_until_its_day_and_idle_ones_are_told(clone: Clone, bad: str) -> None:
    ignore(clone, "    - {id: CVE-1, reason: we send no cookie, until: 2999-01-31}",
           "    - {id: GHSA-2, reason: for tests alone, until: '2999-01-31'}",
           "    - {id: CVE-9, reason: x, until: 2999-01-31}")  # fmt: skip
    ended = clone.done("audit", "--locked", bad)
    assert "    ignored until 2999-01-31: we send no cookie" in ended.out
    assert "note: audit.ignore names CVE-9, which was not found: remove it, if all hosts were asked" in ended.out
    assert ended.out.splitlines()[-1] == "no known vulnerability"
    clone.replace("service/service.yaml", "cookie, until: 2999", "cookie, until: 2020")
    ended = clone.fab("audit", "--locked", bad)
    assert ended.status == 1
    assert "note: the ignore of CVE-1 ended on 2020-01-31, so it counts again: we send no cookie" in ended.out


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("    - {id: CVE-1, reason: x}", "until is missing"),
        ("    - {id: CVE-1, reason: x, until: 2027-02-30}", "expected a day, YYYY-MM-DD"),
        ("    - {id: a b, reason: x, until: 2027-02-28}", "expected the name of an advisory"),
        ("    - CVE-1", "expected a mapping"),
        (
            "    - {id: A, reason: x, until: 2027-02-28}\n    - {id: A, reason: z, until: 2027-02-28}",
            "A is named twice",
        ),
    ],
)
def test_a_wrong_ignore_is_refused_with_its_place(clone: Clone, bad: str, line: str, said: str) -> None:
    ignore(clone, line)
    ended = clone.fab("audit", "--locked", bad)
    assert ended.status == 2
    assert said in ended.err
    assert "service.yaml:" in ended.err
    assert "audit.ignore[" in ended.err


def test_a_host_has_no_ignores_of_its_own(clone: Clone, bad: str) -> None:
    clone.write("hosts.yaml", "hosts:\n  a:\n    service: {audit: {ignore: []}}\n")
    ended = clone.fab("audit", bad)
    assert ended.status == 2
    assert "audit is the same on every host" in ended.err


def test_without_a_database_it_ends_with_three(clone: Clone) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        clone.environment |= {name: "http://127.0.0.1:9", name.upper(): "http://127.0.0.1:9"}
    clone.environment |= {"no_proxy": "", "NO_PROXY": ""}
    ended = clone.fab("audit", "--locked")
    assert ended.status == 3
    assert "no database of vulnerabilities was reached" in ended.err
    assert "fab audit --db all.zip" in ended.err
    assert clone.fab("audit", "--locked", "--json").json()["error"]["code"] == "no-database"


def test_a_file_that_is_no_export_ends_with_two_before_a_host_is_asked(clone: Clone, tmp_path: Path) -> None:
    clone.write("hosts.yaml", "hosts: {a: {address: 192.0.2.1}}\n")
    ended = clone.fab("-t", "1", "audit", f"--db={tmp_path / 'none.zip'}")
    assert (ended.status, "192.0.2.1" in ended.both) == (2, False)
    assert "No such file or directory" in ended.err


def test_a_clone_without_a_host_looks_at_its_locks(clone: Clone, bad: str) -> None:
    assert clone.fab("audit", bad).status == 1
    refused = clone.fab("audit", "--locked", bad, "-H", "shire01")
    assert refused.status == 2


def test_a_host_that_is_not_reached_does_not_hide_the_locks(clone: Clone, tmp_path: Path) -> None:
    clone.write("hosts.yaml", "hosts: {a: {address: 127.0.0.1, port: 9}}\n")
    path = advisories.export(tmp_path / "all.jsonl", record("GHSA-3", "django", *ALL))
    ended = clone.fab("audit", f"--db={path}")
    assert ended.status == 3
    assert "no known vulnerability" in ended.out
    assert "127.0.0.1" in ended.err
