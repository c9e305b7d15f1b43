"""Put an archive back on a host: clients are turned away and the service is stopped meanwhile."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from tasks.engine.backup import transfer
from tasks.engine.deploy.run_lock import Claim, RunLocks
from tasks.engine.errors import LoopError
from tasks.engine.events import Line, Step
from tasks.engine.fleet.member import Member
from tasks.engine.host import maintenance_page, payload, steps
from tasks.engine.parallel import Emit


class Order(NamedTuple):
    """The archive to put back, and how.

    path: the archive, which is verified; shown: its name as the user gave it, with the options to read it
    folder: gets what is there now, by `terms`; None to save nothing
    """

    path: Path
    shown: str
    folder: Path | None
    moment: datetime
    terms: transfer.Terms


def restore(member: Member, emit: Emit, order: Order) -> None:
    """Replace the data of the service by an archive, which is verified; save into the folder what was there.

    Raises LoopError. If the archive cannot be put back, the service serves again, with what `put_back` leaves. If the
    release cannot run with the archive's data, clients go on to get 503.
    """
    locks, release = RunLocks(), member.act_for_service().committed_release
    try:
        # Else a run of another controller could start a release while its data is replaced.
        locks.take(member, Claim("restore", release or "", ()), 0, emit)
        _restore(member, emit, order)
    finally:
        locks.release()


def _restore(member: Member, emit: Emit, order: Order) -> None:
    # Again: a run may have ended just before we took the lock.
    facts = member.act_for_service()
    host = member.host.name
    if facts.committed_release is None:
        message = "no release is committed there, so nothing can take the data"
        raise LoopError(message, where=host, next=f"fab deploy -H {host}")
    closes = member.service.nginx is not None and maintenance_page.state(facts) is None
    if closes:
        files = maintenance_page.files(member.service, "The data is being restored.", order.moment, member.run.who)
        member.perform(steps.maintenance(member.service, "on"), emit, tuple(payload.maintenance(files)))
    try:
        member.perform(steps.stop(member.service, disable=False), emit)
        saved = _save(member, emit, order)
        emit(Step(host, "restore", "replace", f"by {order.path.name}"))
        transfer.put_back(member, order.path, order.terms)
    except LoopError:
        _open(member, emit, closes=closes)
        raise
    try:
        transfer.migrate(member)
        _open(member, emit, closes=closes)
    except LoopError as error:
        note = f"; then: fab maintenance off -H {host}" if closes else ""
        key = " --key FILE" if order.terms.recipient else ""
        former = f"the former data: fab restore {saved} -H {host} --yes{key}"
        error.next = f"{former if saved else 'put another archive back'}{note}"
        raise
    end = f"what was there is in {saved}" if saved else "what was there was not saved"
    text, warning = f"{order.path.name} is in place; {end}", maintenance_page.warn(facts, member.service)
    member.finish(emit, "restored", text, warning, saved=str(saved) if saved else None)


def _save(member: Member, emit: Emit, order: Order) -> Path | None:
    """Save what is there now, a damaged database as it is; a failure names the way around it."""
    if order.folder is None:
        return None
    host = member.host.name
    emit(Step(host, "restore", "save", "what is there now"))
    terms = order.terms._replace(warn=lambda text: emit(Line(host, text, "warning")))
    try:
        return transfer.fetch(member, order.folder, order.moment, terms)[0]
    except LoopError as error:
        if order.terms.stop:
            raise
        way = f"without saving what is there now: fab restore {order.shown} -H {host} --without-save"
        error.next = f"{error.next}; or, {way}" if error.next else way
        raise


def _open(member: Member, emit: Emit, *, closes: bool) -> None:
    """Start the service, wait for its health check, and let clients in again."""
    member.perform(steps.start(member.service), emit)
    if closes:
        member.perform(steps.maintenance(member.service, "off"), emit)
