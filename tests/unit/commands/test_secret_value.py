"""The value of a secret as a person types it: asked for twice, and not shown."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.clone import Clone
from tests.support.stand_ins import Mute, mute, write_inventory
from tests.support.terminal import converse

SET = ("-t", "1", "secrets.set", "API_TOKEN")


@pytest.fixture
def there(clone: Clone, tmp_path: Path) -> Iterator[tuple[Clone, Mute]]:
    """A clone whose service names a secret, and whose only host is a socket that records a connection."""
    service = clone.root / "service/service.yaml"
    service.write_text(service.read_text() + "\nsecrets: [API_TOKEN]\n")
    with mute() as host:
        clone.inventory = write_inventory(tmp_path / "hosts.yaml", {"shire01": host.entry()})
        yield clone, host


def test_two_values_that_differ_change_nothing_and_neither_is_shown(there: tuple[Clone, Mute]) -> None:
    clone, host = there
    ended = converse(clone, SET, [("API_TOKEN: ", "first sesame"), ("API_TOKEN, again: ", "second sesame")])
    assert ended.status == 2
    assert "the two differ" in ended.out
    assert "sesame" not in ended.out
    assert not host.called


def test_the_same_value_twice_is_taken(there: tuple[Clone, Mute]) -> None:
    clone, host = there
    said = [("API_TOKEN: ", "open sesame"), ("API_TOKEN, again: ", "open sesame")]
    ended = converse(clone, SET, said)
    # The host is no host; what counts is that it was asked.
    assert (ended.status, host.called, "sesame" in ended.out) == (3, True, False)
