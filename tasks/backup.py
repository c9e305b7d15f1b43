"""backup, restore: the data of the service, as archives on the controller."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tasks.executor import ROOT, agreed, verb

if TYPE_CHECKING:
    from tasks.engine.backup.archive import About
    from tasks.engine.fleet.member import Member
    from tasks.engine.parallel import Emit, Stop

FOLDER = ".backups"
LIMIT = "20G"
_SIZE = re.compile(r"([1-9][0-9]{0,8})([KMGT]?)")
_LIMIT_HELP = "bytes that an archive may have, packed and unpacked, such as 50G"


@verb(
    keep="number of archives of each host that stay; without it, all do",
    recipient="public key of age (age1...) to encrypt the archives for",
    limit=_LIMIT_HELP,
)
def backup(c: Any, keep: str = "", recipient: str = "", limit: str = LIMIT, json: bool = False) -> None:
    """Fetch the service's data into .backups/HOST, verified.

    The state directory, each SQLite in it as a whole; a PostgreSQL that
    DATABASE_URL names; and what `backup: {command}` prints.
    """
    from tasks import runner
    from tasks.engine.backup import encryption, store
    from tasks.engine.deploy import rollout

    most, kept = _bytes(limit), _number(keep)
    sealed = encryption.recipient(recipient) if recipient else None
    _, members = runner.open_fleet(c, early=True)

    def work(stop: Stop, member: Member, emit: Emit) -> None:
        from tasks.engine.backup import transfer

        folder = ROOT / FOLDER / member.host.name
        path, about = transfer.fetch(member, folder, _now(), transfer.Terms(most, sealed, stop))
        gone = store.prune(folder, member.service.name, kept) if kept else []
        text = f"{path.relative_to(ROOT)}, {store.size(path.stat().st_size)} of {about.entries} entries"
        member.finish(emit, "saved", text, path=str(path), removed=[one.name for one in gone])

    runner.follow(members, lambda stop: rollout.everywhere(members, partial(work, stop), stop), json)


@verb(
    file="archive of `fab backup`",
    limit=_LIMIT_HELP,
    yes="replace the data without asking",
    key="file of age-keygen that decrypts the archive; the data that it replaces is encrypted for the same key",
    drill="do it on a local host of its own, as root, and say how long it took",
    without_save="do not save what is there now, if that cannot be done",
)
def restore(
    c: Any,
    file: str,
    yes: bool = False,
    drill: bool = False,
    key: str = "",
    limit: str = LIMIT,
    without_save: bool = False,
    json: bool = False,
) -> None:
    """Put a backup back on one host; the service stops meanwhile.

    Verifies the archive, turns clients away, stops, saves what is there now
    into .backups, replaces it, migrates, starts, and waits for the health
    check. An archive that cannot be put back leaves the files as they were.
    Saves a damaged SQLite as it is; if saving fails, use --without-save.
    """
    from tasks.engine.backup import encryption
    from tasks.engine.errors import UsageError

    path, most = Path(file).expanduser(), _bytes(limit)
    if path.suffix == encryption.SUFFIX and not key:
        raise UsageError("it is encrypted", where=file, next=f"fab restore {file} --key FILE, and the rest")
    options = _RestoreOptions(yes, drill, limit, not without_save, f"{file} --key {key}" if key else file, json)
    if not key:
        _restore(c, path, most, None, options)
        return
    identity = encryption.identity(Path(key).expanduser())
    with encryption.decrypted(path, identity, ROOT / FOLDER / f".{os.getpid()}-{path.stem}") as plain:
        _restore(c, plain, most, identity.to_public(), options)


class _RestoreOptions(NamedTuple):
    """The options of a restore, as given. shown: the archive, and the option with the key to read it."""

    yes: bool
    drill: bool
    limit: str
    save: bool
    shown: str
    json: bool


def _restore(c: Any, path: Path, most: int, recipient: Any, options: _RestoreOptions) -> None:
    from tasks import runner
    from tasks.engine.backup import recovery, transfer
    from tasks.engine.deploy import rollout
    from tasks.engine.errors import UsageError

    about = _verified(path, most)
    if options.drill:
        _drill(path.resolve(), options.limit, options.json)
        return
    _, members = runner.open_fleet(c, changing="restore")
    if len(members) != 1:
        names = ", ".join(member.host.name for member in members)
        raise UsageError(f"a backup goes to one host, and {len(members)} are selected: {names}", where="-H",
                         next=f"fab restore {path} -H {members[0].host.name}")  # fmt: skip
    (member,) = members
    if about.service != member.service.name:
        raise UsageError(f"the archive is of {about.service}, and this is {member.service.name}", where=str(path),
                         next="choose one of this service")  # fmt: skip
    _ask(member.host.name, about, options.yes)
    folder = ROOT / FOLDER / member.host.name if options.save else None

    def work(stop: Stop, member: Member, emit: Emit) -> None:
        terms = transfer.Terms(most, recipient, stop)
        recovery.restore(member, emit, recovery.Order(path, options.shown, folder, _now(), terms))

    runner.follow(members, lambda stop: rollout.everywhere(members, partial(work, stop), stop), options.json)


def _verified(path: Path, most: int) -> About:
    from tasks.engine import quote
    from tasks.engine.backup import archive
    from tasks.engine.errors import UsageError

    way = f"choose another of {FOLDER}"
    try:
        return archive.read(path, most)
    except archive.Damaged as error:
        raise UsageError(f"no whole archive: {quote.terminal(str(error))}", where=str(path), next=way) from None
    except OSError as error:
        raise UsageError(f"it cannot be read: {error.strerror}", where=str(path), next=way) from None


def _drill(path: Path, limit: str, json: bool) -> None:
    """Restore on a new local host, with the service as it is in this clone; print how long that took.

    Each secret of the service is asked for on the terminal; without one, standard input has the value of the only one.
    """
    from tasks.engine.errors import UsageError
    from tasks.engine.report import output
    from tasks.engine.sandbox import Sandbox
    from tasks.engine.sandbox.removal import remove_tree
    from tasks.engine.sandbox.sandbox import inventory_text

    if os.geteuid() != 0:
        raise UsageError(
            "a real local host needs root", where="--drill", next=f"sudo .venv/bin/fab restore {path} --drill"
        )
    with tempfile.TemporaryDirectory(prefix="drill.") as folder:
        sandbox = Sandbox(Path(folder, "sandbox"))
        # Not a fixed name: a host of the inventory may have it, too, and backups that lie under it.
        name = f"drill-{os.getpid()}"
        try:
            machines = sandbox.up([name])
            inventory = Path(folder, "hosts.yaml")
            inventory.write_text(inventory_text(machines, sandbox.identity))
            for secret in _secrets():
                _fab(inventory, "secrets.set", secret, "-H", name)
            ready = _fab(inventory, "deploy", "-H", name)
            seconds = _fab(inventory, "restore", str(path), "-H", name, "--yes", "--limit", limit)
        finally:
            sandbox.down()
            # The restore has saved what was there.
            remove_tree(ROOT / FOLDER / name)
    if json:
        output.document({"archive": str(path), "deploy_seconds": ready, "restore_seconds": seconds})
    else:
        output.out().line(f"the restore took {seconds} s, and before it the first deploy of the host {ready} s")


def _secrets() -> list[str]:
    """Return the secrets that a new host must be given: all but the key of sessions, which a first deploy makes."""
    from tasks.engine.config import sections, service

    described = service.describe(service.load(ROOT / "service" / "service.yaml"))
    return [one.name for one in described.secrets if one.name != sections.SECRET_KEY]


def _fab(inventory: Path, *words: str) -> float:
    """Run a verb in a process of its own, its output on our standard error; return its seconds, or exit as it did."""
    began = time.monotonic()
    command = [sys.executable, "-B", "-m", "fabric", *words]
    ended = subprocess.run(command, cwd=ROOT, env={**os.environ, "HOSTS": str(inventory)}, stdout=sys.stderr)
    if ended.returncode:
        sys.exit(ended.returncode)
    return round(time.monotonic() - began, 1)


def _ask(host: str, about: About, yes: bool) -> None:
    from tasks.engine import quote
    from tasks.engine.errors import UsageError

    if yes:
        return
    what = quote.terminal(f"the data of {about.service} on {host} by that of {about.host}, {about.time}")
    if not sys.stdin.isatty():
        raise UsageError(f"this would replace {what}", where="--yes", next="to replace it: --yes")
    if not agreed(f"replace {what}?"):
        raise UsageError("nothing was done", where="restore", next="fab restore FILE -H HOST")


def _bytes(text: str) -> int:
    from tasks.engine.errors import UsageError

    found = _SIZE.fullmatch(text)
    if not found:
        raise UsageError(f"expected a size, found {text!r}", where="--limit", next="--limit 50G")
    return int(found[1]) << 10 * " KMGT".index(found[2] or " ")


def _number(text: str) -> int:
    from tasks.engine.errors import UsageError

    if text and not re.fullmatch("[1-9][0-9]{0,5}", text):
        raise UsageError(f"expected a number of archives, found {text!r}", where="--keep", next="--keep 7")
    return int(text or 0)


def _now() -> datetime:
    return datetime.now(timezone.utc)
