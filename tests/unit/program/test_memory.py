"""The memory that a host reports, and what systemd says about kills for want of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from templates.host import memory, programs

MEMINFO = "MemTotal:        2048 kB\nMemFree:          1 kB\nMemAvailable:    1024 kB\n"
KIB = 1024


@pytest.mark.parametrize(
    ("meminfo", "limit", "found"),
    [
        (MEMINFO, None, (2048 * KIB, 1024 * KIB)),
        # A container's own limit; one of cgroup version 1 that stands for none; one of version 2.
        (MEMINFO, "1572864\n", (1536 * KIB, 1024 * KIB)),
        (MEMINFO, "524288", (512 * KIB, 512 * KIB)),
        (MEMINFO, "9223372036854771712", (2048 * KIB, 1024 * KIB)),
        (MEMINFO, "max\n", (2048 * KIB, 1024 * KIB)),
        ("", None, (0, 0)),
        ("MemTotal: many kB\n", None, (0, 0)),
    ],
)
def test_memory_is_that_of_the_machine_or_of_its_container(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, meminfo: str, limit: str | None, found: tuple[int, int]
) -> None:
    (tmp_path / "meminfo").write_text(meminfo)
    if limit is not None:
        (tmp_path / "limit").write_text(limit)
    monkeypatch.setattr(memory, "PROC", str(tmp_path))
    monkeypatch.setattr(memory, "_LIMITS", (str(tmp_path / "limit"),))
    assert memory.of_the_host() == found


def test_kills_are_counted_for_the_units_that_were_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    lines = ["a.service: A process of this unit has been killed by the OOM killer."] * 2
    lines += ["b.service: A process", "nonsense", "", ": x"]

    def answer(*words: str, **_: float) -> tuple[list[str], bool]:
        asked.extend(words)
        return lines, True

    monkeypatch.setattr(programs, "last_lines", answer)
    assert memory.killed(["a.service", "c.service"], 5) == {"a.service": 2}
    # Only what PID 1 itself has logged counts: a service can log any text.
    assert {"_PID=1", "_UID=0", "UNIT=a.service", "UNIT=c.service", "@5.00"} <= set(asked)
    assert memory.killed([], 5) == {}
