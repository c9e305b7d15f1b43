"""The hosts of a benchmark, each behind a link whose delay and rate can be set, and what can be read of them."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tasks.engine.sandbox import Machine, Sandbox
from tests.support.link import Link, link_to

_COUNT = "cat /sys/class/net/host0/statistics/rx_bytes; journalctl -q -t sshd -o cat | grep -c '^Starting session'"
_VERBOSE = "echo 'LogLevel VERBOSE' >/etc/ssh/sshd_config.d/bench.conf && systemctl restart ssh"


@dataclass(frozen=True)
class Ground:
    """Machines with their links, in the same order. identity: the key that logs in to all of them, as deploy.

    direct: bypass the links where nothing is delayed: they take time, and hide the cost of small packets.
    """

    machines: Sequence[Machine]
    links: Sequence[Link]
    identity: Path
    direct: bool = False

    def first(self, count: int, *, direct: bool = False) -> Ground:
        """Return the first `count` of them."""
        return Ground(self.machines[:count], self.links[:count], self.identity, direct)

    @property
    def places(self) -> list[tuple[str, int]]:
        """Return address and port of each."""
        if self.direct:
            return [(machine.address, 22) for machine in self.machines]
        return [("127.0.0.1", link.port) for link in self.links]

    @contextmanager
    def far(self, round_trip: float = 0.0, rate: float = float("inf")) -> Iterator[None]:
        """Delay every packet. round_trip: seconds; rate: bytes a second each way."""
        for link in self.links:
            link.slow(round_trip / 2, rate)
        try:
            yield
        finally:
            for link in self.links:
                link.slow()

    def counted(self) -> tuple[int, int]:
        """Return the bytes that all hosts have received so far, and the channels opened on them."""
        told = [machine.sh(_COUNT + " || :").stdout.split() for machine in self.machines]
        return sum(int(received) for received, _ in told), sum(int(opened) for _, opened in told)

    def editions(self, name: str) -> set[str]:
        """Return the answers of a service through the front doors of all hosts."""
        ask = f"curl -sk --resolve {name}.example:443:127.0.0.1 https://{name}.example/readyz"
        return {machine.sh(ask).stdout.decode().strip() for machine in self.machines}

    def ssh_config(self, project: Path) -> Path:
        """Write an ssh_config that calls the hosts h1, h2 and so on."""
        known = project / "known_hosts"
        lines, keys = [], []
        for number, (machine, (address, port)) in enumerate(zip(self.machines, self.places, strict=True), 1):
            lines += [f"Host h{number}", f"  HostName {address}", f"  Port {port}"]
            keys.append(f"{address if port == 22 else f'[{address}]:{port}'} {machine.host_key}\n")
        common = {"User": "deploy", "IdentityFile": str(self.identity),
                  "IdentitiesOnly": "yes", "UserKnownHostsFile": str(known), "LogLevel": "ERROR"}  # fmt: skip
        lines += ["Host *", *(f"  {key} {value}" for key, value in common.items())]
        known.write_text("".join(keys))
        path = project / "ssh_config"
        path.write_text("\n".join(lines) + "\n")
        return path

    def inventory(self) -> dict[str, dict[str, object]]:
        """Return the `hosts:` of a hosts.yaml."""
        found: dict[str, dict[str, object]] = {}
        for number, (machine, (address, port)) in enumerate(zip(self.machines, self.places, strict=True), 1):
            place = {"address": address, "port": port, "host_key": machine.host_key}
            found[f"h{number}"] = {**place, "user": "deploy", "identity": str(self.identity)}
        return found

    def rest(self, name: str) -> None:
        """Wait until no guard of our service is at work."""
        for machine in self.machines:
            machine.sh(f"flock /run/{shlex.quote(name)}/lock/guard true 2>/dev/null || :")

    def wipe(self, name: str) -> None:
        """Remove a service of the limit or a peer from all hosts."""
        quoted = shlex.quote(name)
        script = f"""systemctl disable -q --now {quoted} 2>/dev/null
        rm -rf /srv/{quoted} /etc/ssl/{quoted} /etc/systemd/system/{quoted}.service /etc/nginx/conf.d/{quoted}.conf
        userdel {quoted} 2>/dev/null
        systemctl daemon-reload
        if [ -z "$(ls /etc/nginx/conf.d)" ]; then systemctl stop nginx; else systemctl reload nginx; fi"""
        for machine in self.machines:
            machine.sh(f"{{ {script}; }} </dev/null || :")


@contextmanager
def narrow(machine: Machine, rate: str | None) -> Iterator[None]:
    """Limit the kernel's traffic to the hosts of this machine's sandbox to a rate such as 1gbit."""
    if rate is None:
        yield
        return
    told = subprocess.run(["ip", "-o", "route", "get", machine.address], capture_output=True, text=True, check=True)
    device = told.stdout.split(" dev ")[1].split()[0]
    subprocess.run(["tc", "qdisc", "replace", "dev", device, "root", "tbf",
                    "rate", rate, "burst", "256kb", "latency", "100ms"], check=True)  # fmt: skip
    try:
        yield
    finally:
        subprocess.run(["tc", "qdisc", "del", "dev", device, "root"], check=True)


@contextmanager
def linked(machines: Sequence[Machine], identity: Path) -> Iterator[Ground]:
    """Put each host behind a link, with an sshd that logs each channel."""
    with ExitStack() as stack:
        for machine in machines:
            machine.sh(_VERBOSE)
        links = [stack.enter_context(link_to(machine.address)) for machine in machines]
        yield Ground(machines, links, identity)


@contextmanager
def ground(state: Path, count: int) -> Iterator[Ground]:
    """Boot pristine hosts for the block; needs root on Linux."""
    sandbox = Sandbox(state)
    with ExitStack() as stack:
        stack.callback(sandbox.down)
        yield stack.enter_context(linked(sandbox.up(count), sandbox.identity))
