"""The cause of a failed step, from its output: one sentence, and what to do next."""

from __future__ import annotations

import json

import pytest

from tasks.engine.fleet import step_errors
from tasks.engine.host.protocol import Output, Report, Transcript
from tasks.engine.host.steps import HostStep

ACTIVATE, SETUP, REMOVE = (
    HostStep("activate", "", 1),
    HostStep("setup", "", 1, root=True),
    HostStep("remove", "", 1, root=True),
)
HOLDER = {"time": "2026-01-01T00:00:00Z", "action": "deploy", "release": "abc", "who": {"git": "me@x", "host": "pc"}}

MOVED = "another run changed this host since it was looked at: it now serves"
NEEDS = "this needs root once, and"
NO_HOST, NO_PASSWORD = "sudo: unable to resolve host shire01", "sudo: a password is required"
NO_RIGHTS = "this needs root once, and deploy may not use sudo without a password"


def said(*marks: tuple[str, str], tail: tuple[str, ...] = (), status: int = 1) -> Transcript:
    transcript = Transcript(exit=status)
    for word, rest in marks:
        transcript.add(Report(word, rest))
    for line in tail:
        transcript.add(Output(line))
    return transcript


@pytest.mark.parametrize(
    ("step", "transcript", "message", "code"),
    [
        (ACTIVATE, said(("failed", "no answer"), ("journal", "x")), "no answer", "failed"),
        (ACTIVATE, said(("refused", "damaged")), "damaged", "failed"),
        (ACTIVATE, said(("moved", "abc")), f"{MOVED} abc", "moved"),
        (ACTIVATE, said(("moved", "")), f"{MOVED} nothing", "moved"),
        (ACTIVATE, said(("edited", "abc"), status=3), "files of release abc are not what its manifest says", "edited"),
        (ACTIVATE, said(status=2), "activate ended with status 2", "failed"),
        (SETUP, said(tail=("sudo: a password is required",)), NO_RIGHTS, "rights"),
        (SETUP, said(("step", "write"), ("refused", "nginx refuses")), "nginx refuses", "failed"),
        (SETUP, said(tail=("hello", "sudo: no"), status=1), f"{NEEDS} sudo refuses deploy: no", "rights"),
        (SETUP, said(tail=(NO_HOST, NO_PASSWORD)), NO_RIGHTS, "rights"),
        (SETUP, said(tail=("sudo: Konto zu", NO_PASSWORD)), f"{NEEDS} sudo refuses deploy: Konto zu", "rights"),
        (SETUP, said(tail=("sh: sudo: not found",), status=127), f"{NEEDS} there is no sudo for deploy", "rights"),
        (SETUP, said(), NO_RIGHTS, "rights"),
        (ACTIVATE, said(("failed", "slot blue did not start"), tail=(NO_PASSWORD,)),
         "slot blue did not start; sudo says: a password is required", "rights"),
        (ACTIVATE, said(tail=(NO_PASSWORD, NO_HOST)),
         "activate ended with status 1; sudo says: a password is required", "rights"),
        (ACTIVATE, said(("failed", "no answer"), tail=(NO_HOST,)), "no answer", "failed"),
        (ACTIVATE, said(("failed", "no answer"), ("journal", "x"), tail=(NO_PASSWORD,)), "no answer", "failed"),
        (ACTIVATE, said(("refused", "damaged"), tail=(NO_PASSWORD,)), "damaged", "failed"),
    ],
)  # fmt: skip
def test_the_sentence_is_the_one_that_helps(step: HostStep, transcript: Transcript, message: str, code: str) -> None:
    found = step_errors.explain(step, transcript, "shire01", "deploy")
    assert (found.message, found.code, found.where) == (message, code, "shire01")


def test_the_journal_is_the_detail_and_without_one_what_was_printed() -> None:
    both = said(("failed", "x"), ("journal", "cause"), tail=("printed",))
    assert step_errors.explain(ACTIVATE, both, "h", "root").detail == ("app: cause",)
    assert step_errors.explain(ACTIVATE, said(tail=("printed",)), "h", "root").detail == ("printed",)


@pytest.mark.parametrize(
    ("answered", "named"),
    [("302, not 200: Redirected to /.web", True), ("404, not 200", True), ("500, not 200", False)],
)
def test_a_health_path_that_leads_elsewhere_is_named(answered: str, named: bool) -> None:
    """Once: an application whose front page redirects was told 302, and no key of service.yaml."""
    failed = said(("failed", f"the health check did not hold in 30 s: answered {answered}"))
    way = step_errors.explain(ACTIVATE, failed, "shire01", "deploy").next or ""
    assert ("`health: path` of service.yaml must itself give the right answer" in way) == named


