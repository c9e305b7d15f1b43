"""A host's report becomes values; no value that it can send passes for another."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.engine.diagnose import status
from tasks.engine.errors import LoopError
from tasks.engine.host import facts
from tasks.engine.host.facts import Facts
from tasks.engine.host.protocol import Output, Report, Transcript
from tasks.engine.host.system_files import HostTraits
from tasks.engine.report import output
from templates.host import record
from templates.host.fact_schema import (
    Answers,
    Boot,
    HostFacts,
    Isolation,
    Job,
    Logged,
    Machine,
    Process,
    Python,
    Record,
    Slot,
    State,
    Survey,
    Upkeep,
    Used,
    plain,
)
from tests.support.host_facts import OLD, serving, vary

DEBIAN = {"path": "/usr/bin/python3", "version": "3.11.2", "soabi": "cpython-311-x86_64-linux-gnu", "machine": "x86_64",
          "libc": "glibc 2.36", "implementation": "cpython", "flaws": ""}  # fmt: skip


def told(*lines: str, end: bool = True, **values: object) -> Transcript:
    """Return a transcript of an empty host with these values, each by its path, and lines, each `WORD REST`."""
    document = plain(HostFacts())
    for path, value in values.items():
        *keys, last = path.split("__")
        place = document
        for key in keys:
            place = place[key]
        place[last] = value
    transcript = Transcript()
    transcript.add(Report("facts", json.dumps(document)))
    for line in lines:
        word, _, rest = line.partition(" ")
        transcript.add(Report(word, rest))
    if end:
        transcript.add(Report("end", "ok"))
    return transcript


def python(version: str = "3.11.2", path: str = "/usr/bin/python3", **values: str) -> Python:
    return Python(**{**DEBIAN, "version": version, "path": path, **values})


def test_of_two_words_the_first_counts_which_is_roots_own() -> None:
    """Root reports the values that its part depends on, and files, before the account can. Once: a path of
    systemctl reported by the deploy account went into its sudo rules at setup.
    """
    transcript = told("data /etc/x YQ==", "data /etc/x Yg==", machine__tools={"systemctl": "/usr/bin/systemctl"})
    transcript.add(
        Report("facts", json.dumps(plain(HostFacts(Machine(tools={"systemctl": "/home/deploy/systemctl"})))))
    )
    found = facts.parse(transcript)
    assert found.machine.tools["systemctl"] == "/usr/bin/systemctl"
    assert found.contents == {"/etc/x": b"a"}


@pytest.mark.parametrize("path", ["/tmp/abc/systemctl", "/home/deploy/systemctl", "/usr/bin/systemctl start x", ""])  # noqa: S108
def test_a_sudo_rule_names_no_program_that_a_host_makes_up(path: str) -> None:
    assert facts.parse(told(machine__tools={"systemctl": path})).traits("deploy").systemctl == "/usr/bin/systemctl"


def test_facts_are_read_by_their_kind() -> None:
    found = facts.parse(
        told(
            'release {"id": "abc", "dirty": 1}',
            'history {"action": "deploy", "state": "done"}',
            f"same {'b' * 64}  app dir/a.py",
            f"data /etc/x {base64.b64encode(b'bytes').decode()}",
            state__current="blue",
            state__slots={"blue": plain(Slot("active", "abc", 5))},
            machine__web_accounts=["www-data"],
            machine__ipv6=True,
            record__account="deploy",
            record__files={"/etc/x y": "a" * 64},
            pythons=[DEBIAN, DEBIAN],
        )
    )
    assert (found.committed_release, found.account, found.state.slots["blue"].began) == ("abc", "deploy", 5)
    assert found.record.files == {"/etc/x y": "a" * 64}
    assert found.pythons == (python(),)
    assert found.release_ids == ("abc",)
    assert [action.action for action in found.actions] == ["deploy"]
    assert found.manifest == {"app dir/a.py": "b" * 64}
    assert found.contents == {"/etc/x": b"bytes"}
    assert found.traits("deploy") == HostTraits("deploy", "www-data", True)


def test_a_host_that_was_never_touched_has_nothing() -> None:
    found = facts.parse(told())
    assert (found.committed_release, found.account, found.manifest, found.release_ids) == (None, None, None, ())
    assert (found.healthy, found.settled) == (False, False)
    assert found.traits("root") == HostTraits("root", None, False)


def test_a_script_that_did_not_come_to_its_end_gives_no_facts() -> None:
    transcript = told(end=False)
    transcript.add(Output("sh: 1: no"))
    with pytest.raises(LoopError, match="did not answer all questions") as caught:
        facts.parse(transcript)
    assert caught.value.detail == ("sh: 1: no",)


@pytest.mark.parametrize(
    "line",
    [
        "same not a manifest",
        f"same {'b' * 64} one-blank",
        "release []",
        "release null",
        f"release {'[' * 100_000}",
        f"history {'[' * 100_000}",
        "history {",
        "data /etc/x !!!",
        "data",
        "fact",
        "fact current blue",
    ],
)
def test_what_makes_no_sense_is_left_out(line: str) -> None:
    found = facts.parse(told(line, survey__os="Debian"))
    assert found.survey.os == "Debian"
    assert (found.pythons, found.release_ids, found.actions, found.manifest) == ((), (), (), None)


LIES: dict[str, tuple[Any, ...]] = {
    "machine__time": ("12", -1, 1.5, 2**64, 10**4000, True, None, [], {}),
    "machine__ipv6": (1, 0, "yes", None),
    "machine__tools": ([], None, {"tar": 1}, {"x" * 100_000: "y"}, {str(number): "" for number in range(10_001)}),
    "machine__web_accounts": ("www-data", [1], ["x"] * 10_001, None),
    "survey__os": ("x" * 100_000, 1, None, ["Debian"]),
    "state__probation": ("7", -7, 7.0, []),
    "state__slots": ({"blue": None}, {"blue": {}}, {"blue": {**plain(Slot()), "more": 1}}, []),
    "survey__used": ({"a" * 12: 1}, {"a" * 12: {"place": 1, "pids": ["1"]}}),
    "pythons": (None, {}, ["python3"], [{"path": "/usr/bin/python3"}]),
    "more": ("", None),
    "state__more": ("", None),
    "record": (None, [], {}, "", {"layout": "2"}),
}


@pytest.mark.parametrize(("path", "number"), [(path, number) for path in LIES for number in range(len(LIES[path]))])
def test_a_fact_of_another_type_or_amount_is_that_hosts_error(path: str, number: int) -> None:
    with pytest.raises(LoopError, match="impossible facts") as raised:
        facts.parse(told(**{path: LIES[path][number]}))
    assert (raised.value.code, len(raised.value.message) < 400) == ("lies", True)
    assert raised.value.next


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "{}", "[" * 100_000, json.dumps("x" * 2_000_000), '{"machine": {}}']
)
def test_what_is_no_document_of_ours_is_that_hosts_error(text: str) -> None:
    transcript = Transcript()
    transcript.add(Report("facts", text))
    transcript.add(Report("end", "ok"))
    with pytest.raises(LoopError, match="impossible facts"):
        facts.parse(transcript)


def test_every_value_that_the_program_tells_is_read_as_it_was() -> None:
    """There is one schema, and the reader knows each of its types."""
    whole = HostFacts(
        Machine(5, True, {"tar": "/bin/tar"}, ("nginx",), True),
        Record("2", "deploy", "origin", "{}", "now", {"/x": "1"}),
        {"/x": "2"},
        True,
        State("blue", "green", {"green": Slot("active", OLD, 1, 2, 3, 4, 5, 6)}, ("green",), "active", "active",
              {"w": "failed"}, 9, True, "{}", True, True, "{}", True, Answers("ok", "no"), ("v",), ("w",)),
        Survey(1, "Debian", 252, True, 3, 4, "Jan", {"j": Job("a", "b", 1, 2)}, {"p": Process(1, 2)},
               {OLD: Used(3, (4, 5))}, True, Isolation(True, False), ("said",), {"r": 7},
               upkeep=Upkeep(3, 1, 2, "on", "why", True)),
        (python(),),
        Logged(3, {"b": Boot(1, 2)}, True),
    )  # fmt: skip
    transcript = Transcript()
    transcript.add(Report("facts", json.dumps(plain(whole))))
    transcript.add(Report("end", "ok"))
    assert facts.parse(transcript)[: len(whole)] == whole


@pytest.mark.parametrize(
    ("path", "lie"),
    [
        ("state__current", "red"),
        ("state__live", "../../etc"),
        ("state__slots", {"blue": plain(Slot(release="$(reboot)"))}),
        ("state__slots", {"green": plain(Slot(release="a b"))}),
        ("state__slots", {"../x": plain(Slot())}),
        ("record__account", "root;id"),
        ("record__account", "-u"),
        ("record__account", "x" * 101),
    ],
)
def test_a_name_that_none_of_ours_can_be_is_told_and_goes_nowhere(path: str, lie: Any) -> None:
    """Once: slots, releases, accounts and interpreters were used by the name that the host reported."""
    with pytest.raises(LoopError, match=r"as the name of its .*, which is impossible") as raised:
        facts.parse(told(**{path: lie}))
    assert raised.value.code == "lies"


@pytest.mark.parametrize(
    ("record", "account", "outdated"),
    [
        (Record(), None, False),
        (Record("2", "deploy"), "deploy", True),
        (Record("3", "deploy"), "deploy", False),
        (Record("4", "deploy"), "deploy", False),
    ],
    ids=["none", "of a former layout", "of this one", "of this one with static files"],
)
def test_a_record_says_who_deploys_and_what_lies_where(record: Record, account: str | None, outdated: bool) -> None:
    found = facts.parse(told(record=plain(record)))
    assert (found.account, found.outdated) == (account, outdated)


@pytest.mark.parametrize("layout", ["5", "x", "0"])
def test_a_layout_that_is_not_known_stops_everything(layout: str) -> None:
    with pytest.raises(LoopError, match="a newer version of this tool has set the host up") as raised:
        facts.parse(told(record__layout=layout, record__account="deploy"))
    assert raised.value.code == "newer"


def test_a_version_that_knows_no_layouts_stops_at_the_account() -> None:
    """An older version that reads this version's record finds no valid account in it."""
    known = record.Record("myapp")
    known.values, known.layout = {"account": "deploy"}, "2"
    (line,) = (line for line in known.text().splitlines() if line.startswith("account "))
    with pytest.raises(LoopError, match="as the name of its deploy account, which is impossible"):
        facts.parse(told(record__account=line.partition(" ")[2]))


