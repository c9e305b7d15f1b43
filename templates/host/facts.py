"""Report the facts that plan, doctor, status and health need. Reads only, and ends in seconds.

A deploy that changes nothing is only this step, so it starts few programs, and those in parallel. The facts are one
object, `facts {...}`, of the types in fact_schema.py; long contents have reports of their own: `data`, `release`,
`history`, `same` (of the manifest), `journal`, `systemd` and `event`.

Root reads what the root setup depends on. What lies below directories of the deploy account is read by a process that
has only that account's rights.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from typing import Any, BinaryIO

from . import (
    accounts,
    interpreters,
    locks,
    logged,
    machine,
    mounts,
    programs,
    record,
    release,
    service,
    state,
    stores,
    survey,
    trust,
    units,
    venv,
)
from .background import Background
from .fact_schema import HostFacts, State, plain
from .folders import Folder
from .run import Run
from .slot_names import other

_SECONDS, _MOST = 50, 48 << 20
_NO_GROUP = 65534
"""The group `nobody` or `nogroup`, which owns nothing."""
_AS_ROOT = ("sudo", "-n", "true")
_OF_THE_ACCOUNT = {"state", "survey", "pythons", "logged"}
"""Members of `HostFacts` that are read with the deploy account's rights."""


def perform(run: Run) -> None:
    """Run the step; the controller's `steps.facts` describes its keys."""
    step = run.step
    wants = frozenset(step["wants"])
    # Not as root: what is below the account's directory is read with that account's rights alone.
    if step.get("waits") and os.geteuid() != 0:
        _tell_early(run)
    # sudo logs each refusal, so ask it only if the rights are wanted.
    root = Background(lambda: "rights" in wants and (os.geteuid() == 0 or programs.ask(*_AS_ROOT).well))
    known, paths = _readable(step["name"], [*step["files"], f"/etc/{step['name']}/tls/certificate.pem"])
    files = machine.contents(paths)
    found = HostFacts(
        machine.look(can_be_root=root.result()),
        machine.recorded(known, paths),
        machine.digests(files),
        machine.loopback(step["name"]),
    )
    answer = Answer()
    if "state" in wants:
        answer = _look(run, wants, known)
    # The account may add only its own members, so it cannot overwrite root's.
    whole = {**plain(found), **{key: answer.members[key] for key in _OF_THE_ACCOUNT & answer.members.keys()}}
    run.report("facts", json.dumps(whole))
    run.reports([*(machine.shown(files) if "contents" in wants else ()), *answer.lines])


def _readable(name: str, paths: list[str]) -> tuple[record.Record, list[str]]:
    """Return the record, and those of the paths that may be read: before a first setup /etc/NAME may be another's."""
    if os.geteuid() != 0 or trust.is_roots_own(f"/etc/{name}"):
        return record.read(name), paths
    return record.Record(name), [path for path in paths if not path.startswith(f"/etc/{name}/")]


def _tell_early(run: Run) -> None:
    """Report at once if another release than the wanted one serves, so that the next process starts meanwhile."""
    links = state.Links(service.of(run.step))
    served = links.releases.get(links.serves, "")
    if served != run.step["wanted"]:
        run.report("differs", served)


class Answer:
    """The facts of a service. members: those of `HostFacts`, as JSON; lines: reports beside them."""

    def __init__(self) -> None:
        self.members: dict[str, Any] = {}
        self.lines: list[tuple[str, str]] = []

    def write(self, output: BinaryIO) -> None:
        """Write the answer for another process."""
        output.write(json.dumps([self.members, self.lines]).encode())

    def read(self, data: bytes) -> Answer:
        """Read what `write` wrote."""
        self.members, self.lines = json.loads(data)
        return self


def _look(run: Run, wants: frozenset[str], known: record.Record) -> Answer:
    """Read what lies below the deploy account's directories, with that account's rights."""
    if os.geteuid() != 0:
        return ask(run, wants)
    places = (run.step["root"], f"{locks.RUN}/{known.name}", f"/etc/{known.name}")
    mounts.refuse(*places)
    account = _account(known, places)
    if account is None or account.uid == 0:
        return ask(run, wants)
    seconds = _SECONDS + run.step["wait"] + run.step["watch"]
    return Answer().read(accounts.as_account(account, lambda output: ask(run, wants).write(output), seconds, _MOST))


