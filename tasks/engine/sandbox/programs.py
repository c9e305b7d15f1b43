"""Check that the controller can run a sandbox (Linux, root), and install the programs that it lacks by apt."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Mapping

from tasks.engine.errors import LoopError, UsageError

Say = Callable[[str], None]

PACKAGES: Mapping[str, str] = {
    "mmdebstrap": "mmdebstrap",
    "systemd-nspawn": "systemd-container",
    "ip": "iproute2",
    "ssh-keygen": "openssh-client",
    "nsenter": "util-linux",
    "setsid": "util-linux",
}


def require_root() -> None:
    """Raise UsageError unless this is Linux and the user is root, as mounts, namespaces and bridges need."""
    if platform.system() != "Linux":
        raise UsageError(
            f"the sandbox boots real Linux hosts and cannot run on {platform.system()}",
            next="run it on a Debian or Ubuntu machine, or name your own hosts in hosts.yaml",
        )
    if os.geteuid() != 0:
        raise UsageError(
            "the sandbox boots real hosts, and that takes root", next="run the same command as root, or through sudo"
        )


def missing(programs: Mapping[str, str] = PACKAGES) -> tuple[str, ...]:
    """Return the Debian packages of the programs that are not on PATH, sorted, each once."""
    return tuple(sorted({package for program, package in programs.items() if shutil.which(program) is None}))


def install(packages: tuple[str, ...], say: Say) -> None:
    """Install Debian packages on the controller. Raises UsageError without apt-get, LoopError if apt-get fails."""
    if not packages:
        return
    command = ["apt-get", "install", "--yes", "--no-install-recommends", *packages]
    if shutil.which("apt-get") is None:
        raise UsageError(
            f"the sandbox needs {', '.join(packages)}, and there is no apt-get here to install them",
            next="install them with this machine's own package program",
        )
    say(f"installing {', '.join(packages)}")
    if _apt(command).returncode == 0:
        return
    say("refreshing the package lists")
    _apt(["apt-get", "update"])
    done = _apt(command)
    if done.returncode != 0:
        raise LoopError(
            f"apt-get could not install {', '.join(packages)}",
            next=" ".join(command),
            detail=tuple(done.stdout.splitlines()[-10:]),
        )


def _apt(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
