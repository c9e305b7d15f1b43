"""What a host reported becomes values; nothing that it could say is taken for more than it is."""

from __future__ import annotations

import base64
import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.engine import facts, report, standing
from tasks.engine.errors import LoopError
from tasks.engine.facts import Facts, Python
from tasks.engine.host_files import Ground
from tasks.engine.marks import Mark, Output, Transcript

DEBIAN = {"path": "/usr/bin/python3", "version": "3.11.2", "soabi": "cpython-311-x86_64-linux-gnu", "machine": "x86_64",
          "libc": "glibc 2.36", "implementation": "cpython", "gil_disabled": False}  # fmt: skip


def told(*lines: str, end: bool = True) -> Transcript:
    """A transcript of these marks, each `WORD REST`."""
    transcript = Transcript()
    for line in lines:
        word, _, rest = line.partition(" ")
        transcript.add(Mark(word, rest))
    if end:
        transcript.add(Mark("end", "ok"))
    return transcript


def python(version: str = "3.11.2", path: str = "/usr/bin/python3", **values: str) -> Python:
    given = {**DEBIAN, "version": version, "path": path, **values}
    return Python(*(str(given[key]) for key in ("path", "version", "soabi", "machine", "libc", "implementation")))


def test_of_two_words_the_first_counts_which_is_roots_own() -> None:
    """Root tells what its part depends on, and steps down to an account that may say anything after it."""
    path = "/etc/sudoers.d/myapp"
    found = facts.parse(told("fact tool.systemctl /usr/bin/systemctl", f"fact setup.file {'1' * 64} {path}",
                             "data /etc/x YQ==", "fact tool.systemctl /home/deploy/systemctl",
                             f"fact setup.file {'2' * 64} {path}", "data /etc/x Yg=="))  # fmt: skip
    assert found.get("tool.systemctl") == "/usr/bin/systemctl"
    assert found.get(f"setup.{path}") == "1" * 64
    assert found.contents == {"/etc/x": b"a"}


@pytest.mark.parametrize("path", ["/tmp/abc/systemctl", "/home/deploy/systemctl", "/usr/bin/systemctl start x", ""])  # noqa: S108
def test_a_sudo_rule_names_no_program_that_a_host_makes_up(path: str) -> None:
    assert facts.parse(told(f"fact tool.systemctl {path}")).ground("deploy").systemctl == "/usr/bin/systemctl"


def test_facts_are_read_by_their_kind() -> None:
    found = facts.parse(
        told(
            "fact current blue",
            "fact current_release abc",
            "fact tool.nginx /usr/sbin/nginx",
            "fact web_account www-data",
            "fact ipv6 1",
            "fact setup.account deploy",
            f"fact setup.file {'a' * 64} /etc/x y",
            f"fact python {json.dumps(DEBIAN)}",
            f"fact python {json.dumps(DEBIAN)}",
            'release {"id": "abc", "dirty": 1}',
            'history {"action": "deploy", "state": "done"}',
            f"same {'b' * 64}  app dir/a.py",
            f"data /etc/x {base64.b64encode(b'bytes').decode()}",
        )
    )
    assert (found.current, found.account, found.get("tool.nginx")) == ("abc", "deploy", "/usr/sbin/nginx")
    assert found.get("setup./etc/x y") == "a" * 64
    assert found.pythons == (python(),)
    assert found.release_ids == ("abc",)
    assert [action.action for action in found.actions] == ["deploy"]
    assert found.manifest == {"app dir/a.py": "b" * 64}
    assert found.contents == {"/etc/x": b"bytes"}
    assert found.ground("deploy") == Ground("deploy", "www-data", True)


def test_a_host_that_was_never_touched_has_nothing() -> None:
    found = facts.parse(told())
    assert (found.current, found.account, found.manifest, found.release_ids) == (None, None, None, ())
    assert (found.healthy, found.settled) == (False, False)
    assert found.ground("root") == Ground("root", None, False)