def test_the_next_step_names_the_key_that_opens_the_sandbox_and_is_not_set() -> None:
    app = said(("failed", "it died"), ("journal", "OSError: [Errno 101] Network is unreachable"))
    for step in (ACTIVATE, HostStep("hook", "", 1)):
        way = step_errors.explain(step, app, "shire01", "deploy").next or ""
        assert way.startswith("fab logs -H shire01 -n 100. The sandbox may forbid it")
        assert "`needs: [network]`" in way
        assert step_errors.explain(step, app, "shire01", "deploy", ("network",)).next == "fab logs -H shire01 -n 100"
    systemd = said(("failed", "it died"), ("systemd", "myapp@blue.service: Network is unreachable"))
    assert "needs" in (step_errors.explain(ACTIVATE, systemd, "shire01", "deploy").next or "")


def test_who_is_at_work_is_named() -> None:
    found = step_errors.busy("shire01", json.dumps(HOLDER))
    assert found.message == "me@x (on pc) is at work here since 2026-01-01T00:00:00Z: deploy of abc"
    user = step_errors.busy("shire01", json.dumps({**HOLDER, "who": {"user": "me", "host": "pc"}}))
    assert user.message.startswith("me (on pc)")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"who": 1}', '{"who": {}}', "[" * 100_000])
def test_a_holder_that_cannot_be_read_is_somebody(text: str) -> None:
    found = step_errors.busy("shire01", text)
    assert (found.message, found.code) == ("another run is at work here", "busy")


@pytest.mark.parametrize(
    ("words", "way"),
    [
        ("sudo: sorry, you must have a tty to run sudo", "Defaults:deploy !requiretty"),
        ("sudo: Account expired, contact your system administrator", "chage -l deploy"),
        ("sudo: /usr/bin/sudo must be owned by uid 0 and have the setuid bit set", "chmod 4755"),
        ("sudo: tous les mots sont bons", "deploy ALL=(ALL) NOPASSWD: ALL"),
    ],
)
def test_the_way_on_fits_what_sudo_said(words: str, way: str) -> None:
    found = step_errors.explain(SETUP, said(tail=(words,)), "shire01", "deploy")
    assert (found.next or "").startswith("either: fab setup -H shire01 --as root, or ")
    assert way in (found.next or "")


def test_who_removes_without_rights_is_told_to_do_it_as_root() -> None:
    found = step_errors.explain(REMOVE, said(tail=("sudo: a password is required",)), "shire01", "deploy")
    assert (found.next or "").startswith("either: the same command with --as root, or let visudo add")


def test_a_login_that_ran_nothing_is_told_by_its_last_words() -> None:
    found = step_errors.unstarted(said(tail=("be greeted", "go away"), status=0), "shire01", "deploy")
    assert found.message.endswith("none of our commands: the login ended with status 0 and printed: go away")
    assert (found.detail, found.code, found.exit_status) == (("be greeted",), "login", 1)
    assert step_errors.unstarted(said(), "shire01", "deploy").message.endswith(" and printed nothing")


@pytest.mark.parametrize(
    ("killed", "way"),
    [
        ("deploy abc", "fab deploy -H shire01 --stop-first"),
        ("restart abc", "fab restart -H shire01 --stop-first"),
        ("rollback abc", "fab rollback --to abc -H shire01 --stop-first"),
        ("undo abc", "fab rollback --to abc -H shire01 --stop-first"),
    ],
)
def test_a_candidate_that_something_has_ended_is_told_the_way_round_what_serves(killed: str, way: str) -> None:
    found = step_errors.explain(ACTIVATE, said(("killed", killed), ("failed", "it died")), "shire01", "deploy")
    assert found.next is not None
    assert found.next.endswith(way)
    assert "--stop-first" not in (step_errors.explain(ACTIVATE, said(("failed", "x")), "h", "deploy").next or "")


@pytest.mark.parametrize("killed", ["", "undo", "undo --to x", "rollback $(reboot)", "rollback abc -H all", "deploy A"])
def test_no_command_is_made_of_what_cannot_be_a_release(killed: str) -> None:
    found = step_errors.explain(ACTIVATE, said(("killed", killed), ("failed", "it died")), "shire01", "deploy")
    assert found.next == "fab logs -H shire01 -n 100"


@pytest.mark.parametrize("transcript", [
    said(*[("fault", "x" * 60_000)] * 30), said(tail=("x" * 60_000,) * 30), said(*[("journal", "x" * 60_000)] * 30),
])  # fmt: skip
def test_the_detail_of_a_failure_is_bounded(transcript: Transcript) -> None:
    detail = step_errors.explain(ACTIVATE, transcript, "shire01", "deploy").detail
    assert 0 < sum(map(len, detail)) <= 20_000