@pytest.mark.parametrize("line", [*(json.dumps({"id": lie}) for lie in ("../x", "", "a b", "$(id)", 5.0, None))])
def test_a_release_by_another_name_is_none_of_ours(line: str) -> None:
    assert facts.parse(told(f"release {line}", 'release {"id": "abc"}')).release_ids == ("abc",)


@pytest.mark.parametrize("path", ["python3", "/usr/bin/python3 -c", "/usr/bin/$(id)", "/", "", "/usr//python3", "/a\n"])
def test_an_interpreter_by_a_path_that_is_no_plain_one_is_none(path: str) -> None:
    assert facts.parse(told(pythons=[{**DEBIAN, "path": path}])).pythons == ()


@pytest.mark.parametrize("version", ["three", "3.11.2; x", "", "3." * 600])
def test_an_interpreter_of_a_version_that_is_none_is_none(version: str) -> None:
    assert facts.parse(told(pythons=[{**DEBIAN, "version": version}])).pythons == ()


@pytest.mark.parametrize("word", ["NaN", "-Infinity", "1e999"])
def test_what_a_host_calls_a_number_can_be_written_again(word: str) -> None:
    """Once: fab releases --json and fab history --json passed on a NaN that came from a host."""
    line = f'{{"id": "abc", "commit": {word}, "packages": [{word}], "dirty": {word}}}'
    found = facts.parse(told(f"release {line}", f'history {{"release": {word}, "why": {word}}}'))
    told_back = output.encoded({"releases": status.releases(found), "actions": [found.actions[0].as_dict()]})
    assert json.loads(told_back)["releases"][0]["commit"] == word
    assert json.loads(told_back)["actions"][0]["release"] == word


