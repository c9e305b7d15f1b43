"""Packages of the controller's suite that the sandbox's hosts lack: fetched once, kept beside the trees."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from tasks.engine.sandbox import Machine, tree
from tasks.engine.sandbox.locks import locked

LIMIT = 1200
"""Seconds that a busy machine may take: some packages make a database."""


def fetched(*names: str) -> list[Path]:
    """Return the packages' files; apt downloads the missing ones."""
    folder = tree.cache_directory() / f"debs-{tree.recipe().name}"
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder.with_suffix(".lock")):
        for name in names:
            if not (folder / f"{name}.deb").exists():
                with tempfile.TemporaryDirectory() as aside:
                    subprocess.run(["apt-get", "-q", "download", name], cwd=aside, check=True, capture_output=True)
                    (found,) = Path(aside).glob("*.deb")
                    shutil.move(found, folder / f"{name}.deb")
    return [folder / f"{name}.deb" for name in names]


def install(machine: Machine, *names: str) -> None:
    """Unpack and configure them; their documentation packages are left out."""
    paths = " ".join(f"/root/{name}.deb" for name in names)
    for path in fetched(*names):
        machine.sh(f"cat >/root/{path.name}", path.read_bytes(), timeout=LIMIT)
    ended = machine.sh(f"DEBIAN_FRONTEND=noninteractive dpkg --force-depends -i {paths} && rm {paths}", timeout=LIMIT)
    assert ended.returncode == 0, (ended.stdout + ended.stderr).decode()


def lacking(machine: Machine, name: str) -> list[str]:
    """Return the packages that the host lacks for this one, as apt resolves it; itself among them."""
    with tempfile.NamedTemporaryFile() as status:
        status.write(machine.sh("cat /var/lib/dpkg/status").stdout)
        status.flush()
        words = ["apt-get", "-s", "--no-install-recommends", "-o", f"Dir::State::status={status.name}", "install", name]
        resolved = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    return [line.split()[1] for line in resolved.splitlines() if line.startswith("Inst ")]
