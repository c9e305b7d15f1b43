"""`fab backup` and `fab restore`: what is refused before any host is contacted."""

from __future__ import annotations

import pytest

from tests.support.clone import Clone


@pytest.mark.parametrize(
    ("words", "where"),
    [
        (("backup", "--keep", "0"), "--keep"),
        (("backup", "--keep", "all"), "--keep"),
        (("backup", "--limit", "10%"), "--limit"),
        (("backup", "--limit", "0"), "--limit"),
        (("restore", "nowhere.tar.gz"), "nowhere.tar.gz"),
        (("restore", "hosts.yaml", "--yes"), "hosts.yaml"),
        (("restore", "service", "--yes"), "service"),
        (("restore", "hosts.yaml", "--drill"), "hosts.yaml"),
        (("restore", "hosts.yaml", "--limit", "-1"), "--limit"),
    ],
)
def test_what_is_wrong_is_refused_in_one_sentence(clone: Clone, words: tuple[str, ...], where: str) -> None:
    refused = clone.fab(*words)
    assert refused.status == 2, refused.both
    assert f"at: {where}" in refused.err
    assert "Traceback" not in refused.both
    assert not (clone.root / ".backups").exists()
