"""Report what plan, doctor, status and health want to know of a host. Reads only, and ends in seconds.

Of a host where there is nothing to do this is the whole deploy: it starts few programs, and those side by side. What is
told is one object, `facts {...}`, of the types in told.py; what may be much comes in lines of its own: `data`,
`release`, `history`, `same` (of the manifest), `journal` and `systemd`.

Root tells what root's part depends on. What lies below directories of the deploy account is read by a process that has
that account's rights alone.
"""

from __future__ import annotations

import json
import os
from contextlib import ExitStack, suppress
from importlib import import_module
from typing import Any, BinaryIO

from . import accounts, interpreters, machine, programs, record, service, state, stores, survey, units
from .beside import Beside
from .folders import Folder
from .locks import Lock
from .run import Run
from .told import State, Told, plain

_SECONDS, _MOST = 50, 48 << 20
_AS_ROOT = ("sudo", "-n", "true")
_DEPLOYERS = {"state", "survey", "pythons"}
"""Members of what is told that are the deploy account's."""


def perform(run: Run) -> None:
    """See the step's keys at `steps.facts` of the controller."""
    step = run.step
    wants = frozenset(step["wants"])
    # Where it is refused, sudo logs that: only who asks for rights is told.
    root = Beside(lambda: "rights" in wants and (os.geteuid() == 0 or programs.ask(*_AS_ROOT).well))
    known = record.read(step["name"])
    paths = [*step["files"], f"/etc/{step['name']}/tls/certificate.pem"]
    files = machine.contents(paths)
    told = Told(
        machine.look(root=root.result()),
        machine.recorded(known, paths),
        machine.digests(files),
        machine.loopback(step["name"]),
    )
    answer = Answer()
    if "state" in wants:
        answer = _look(run, wants, known)
    # Root's own word stands: the account adds no more than what is its to tell.
    whole = {**plain(told), **{key: answer.told[key] for key in _DEPLOYERS & answer.told.keys()}}
    run.report("facts", json.dumps(whole))
    run.reports([*(machine.shown(files) if "contents" in wants else ()), *answer.lines])


class Answer:
    """What is known of a service: members of `Told` as JSON has them, and lines beside them."""

    def __init__(self) -> None:
        self.told: dict[str, Any] = {}
        self.lines: list[tuple[str, str]] = []

    def write(self, output: BinaryIO) -> None:
        """Hand it to another process."""
        output.write(json.dumps([self.told, self.lines]).encode())

    def read(self, data: bytes) -> Answer:
        """Take it from there."""
        self.told, self.lines = json.loads(data)
        return self


def _look(run: Run, wants: frozenset[str], known: record.Record) -> Answer:
    """All that lies below directories of the deploy account, by who may read it."""
    account = _account(run, known) if os.geteuid() == 0 else None
    if account is None or account.uid == 0:
        return ask(run, wants)
    seconds = _SECONDS + run.step["wait"] + run.step["watch"]
    return Answer().read(accounts.as_account(account, lambda output: ask(run, wants).write(output), seconds, _MOST))


def _account(run: Run, known: record.Record) -> accounts.Account | None:
    """Whose the service is: by the record, or by its directory where that has none."""
    found = accounts.find(known.account) if known.account else None
    if found is None:
        with suppress(FileNotFoundError):
            found = accounts.of_uid(os.lstat(run.step["root"]).st_uid)
    return found


def ask(run: Run, wants: frozenset[str]) -> Answer:
    """What is known of the service, with the rights of who runs this."""
    step, about = run.step, service.of(run.step)
    activating = _wait(run)
    answer = Answer()
    pythons = Beside(lambda: interpreters.ask(step["python"]) if "interpreters" in wants else ())
    asked = survey.Questions(about, rights="rights" in wants) if "survey" in wants else None
    links = state.Links(about)
    found = state.ask_units(about, surveyed=asked is not None)
    look = state.Look(about, links, found)
    health = Beside(lambda: look.ask_health(step["wanted"]) if "health" in wants else State().health)
    with ExitStack() as stack:
        root = None
        # Another account may not look there: it is told whose the service is, by the record.
        with suppress(OSError):
            root = stack.enter_context(Folder.open(about.root))
        told = look.told()._replace(activating=activating)
        if root:
            told = _below(run, wants, root, links, told, answer)
        if asked:
            told = told._replace(slots=asked.slots(told.slots, found))
            answer.told["survey"] = plain(asked.told(links, found, root))
    if "journal" in wants:
        idle = "green" if links.current == "blue" else "blue"
        answer.lines += units.words(about.slot(idle), "-n", "200", "-b")
    answer.told["pythons"] = plain(pythons.result())
    answer.told["state"] = plain(told._replace(health=health.result()))
    return answer


def _below(run: Run, wants: frozenset[str], root: Folder, links: state.Links, told: State, answer: Answer) -> State:
    """What the directories of the service have, as far as it is wanted."""
    step, current = run.step, links.releases.get(links.current, "")
    with suppress(OSError):
        answer.lines += stores.releases(root)
    if step["history"]:
        answer.lines += stores.history(root, step["history"])
    # Of the release that is to be deployed nothing has to be compared.
    if "manifest" in wants and current and current != step["wanted"]:
        answer.lines += stores.manifest(root, current)
    told = told._replace(pruning=stores.pruning(root))
    asked = step["wanted"] or current
    if "lists" in wants and asked and asked in links.releases.values():
        # It loads OpenSSL, which nobody else here needs.
        release = import_module(".release", __package__)
        with suppress(OSError), root.below("releases") as releases, releases.below(asked) as place:
            told = told._replace(lists=release.lists(place))
    if "stores" not in wants:
        return told
    return told._replace(venvs=stores.stored(root, "venvs"), wheels=stores.stored(root, "wheels"))


def _wait(run: Run) -> bool:
    """After a lost link whoever activates ends within seconds, and only then is there something to read.

    Whether an activation goes on beyond the wait. watch: seconds for a probation.
    """
    name, step = run.step["name"], run.step
    late = False
    for lock, seconds in (("guard", step["watch"]), ("activate", step["wait"])):
        if not seconds:
            continue
        # Where there is none, or it is another account's, there is nothing to wait for.
        with suppress(OSError), Lock(name, lock) as found:
            late = not found.wait(run, seconds) and lock == "activate"
    return late