def test_a_script_that_did_not_come_to_its_end_gives_no_facts() -> None:
    transcript = told("fact current blue", end=False)
    transcript.add(Output("sh: 1: no"))
    with pytest.raises(LoopError, match="did not answer all questions") as caught:
        facts.parse(transcript)
    assert caught.value.detail == ("sh: 1: no",)


@pytest.mark.parametrize(
    ("text", "number"),
    [("12", 12), ("0", 0), ("", 0), ("-1", 0), ("1.5", 0), ("[not set]", 0), ("٣", 0), ("9" * 5000, 0), ("1\n", 0)],
)
def test_a_number_is_a_number_or_nothing(text: str, number: int) -> None:
    assert Facts({"key": text}).number("key") == number


@pytest.mark.parametrize(
    "line",
    [
        "same not a manifest",
        f"same {'b' * 64} one-blank",
        "fact python {}",
        "fact python []",
        'fact python {"path": 1}',
        f"fact python {json.dumps({**DEBIAN, 'version': 'three'})}",
        f"fact python {'[' * 100_000}",
        "release []",
        "release null",
        f"release {'[' * 100_000}",
        f"history {'[' * 100_000}",
        "history {",
        "data /etc/x !!!",
        "data",
        "fact",
        "fact setup.file",
    ],
)
def test_what_makes_no_sense_is_left_out(line: str) -> None:
    found = facts.parse(told(line, "fact os Debian"))
    assert found.get("os") == "Debian"
    assert (found.pythons, found.release_ids, found.actions, found.manifest) == ((), (), (), None)


@pytest.mark.parametrize(
    ("key", "lie"),
    [
        ("current", "red"),
        ("live", "../../etc"),
        ("current_release", "$(reboot)"),
        ("live_release", "a b"),
        ("setup.account", "root;id"),
        ("setup.account", "-u"),
    ],
)
def test_a_name_that_none_of_ours_can_be_is_told_and_goes_nowhere(key: str, lie: str) -> None:
    with pytest.raises(LoopError, match=re.escape(f"says {lie!r} where the name of its")):
        facts.parse(told(f"fact {key} {lie}"))


RECORD = (
    "fact setup.layout 2",
    "fact setup.user deploy",
    "fact setup.account of layout 2, which needs a newer version",
)


@pytest.mark.parametrize(
    ("record", "account", "outdated"),
    [((), None, False), (("fact setup.account deploy",), "deploy", True), (RECORD, "deploy", False)],
    ids=["none", "of the first layout", "of this one"],
)
def test_a_record_says_who_deploys_and_what_lies_where(
    record: tuple[str, ...], account: str | None, outdated: bool
) -> None:
    found = facts.parse(told(*record))
    assert (found.account, found.outdated) == (account, outdated)


@pytest.mark.parametrize("layout", ["3", "1", "x", ""])
def test_a_layout_that_is_not_known_stops_everything(layout: str) -> None:
    with pytest.raises(LoopError, match="a newer version of this tool has set the host up") as raised:
        facts.parse(told(f"fact setup.layout {layout}", *RECORD[1:]))
    assert raised.value.code == "newer"


def test_a_version_that_knows_no_layouts_stops_at_the_account() -> None:
    with pytest.raises(LoopError, match="says 'of layout 2, which needs a newer version' where the name of its deploy"):
        facts.parse(told(RECORD[2]))


@pytest.mark.parametrize("line", [*(json.dumps({"id": lie}) for lie in ("../x", "", "a b", "$(id)", 5.0, None))])
def test_a_release_by_another_name_is_none_of_ours(line: str) -> None:
    assert facts.parse(told(f"release {line}", 'release {"id": "abc"}')).release_ids == ("abc",)


