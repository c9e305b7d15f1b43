"""What a host is asked by which command. Pure; what it answers is in `templates/host/told.py`."""

from __future__ import annotations

from typing import NamedTuple

from tasks.engine.config.inventory import Host
from tasks.engine.config.service import Service
from tasks.engine.host import layout, system_files

WANTS = ("state", "interpreters", "stores", "manifest", "lists", "health", "survey", "rights", "journal",
         "contents")  # fmt: skip
"""Parts of an answer. What root's part depends on is always told: the machine, root's files, what setup recorded.

state: how the service stands; without it nothing is read of what is the deploy account's, and nothing else is told.
interpreters: which Pythons the service could run by; stores: the venvs and wheels that are there.
manifest: what the committed release is made of; lists: whether the release to be deployed is as it was put there, where
it serves, or else the committed one; health: whether what has the traffic answers as it should.
survey: what people want to know, and no run; rights: whether root is to be had, and whether sudo has our rules.
journal: the last words of the slot without traffic; contents: what lies in root's files.
"""


class Question(NamedTuple):
    """One question to one host. wants: see there; files: root's, by path; python: as hosts.yaml names one.

    release: the one to be deployed; of another one neither the manifest nor the health is told.
    history: so many last lines. wait: seconds for an activation to end; watch: for a probation.
    followed: the answer decides what is run next.
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
    """What a deploy asks first, and mostly the only thing."""
    wants = _wants("interpreters", "stores", "manifest", "lists", "health")
    return Question(wants, system_files.paths(service, account), host.python or "", release, followed=True)


def plan(service: Service, host: Host, account: str) -> Question:
    """What a plan asks, which shows what would change in root's files."""
    wants = _wants("interpreters", "stores", "manifest", "lists", "health", "contents")
    return Question(wants, system_files.paths(service, account), host.python or "")


def setup(service: Service, account: str) -> Question:
    """What root's part depends on."""
    return Question(frozenset(), system_files.paths(service, account), history=0)


def doctor(service: Service, host: Host, account: str) -> Question:
    """What could be wrong with a host."""
    wants = _wants("interpreters", "health", "survey", "rights")
    return Question(wants, system_files.paths(service, account), host.python or "")


def drift(paths: tuple[str, ...]) -> Question:
    """What was recorded of root's files, and which releases there are."""
    return Question(files=paths, history=0)


def switch(service: Service) -> Question:
    """What a rollback or restart asks first: also whether what guards it, and watches a probation, is there."""
    return Question(files=(layout.guard_file(service),), followed=True)


def status() -> Question:
    """How a host stands, for a person."""
    return Question(_wants("health", "survey"))


def health() -> Question:
    """Whether what has the traffic answers as it should."""
    return Question(_wants("health"), history=0)


def state() -> Question:
    """Which release serves, and as which account."""
    return Question(history=0)


def releases() -> Question:
    """The releases, and what was done with them."""
    return Question()


def history(last: int) -> Question:
    """So many lines of what was done."""
    return Question(history=last)


def probation(seconds: int) -> Question:
    """Whether a release is on probation still; the end of it is waited for so long."""
    return Question(watch=seconds, history=0)


def verdict(seconds: int) -> Question:
    """What became of a probation."""
    return Question(_wants("health", "journal"), watch=seconds)


def outcome(seconds: int) -> Question:
    """What became of an activation whose link was lost, once it has ended."""
    return Question(_wants("health"), wait=seconds)
