"""Put an archive back on a host: clients are turned away and the service is stopped meanwhile."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from tasks.engine.backup import transfer
from tasks.engine.errors import LoopError
from tasks.engine.events import Step
from tasks.engine.fleet.member import Member
from tasks.engine.host import maintenance_page, payload, steps
from tasks.engine.parallel import Emit


def restore(
    member: Member, emit: Emit, path: Path, folder: Path, moment: datetime, limit: int, recipient: Any = None
) -> None:
    """Replace the data of the service by an archive, which is verified; save into the folder what was there.

    limit, recipient: of what is saved, as `transfer.fetch` has them.

    Raises LoopError. If the archive cannot be put back, the service serves again, with what `put_back` leaves. If the
    release cannot run with the archive's data, clients go on to get 503.
    """
    facts = member.act_for_service()
    host = member.host.name
    if facts.committed_release is None:
        message = "no release is committed there, so nothing can take the data"
        raise LoopError(message, where=host, next=f"fab deploy -H {host}")
    closes = member.service.nginx is not None and maintenance_page.state(facts) is None
    if closes:
        files = maintenance_page.files(member.service, "The data is being restored.", moment, member.run.who)
        member.perform(steps.maintenance(member.service, "on"), emit, tuple(payload.maintenance(files)))
    try:
        member.perform(steps.stop(member.service, disable=False), emit)
        emit(Step(host, "restore", "save", "what is there now"))
        saved, _ = transfer.fetch(member, folder, moment, limit, recipient)
        emit(Step(host, "restore", "replace", f"by {path.name}"))
        transfer.put_back(member, path)
    except LoopError:
        _open(member, emit, closes=closes)
        raise
    try:
        transfer.migrate(member)
        _open(member, emit, closes=closes)
    except LoopError as error:
        note = f"; then: fab maintenance off -H {host}" if closes else ""
        key = " --key FILE" if recipient else ""
        error.next = f"the former data: fab restore {saved} -H {host} --yes{key}{note}"
        raise
    text = f"{path.name} is in place; what was there is in {saved}"
    member.finish(emit, "restored", text, maintenance_page.warn(facts, member.service), saved=str(saved))


def _open(member: Member, emit: Emit, *, closes: bool) -> None:
    """Start the service, wait for its health check, and let clients in again."""
    member.perform(steps.start(member.service), emit)
    if closes:
        member.perform(steps.maintenance(member.service, "off"), emit)
