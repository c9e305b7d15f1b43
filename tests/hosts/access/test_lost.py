"""A link that ends between two steps, or just as the next one begins: reported as a lost link."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.engine.config import inventory
from tasks.engine.host.protocol import Output, Report
from tasks.engine.host.steps import HostStep
from tasks.engine.ssh.session import LinkLost, Run
from tasks.engine.ssh.ssh_config import Options
from tasks.engine.ssh.ssh_session import SshSession
from tests.promises.words import ACCESS
from tests.support.hosts import Hosts
from tests.support.link import Link, link_to
from tests.support.stand_ins import entries, write_inventory


@pytest.fixture
def linked(one_host: Hosts, tmp_path: Path) -> Iterator[tuple[SshSession, Link]]:
    """A connection to a host, and the link that it uses."""
    identity = str(entries(one_host.inventory)["shire01"]["identity"])
    with link_to(one_host[0].address) as link:
        written = write_inventory(tmp_path / "linked.yaml", {"shire01": link.entry(one_host[0], identity)})
        (host,) = inventory.load(tmp_path, {"HOSTS": str(written)}).hosts
        session = SshSession(host, Options())
        yield session, link
        session.close()


@pytest.mark.promise(ACCESS, "a link that is lost as a channel opens")
@pytest.mark.parametrize("passed", [0, 1, 150, 250])
def test_a_link_that_is_lost_as_a_channel_opens_is_called_lost(linked: tuple[SshSession, Link], passed: int) -> None:
    """Once: a link that was reset as a channel opened was reported as a limit of MaxSessions."""
    session, link = linked
    if passed:
        link.after(passed, link.reset)
    else:
        link.reset()
    with pytest.raises(LinkLost, match="the connection was lost") as caught:
        session.execute(HostStep("try", "{}", 60), Run("run", "{}"), _ignore)
    assert caught.value.where == "shire01"
    assert "run the command again" in str(caught.value.next)
    assert "MaxSessions" not in f"{caught.value.message} {caught.value.next}"


def _ignore(_: Report | Output) -> None:
    """Ignore it."""