def _account(known: record.Record, places: Iterable[str]) -> accounts.Account | None:
    """Return the account that owns the service; None if all that is there is root's.

    The record names it. Before a first setup these places may be those of another program, such as /run/postgresql.
    """
    if known.account and (owner := accounts.find(known.account)):
        return owner
    for place in places:
        for _, status in trust.passed(place):
            if uid := status.st_uid:
                # Processes of an account that is gone may go on.
                return accounts.of_uid(uid) or accounts.Account(f"uid {uid}", uid, _NO_GROUP)
    return None


def ask(run: Run, wants: frozenset[str]) -> Answer:
    """Collect the facts of the service with the rights of this process."""
    step, about = run.step, service.of(run.step)
    activating = _wait(run)
    answer = Answer()
    pythons = Background(lambda: interpreters.ask(step["python"]) if "interpreters" in wants else ())
    questions = survey.Questions(about, rights="rights" in wants) if "survey" in wants else None
    look = state.look_at(about, surveyed=questions is not None)
    links, shown = look.links, look.units
    health = Background(lambda: look.ask_health(step["wanted"]) if "health" in wants else State().health)
    with ExitStack() as stack:
        root = None
        # Another account cannot open the directory, and learns from the record which account owns the service.
        with suppress(OSError):
            root = stack.enter_context(Folder.open(about.root))
        service_state = look.facts()._replace(activating=activating)
        if root:
            service_state = _below(run, wants, root, links, service_state, answer)
        if questions:
            service_state = service_state._replace(slots=questions.slots(service_state.slots, shown))
            answer.members["survey"] = plain(questions.facts(links, shown, root))
    if "journal" in wants:
        idle = other(links.current)
        for unit in (about.slot(idle), *(process.of(idle) for process in about.processes)):
            answer.lines += units.journal_lines(unit, "-n", "200", "-b")
    if "logged" in wants:
        span, events = logged.look(about)
        answer.members["logged"] = plain(span)
        answer.lines += [("event", json.dumps(plain(event))) for event in events]
    answer.members["pythons"] = plain(pythons.result())
    answer.members["state"] = plain(service_state._replace(health=health.result()))
    return answer


def _below(
    run: Run, wants: frozenset[str], root: Folder, links: state.Links, service_state: State, answer: Answer
) -> State:
    """Read the wanted facts below the service's directory: add reports to `answer`, return the completed state."""
    step, current = run.step, links.releases.get(links.current, "")
    with suppress(OSError):
        answer.lines += stores.releases(root)
    if step["history"]:
        answer.lines += stores.history(root, step["history"])
    # If the wanted release serves already, there is nothing to compare.
    if "manifest" in wants and current and current != step["wanted"]:
        answer.lines += stores.manifest(root, current)
    service_state = service_state._replace(pruning=stores.pruning(root))
    name = step["wanted"] or current
    if "lists" in wants and name and name in links.releases.values():
        with suppress(OSError), root.below("releases") as releases, releases.below(name) as place:
            if venv.whole(f"{place.path}/venv"):
                service_state = service_state._replace(lists=release.list_digests(place))
    if "stores" not in wants:
        return service_state
    return service_state._replace(venvs=stores.stored(root, "venvs"), wheels=stores.stored(root, "wheels"))


def _wait(run: Run) -> bool:
    """Wait for the end of a running activation, as after a lost link; return True if it outlasts the wait.

    The step's `watch`: seconds to wait for a probation; `wait`: for the activation itself.
    """
    name, step = run.step["name"], run.step
    late = False
    for lock, seconds in (("guard", step["watch"]), ("activate", step["wait"])):
        if not seconds:
            continue
        # If the lock is missing, or another account's, there is nothing to wait for.
        with suppress(OSError), locks.Lock(name, lock) as running:
            late = not running.take_within(run, seconds) and lock == "activate"
    return late
