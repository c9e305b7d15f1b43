"""The versions on the tests' hosts, from the packages of their base tree."""

from __future__ import annotations

import subprocess

from tasks.engine.errors import LoopError
from tasks.engine.sandbox import tree

_PACKAGES = {"systemd": "systemd", "nginx": "nginx", "python3": "Python", "openssh-server": "OpenSSH"}


def of_hosts() -> dict[str, str]:
    """Return Debian's suite and the upstream versions; empty if no host was ever booted."""
    try:
        recipe = tree.recipe()
    except LoopError:
        return {}
    admin = tree.cache_directory() / recipe.name / "var/lib/dpkg"
    if not admin.is_dir():
        return {}
    query = ["dpkg-query", f"--admindir={admin}", "-W", "-f", "${Package} ${Version}\\n", *_PACKAGES]
    listed = subprocess.run(query, capture_output=True, text=True, check=True).stdout
    found = dict(line.split() for line in listed.splitlines())
    return {"suite": recipe.suite, **{name: _upstream(found[package]) for package, name in _PACKAGES.items()}}


def _upstream(version: str) -> str:
    """Return the version without Debian's epoch and revision."""
    return version.rpartition(":")[2].partition("-")[0]
