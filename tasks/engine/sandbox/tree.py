"""Build the base tree that all sandbox hosts share, read-only: mmdebstrap makes it once, in a cache of the user's."""

from __future__ import annotations

import hashlib
import os
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tasks.engine.errors import LoopError, UsageError
from tasks.engine.sandbox import sources
from tasks.engine.sandbox.locks import locked
from tasks.engine.sandbox.programs import Say
from tasks.engine.sandbox.removal import remove_tree

CUSTOMIZE = Path(__file__).with_name("customize.sh")
PACKAGES = (
    *("systemd", "systemd-sysv", "dbus", "openssh-server", "sudo", "nginx", "python3", "curl", "openssl"),
    *("iproute2", "procps", "ca-certificates"),
)
OPTIONS = (
    "--variant=minbase",
    "--format=directory",
    '--aptopt=Acquire::Languages "none"',
    "--dpkgopt=force-unsafe-io",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-exclude=/usr/share/info/*",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
)


@dataclass(frozen=True)
class Recipe:
    """The inputs of a base tree; their digest identifies the tree."""

    suite: str
    sources: str
    customize: str

    @property
    def name(self) -> str:
        """SUITE-DIGEST: the directory of this tree in the cache."""
        text = "\0".join([self.suite, self.sources, self.customize, *PACKAGES, *OPTIONS])
        return f"{self.suite}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def recipe(suite: str | None = None) -> Recipe:
    """Return the recipe for the controller's own suite or a sister suite of its distribution. Raises UsageError."""
    _, codename = sources.release()
    chosen = suite or codename
    if not chosen.isalpha():
        raise UsageError(f"{chosen!r} is no suite of Debian or Ubuntu", next=f"name one such as {codename}")
    text = sources.for_suite(sources.machine_sources(), codename, chosen)
    return Recipe(chosen, text, CUSTOMIZE.read_text())


def cache_directory() -> Path:
    """Return the directory of base trees, in the cache of the current user, who may be root."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "integrators-loop" / "sandbox"


def ensure(wanted: Recipe, say: Say, cache: Path | None = None) -> Path:
    """Return the tree of a recipe, and build it if the cache lacks it. Raises LoopError when it cannot be built.

    Builders of one recipe wait for each other; a tree gets its name only when it is complete.
    """
    cache = cache or cache_directory()
    tree = cache / wanted.name
    with locked(cache / f"{wanted.name}.lock", lambda: say("waiting for another build of the base tree")):
        if not tree.is_dir():
            say(f"building the base tree of {wanted.suite}: once, and it takes about a minute")
            _build(wanted, tree, say)
    return tree


def _build(wanted: Recipe, tree: Path, say: Say) -> None:
    """Make the tree under another name and rename it. Remove the leftover of a killed build first."""
    part = tree.with_name(f"{tree.name}.part")
    remove_tree(part)
    listing = tree.with_name(f"{tree.name}.sources")
    listing.write_text(wanted.sources)
    try:
        _mmdebstrap(wanted.suite, part, listing, say)
        subprocess.run(["sync", "--file-system", str(part)], check=True)
        part.rename(tree)
    finally:
        remove_tree(part)
        listing.unlink()


def _mmdebstrap(suite: str, target: Path, listing: Path, say: Say) -> None:
    """Run mmdebstrap in namespaces of its own, so that it dies with this process and leaves no mount behind."""
    command = [
        *("setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private"),
        *("--pid", "--mount-proc", "--fork", "--kill-child", "mmdebstrap", *OPTIONS),
        f"--include={','.join(PACKAGES)}",
        f'--customize-hook=sh {shlex.quote(str(CUSTOMIZE))} "$1"',
        *(suite, str(target), str(listing)),
    ]
    lines: list[str] = []
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        for line in process.stdout or ():
            lines.append(line.rstrip())
            if line.startswith("I: ") and "hook" not in line:
                say(line[3:].rstrip())
    if process.returncode != 0:
        raise LoopError(
            f"mmdebstrap could not make a tree of {suite}",
            next="apt-get update, and see that this machine reaches its package mirror",
            detail=tuple(lines[-15:]),
        )