def test_a_manifest_of_which_one_line_is_damaged_is_not_believed_at_all() -> None:
    assert facts.parse(told(f"same {'b' * 64}  a.py", "same x")).manifest is None


@given(
    st.lists(st.tuples(st.sampled_from(["fact", "facts", "same", "release", "history", "data"]), st.text(max_size=60)))
)
@settings(deadline=None)
def test_nothing_that_a_host_says_is_a_fault_of_ours(lines: list[tuple[str, str]]) -> None:
    found = facts.parse(told(*(f"{word} {rest}" for word, rest in lines)))
    assert found[: len(HostFacts())] == HostFacts()


@pytest.mark.parametrize(
    ("changes", "settled"),
    [
        ({}, True),
        ({"state live": "green"}, False),
        ({"state main_unit": "inactive"}, False),
        ({"state tries": ("green",)}, False),
        ({"state slots blue state": "failed"}, False),
        ({"state slots green state": "active"}, False),
        ({"state slots green state": "failed"}, False),
        ({"state current": ""}, False),
    ],
)
def test_settled_is_one_slot_that_serves_and_nothing_beside_it(changes: dict[str, object], settled: bool) -> None:
    assert vary(serving(), changes).settled is settled


@pytest.mark.parametrize(
    ("values", "target"),
    [
        ({}, ("cp311", ("glibc", 2, 36))),
        ({"soabi": "cpython-313t-x86_64-linux-gnu"}, ("cp313t", ("glibc", 2, 36))),
        ({"libc": ""}, ("cp311", ("musl", 1, 2))),
        ({"libc": "glibc"}, ("cp311", ("musl", 1, 2))),
    ],
)
def test_an_interpreter_says_which_wheels_fit(values: dict[str, str], target: tuple[str, tuple[str, int, int]]) -> None:
    found = facts.target(python(**values))
    assert (found.abi, found.libc) == target