@pytest.mark.parametrize("path", ["python3", "/usr/bin/python3 -c", "/usr/bin/$(id)", "/", "", "/usr//python3", "/a\n"])
def test_an_interpreter_by_a_path_that_is_no_plain_one_is_none(path: str) -> None:
    assert facts.parse(told(f"fact python {json.dumps({**DEBIAN, 'path': path})}")).pythons == ()


@pytest.mark.parametrize("word", ["NaN", "-Infinity", "1e999"])
def test_what_a_host_calls_a_number_can_be_written_again(word: str) -> None:
    line = f'{{"id": "abc", "commit": {word}, "packages": [{word}], "dirty": {word}}}'
    found = facts.parse(told(f"release {line}", f'history {{"release": {word}, "why": {word}}}'))
    told_back = report.encoded({"releases": standing.releases(found), "actions": [found.actions[0].as_dict()]})
    assert json.loads(told_back)["releases"][0]["commit"] == word
    assert json.loads(told_back)["actions"][0]["release"] == word


def test_a_manifest_of_which_one_line_is_damaged_is_not_believed_at_all() -> None:
    assert facts.parse(told(f"same {'b' * 64}  a.py", "same x")).manifest is None


@given(st.lists(st.tuples(st.sampled_from(["fact", "same", "release", "history", "data"]), st.text(max_size=60))))
@settings(deadline=None)
def test_nothing_that_a_host_says_is_a_fault_of_ours(lines: list[tuple[str, str]]) -> None:
    found = facts.parse(told(*(f"{word} {rest}" for word, rest in lines)))
    assert found.number("uptime") >= 0


@pytest.mark.parametrize(
    ("changes", "settled"),
    [
        ({}, True),
        ({"live": "green"}, False),
        ({"facade": "inactive"}, False),
        ({"slot.blue.ActiveState": "failed"}, False),
        ({"slot.green.ActiveState": "active"}, False),
        ({"slot.green.ActiveState": "failed"}, False),
        ({"current": ""}, False),
    ],
)
def test_settled_is_one_slot_that_serves_and_nothing_beside_it(changes: dict[str, str], settled: bool) -> None:
    values = {"current": "blue", "live": "blue", "facade": "active", "slot.blue.ActiveState": "active",
              "slot.green.ActiveState": "inactive", **changes}  # fmt: skip
    assert Facts(values).settled is settled


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
    found = python(**values).target()
    assert (found.abi, found.libc) == target


THERE = Facts(
    {}, (python("3.9.2", "/usr/bin/python3"), python("3.13.0rc1", "/opt/new/python3.13"),
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
    there = THERE._replace(pythons=(newest, *THERE.pythons))
    assert facts.choose_python(there, None, ">=3.9", "shire01", needs).path == "/usr/bin/python3.12"
    assert facts.choose_python(there, "python3.12", ">=3.9", "shire01", needs).path == "/usr/bin/python3.12"
    with pytest.raises(LoopError, match=r"/usr/local/bin/python3.12: ") as caught:
        facts.choose_python(there, newest.path, ">=3.9", "shire01", needs)
    assert told in caught.value.message
    assert "`python:` in hosts.yaml" in (caught.value.next or "")
    assert ("needs: [home]" in (caught.value.next or "")) == ("/home, which" in told)


def test_a_home_that_the_sandbox_opens_is_no_flaw() -> None:
    found = Facts({}, (python()._replace(flaws="hidden /home"),))
    assert facts.choose_python(found, None, ">=3.9", "shire01", ("home",)) == found.pythons[0]


def test_what_a_host_calls_itself_comes_into_files_of_root_as_a_word_that_we_know() -> None:
    found = facts.parse(told("fact web_account www-data ALL", "fact tool.systemctl ALL, /bin/sh; /usr/bin/systemctl"))
    assert found.ground("deploy") == Ground("deploy", None, False, "/usr/bin/systemctl")
    assert facts.parse(told("fact tool.systemctl /bin/systemctl")).ground("deploy").systemctl == "/bin/systemctl"
