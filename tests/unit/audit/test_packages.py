"""The packages of an audit: those of both locks, with their lines, and those that run on a host."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.engine.audit import packages
from tasks.engine.audit.findings import Package
from tasks.engine.errors import LoopError, UsageError
from tests.support.host_facts import COMMITTED, NEW, OLD, TRIED, serving, vary

PINNED = "flask==3.0 \\\n    --hash=sha256:" + "0" * 64 + "\n"


def test_the_lock_of_fab_itself_is_read_with_its_lines(tmp_path: Path) -> None:
    assert packages.own(tmp_path) == ()
    (tmp_path / packages.OWN_LOCK).write_text(f"# made\n{PINNED}")
    assert packages.own(tmp_path) == (Package("flask", "3.0", "requirements-dev.lock:2"),)
    for wrong in (b"flask\n", b"\xff"):
        (tmp_path / packages.OWN_LOCK).write_bytes(wrong)
        with pytest.raises(UsageError, match="the lock of fab itself cannot be read"):
            packages.own(tmp_path)


def test_what_has_the_traffic_and_what_a_boot_would_start_both_count() -> None:
    records = ({"id": NEW, "packages": ["typing_extensions==4.0"]}, {"id": OLD, "packages": ["flask==3.0"]},
               {"id": "c" * 12, "packages": ["old==1"]})  # fmt: skip
    facts = vary(serving(), {COMMITTED: OLD, "state live": "green", TRIED: NEW})._replace(releases=records)
    found, remarks = packages.running("shire01", facts)
    assert found == (Package("typing-extensions", "4.0", f"shire01 (release {NEW})"),
                     Package("flask", "3.0", f"shire01 (release {OLD})"))  # fmt: skip
    assert remarks == ()


@pytest.mark.parametrize("listed", [None, 7, {}, [], ["x", 7, None, "a==b==c/..", "$(x)==1", "a==" + "1" * 200]])
def test_a_record_that_lists_nothing_is_told(listed: object) -> None:
    facts = serving()._replace(releases=({"id": NEW, "packages": listed},))
    said = f"shire01: release {NEW} has no list of its packages; the next deploy brings one"
    assert packages.running("shire01", facts) == ((), (said,))


def test_a_host_without_a_release_is_told() -> None:
    facts = vary(serving(), {"state current": "", "state live": ""})
    assert packages.running("shire01", facts) == ((), ("shire01: nothing is deployed there",))


def test_a_host_that_lists_one_package_twice_lies() -> None:
    """Once: five thousand versions of one package, all vulnerable, made the output of all hosts endless."""
    facts = serving()._replace(releases=({"id": NEW, "packages": ["Flask==3.0", "flask==3.1"]},))
    with pytest.raises(LoopError, match=f"lists a package of release {NEW} twice") as failed:
        packages.running("shire01", facts)
    assert (failed.value.code, failed.value.where) == ("lies", "shire01")
