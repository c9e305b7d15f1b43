"""`fab add`: what it shows, does, refuses, and leaves alone."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support import distributions
from tests.support.clone import Clone
from tests.support.git_repository import git
from tests.support.terminal import answer

MADE = [
    "service/app/metrics.py",
    "service/monitoring/alerts.yaml",
    "service/monitoring/dashboard.json",
    "service/tests/test_metrics.py",
]
CHANGED = ["service/app/parts.py", "service/requirements.in"]


@pytest.fixture(autouse=True)
def links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The packages that there are: those of the service and of the part."""
    made = tmp_path / "links"
    made.mkdir()
    distributions.isolate(monkeypatch, made)
    for name, version in (("flask", "3.1"), ("gunicorn", "23.0"), ("prometheus_client", "0.22")):
        distributions.wheel(made, name, version)
    return made


@pytest.fixture
def service(clone: Clone) -> Clone:
    """A clone without a lock: the one that it had names packages that are not there."""
    clone.write("service/requirements.txt", "")
    git(clone.root, "-c", "user.name=tests", "-c", "user.email=tests@example", "commit", "-qam", "locked")
    return clone


def status(clone: Clone) -> list[str]:
    words = ["git", "-C", str(clone.root), "status", "--porcelain", "-uall"]
    ended = subprocess.run(words, capture_output=True, text=True, check=True)
    return ended.stdout.splitlines()


def test_the_parts_are_listed_with_when_you_need_them(clone: Clone) -> None:
    shown = clone.done("add").out.splitlines()
    assert shown[0].split() == ["part", "what", "for", "you", "if"]
    assert any(line.startswith("metrics ") for line in shown)
    parts = {part["part"]: part for part in clone.done("add", "--json").json()["parts"]}
    assert parts["metrics"]["about"] in clone.done("add").out
    assert status(clone) == []


def test_a_part_is_shown_added_and_locked_and_git_undoes_it(service: Clone) -> None:
    shown = service.done("add", "metrics", "--yes").out
    for path in (*MADE, *CHANGED):
        assert path in shown
    assert "service/requirements.in: prometheus-client" in shown
    assert "next: " in shown
    assert status(service) == sorted([*(f" M {path}" for path in [*CHANGED, "service/requirements.txt"]),
                                      *(f"?? {path}" for path in MADE)])  # fmt: skip
    assert "prometheus-client==0.22" in (service.root / "service/requirements.txt").read_text()
    assert "(metrics,)" in (service.root / "service/app/parts.py").read_text()
    git(service.root, "checkout", "-q", "service")
    git(service.root, "clean", "-qfd", "service")
    assert status(service) == []


def test_twice_is_once_and_json_says_what_was_done(service: Clone) -> None:
    assert service.done("add", "metrics", "--yes", "--json").json() == {
        "schema": 1, "part": "metrics", "made": MADE, "changed": CHANGED,
    }  # fmt: skip
    before = status(service)
    assert service.done("add", "metrics").out == "metrics is there already: nothing to change\n"
    assert service.done("add", "metrics", "--json").json()["made"] == []
    assert status(service) == before


def test_an_addition_that_was_cut_is_finished_by_the_same_command(service: Clone) -> None:
    source = service.root / "templates/parts/metrics/app/metrics.py"
    service.write("service/app/metrics.py", source.read_text())
    assert "new   service/app/metrics.py" not in service.done("add", "metrics", "--yes").out
    assert "(metrics,)" in (service.root / "service/app/parts.py").read_text()


def test_a_file_that_differs_is_refused_with_the_difference(service: Clone) -> None:
    service.write("service/app/metrics.py", "mine = 1\n")
    before = status(service)
    refused = service.fab("add", "metrics", "--yes")
    assert refused.status == 2
    assert "service/app/metrics.py is there already" in refused.err
    assert "-mine = 1" in refused.err
    assert status(service) == before
    assert (service.root / "service/app/metrics.py").read_text() == "mine = 1\n"


@pytest.mark.parametrize("kind", ["link", "directory"])
def test_what_is_no_file_is_refused(service: Clone, kind: str, tmp_path: Path) -> None:
    path = service.root / "service/app/metrics.py"
    target = tmp_path / "elsewhere"
    if kind == "link":
        path.symlink_to(target)
    else:
        path.mkdir()
    refused = service.fab("add", "metrics", "--yes")
    assert (refused.status, "service/app/metrics.py" in refused.err) == (2, True)
    assert not target.exists()


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (("service/app/parts.py", "PARTS = load()\n"), "`from . import metrics`"),
        (("service/app/parts.py", None), "parts are for the sample service"),
        (("service/requirements.in", None), "service/requirements.in is missing"),
    ],
)
def test_a_service_of_another_shape_is_refused(service: Clone, edit: tuple[str, str | None], reason: str) -> None:
    path, text = edit
    if text is None:
        (service.root / path).unlink()
    else:
        service.write(path, text)
    before = status(service)
    refused = service.fab("add", "metrics", "--yes")
    assert (refused.status, reason in refused.err) == (2, True), refused.err
    assert status(service) == before


