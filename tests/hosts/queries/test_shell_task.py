"""`fab shell` on a real host: a terminal like any other, under the same rules as every connection."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tasks.engine.fleet import shell
from tasks.engine.sandbox import Machine
from tasks.engine.ssh.ssh_config import Endpoint, Options
from tests.support import clone as clones
from tests.support.clone import Clone
from tests.support.hosts import Hosts, MakeHosts
from tests.support.ssh_access import print_of

Fleet = tuple[Clone, Hosts]


@pytest.fixture(scope="module")
def fleet(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    hosts = module_hosts(2)
    return clones.make(tmp_path_factory.mktemp("shell"), hosts.inventory), hosts


class Terminal:
    """A terminal of 40 by 100 with a program in it."""

    def __init__(self, handle: int, process: subprocess.Popen[str]) -> None:
        self.handle, self.process, self.said = handle, process, ""

    def type(self, text: str) -> None:
        """Type a text."""
        os.write(self.handle, text.encode())

    def until(self, pattern: str, seconds: float = 30) -> re.Match[str]:
        """Wait until this is on the screen, after the last match."""
        deadline = time.monotonic() + seconds
        while not (found := re.search(pattern, self.said)):
            assert time.monotonic() < deadline, f"no {pattern!r} in {self.said!r}"
            try:
                self.said += os.read(self.handle, 65536).decode(errors="replace")
            except OSError:
                raise AssertionError(f"it ended without {pattern!r}: {self.said!r}") from None
        self.said = self.said[found.end() :]
        return found

    def resize(self, rows: int, columns: int) -> None:
        """Resize it, like a window; the kernel notifies the program."""
        fcntl.ioctl(self.handle, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def status(self) -> int:
        """Read to the end and return the status; an unread terminal would block the program."""
        try:
            while os.read(self.handle, 65536):
                pass
        except OSError:
            pass
        return self.process.wait(30)


@contextmanager
def terminal(clone: Clone, *words: str) -> Iterator[Terminal]:
    parent, child = pty.openpty()
    fcntl.ioctl(parent, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))

    def own() -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    streams = {"stdin": child, "stdout": child, "stderr": child}
    with clone.start(*words, **streams, start_new_session=True, preexec_fn=own) as process:
        os.close(child)
        try:
            yield Terminal(parent, process)
        finally:
            process.kill()
            os.close(parent)


def test_it_is_a_terminal_that_resizes_passes_ctrl_c_and_the_exit_status(fleet: Fleet) -> None:
    with terminal(fleet[0], "shell", "-H", "shire01") as screen:
        screen.until(r"\$ ")
        screen.type("hostname; id -un; stty size\r")
        screen.until(r"shire01\r\ndeploy\r\n40 100\r\n")
        screen.resize(33, 77)
        screen.type("trap 'stty size' WINCH; stty size\r")
        screen.until(r"33 77\r\n")
        screen.type("sleep 1000 || echo woken-$((40 + 2))\r")
        screen.until(r"sleep 1000.*\r\n")
        _awaited(fleet[1][0], "pgrep -x sleep")
        screen.type("\x03")
        screen.until(r"\$ ")
        assert fleet[1][0].sh("pgrep -x sleep").returncode == 1
        screen.type("exit 42\r")
        assert screen.status() == 42


def _awaited(machine: Machine, command: str) -> None:
    machine.sh(f"timeout 20 sh -c 'until {command}; do sleep 0.05; done'")


def test_words_after_the_dashes_run_there_with_a_terminal(fleet: Fleet) -> None:
    with terminal(fleet[0], "shell", "-H", "shire02", "--", "tty && hostname; exit 7") as screen:
        screen.until(r"/dev/pts/\d+\r\nshire02\r\n")
        assert screen.status() == 7


def test_nothing_of_fab_stands_between_the_terminal_and_ssh(fleet: Fleet) -> None:
    with terminal(fleet[0], "shell", "-H", "shire01") as screen:
        screen.until(r"\$ ")
        assert Path(f"/proc/{screen.process.pid}/cmdline").read_bytes().split(b"\0")[0] == b"ssh"


def test_a_key_that_is_not_the_pinned_one_ends_it_with_the_way_on(fleet: Fleet, tmp_path: Path) -> None:
    clone, hosts = fleet
    inventory = tmp_path / "hosts.yaml"
    inventory.write_text(hosts.inventory.read_text().replace(hosts[0].address, hosts[1].address))
    with terminal(Clone(clone.root, inventory), "shell", "-H", "shire01") as screen:
        screen.until("the host key has changed")
        screen.until("next: .*fab hosts --trust shire01")
        assert screen.status() == 3


def test_an_unknown_key_ends_it_and_a_known_one_lets_in_whatever_ssh_config_says(fleet: Fleet, tmp_path: Path) -> None:
    clone, hosts = fleet
    inventory, known, config = tmp_path / "hosts.yaml", tmp_path / "known", tmp_path / "config"
    inventory.write_text(re.sub(r"\n +host_key: .*", "", hosts.inventory.read_text()))
    config.write_text(f"Host *\n  UserKnownHostsFile {known}\n  StrictHostKeyChecking no\n")
    unpinned = Clone(clone.root, inventory)
    with terminal(unpinned, "-S", str(config), "shell", "-H", "shire01") as screen:
        screen.until("the host key is unknown")
        screen.until("next: fab hosts --trust shire01")
        assert screen.status() == 3
    assert not known.exists()
    key = tmp_path / "key"
    key.with_suffix(".pub").write_text(hosts[0].host_key + "\n")
    unpinned.done("-S", str(config), "hosts", "--trust", "shire01", "--fingerprint", print_of(key))
    with terminal(unpinned, "-S", str(config), "shell", "-H", "shire01", "--", "echo let in") as screen:
        screen.until("let in")
        assert screen.status() == 0


def test_ssh_itself_refuses_a_host_that_is_not_the_pinned_one(fleet: Fleet, tmp_path: Path) -> None:
    _, hosts = fleet
    pins = tmp_path / "pins"
    pins.write_text(f"* {hosts[0].host_key}\n")
    endpoint = Endpoint("shire02", hosts[1].address, 22, "deploy", (), (), hosts[1].address, pin=hosts[0].host_key)
    words = shell.arguments(endpoint, hosts[1].address, Options(), pins)
    ended = subprocess.run([*words, "true"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert ended.returncode == 255
    assert "Host key verification failed" in ended.stderr


def test_jump_hosts_are_held_to_their_keys_too_and_carry_the_terminal(fleet: Fleet, tmp_path: Path) -> None:
    clone, hosts = fleet
    (identity,) = set(re.findall(r"identity: (.*)", hosts.inventory.read_text()))
    known, config = tmp_path / "known", tmp_path / "config"
    config.write_text(
        f"Host {hosts[1].address}\n  ProxyJump deploy@bastion,deploy@relay:22\n"
        f"Host bastion relay\n  HostName {hosts[0].address}\n  IdentityFile {identity}\n"
        f"Host *\n  UserKnownHostsFile {known}\n  StrictHostKeyChecking no\n"
    )
    words = ("-S", str(config), "shell", "-H", "shire02", "--", "echo $SSH_CONNECTION")
    with terminal(clone, *words) as screen:
        screen.until("the host key is unknown")
        assert screen.status() == 3
    known.write_text(f"{hosts[0].address} {hosts[0].host_key}\n")
    with terminal(clone, *words) as screen:
        screen.until(re.escape(hosts[0].address))
        assert screen.status() == 0


@pytest.mark.parametrize("hosts", ["all", "shire0*"])
def test_it_is_for_exactly_one_host(fleet: Fleet, hosts: str) -> None:
    with terminal(fleet[0], "shell", "-H", hosts) as screen:
        screen.until("one host, and 2 are selected: shire01, shire02")
        assert screen.status() == 2


def test_without_a_terminal_or_without_an_ssh_it_says_what_to_do(fleet: Fleet, tmp_path: Path) -> None:
    clone, _ = fleet
    ended = clone.fab("shell", "-H", "shire01")
    assert (ended.status, "fab exec -H shire01" in ended.err) == (2, True)
    (tmp_path / "git").symlink_to("/usr/bin/git")
    with terminal(Clone(clone.root, clone.inventory, {"PATH": str(tmp_path)}), "shell", "-H", "shire01") as screen:
        screen.until("no ssh on this machine")
        assert screen.status() == 2