THERE = Facts(
    pythons=(python("3.9.2", "/usr/bin/python3"), python("3.13.0rc1", "/opt/new/python3.13"),
             python("3.12.4", "/usr/bin/python3.12"), python("3.10.1", "/usr/local/bin/python3.10"))
)  # fmt: skip


@pytest.mark.parametrize(
    ("wanted", "specifier", "path"),
    [
        (None, ">=3.9", "/usr/bin/python3.12"),
        (None, "<3.12", "/usr/local/bin/python3.10"),
        (None, "<3.10", "/usr/bin/python3"),
        ("python3.10", ">=3.9", "/usr/local/bin/python3.10"),
        ("/usr/bin/python3", ">=3.9", "/usr/bin/python3"),
    ],
)
def test_the_interpreter_is_the_named_one_or_the_newest_that_fits(
    wanted: str | None, specifier: str, path: str
) -> None:
    assert facts.choose_python(THERE, wanted, specifier, "shire01").path == path


@pytest.mark.parametrize(("wanted", "specifier"), [("python3.10", ">=3.11"), ("on3.10", ">=3.9"), (None, ">=3.14")])
def test_no_interpreter_that_fits_is_told_with_those_that_are_there(wanted: str | None, specifier: str) -> None:
    with pytest.raises(LoopError, match=r"no Python on the host fits") as caught:
        facts.choose_python(THERE, wanted, specifier, "shire01")
    assert "/usr/bin/python3.12 (3.12.4)" in caught.value.message
    assert (caught.value.code, caught.value.where) == ("python", "shire01")


@pytest.mark.parametrize(
    ("flaws", "needs", "told"),
    [
        ("hidden /home; open /home/bob", (), "it lies below /home, which the service's sandbox hides"),
        ("hidden /home; open /home/bob", ("home",), "others than root and the deploy account may change /home/bob"),
        ("hidden /tmp", ("home",), "it lies below /tmp"),
        ("closed /opt/mine", (), "the service's user has no right to /opt/mine"),
    ],
)
def test_an_interpreter_that_the_service_cannot_run_is_not_taken(flaws: str, needs: tuple[str, ...], told: str) -> None:
    newest = python("3.12.9", "/usr/local/bin/python3.12")._replace(flaws=flaws)
    there = Facts(pythons=(newest, *THERE.pythons))
    assert facts.choose_python(there, None, ">=3.9", "shire01", needs).path == "/usr/bin/python3.12"
    assert facts.choose_python(there, "python3.12", ">=3.9", "shire01", needs).path == "/usr/bin/python3.12"
    with pytest.raises(LoopError, match=r"/usr/local/bin/python3.12: ") as caught:
        facts.choose_python(there, newest.path, ">=3.9", "shire01", needs)
    assert told in caught.value.message
    assert "`python:` in hosts.yaml" in (caught.value.next or "")
    assert ("needs: [home]" in (caught.value.next or "")) == ("/home, which" in told)


def test_a_home_that_the_sandbox_opens_is_no_flaw() -> None:
    found = Facts(pythons=(python()._replace(flaws="hidden /home"),))
    assert facts.choose_python(found, None, ">=3.9", "shire01", ("home",)) == found.pythons[0]


def test_what_a_host_calls_itself_comes_into_files_of_root_as_a_word_that_we_know() -> None:
    """Once: a host's own name for its systemctl went into the sudo rules unchecked."""
    found = facts.parse(
        told(machine__web_accounts=["www-data ALL"], machine__tools={"systemctl": "ALL, /bin/sh; /usr/bin/systemctl"})
    )
    assert found.traits("deploy") == HostTraits("deploy", None, False, "/usr/bin/systemctl")
    assert (
        facts.parse(told(machine__tools={"systemctl": "/bin/systemctl"})).traits("deploy").systemctl == "/bin/systemctl"
    )