def test_a_part_that_there_is_not(clone: Clone) -> None:
    refused = clone.fab("add", "metrix", "--yes")
    assert (refused.status, "did you mean metrics?" in refused.err) == (2, True)
    assert clone.fab("--dry", "add", "metrics").status == 2


def test_without_a_terminal_it_needs_a_yes(clone: Clone) -> None:
    refused = clone.fab("add", "metrics")
    assert (refused.status, "fab add metrics --yes" in refused.err) == (2, True)
    assert "new   service/app/metrics.py" in refused.out
    assert status(clone) == []


@pytest.mark.parametrize(("reply", "code"), [("n", 2), ("", 2), ("y", 0)])
def test_on_a_terminal_it_asks(service: Clone, reply: str, code: int) -> None:
    service.write("service/edition.txt", "1\n")
    ended = answer(service, ["add", "metrics"], "go on? [y/N] ", reply)
    assert ended.status == code, ended.out
    assert "not committed" in ended.out
    assert (service.root / "service/app/metrics.py").exists() is (code == 0)


def test_without_an_index_all_but_the_lock_is_done(service: Clone, links: Path) -> None:
    for wheel in links.glob("prometheus*"):
        wheel.unlink()
    lock = (service.root / "service/requirements.txt").read_text()
    ended = service.fab("add", "metrics", "--yes")
    assert ended.status == 1
    assert "metrics is added, but not locked" in ended.err
    assert "next: fab lock" in ended.err
    assert all((service.root / path).exists() for path in MADE)
    assert (service.root / "service/requirements.txt").read_text() == lock


@pytest.fixture
def two(service: Clone) -> Clone:
    """A clone with two parts more: `wheel`, which needs keys of service.yaml, and `cart`, which requires it."""
    for name, needs in (
        ("wheel", 'service: {hooks: {before_activate: "flask turn"}, needs: [host], env: {COLOUR: red}}'),
        ("cart", 'requires: [wheel]\nservice: {processes: {horse: {command: "python -m app.cart"}}}'),
    ):
        service.write(f"templates/parts/{name}/part.yaml", f"about: a {name}\nwhen: now\nnext: go\n{needs}\n")
        service.write(f"templates/parts/{name}/app/{name}.py", "def init_app(app): ...\n")
    git(service.root, "add", "-A")
    git(service.root, "-c", "user.name=tests", "-c", "user.email=tests@example", "commit", "-qm", "parts")
    return service


def test_a_part_brings_what_it_requires_and_its_keys_of_service_yaml(two: Clone) -> None:
    before = (two.root / "service/service.yaml").read_text()
    shown = two.done("add", "cart", "--yes").out
    assert "with  wheel: a wheel" in shown
    assert 'service/service.yaml: hooks: {before_activate: "flask turn"}' in shown
    after = (two.root / "service/service.yaml").read_text()
    assert [line for line in after.splitlines() if line in before.splitlines()] == before.splitlines()
    assert '\n  horse: {command: "python -m app.cart"}' in after
    assert "\n  COLOUR: red" in after
    assert "(wheel, cart)" in (two.root / "service/app/parts.py").read_text()
    both = status(two)
    assert two.done("add", "cart").out == "cart is there already: nothing to change\n"
    assert two.done("add", "wheel").out == "wheel is there already: nothing to change\n"
    assert status(two) == both
    git(two.root, "checkout", "-q", ".")
    git(two.root, "clean", "-qfd", "service")
    assert status(two) == []


def test_a_required_part_that_is_there_stays_as_its_owner_has_it(two: Clone) -> None:
    two.done("add", "wheel", "--yes")
    two.write("service/app/wheel.py", "def init_app(app): mine()\n")
    two.done("add", "cart", "--yes")
    assert "mine()" in (two.root / "service/app/wheel.py").read_text()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("hooks: {before_activate: other}", "another value is there"),
        ("hooks: null", "another value is there"),
        ("processes: {horse: {command: other}}", "another value is there"),
    ],
)
def test_keys_that_clash_are_refused_with_the_lines_to_write(two: Clone, line: str, reason: str) -> None:
    path = two.root / "service/service.yaml"
    kept = [one for one in path.read_text().splitlines() if not one.startswith(("processes:", "  web:"))]
    path.write_text("\n".join([*kept, line, ""]))
    before = status(two)
    refused = two.fab("add", "cart", "--yes")
    assert (refused.status, reason in refused.err) == (2, True), refused.err
    assert "service/service.yaml:" in refused.err
    assert "write these lines by hand" in refused.err
    assert status(two) == before


def test_a_part_that_makes_service_yaml_wrong_is_refused(two: Clone) -> None:
    two.replace("templates/parts/cart/part.yaml", "horse", "hook")
    refused = two.fab("add", "cart", "--yes")
    assert (refused.status, "with the part cart: expected" in refused.err) == (2, True), refused.err
    assert not (two.root / "service/app/cart.py").exists()
