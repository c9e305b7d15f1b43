"""maintenance: answer clients with 503 and a page, or serve them again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tasks.executor import invocation, verb

if TYPE_CHECKING:
    from tasks.engine.fleet.member import Member
    from tasks.engine.parallel import Emit

_TURNS = ("on", "off", "status")


@verb(turn="state to set, on or off; or status, to show it", message="text of the page that clients get")
def maintenance(c: Any, turn: str, message: str = "", json: bool = False) -> None:
    """Answer clients with 503 and a page, or serve them again.

    fab maintenance on      answer with 503
    fab maintenance off     serve again
    fab maintenance status  show which

    Health checks on the host go on. A reboot and a deploy leave it as it is.
    """
    from tasks import runner
    from tasks.engine.errors import UsageError
    from tasks.engine.host import maintenance_page as pages
    from tasks.engine.host import steps

    if turn not in _TURNS:
        raise UsageError(f"maintenance takes on, off or status, not {turn!r}", where="maintenance",
                         next="fab maintenance status")  # fmt: skip
    text = pages.parse_message(message)
    if turn == "status":
        _status(c, json)
        return
    _, members = runner.open_fleet(c, changing=f"maintenance {turn}")
    for member in members:
        pages.require_nginx(member.service, member.host.name)
    if invocation(c).dry:
        from tasks import plan_view

        plan_view.show_steps([(member.host.name, (steps.maintenance(member.service, turn),)) for member in members])
        return

    runner.follow_each(members, lambda member, emit: _turn(member, turn, text, emit), json)


def _turn(member: Member, turn: str, text: str, emit: Emit) -> None:
    from datetime import datetime, timezone

    from tasks.engine.host import maintenance_page as pages
    from tasks.engine.host import payload, steps

    member.act_for_service()
    sent = pages.files(member.service, text, datetime.now(timezone.utc), member.run.who) if turn == "on" else {}
    member.perform(steps.maintenance(member.service, turn), emit, tuple(payload.maintenance(sent)) if sent else ())
    if turn == "on":
        warning = pages.stays_open(pages.bypass(member.service))
        member.finish(emit, "closed", f"clients get 503: {text}", warning)
    else:
        member.finish(emit, "open", "clients are served")


def _status(c: Any, json: bool) -> None:
    from tasks import runner
    from tasks.engine.host import maintenance_page as pages
    from tasks.engine.host import questions

    _, members = runner.open_fleet(c)
    bypass = {member.host.name: pages.bypass(member.service) for member in members}
    answers = runner.ask(members, lambda member: pages.state(member.ask(questions.state())))
    hosts = [
        {**(state or {}), "host": name, "maintenance": state is not None, "bypass": bypass[name] or None}
        for name, state in answers.items()
    ]
    lines = (
        f"{name}  {'off' if state is None else f'ON {pages.describe(state, bypass[name])}'}"
        for name, state in answers.items()
    )
    runner.answer(members, hosts, lines, json=json)
