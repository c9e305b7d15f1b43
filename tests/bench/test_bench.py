"""The benchmark: ours and the limit made by hand do the whole job, and the results become a page."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.bench import __main__ as bench
from tests.bench import job, report, service, startup, upload
from tests.bench.contenders import Contender, Limit, Ours
from tests.bench.ground import Ground, linked
from tests.bench.measure import Cost
from tests.bench.series import SERIES, Results, Wrong, measure, once, read
from tests.support.hosts import MakeHosts

pytestmark = pytest.mark.long

COST = Cost(seconds=1.0, cpu=0.5, memory=50_000_000, received=10_000, channels=1)


@pytest.fixture
def ground(hosts: MakeHosts) -> Iterator[Ground]:
    made = hosts()
    (identity,) = re.findall(r"identity: (\S+)", made.inventory.read_text())
    with linked(made.machines, Path(identity)) as ground:
        yield ground.first(1, direct=True)


def test_ours_and_the_limit_do_the_whole_job(ground: Ground, tmp_path: Path) -> None:
    """A contender that reports success without it would raise."""
    wheels, results = job.wheels(tmp_path / "wheels"), Results()
    both: list[Contender] = [
        Ours("ours", tmp_path / "projects", ground, wheels),
        Limit("limit-uv", tmp_path / "projects", ground, wheels, installer="uv"),
    ]
    for contender in both:
        contender.begin()
    measure("near", ground, both, 1, results, lambda _: None)
    assert {key[1:] for key in results.costs} == {(action, one.name) for one in both for action in one.actions}
    # One channel defines the limit.
    assert {costs[0].channels for key, costs in results.costs.items() if key[2] == "limit-uv"} == {1}
    assert all(cost.received > 1000 and cost.cpu > 0 for costs in results.costs.values() for cost in costs)


class Idle(Contender):
    """Reports success, and does nothing."""

    def command(self, action: str) -> tuple[str, ...]:
        return ("true", action)


def test_who_does_nothing_is_found_out(ground: Ground, tmp_path: Path) -> None:
    idle = Idle("idle", tmp_path, ground, job.wheels(tmp_path / "wheels"))
    idle.begin()
    with pytest.raises(Wrong, match="idle, code"):
        once(idle, "code", SERIES["near"], ground)


def test_who_cannot_take_part_here_is_left_out_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert bench.present(["ours", "capistrano", "fujin"], said.append) == ["ours", "fujin"]
    assert [line.split(":")[0] for line in said] == ["capistrano is left out"]
    assert bench.present(["ours"], said.append) == ["ours"]
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    assert bench.present(["ours", "capistrano"], said.append) == ["ours", "capistrano"]
    assert len(said) == 1


def measured() -> Results:
    results = Results()
    for series, distance in (("near", 0.0), ("50ms", 0.05), ("150ms", 0.15)):
        for name, seconds, turns in (("ours", 1.1, 10), ("limit-uv", 1.0, 8), ("ansible", 12.0, 120)):
            for noise in (0.0, 0.3, -0.2):
                results.add(series, "code", name, replace(COST, seconds=seconds + turns * distance + noise))
    results.answers["ours, 2 x 4"] = service.Answers(rate=812.4, tail=0.0312)
    for title, rate in ((service.OURS, 900.0), (service.TUTORIALS[-1].title, 1000.0)):
        results.answers[f"{title}: small JSON"] = service.Answers(rate=rate, tail=0.01)
    results.starts["list"] = (0.315, 0.3)
    results.uploads["1 Gbit/s"] = (2.0, 1.9)
    results.when["near"] = "2026-01-01, 3 rounds"
    return results


def test_the_page_has_the_medians_and_their_ratio_to_the_limit(tmp_path: Path) -> None:
    measured().write(tmp_path / "results.jsonl")
    page = report.page(read(tmp_path / "results.jsonl"), {"fabric": "3.2.3"})
    assert "| code | 1.10 (1.10) | 1.00 | 12.00 (12.00) |" in page
    assert "| code: channels, kB sent, CPU s, MB | 1, 10, 0.50, 50 |" in page
    assert "| code: round trips | 10.0 | 8.0 | 120.0 |" in page
    assert "Versions: fabric 3.2.3." in page
    assert "(2026-01-01, 3 rounds.)" in page
    assert "| ours, 2 x 4 | 812 | 31.2 |" in page
    assert "| small JSON | 900 (0.90) | 1000 |" in page
    assert "| ours: small JSON" not in page
    assert "| list | 0.315 (1.05) | 0.300 |" in page
    assert "| 1 Gbit/s | 2.00 (1.05) | 1.90 |" in page


def test_a_series_that_is_measured_anew_leaves_the_others(tmp_path: Path) -> None:
    results = measured()
    results.forget("near")
    results.write(tmp_path / "results.jsonl")
    kept = read(tmp_path / "results.jsonl")
    assert {key[0] for key in kept.costs} == {"50ms", "150ms"}
    assert (kept.when, list(kept.answers)[:1]) == ({}, ["ours, 2 x 4"])
    assert read(tmp_path / "none.jsonl").costs == {}


def test_the_plot_has_a_bar_for_each_and_the_slowest_is_the_longest() -> None:
    bars = re.findall(r'<rect [^>]*width="([0-9.]+)"', report.plot(measured()))
    assert [float(bar) for bar in bars] == [
        pytest.approx(500 / 12, abs=0.1),
        pytest.approx(500 * 1.1 / 12, abs=0.1),
        500,
    ]


@pytest.mark.further("test_ours_and_the_limit_do_the_whole_job")
def test_ours_and_the_tutorials_answer(ground: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every request got its answer, or it would raise; the benchmark reports the rate."""
    monkeypatch.setattr(service, "SECONDS", 1)
    monkeypatch.setattr(service, "TURNS", 1)
    monkeypatch.setattr(service, "SIZES", ((2, 4),))
    found = service.measure(ground, tmp_path / "service", 1, lambda _: None)
    small = [f"{title}: {what}" for what in service.SMALL for title in (service.OURS, service.TUTORIALS[-1].title)]
    assert list(found) == ["ours, 2 x 4", *small, *(tutorial.title for tutorial in service.TUTORIALS)]
    assert all(one.rate > 1 and 0 < one.tail < 60 for one in found.values())


def test_the_start_of_fab_is_timed_beside_that_of_one_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(startup, "RUNS", 1)
    monkeypatch.setattr(startup, "WORDS", {"list": startup.WORDS["list"]})
    found = startup.measure(tmp_path / "start", 1)
    assert set(found) == set(startup.WORDS)
    assert all(0.05 < seconds < 60 for both in found.values() for seconds in both)


def test_an_upload_is_timed_beside_scp(ground: Ground, tmp_path: Path) -> None:
    """Whole and in its place, or it would raise; the benchmark reports the comparison."""
    found = upload.measure(ground, tmp_path / "upload", 1, lambda _: None, size=3_000_000)
    assert set(found) == set(upload.LINKS)
    assert all(0.05 < seconds < 60 for both in found.values() for seconds in both)
