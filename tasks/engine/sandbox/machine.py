"""Control one real host of the sandbox from the outside, without SSH: boot it, run commands in it, cut its power."""

from __future__ import annotations

import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from tasks.engine.errors import LoopError
from tasks.engine.sandbox import cgroups, guest, process
from tasks.engine.sandbox.network import Network
from tasks.engine.sandbox.removal import remove_tree

BOOT = Path(__file__).with_name("boot.sh")
READY_TIMEOUT = 60.0
_POLL = 0.05
_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "TERM": "dumb",
}


@dataclass(frozen=True)
class Machine:
    """A host that `Sandbox.up` made. directory: holds the disk, pid, console log and host key."""

    name: str
    number: int
    directory: Path
    tree: Path
    network: Network

    @property
    def address(self) -> str:
        """The IPv4 address on the sandbox's bridge."""
        return self.network.address(self.number)

    @property
    def host_key(self) -> str:
        """The sshd's public key, as a pin for hosts.yaml."""
        return guest.public_key(self.directory / "ssh_host_ed25519_key")

    @property
    def leader_pid(self) -> int | None:
        """The controller's number for the host's PID 1; None while the host is off."""
        keeper = self.keeper_pid
        return None if keeper is None else process.leader(keeper)

    @property
    def keeper_pid(self) -> int | None:
        """The process that boots the host again when it reboots; None while the host is off."""
        return process.read_pid_file(self.directory / "pid")

    @property
    def machine_name(self) -> str:
        """The host's name among all sandboxes of this controller."""
        return f"{self.network.bridge}-{self.name}"

    def boot(self) -> None:
        """Switch the host on if it is off, and wait until it is ready."""
        self.start()
        self.wait_ready()

    def start(self) -> None:
        """Switch the host on with the disk of its last run; do not wait."""
        if self.keeper_pid is not None:
            return
        if not self.tree.is_dir():
            raise LoopError(
                f"the base tree of {self.name} is gone", where=str(self.tree), next="fab sandbox.down && fab sandbox.up"
            )
        (self.directory / "pid").unlink(missing_ok=True)
        with (self.directory / "console.log").open("ab") as log:
            subprocess.run(self._boot_command(), cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=True)

    def _boot_command(self) -> list[str]:
        arguments = [self.directory, self.tree, self.name, self.machine_name, self.network.bridge, cgroups.root()]
        command = ["unshare", "--mount", "--propagation", "private", "sh", str(BOOT), *map(str, arguments)]
        if Path("/run/systemd/system").is_dir():
            scope = ["systemd-run", "--quiet", "--scope", "--collect", "--property=Delegate=yes"]
            return ["setsid", "--fork", *scope, f"--unit={self.machine_name}", *command]
        return ["setsid", "--fork", *command, f"/{cgroups.relative_path(self.machine_name)}"]

    def wait_ready(self, timeout: float = READY_TIMEOUT) -> None:
        """Wait until systemd is past boot and sshd answers. Raises LoopError with the console's last lines."""
        deadline = time.monotonic() + timeout
        while not (self._booted(deadline) and self._sshd_answers()):
            gone = self.keeper_pid is None and time.monotonic() > deadline - timeout + 5
            if gone or time.monotonic() > deadline:
                raise LoopError(
                    f"{self.name} stopped while it booted" if gone else f"{self.name} was not ready in {timeout:.0f} s",
                    where=self.name,
                    next=f"read {self.directory / 'console.log'}",
                    detail=self.console()[-15:],
                )
            time.sleep(_POLL)

    def _booted(self, deadline: float) -> bool:
        leader = self.leader_pid
        if leader is None or not Path(f"/proc/{leader}/root/run/systemd/private").exists():
            return False
        try:
            state = self.sh("systemctl is-system-running --wait", timeout=max(deadline - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            return False
        return state.stdout.strip() in (b"running", b"degraded")

    def _sshd_answers(self) -> bool:
        try:
            with socket.create_connection((self.address, 22), timeout=2) as connection:
                return connection.recv(4) == b"SSH-"
        except OSError:
            return False

    def console(self) -> tuple[str, ...]:
        """Return the lines that the host and nspawn have written to the console since the host was made."""
        path = self.directory / "console.log"
        return tuple(path.read_text(errors="replace").splitlines()) if path.exists() else ()

    def sh(self, command: str, stdin: bytes = b"", timeout: float = 60.0) -> subprocess.CompletedProcess[bytes]:
        """Run shell text in the host as root, through its namespaces. Raises LoopError when the host is off.

        timeout: seconds, then subprocess.TimeoutExpired. A non-zero exit status is a result, not an error.
        """
        leader = self.leader_pid
        if leader is None:
            raise LoopError(f"{self.name} is off", where=self.name, next="fab sandbox.up")
        enter = ["nsenter", f"--target={leader}", "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup"]
        return subprocess.run(
            [*enter, "--root", "--wd", "sh", "-c", command],
            input=stdin,
            capture_output=True,
            timeout=timeout,
            env=_ENVIRONMENT,
        )

    def journal(self, lines: int = 40) -> str:
        """Return the end of the host's journal, or of the console while the host is off."""
        if self.leader_pid is None:
            return "\n".join(self.console()[-lines:])
        return self.sh(f"journalctl --no-pager --output=short-precise --lines={lines}").stdout.decode(errors="replace")

    def reboot(self) -> None:
        """Reboot the host by `systemctl reboot`, and wait until it is ready."""
        before = self.leader_pid
        self.sh("systemctl reboot")
        if before is not None and not process.await_end(before, READY_TIMEOUT):
            raise LoopError(f"{self.name} did not go down for its reboot", where=self.name, detail=self.console()[-15:])
        self.wait_ready()

    def power_cut(self) -> None:
        """Cut the host's power: kill every process at once, so that none can react and nothing is flushed."""
        keeper, leader = self.keeper_pid, self.leader_pid
        if leader is not None:
            process.kill(leader)
        if keeper is not None and not process.await_end(keeper, 10):
            for pid in (*process.children(keeper), keeper):
                process.kill(pid)
            process.await_end(keeper, 10)
        (self.directory / "pid").unlink(missing_ok=True)
        cgroups.remove(self.machine_name)

    def remove(self) -> None:
        """Switch the host off and delete its directory."""
        self.power_cut()
        remove_tree(self.directory)
