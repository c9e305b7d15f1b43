"""Large uploads to a real host: whole, in little memory, with progress, aborted only if they stall, and resumed."""

from __future__ import annotations

import hashlib
import os
import random
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tasks.engine.config import inventory
from tasks.engine.host.protocol import Output, Report
from tasks.engine.host.steps import HostStep
from tasks.engine.parallel import run_in_thread
from tasks.engine.release import wheel_cache
from tasks.engine.ssh.channels import Begun
from tasks.engine.ssh.session import LinkLost, Run
from tasks.engine.ssh.ssh_config import Options
from tasks.engine.ssh.ssh_session import SshSession
from tests.bench.ground import narrow
from tests.promises.words import AGAIN, CALM, OTHERS
from tests.support import distributions
from tests.support.clone import make, quicken
from tests.support.hosts import MakeHosts
from tests.support.link import Link, link_to
from tests.support.site import ROOT, Site
from tests.support.stand_ins import TOLD, entries, told_to, write_inventory

MB = 1_000_000
COPY = "/home/deploy/try/copy"
RUN = Run("20260101T000000-abc123", '{"user":"me"}')
DICE = random.Random(14)


@dataclass
class Far:
    """A site reached through a link, with a directory of wheels to depend on."""

    site: Site
    link: Link
    links: Path
    versions: int = 0

    def depend(self, *sizes: int) -> str:
        """Depend on this many new incompressible wheels of this size; return the release."""
        self.versions += 1
        lines = self.site.read("service/requirements.txt").partition("fat0==")[0]
        for number, size in enumerate(sizes):
            name, version = f"fat{number}", f"1.{self.versions}"
            digest = distributions.wheel(self.links, name, version, files={f"{name}.bin": DICE.randbytes(size)})
            lines += f"{name}=={version} \\\n    --hash=sha256:{digest}\n"
        self.site.clone.write("service/requirements.txt", lines)
        return self.site.clone.release()

    def session(self, **options: int) -> SshSession:
        """Return a separate connection."""
        clone = self.site.clone
        (host,) = inventory.load(clone.root, {"HOSTS": str(clone.inventory)}).hosts
        return SshSession(host, Options(**options))  # type: ignore[arg-type]

    @property
    def wheels(self) -> set[str]:
        """Return those of our wheels that are on the host."""
        return {name for name in self.site.sh(f"ls {ROOT}/wheels").split() if name.startswith("fat")}


@pytest.fixture(scope="module")
def served(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Far]:
    hosts = module_hosts(1)
    folder = tmp_path_factory.mktemp("uploads")
    links, cache = folder / "links", folder / "cache"
    links.mkdir()
    # Wheels that earlier tests have fetched, without those of these tests.
    if wheel_cache.default_root().is_dir():
        shutil.copytree(wheel_cache.default_root(), cache / "integrators-loop/wheels")
    identity = str(entries(hosts.inventory)["shire01"]["identity"])
    with link_to(hosts[0].address) as link:
        there = write_inventory(folder / "hosts.yaml", {"shire01": link.entry(hosts[0], identity)})
        clone = make(folder, there)
        clone.environment["PIP_FIND_LINKS"] = f"{os.environ.get('PIP_FIND_LINKS', '')} {links}".strip()
        clone.environment["XDG_CACHE_HOME"] = str(cache)
        quicken(clone)
        clone.done("deploy", "-H", "all")
        # The tests try the data sent and its transport: a program that runs any Python lies in place of our copy.
        lay = f"install -d -o deploy {COPY} {COPY.rpartition('/')[0]} && cat >{COPY}/__main__.py"
        assert hosts[0].sh(lay, f"import sys\n\nstream = sys.stdin.buffer\n{TOLD}".encode()).returncode == 0
        yield Far(Site(clone, hosts[0]), link, links)


@pytest.fixture
def far(served: Far) -> Iterator[Far]:
    yield served
    served.link.heal()


def told(do: str, seconds: float = 60) -> HostStep:
    """Return a step of the program on the host."""
    return told_to(do, seconds)._replace(place=COPY)


