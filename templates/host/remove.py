"""Remove the service from this host, as root: units first, then files; its data only with `data`.

Only what the record lists is removed, nothing else of that name; beside it the certificate that `acme` got, and the
service's part in the files of a shared name.
"""

from __future__ import annotations

import os

from . import (
    accounts,
    acme,
    certificate_pair,
    check_secret,
    claims,
    journals,
    mounts,
    nginx_site,
    processes,
    programs,
    record,
    run_units,
    shared_name,
    trust,
)
from .record import Record
from .run import Refused, Run
from .slot_names import SLOTS
from .slots import STOP_MARGIN

_REMOVE_SECONDS = 600
_LINGER = "/var/lib/systemd/linger"
"""systemd starts a user manager at boot for each account that has a file here."""


def perform(run: Run) -> None:
    """Remove the service. `steps.remove` of the controller documents the step's keys."""
    name = run.step["name"]
    if os.geteuid() != 0:
        raise Refused("remove needs root")
    trust.require_roots_own("/opt/apps", f"/etc/{name}", "/var/lib", "/var/cache")
    known = record.read(name)
    if not known.there:
        raise Refused(f"{name} was not set up on this host by this tool: there is no {known.path}")
    left = ("directory", run.step["root"]) in known.made
    if known.account is None and not (known.files or left or run.step["data"]):
        logs = f" and {claims.logs(name)[1]}" if claims.logs(name) in known.made else ""
        raise Refused(
            f"{name} is not set up on this host any more; --data removes the data that is left: /var/lib/{name}{logs}"
        )
    claims.complete(known, run.step["root"])
    run.say("stop", name)
    units = _units(known)
    # Another program may have taken the name since a remove that kept the data, or before a first setup.
    if known.files:
        _stop(run, known)
    acme.forget(run, name)
    _remove_files(run, known)
    account = accounts.find(known.account) if known.account else None
    journals.revoke(run, known, {account.uid} if account else set())
    mounts.detach(run, run.step["root"], f"/run/{name}")
    for path in (run.step["root"], f"/run/{name}"):
        if ("directory", path) in known.made:
            _remove_tree(run, path)
    if run.step["data"]:
        _remove_data(run, known)
    else:
        _remove_all_but_data(run, known)
    if units:
        # systemd lists a unit that has failed even without its file. Without a name this would forget all failures.
        programs.ask("systemctl", "reset-failed", *units)
    run.say("removed", name)


def _units(known: Record) -> list[str]:
    """Return the units that setup wrote, as patterns for systemctl: service.yaml may have lost a process."""
    names = (os.path.basename(path) for path in known.paths if path.startswith("/etc/systemd/system/"))
    return [name.replace("@.", "@*.") for name in names]


def _stop(run: Run, known: Record) -> None:
    name, ours = known.name, _units(known)
    units, bound = [*run.step["units"], *ours], run.step["drain"] + STOP_MARGIN
    if programs.ask("systemctl", "stop", *units, seconds=bound).status == programs.LATE:
        run.say("kill", f"{name}, which did not stop within {bound} s")
        programs.ask("systemctl", "kill", "-s", "KILL", *(unit for unit in units if unit.endswith(".service")))
        programs.ask("systemctl", "stop", *units)
    single = (unit for unit in ours if "@" not in unit)
    for unit in (*single, *(f"{name}@{slot}.socket" for slot in SLOTS)):
        programs.ask("systemctl", "disable", "-q", "--now", unit)
    programs.systemctl("stop", run_units.slice_of(name))


def _remove_files(run: Run, known: Record) -> None:
    for path in known.paths:
        if known.files[path][0] == "file" and os.path.lexists(path):
            run.say("remove", path)
            os.unlink(path)
    shared_name.leave(known.name, run.id)
    programs.systemctl("daemon-reload")
    served = any(path.startswith("/etc/nginx/") for path in known.paths) and programs.active("nginx.service")
    if served and programs.ask("nginx", "-t", "-q").well:
        nginx_site.reload()
    elif served:
        problem = "nginx refuses its own configuration, and goes on serving the site"
        run.report("warning", f"{problem} of {known.name} until you mend that: nginx -t && systemctl reload nginx")


def _remove_all_but_data(run: Run, known: Record) -> None:
    _remove_made(run, known, f"/var/cache/{known.name}")
    left = ("directory", run.step["root"]) in known.made and _is_there(run.step["root"])
    if left or _is_there(f"/var/lib/{known.name}") or accounts.find(known.name):
        _keep_record(run, known)
    else:
        _remove_etc(run, known)


