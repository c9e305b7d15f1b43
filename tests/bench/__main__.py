"""`python -m tests.bench [--rounds N] [--series near,50ms] [--who ours,limit-uv]`; all of it is docs/BENCHMARK.md."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import metadata
from pathlib import Path

from tests.bench import job, report, service, startup, upload
from tests.bench.contenders import Contender, Limit, Ours
from tests.bench.fujin import Fujin
from tests.bench.ground import Ground, ground
from tests.bench.rivals import Ansible, Capistrano, Fabric, Pyinfra
from tests.bench.series import EVERYTHING, SERIES, SERVICE, START, UPLOAD, Results, measure, read

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build/bench"
PEERS = ("ansible-core>=2.19,<2.20", "fujin-cli>=0.27,<0.28", "mitogen>=0.3.54,<0.4", "pyinfra>=3.10,<4")
Make = Callable[[str, Path, Ground, Path], Contender]
NEAREST = ("ours", "limit-uv")
"""The contenders of a series without peers."""


def peers() -> Path:
    """Return the bin directory of a venv with the peers; make it on first use."""
    place = BUILD / "peers"
    if not (place / "bin/fujin").exists():
        venv.create(place, with_pip=True)
        subprocess.run([place / "bin/pip", "install", "-q", "--disable-pip-version-check", *PEERS], check=True)
    return place / "bin"


def makers() -> Mapping[str, Make]:
    """Return the maker of each contender by name; a maker finds its own prerequisites."""
    return {
        "ours": Ours,
        "ours-default": lambda *given: Ours(*given, held=True),
        "limit-uv": lambda *given: Limit(*given, installer="uv"),
        "limit-pip": lambda *given: Limit(*given, installer="pip"),
        "fabric": Fabric,
        "pyinfra": lambda *given: Pyinfra(*given, peers=peers()),
        "mitogen": lambda *given: Ansible(*given, peers=peers(), mitogen=True),
        "ansible": lambda *given: Ansible(*given, peers=peers()),
        "fujin": lambda *given: Fujin(*given, peers=peers()),
        "capistrano": Capistrano,
    }


def present(asked: Sequence[str], say: Callable[[str], None]) -> list[str]:
    """Return the contenders that can run here; report each other one through `say`."""
    if "capistrano" not in asked or shutil.which("cap"):
        return list(asked)
    say("capistrano is left out: it is no package of pip's, and there is no `cap` here (Debian has it)")
    return [name for name in asked if name != "capistrano"]


def versions() -> dict[str, str]:
    """Return the versions of the programs measured."""
    found = {name: metadata.version(name) for name in ("fabric", "paramiko", "uv")}
    told = subprocess.run([peers() / "pip", "freeze"], capture_output=True, text=True, check=True).stdout
    pairs = (line.partition("==")[::2] for line in told.splitlines())
    found |= {name: version for name, version in pairs if name in {"ansible-core", "mitogen", "pyinfra", "fujin-cli"}}
    if shutil.which("cap"):
        told = subprocess.run(["cap", "--version"], capture_output=True, text=True, check=True).stdout
        found["capistrano"] = told.split()[2]
    return found


def series(name: str, who: Sequence[str], rounds: int, hosts: Ground, folder: Path, results: Results) -> None:
    """Measure one table, with projects and services of its own."""
    these = hosts.first(SERIES[name].hosts, direct=SERIES[name].direct)
    wheels = job.wheels(BUILD / "wheels")
    names = [one for one in who if SERIES[name].peers or one in (*NEAREST, "limit-pip")]
    there = [makers()[one](one, folder / name, these, wheels) for one in names]
    for contender in there:
        contender.begin()
    measure(name, these, there, rounds, results, partial(print, flush=True))
    for contender in there:
        contender.wipe()


def main() -> None:
    """Measure the requested series, and write the page once each series has been measured (it shows their dates)."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--series", default=",".join(EVERYTHING))
    parser.add_argument("--who", default=",".join(makers()))
    given = parser.parse_args()
    who, asked = present(given.who.split(","), print), given.series.split(",")
    results = read(BUILD / "results.jsonl")
    BUILD.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="bench."))
    try:
        with ground(folder / "sandbox", max(SERIES[name].hosts if name in SERIES else 1 for name in asked)) as hosts:
            for name in asked:
                results.forget(name)
                if name == SERVICE:
                    near = hosts.first(1, direct=True)
                    results.answers = service.measure(near, folder / name, given.rounds, partial(print, flush=True))
                elif name == START:
                    results.starts = startup.measure(folder / name, given.rounds)
                elif name == UPLOAD:
                    near = hosts.first(1, direct=True)
                    results.uploads = upload.measure(near, folder / name, given.rounds, partial(print, flush=True))
                else:
                    series(name, who, given.rounds, hosts, folder, results)
                results.when[name] = f"{time.strftime('%Y-%m-%d', time.gmtime())}, {given.rounds} rounds"
                results.write(BUILD / "results.jsonl")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    sys.stdout.write(report.overview(results, asked))
    if {*EVERYTHING} <= {*results.when}:
        (ROOT / "docs/BENCHMARK.md").write_text(report.page(results, versions()))
        (ROOT / "docs/benchmark.svg").write_text(report.plot(results))


if __name__ == "__main__":
    main()
