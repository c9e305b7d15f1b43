"""Report everything of ours that differs from what was written. Reads only.

As root, a process with only the owner's rights reads everything below the service's directory, since the owner may
have put links, FIFOs or paths with `..` there. A finding is a line `drift KIND PATH`; content is `data PATH BASE64`.
"""

from __future__ import annotations

import base64
import glob
import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from typing import BinaryIO

from . import (
    accounts,
    check_secret,
    http2,
    mounts,
    own_addresses,
    programs,
    record,
    release,
    shared_name,
    static_files,
)
from .folders import Folder
from .release import SHOWN, Tell, examine
from .run import Refused, Run

_SECONDS, _MOST = 120, 32 << 20
_PROPERTIES = ("DropInPaths", "FragmentPath", "NeedDaemonReload")


def perform(run: Run) -> None:
    """Report the drift of one service. `steps.drift` of the controller documents the step's keys."""
    step = run.step
    for path in filter(None, (*step["files"], step["certificate"])):
        _root_file(run, path)
    for unit, values in _units(step["units"]):
        for name in _PROPERTIES:
            run.report("drift", f"unit {unit} {name} {values.get(name, '')}")
        for path in values.get("DropInPaths", "").split():
            _show(run.report, path)
    for path in _extra_units(step["name"], frozenset(step["files"])):
        run.report("drift", f"extra {path}")
        _show(run.report, path)
    if record.read(step["name"]).account is not None:
        _chosen(run)
    _below(run, step["root"], step["lists"])


def _chosen(run: Run) -> None:
    """Report the files whose text setup chooses on the host: what it would be now, and what is there."""
    step = run.step
    wanted = shared_name.wanted(step["name"], step["shared"])
    if step["front"] == "https":
        wanted |= http2.wanted(step["name"])
    if step["balancer_check"]:
        wanted |= own_addresses.wanted(step["name"])
    for path, text in wanted.items():
        run.report("drift", f"chosen {path} {base64.b64encode(text).decode()}")
        if text or os.path.lexists(path):
            _root_file(run, path)
    secret = f"/etc/{step['name']}/check/map"
    if os.geteuid() == 0 and step["front"] != "listen" and not check_secret.as_written(step["name"]):
        run.report("drift", f"{'edited' if os.path.lexists(secret) else 'missing'} {secret}")
    known = {path for place in glob.glob("/etc/*/setup") for path in _recorded(place.split("/")[2])}
    for path in shared_name.strays(step["shared"], {*known, *step["files"]}):
        run.report("drift", f"extra {path}")
        _show(run.report, path)


def _root_file(run: Run, path: str) -> None:
    folder, name = os.path.split(path)
    try:
        with Folder.open(folder) as place:
            status = place.status(name)
            if status is None:
                run.report("drift", f"missing {path}")
            elif stat.S_ISLNK(status.st_mode):
                run.report("drift", f"link {path} {place.link(name)}")
            else:
                # Opening it fails if it is unreadable or not regular; the digest is among the facts.
                place.reader(name).close()
                _show(run.report, path)
    except FileNotFoundError:
        run.report("drift", f"missing {path}")
    except OSError:
        run.report("drift", f"unreadable {path}")


def _units(units: list[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the properties of each unit; systemd prints a block for each, in the order of the arguments."""
    wanted = [word for name in _PROPERTIES for word in ("-p", name)]
    output = programs.ask("systemctl", "show", "--no-pager", *wanted, *units).output
    for unit, block in zip(units, output.split("\n\n")):
        yield unit, dict(line.partition("=")[::2] for line in block.splitlines())


def _extra_units(name: str, files: frozenset[str]) -> Iterator[str]:
    """Yield unit files of our name that neither we nor another service wrote (`shop` and `shop-admin`)."""
    others = {path for place in glob.glob("/etc/*/setup") for path in _recorded(place.split("/")[2])}
    for pattern in (f"{name}.*", f"{name}[-@]*"):
        for path in sorted(glob.glob(f"/etc/systemd/system/{pattern}")):
            if path not in files and path not in others and (os.path.isfile(path) or os.path.islink(path)):
                yield path


def _recorded(name: str) -> Iterable[str]:
    """Return the files of another service; none if its record is invalid or unreadable."""
    try:
        return record.read(name).files
    except (Refused, OSError):
        return ()


def _show(tell: Tell, path: str) -> None:
    """Report the content of a file of the system, at most SHOWN bytes."""
    folder, name = os.path.split(path)
    try:
        with Folder.open(folder) as place:
            tell("data", f"{path} {base64.b64encode(place.read(name, SHOWN)).decode()}")
    except OSError:
        return


def _below(run: Run, root: str, lists: Mapping[str, Mapping[str, str]]) -> None:
    if os.geteuid() == 0:
        mounts.refuse(root)
    try:
        owner = accounts.of_uid(os.lstat(root).st_uid)
    except FileNotFoundError:
        return
    if os.geteuid() != 0:
        release.heed = run.heed_aloud
        examine(root, run.report, lists)
        static_files.examine(root, run.report)
        return
    if owner is None:
        run.report("drift", f"unreadable {root}")
        return

    def work(output: BinaryIO) -> None:
        def tell(word: str, text: str) -> None:
            output.write(json.dumps([word, text]).encode() + b"\n")

        examine(root, tell, lists)
        static_files.examine(root, tell)

    for line in accounts.as_account(owner, work, _SECONDS, _MOST).splitlines():
        word, text = json.loads(line)
        run.report(word, text)
