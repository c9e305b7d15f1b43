"""The plan of a run on one host, from its facts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from tasks.engine.config.gateway import Nginx, Tls
from tasks.engine.config.sections import Limits
from tasks.engine.deploy import plan
from tasks.engine.errors import LoopError
from tasks.engine.host import launchers
from tasks.engine.host.facts import Facts
from tasks.engine.release import archive, sbom
from tasks.engine.release.archive import Entry, Tree
from tasks.engine.release.build import Release
from tasks.engine.release.lockfile import Lock
from tasks.engine.release.wheel_cache import Wheel
from tasks.engine.release.wheelhouse import Wheelhouse
from tests.support.host_facts import COMMITTED, NEW, OLD, TRIED, serving, vary
from tests.support.small_service import SERVICE
from tests.unit.host.test_facts import python

NOT_WHOLE = "the release's files on the host differ from those of this clone, or the venv was changed"
NAMES = ("Flask-3.1.0-py3-none-any.whl", "gunicorn-27.0.1-py3-none-any.whl")
WHEELS = Wheelhouse("d" * 64, tuple(Wheel(name, Path("/nowhere"), "0" * 64, 1) for name in NAMES))


def release(*paths: str) -> Release:
    entries = tuple(
        Entry(path, Path("/nowhere"), False, 1, hashlib.sha256(path.encode()).hexdigest()) for path in paths
    )
    return Release(NEW, Tree(entries), Lock(()), "c0ffee", ())


def host(changes: Mapping[str, object] | None = None) -> Facts:
    """Return a host that serves NEW, made of `app.py`, as it should, except for these facts."""
    listed = {"MANIFEST": archive.manifest(release("app.py").tree.entries),
              "LAUNCHERS": launchers.listed(launchers.render(SERVICE, NEW, "shire01", "27.0.1")),
              "sbom.json": sbom.render("myapp", NEW, WHEELS)}  # fmt: skip
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in listed.items()}
    found = vary(serving(), {"state lists": digests, **(changes or {})})
    return found._replace(releases=({"id": NEW}, {"id": OLD}), manifest={})


def planned(facts: Facts, made: Release | None = None) -> plan.HostPlan:
    ready = plan.setup(SERVICE, facts, "deploy")
    return plan.deploy("shire01", SERVICE, made or release("app.py"), facts, python(), WHEELS, ready)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, ""),
        ({"state current": ""}, "nothing is deployed yet"),
        ({COMMITTED: OLD}, f"release {OLD} serves"),
        ({COMMITTED: OLD, "state live": "green", TRIED: NEW, "state probation": 9}, ""),
        (
            {"state live": "green", TRIED: OLD, "state probation": 9},
            f"release {OLD} serves and is not committed, {NEW} is",
        ),
        (
            {COMMITTED: OLD, "state live": "green", TRIED: NEW},
            f"release {NEW} serves and is not committed, {OLD} is",
        ),
        ({"state slots green state": "active", "state finishing": True}, ""),
        ({"state lists": {}}, NOT_WHOLE),
        ({"state lists MANIFEST": "0" * 64}, NOT_WHOLE),
        ({"state lists LAUNCHERS": "0" * 64}, NOT_WHOLE),
        ({"state lists sbom.json": "0" * 64}, NOT_WHOLE),
        (
            {COMMITTED: OLD, "state live": "green", TRIED: NEW, "state probation": 9, "state lists": {}},
            f"release {NEW} serves and is not committed, {OLD} is",
        ),
        ({"record account": "former"}, "the account former put the release there, and deploy deploys from now on"),
        ({"state abandoned": True}, "an abandoned run, whose controller is gone, is still at work there"),
        ({"state pruning": True}, "an earlier run did not finish, or the service is stopped"),
        ({"state pruning": True, "state holder": "{}"}, ""),
        ({"state main_unit": "inactive"}, "an earlier run did not finish, or the service is stopped"),
        ({"state live": "green"}, "an earlier run did not finish, or the service is stopped"),
        ({"state health front": "answered 502"}, "the release does not answer as it should: ok; answered 502"),
    ],
)
def test_a_host_that_serves_it_as_it_should_is_left_alone_and_any_other_says_why(
    changes: dict[str, object], why: str
) -> None:
    found = planned(host(changes))
    assert (found.why, found.unchanged) == (why, not why)
    stages = [step.name for step in found.steps() if step.name != "setup"]
    assert stages == (["hold", "stage", "activate"] if why else [])


def test_what_is_on_probation_may_be_committed_before_the_activation_comes() -> None:
    third = "d" * 12
    there = host({COMMITTED: OLD, "state live": "green", TRIED: third})._replace(releases=({"id": OLD},))
    assert json.loads(planned(there).steps()[-1].text)["expect"] == [OLD, third]
    assert json.loads(planned(host({COMMITTED: OLD})).steps()[-1].text)["expect"] == [OLD]


def test_a_plan_starts_from_what_has_the_traffic_committed_or_not() -> None:
    third = "d" * 12
    on_probation = host({COMMITTED: OLD, "state live": "green", TRIED: third})
    assert [plan.as_dict(planned(one))["from"] for one in (on_probation, host({COMMITTED: OLD}))] == [third, OLD]


def test_only_what_the_host_lacks_is_sent() -> None:
    made = release("a.py", "b.py", "c.py")
    digests = {entry.path: entry.sha256 for entry in made.tree.entries}
    there = host({COMMITTED: OLD, "state wheels": ("Flask-3.1.0-py3-none-any.whl",)})._replace(
        manifest={"a.py": digests["a.py"], "b.py": "edited", "gone.py": "x"},
        releases=({"id": OLD},),
    )
    delivery = planned(there, made).delivery
    assert (delivery.same, delivery.changed) == (frozenset({"a.py"}), ("b.py", "c.py"))
    assert (delivery.staging.base, delivery.staging.present) == (OLD, False)
    assert delivery.wheels_there == {"Flask-3.1.0-py3-none-any.whl"}
    shown = plan.as_dict(planned(there, made))
    assert shown["files"] == {"send": ["b.py", "c.py"], "link": 1}
    assert shown["wheels"] == ["gunicorn-27.0.1-py3-none-any.whl"]


def test_a_large_file_is_linked_from_any_release_that_has_it() -> None:
    made = release("app.py", "m.bin", "n.bin", "o.bin")
    large = {"m.bin", "n.bin", "o.bin"}
    entries = tuple(entry._replace(size=10**6 if entry.path in large else 1) for entry in made.tree.entries)
    made = made._replace(tree=made.tree._replace(entries=entries))
    digests = {entry.path: entry.sha256 for entry in entries}
    assert made.large == {path: digests[path] for path in large}
    records = (
        {"id": "older", "large": {"m.bin": digests["m.bin"], "n.bin": "edited", "app.py": digests["app.py"]}},
        {"id": "../../x", "large": {"n.bin": digests["n.bin"]}},
        {"id": ["x"], "large": digests},
        {"id": "odd", "large": ["n.bin"]},
        {"id": OLD, "large": {"o.bin": digests["o.bin"]}},
    )
    there = host({COMMITTED: OLD})._replace(manifest={"o.bin": digests["o.bin"]}, releases=records)
    found = planned(there, made)
    assert found.delivery.same == {"m.bin", "o.bin"}
    assert found.delivery.changed == ("app.py", "n.bin")
    assert (found.delivery.staging.base, found.delivery.staging.others) == (OLD, {"older": ("m.bin",)})
    stage = json.loads(next(step.text for step in found.steps() if step.name == "stage"))
    assert stage["others"] == {"older": ["m.bin"]}
    again = plan.resend(found).delivery
    assert (again.staging.others, set(again.changed)) == ({}, set(digests))
    without = planned(there._replace(manifest={}), made).delivery
    assert (without.staging.base, without.staging.others) == (None, {"older": ("m.bin",), OLD: ("o.bin",)})


def test_a_release_that_is_there_is_not_sent_again() -> None:
    there = host({COMMITTED: OLD})
    found = planned(there)
    assert found.delivery.staging.present
    shown = plan.as_dict(found)
    assert (shown["files"]["send"], shown["wheels"], shown["from"], shown["to"]) == ([], [], OLD, NEW)
    assert shown["restart"] == ["myapp-worker", "myapp-nightly.timer"]


def test_what_was_edited_is_sent_whole() -> None:
    there = host({COMMITTED: OLD})._replace(manifest={"app.py": release("app.py").tree.entries[0].sha256})
    before = planned(there)
    after = plan.resend(before)
    assert before.delivery.same == {"app.py"}
    assert (after.delivery.same, after.delivery.changed) == (frozenset(), ("app.py",))
    assert (after.delivery.staging.base, after.delivery.staging.present) == (None, False)
    assert after.delivery.staging.release == before.delivery.staging.release


def test_wheels_that_the_first_attempt_has_sent_are_not_sent_again() -> None:
    names = frozenset(wheel.filename for wheel in WHEELS.wheels)
    there = planned(host())
    staging = there.delivery.staging._replace(present=False)
    before = there._replace(delivery=there.delivery._replace(staging=staging))
    assert before.delivery.wheels_there == frozenset()
    assert plan.resend(there).delivery.wheels_there == frozenset()
    assert plan.resend(before).delivery.wheels_there == names
    damaged = frozenset({min(names)})
    assert plan.resend(before, damaged).delivery.wheels_there == names - damaged


def test_a_venv_is_named_by_its_wheels_and_its_interpreter() -> None:
    name = plan.venv_name(WHEELS, python())
    others = {
        plan.venv_name(WHEELS._replace(digest="e" * 64), python()),
        plan.venv_name(WHEELS, python("3.12.1")),
        plan.venv_name(WHEELS, python(path="/opt/python3")),
    }
    assert len({name, *others}) == 4
    assert planned(host({"state venvs": (name,)})).delivery.venv_there


def test_a_lock_without_gunicorn_is_told() -> None:
    with pytest.raises(LoopError, match="gunicorn is not in the lock"):
        plan.deploy("h", SERVICE, release("a"), host(), python(), Wheelhouse("d", ()),
                    plan.setup(SERVICE, host(), "deploy"))  # fmt: skip


def test_a_host_that_was_set_up_needs_nothing_of_root() -> None:
    assert not plan.setup(SERVICE, host(), "deploy").needed


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"record account": ""}, "the host was never set up for this service"),
        (
            {"record layout": "1"},
            "an older version set the host up; setup moves its files to the new paths",
        ),
        ({"record account": "other"}, "the host was set up for the account other, not deploy"),
        ({"files /etc/myapp/tls/certificate.pem": None}, "there is no certificate"),
    ],
)
def test_what_root_has_to_do_says_why(changes: dict[str, object], reason: str) -> None:
    found = plan.setup(SERVICE, host(changes), "deploy")
    assert found.needed
    assert reason in found.reasons


def test_a_file_that_differs_is_written_and_one_that_a_hand_changed_is_told() -> None:
    path = "/etc/systemd/system/myapp@.service"
    edited = plan.setup(SERVICE, host({f"files {path}": "0" * 64}), "deploy")
    assert (edited.changed, edited.edited) == ((path,), (path,))
    outdated = plan.setup(SERVICE, host({f"files {path}": "0" * 64, f"record files {path}": "0" * 64}), "deploy")
    assert (outdated.changed, outdated.edited) == ((path,), ())


def test_a_file_that_only_root_can_read_is_compared_by_what_setup_wrote() -> None:
    found = plan.setup(SERVICE, host({"files /etc/sudoers.d/myapp": None}), "deploy")
    assert found.changed == ()


def test_the_certificate_of_the_operator_is_compared_by_its_bytes() -> None:
    service = SERVICE._replace(nginx=Nginx(("myapp.example",), Tls("files", "c", "k")))
    there = host({"files /etc/myapp/tls/certificate.pem": hashlib.sha256(b"mine").hexdigest()})
    assert plan.setup(service, there, "deploy", plan.FromClone(b"mine")).reasons == ()
    assert plan.setup(service, there, "deploy", plan.FromClone(b"new")).reasons == ("the certificate differs",)


@pytest.mark.parametrize(
    ("missing", "dnf", "packages"),
    [(("ss", "nginx"), False, ("iproute2", "nginx")), (("ss", "nginx"), True, ("iproute", "nginx")),
     (("sudo", "visudo"), False, ("sudo",)), ((), False, ())],
)  # fmt: skip
def test_missing_tools_are_packages_of_the_host(missing: tuple[str, ...], dnf: bool, packages: tuple[str, ...]) -> None:
    changes: dict[str, object] = {f"machine tools {name}": None for name in missing}
    changes |= {"machine tools apt-get": None, "machine tools dnf": "/usr/bin/dnf"} if dnf else {}
    assert plan.setup(SERVICE, host(changes), "deploy").packages == packages


@pytest.mark.parametrize(("needs", "told"), [((), True), (("jit",), True), (("host",), False), (("network",), False)])
def test_a_service_that_had_loopback_is_warned_unless_it_keeps_that(needs: tuple[str, ...], told: bool) -> None:
    service = SERVICE._replace(needs=needs)
    assert bool(plan.setup(service, host({"loopback": True}), "deploy").warnings) == told
    assert plan.setup(service, host(), "deploy").warnings == ()


@pytest.mark.parametrize(
    ("limit", "total", "available", "told"),
    [
        (None, 100, 50, None),
        ("400M", 4096, 3000, None),
        ("400M", 1600, 800, None),
        (
            "400M",
            1599,
            800,
            "two releases at once may use 1600M of memory, and the host has 1599M: lower limits.memory",
        ),
        ("400M", 2000, 799, "the new release may use 800M of memory beside what runs, and there are 799M available: "),
        ("400M", 0, 0, None),
    ],
)
def test_a_plan_warns_of_two_releases_that_may_need_more_memory_than_there_is(
    limit: str | None, total: int, available: int, told: str | None
) -> None:
    """The service has a slot and a worker; its job runs beside neither for long."""
    service = SERVICE._replace(limits=Limits(limit))
    memory = {"machine memory": total << 20, "machine available": available << 20}
    facts = host({**memory, COMMITTED: OLD})
    ready = plan.setup(service, facts, "deploy")
    made = plan.deploy("shire01", service, release("app.py"), facts, python(), WHEELS, ready)
    assert [warning.partition(told)[1] for warning in made.warnings] == [told] if told else not made.warnings
    assert plan.as_dict(made)["warnings"] == list(made.warnings)


def test_a_release_that_serves_already_needs_no_more_memory() -> None:
    service = SERVICE._replace(limits=Limits("400M"))
    facts = host({"machine memory": 1 << 20})
    ready = plan.setup(service, facts, "deploy")
    assert not plan.deploy("shire01", service, release("app.py"), facts, python(), WHEELS, ready).warnings
