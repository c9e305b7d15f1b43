"""`fab backup` and `fab restore`: what is refused before any host is contacted."""

from __future__ import annotations

import pytest

from tests.support import clone as clones
from tests.support.clone import Clone

pytestmark = pytest.mark.usefixtures("forked_fab")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone that stays as it is: each command is refused."""
    return clones.make(tmp_path_factory.mktemp("backup"))


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
def test_what_is_wrong_is_refused_in_one_sentence(plain: Clone, words: tuple[str, ...], where: str) -> None:
    refused = plain.fab(*words)
    assert refused.status == 2, refused.both
    assert f"at: {where}" in refused.err
    assert "Traceback" not in refused.both
    assert not (plain.root / ".backups").exists()
