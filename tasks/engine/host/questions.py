"""Make the questions of each command to a host. Pure; `templates/host/fact_schema.py` has the keys of the answers."""

from __future__ import annotations

from typing import NamedTuple

from tasks.engine.config.inventory import Host
from tasks.engine.config.service import Service
from tasks.engine.host import history as history_lines
from tasks.engine.host import layout, system_files

WANTS = ("state", "interpreters", "stores", "manifest", "lists", "health", "survey", "rights", "journal",
         "contents", "logged")  # fmt: skip
"""Parts of an answer. The machine, root's files and the record of setup are part of every answer.

state: state of the service. Without it the host reads nothing below the deploy account's directories: it answers
    `contents`, of `rights` only the access to root, and none of the other parts
interpreters: Pythons that could run the service; stores: venvs and wheels on the host
manifest: manifest of the committed release; health: answers of the live release to the health check
lists: digests of the release to deploy (without one: of the committed one), if a slot has it
survey: facts for people, not for a run; rights: access to root, and sudo's rules
journal: last lines of the slot without traffic; contents: contents of root's files
logged: what PID 1 logged about the slots, the guards and the traffic
"""


class Question(NamedTuple):
    """One question to one host. wants: see WANTS; files: paths of root's files; python: interpreter of hosts.yaml.

    release: the release to deploy, empty for none. If this release is committed already, the answer has no manifest; if
        another release is live, it has no health
    wait, watch: seconds to wait for the end of an activation, of a probation
    history: number of last lines; followed: the answer decides which step is next
    """

    wants: frozenset[str] = frozenset({"state"})
    files: tuple[str, ...] = ()
    python: str = ""
    release: str = ""
    history: int = 200
    wait: int = 0
    watch: int = 0
    followed: bool = False


def _wants(*names: str) -> frozenset[str]:
    return frozenset({"state", *names})


def deploy(service: Service, host: Host, account: str, release: str) -> Question:
    """Ask what a deploy needs; mostly its only question."""
    wants = _wants("interpreters", "stores", "manifest", "lists", "health")
    return Question(wants, system_files.paths(service, account), host.python or "", release, followed=True)


def plan(service: Service, host: Host, account: str, release: str) -> Question:
    """Ask what a deploy would ask, and for the contents of root's files, which a plan compares."""
    asked = deploy(service, host, account, release)
    return asked._replace(wants=asked.wants | {"contents"}, followed=False)


def setup(service: Service, account: str) -> Question:
    """Ask what root's part depends on."""
    return Question(frozenset(), system_files.paths(service, account), history=0)


def doctor(service: Service, host: Host, account: str) -> Question:
    """Ask what could be wrong with a host."""
    wants = _wants("interpreters", "health", "survey", "rights")
    return Question(wants, system_files.paths(service, account), host.python or "")


def drift(paths: tuple[str, ...]) -> Question:
    """Ask for the record of root's files, and the releases."""
    return Question(files=paths, history=0)


def reactivate(service: Service) -> Question:
    """Ask what a rollback or restart needs, and whether the guard's unit is there."""
    return Question(files=(layout.guard_file(service),), followed=True)


def status() -> Question:
    """Ask for the status of a host, for people."""
    return Question(_wants("health", "survey"))


def health() -> Question:
    """Ask whether the live release answers its health check, and its processes stay up."""
    return Question(_wants("health", "survey"), history=0)


def state() -> Question:
    """Ask for the live release and the deploy account."""
    return Question(history=0)


def releases() -> Question:
    """Ask for the releases and their history."""
    return Question()


def history(last: int) -> Question:
    """Ask for the last lines of the history."""
    return Question(history=last)


def verification() -> Question:
    """Ask for the whole history, and for what PID 1 logged."""
    return Question(_wants("logged"), history=history_lines.LONGEST)


def probation(seconds: int) -> Question:
    """Ask whether a release is still on probation; wait so many seconds for its end."""
    return Question(watch=seconds, history=0)


def verdict(seconds: int) -> Question:
    """Ask for the outcome of a probation."""
    return Question(_wants("health", "journal"), watch=seconds)


def outcome(seconds: int) -> Question:
    """Ask for the outcome of an activation whose link was lost, once it has ended."""
    return Question(_wants("health"), wait=seconds)