def _remove_data(run: Run, known: Record) -> None:
    account = accounts.find(known.name) if ("user", known.name) in known.made else None
    if account:
        # A lingering user manager would make the directories again.
        linger = f"{_LINGER}/{account.name}"
        if os.path.lexists(linger):
            os.unlink(linger)
        programs.ask("systemctl", "stop", f"user@{account.uid}.service")
        processes.end(run, account.uid)
    _remove_made(run, known, f"/var/lib/{known.name}", f"/var/cache/{known.name}", claims.logs(known.name)[1])
    if account:
        run.say("remove", f"account {known.name}")
        if not programs.run("userdel", known.name):
            advice = "the account stays, and so does the record that setup made it: mend that, and run this again"
            run.report("warning", f"userdel did not remove the account {known.name}; {advice}")
            _keep_record(run, known)
            return
    _remove_etc(run, known)


def _remove_made(run: Run, known: Record, *paths: str) -> None:
    """Remove directories that systemd has made for the service."""
    for path in filter(os.path.lexists, paths):
        if ("directory", path) in known.made:
            run.say("remove", path)
            _remove_tree(run, path)
        elif ("directory", path) != claims.logs(known.name):
            run.report("warning", f"{path} was there before setup, and stays")


def _remove_etc(run: Run, known: Record) -> None:
    """Remove /etc/NAME if setup made it, else only what setup wrote there."""
    folder = f"/etc/{known.name}"
    if ("directory", folder) in known.made and known.files:
        _remove_tree(run, folder)
        return
    if known.secrets:
        _remove_tree(run, f"{folder}/secrets")
    _remove_ours(run, known, (known.path,), (folder,))


def _remove_ours(run: Run, known: Record, files: tuple[str, ...] = (), folders: tuple[str, ...] = ()) -> None:
    """Remove what setup wrote into a directory that it did not make."""
    folder = f"/etc/{known.name}"
    ours = (
        f"{folder}/tls/nobody.pem",
        *(f"{folder}/tls/{name}" for name in certificate_pair.NAMES),
        *(f"{folder}/nginx/{name}.conf" for name in ("addresses", "http2")),
        *(f"{folder}/check/{name}" for name in check_secret.NAMES),
    )
    for path in (*known.paths, *ours, *files):
        if path.startswith(f"{folder}/") and os.path.lexists(path):
            os.unlink(path)
    for path in filter(
        os.path.lexists, (f"{folder}/tls", f"{folder}/check", f"{folder}/nginx", f"{folder}/acme", *folders)
    ):
        try:
            os.rmdir(path)
        except OSError:
            run.report("warning", f"{path} has other files, and stays")


def _keep_record(run: Run, known: Record) -> None:
    """Keep the record of the account and the data, which stay: the next setup takes them over."""
    places = (run.step["root"], f"/run/{known.name}", f"/var/cache/{known.name}")
    known.made -= {("directory", path) for path in places if not _is_there(path)}
    folder = f"/etc/{known.name}"
    for name in os.listdir(folder) if ("directory", folder) in known.made else ():
        if name == "secrets":
            # The data may be of no use without them.
            continue
        if os.path.isdir(f"{folder}/{name}") and not os.path.islink(f"{folder}/{name}"):
            _remove_tree(run, f"{folder}/{name}")
        elif name != "setup":
            os.unlink(f"{folder}/{name}")
    _remove_ours(run, known)
    known.files.clear()
    known.values.pop("account", None)
    known.values.pop("reader", None)
    known.write(run.id)


def _is_there(path: str) -> bool:
    """Return whether there is something at a path, even if an account has hidden it from root by a mount."""
    try:
        os.lstat(path)
    except FileNotFoundError:
        return False
    except PermissionError:
        return True
    return True


def _remove_tree(run: Run, path: str) -> None:
    """Remove a tree without following a link; warn if something of it stays."""
    if not _is_there(path):
        return
    if os.path.islink(path):
        raise Refused(f"{path} is a symbolic link, and none of ours: remove it, and run this again")
    # rm handles any depth and any content.
    if not programs.run("rm", "-rf", "--", path, seconds=_REMOVE_SECONDS):
        run.report("warning", f"{path} cannot be removed as a whole: see what is left of it")
