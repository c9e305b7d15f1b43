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


def fetched(*names: str, suite: str | None = None) -> list[Path]:
    """Return the packages' files; apt downloads the missing ones. suite: a sister of the controller's own."""
    folder = tree.cache_directory() / f"debs-{tree.recipe(suite).name}"
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder.with_suffix(".lock")):
        missing = [name for name in names if not (folder / f"{name}.deb").exists()]
        with tempfile.TemporaryDirectory() as lists:
            options = _lists_of(suite, Path(lists)) if suite and missing else []
            for name in missing:
                _download(name, options, folder / f"{name}.deb")
    return [folder / f"{name}.deb" for name in names]


def _lists_of(suite: str, folder: Path) -> list[str]:
    """Fetch the package lists of a suite into a folder; return the options with which apt reads them alone."""
    listing = folder / "suite.sources"
    listing.write_text(tree.recipe(suite).sources)
    (folder / "lists/partial").mkdir(parents=True)
    # An update removes what it does not know from the lists' own folder.
    options = {"Etc::sourcelist": listing, "Etc::sourceparts": "-", "State::lists": folder / "lists", "Cache": folder}
    words = [word for name, value in options.items() for word in ("-o", f"Dir::{name}={value}")]
    subprocess.run(["apt-get", "-q", *words, "update"], check=True, capture_output=True)
    return words


def _download(name: str, options: list[str], target: Path) -> None:
    with tempfile.TemporaryDirectory() as aside:
        subprocess.run(["apt-get", "-q", *options, "download", name], cwd=aside, check=True, capture_output=True)
        (found,) = Path(aside).glob("*.deb")
        shutil.move(found, target)


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