def unsent_bytes(address: str) -> int:
    """Return how many bytes the kernel has yet to send on our SSH connections to this address, from ss(8)."""
    shown = subprocess.run(["ss", "-Htin", "dst", address, "dport", "22"], capture_output=True, text=True, check=True)
    return sum(map(int, re.findall(r"notsent:(\d+)", shown.stdout)))


def ignore(_: Report | Output) -> None:
    """Ignore it: the transcript has it."""


def peak(process: subprocess.Popen[str]) -> int:
    """Return the peak memory of a process in bytes; rusage would include its parent's."""
    most = 0
    while process.poll() is None:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
        most = int(found[1]) * 1024 if found else most
        time.sleep(0.02)
    return most


def noise(size: int) -> Iterator[bytes]:
    for _ in range(size // 100_000):
        yield DICE.randbytes(100_000)


@pytest.mark.promise(AGAIN, "the SSH link is reset in the middle of an upload")
def test_wheels_that_arrived_whole_before_the_link_was_cut_are_not_sent_again(far: Far) -> None:
    old, new = far.site.answering, far.depend(2 * MB, 2 * MB, 2 * MB, 2 * MB)
    far.link.after(6 * MB, far.link.reset)
    cut = far.site.fab("deploy")
    assert cut.status in {1, 3}, cut.both
    assert "4 wheels of 8.0 MB" in cut.out
    # sshd loses the bytes that were under way.
    kept = far.wheels
    assert "fat0-1.1-py3-none-any.whl" in kept
    assert len(kept) < 4
    # They stay, whatever is committed meanwhile.
    far.site.done("restart")
    assert (far.site.answering, far.wheels) == (old, kept)
    again = far.site.done("deploy")
    assert re.search(rf", {4 - len(kept)} wheels? of {2 * (4 - len(kept))}\.0 MB", again.out)
    assert (far.site.answering, len(far.wheels)) == (new, 4)
    far.site.settled()
    assert far.site.sh(f"ls -A {ROOT}/wheels | grep -v whl || :") == ""


@pytest.mark.further("test_wheels_that_arrived_whole_before_the_link_was_cut_are_not_sent_again")
@pytest.mark.promise(AGAIN, "the command is killed in the middle of an upload")
def test_wheels_that_arrived_whole_before_the_controller_was_killed_are_not_sent_again(far: Far) -> None:
    new = far.depend(2 * MB, 12 * MB)
    far.site.clone.done("plan", "-H", "all")
    far.link.slow(rate=4 * MB)
    with far.site.clone.start("deploy", "-H", "all") as process:
        deadline = time.monotonic() + 60
        while f"fat0-1.{far.versions}-py3-none-any.whl" not in far.wheels and time.monotonic() < deadline:
            time.sleep(0.1)
        process.kill()
        process.communicate()
    far.link.heal()
    again = far.site.done("deploy", "--lock-wait", "45")
    assert ", 1 wheel of 12.0 MB" in again.out
    assert far.site.answering == new


@pytest.mark.promise(OTHERS, "the SSH link is stalled in the middle of an upload")
def test_an_upload_that_stands_still_is_given_up(far: Far) -> None:
    step = told(f"stream.read({20 * MB})\nreport('end')", 5)
    session = far.session()
    far.link.after(3 * MB, far.link.stall)
    began = time.monotonic()
    with pytest.raises(LinkLost, match="took nothing of the upload for 5 s"):
        session.execute(step, RUN, ignore, noise(20 * MB))
    assert 4 < time.monotonic() - began < 60
    far.link.heal()
    session.close()


def test_an_upload_that_goes_on_may_take_longer_than_the_limit(far: Far) -> None:
    step = told(f"report('sum', str(len(stream.read({8 * MB}))))", 3)
    session = far.session()
    far.link.slow(rate=MB)
    began = time.monotonic()
    transcript = session.execute(step, RUN, ignore, noise(8 * MB))
    assert transcript.last("sum") == str(8 * MB)
    assert time.monotonic() - began > 6
    session.close()


def test_other_words_do_not_wait_behind_an_upload(far: Far) -> None:
    """Once: on a link of 200 kB/s the heartbeats of the run lock came eight seconds late.

    So the kernel holds few bytes that it has not sent yet, whatever the link: what is sent next waits behind these.
    """
    entry = {**entries(far.site.clone.inventory)["shire01"], "address": far.site.machine.address, "port": 22}  # type: ignore[arg-type]
    folder = far.links.parent / "direct"
    folder.mkdir()
    there = write_inventory(folder / "hosts.yaml", {"shire01": entry})
    (host,) = inventory.load(folder, {"HOSTS": str(there)}).hosts
    session = SshSession(host, Options())
    step = told("while stream.read(65536): pass")
    unsent = []
    with narrow(far.site.machine, "1600kbit"), session.channel(Begun("exec cat"), 60) as channel:
        upload = run_in_thread(lambda: session.execute(step, RUN, ignore, noise(20 * MB)))
        for _ in range(3):
            channel.sendall(b".")
            assert channel.recv(1) == b"."
            unsent.append(unsent_bytes(far.site.machine.address))
        session.close()
        assert isinstance(upload.exception(60), LinkLost)
    assert 0 < max(unsent) < 500_000


@pytest.mark.promise(CALM, "a host that goes on talking past the limit")
def test_what_a_host_says_stretches_no_limit(far: Far) -> None:
    step = told("while True: print('still here', flush=True); time.sleep(0.1)", 3)
    session, began = far.session(), time.monotonic()
    with pytest.raises(LinkLost, match="did not end within 3 s"):
        session.execute(step, RUN, ignore)
    assert time.monotonic() - began < 60
    session.close()


def test_any_bytes_arrive_as_they_are_also_under_new_keys(far: Far, monkeypatch: pytest.MonkeyPatch) -> None:
    from paramiko.packet import Packetizer

    monkeypatch.setattr(Packetizer, "REKEY_BYTES", 3 * MB)
    pieces = [piece for _ in range(5) for piece in (DICE.randbytes(2 * MB), b"plain words\n" * 100_000, b"", b"x")]
    step = told("report('sum', hashlib.sha256(stream.read()).hexdigest())")
    session = far.session()
    transcript = session.execute(step, RUN, ignore, pieces)
    assert transcript.last("sum") == hashlib.sha256(b"".join(pieces)).hexdigest()
    session.close()


@pytest.mark.further("test_an_upload_that_takes_time_is_seen_in_bytes")
@pytest.mark.promise(CALM, "wheels of 120 MB")
def test_memory_does_not_grow_with_what_is_sent(far: Far) -> None:
    """Once: a wheel of 200 MB took six minutes, and a torch could not be sent at all."""
    peaks = []
    for size in (20 * MB, 120 * MB):
        far.depend(size)
        # It fetches them: pip's memory is not ours.
        far.site.clone.done("plan", "-H", "all")
        with far.site.clone.start("deploy", "-H", "all", stdout=subprocess.DEVNULL) as process:
            peaks.append(peak(process))
        assert process.returncode == 0
    assert peaks[1] - peaks[0] < 10 * MB


JSON = pytest.param(("--json",), marks=pytest.mark.further("test_an_upload_that_takes_time_is_seen_in_bytes"))


@pytest.mark.parametrize("words", [(), JSON])
def test_an_upload_that_takes_time_is_seen_in_bytes(far: Far, words: tuple[str, ...]) -> None:
    far.depend(12 * MB)
    far.link.slow(rate=2 * MB)
    ended = far.site.fab("deploy", *words)
    assert ended.status == 0, ended.both
    if not words:
        told = [line for line in ended.out.splitlines() if "  sent: " in line]
        assert 2 <= len(told) <= 3
        assert told[-1].startswith("shire01  stage     sent: 12.")
    else:
        seen = [event for event in ended.lines() if event["event"] == "sent"]
        assert [event["sent"] for event in seen] == sorted(event["sent"] for event in seen)
        assert seen[0]["sent"] < seen[-1]["sent"] == seen[-1]["total"]
