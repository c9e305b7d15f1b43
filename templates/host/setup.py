"""Make a host ready for one service, as root. It can run again at any time, also after a setup that was killed."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from contextlib import suppress

from . import (
    accounts,
    acme,
    certificate,
    certificate_pair,
    claims,
    former_work,
    handover,
    http2,
    journals,
    nginx_site,
    old_layout,
    own_addresses,
    programs,
    record,
    setup_lock,
    shared_name,
    static_files,
    trust,
)
from .accounts import Account
from .check_secret import Check
from .files import BACKUPS, RootFiles, remove_parts, unpack
from .folders import Folder
from .nginx_site import Nginx
from .run import Refused, Run

_READ_BY_THE_SERVICE = ("releases", "venvs", "wheels")
_APT = ("-o", "Acquire::Retries=0", "-o", "Acquire::http::Timeout=20", "-o", "DPkg::Lock::Timeout=60")
_PACKAGE_SECONDS = 600


def perform(run: Run) -> None:
    """Check first, refuse what is wrong, and only then change the host."""
    if os.geteuid() != 0:
        raise Refused("setup needs root")
    Setup(run).perform()


class Setup:
    """One setup. `steps.setup` of the controller documents the step's keys."""

    def __init__(self, run: Run) -> None:
        self.run, self.step = run, run.step
        self.name, self.root = run.step["name"], run.step["root"]
        self.sent = unpack(run.payload)
        trust.require_roots_own("/opt/apps", f"/etc/{self.name}", BACKUPS)
        self.record = record.read(self.name)
        self.former_text = self.record.text()
        wanted = {file["path"]: self.sent[file["path"].lstrip("/")] for file in self.step["files"]}
        self.given = certificate.operators_pair(self.name, self.sent)
        unchecked = (*certificate_pair.unchecked(self.name), *shared_name.as_written())
        self.changes = RootFiles(run, self.record, wanted, overwrite=self.step["overwrite"], unchecked=unchecked)
        self.nginx = Nginx(run, self.changes, self._put_back)
        self.listen_moved = False

    def perform(self) -> None:
        """Do all of it, in order. If a file, nginx or a unit fails, put the former files back; a hand-over stays."""
        run = self.run
        claims.check(self.record, self.step)
        shared_name.check(self.name, self.step["shared"])
        self.changes.require_unedited({**self.given, **shared_name.wanted(self.name, self.step["shared"])})
        account = accounts.find(self.step["account"])
        if account is None:
            raise Refused(f"there is no account {self.step['account']} on this host")
        run.point("setup.packages")
        self._install_packages()
        if self.step["front"] != "listen":
            nginx_site.require_fitting(self.name, self.sent[f"etc/systemd/system/{self.name}@.socket"])
        former = handover.end_all(run, self.record, self.root, account)
        setup_lock.hold(run, self.root, self.record, 2 * self.step["drain"] + self.step["grace"] + 30, verb="setup")
        if record.read(self.name).text() != self.former_text:
            raise Refused("another setup of this service came between: run it again")
        remove_parts(self.record.path)
        handover.hand_over(run, self.record, self.root, former, account)
        journals.revoke(run, self.record, former)
        claims.begin(run, self.record, self.step)
        try:
            self._change(account)
            # Setup leaves the former account its login: the account may have started something since.
            handover.end_formers(run, self.record, former)
            former_work.end(run, self.record, former, account)
            run.point("setup.record")
            self._record(account)
        except BaseException:
            self._put_back()
            raise
        shared_name.tidy()
        old_layout.remove_former_files(self.name, self.root, account)
        if not self.step["acme"]:
            acme.forget(run, self.name)
        run.point("setup.recorded")
        run.say("ready", self.name)

    def _change(self, account: Account) -> None:
        run = self.run
        run.point("setup.accounts")
        service = accounts.make_service_account(run, self.name)
        run.point("setup.directories")
        self._make_directories(account, service)
        # The controller can stage a release from now on, which takes longer than the rest of setup.
        run.report("directories")
        run.point("setup.certificate")
        check = Check(self.name, account)
        if self.step["front"] != "listen":
            check.make(run.id)
        if self.step["certificate"] != "off":
            certificate.make_default(run, self.name)
        self._change_files(account, self._install_certificate())
        self._start_nginx(check)

    def _change_files(self, account: Account, chain: bytes) -> None:
        """Write root's files, and have systemd run their units. chain: that of a pair that the host keeps."""
        run = self.run
        run.point("setup.files")
        self._require_rules()
        unslotted = old_layout.unslotted(self.name, self.changes.leftovers, self.sent)
        self.changes.write({file["path"]: int(file["mode"], 8) for file in self.step["files"]})
        shared_name.choose_keeper(self.changes, self.name, self.step["shared"])
        if chain:
            certificate_pair.publish(self.changes, self.name, chain)
        run.point("setup.units")
        self._load_units()
        old_layout.start_in_slot(run, self.name, unslotted)
        old_layout.redirect_former_link(run, self.name, account)
        run.point("setup.listen")
        self._open_run_sockets()
        self._move_listen()

    def _start_nginx(self, check: Check) -> None:
        """Have nginx serve as the new files say, and obtain a certificate over it if ACME issues one."""
        run = self.run
        run.point("setup.nginx")
        addresses_changed = self.step["balancer_check"] and own_addresses.write(self.name, run.id)
        http2_changed = http2.write(self.name, run.id) if self.step["front"] == "https" else http2.remove(self.name)
        self.nginx.start(check.renewed or addresses_changed or http2_changed)
        if self.step["acme"]:
            run.point("setup.acme")
            asked, (chain_path, key_path) = self.step["acme"], self.step["on_host"]
            acme.obtain(run, self.changes, asked, (chain_path, key_path))
        certificate_pair.tidy(self.changes, self.name, kept=self.step["certificate"] in certificate_pair.MODES)
        self._open(dict.fromkeys(self.step["watchers"], (f"/{self.name}-certificate.",)))
        if not self.step["balancer_check"]:
            own_addresses.remove(self.name)
        if self.step["front"] != "listen":
            check.hand_out(run.id)

    def _install_certificate(self) -> bytes:
        """Install the certificate that nginx shows; return the chain of a pair that the host keeps."""
        names, sources = self.step["names"], self.step["on_host"]
        if self.step["acme"]:
            acme.ready(self.name)
            certificate_pair.begin(self.run, self.changes, self.name, names)
        elif sources:
            return certificate_pair.take(self.run, self.changes, self.name, (sources[0], sources[1]), names)
        elif self.step["certificate"] == "ca":
            certificate_pair.begin(self.run, self.changes, self.name, names)
        elif self.step["certificate"] != "off":
            certificate.install(self.run, self.record, self.changes, self.given, names)
        return b""

    def _put_back(self) -> None:
        """Put the former files back, and reload the programs that read them."""
        self.run.begin_ending()
        if self.changes.any_changed:
            self.run.say("undo", "the former files are put back")
            self.run.point("setup.undo")
            if self.record.account is None:
                made = (self.step[key] for key in ("units", "run_sockets", "watchers"))
                programs.ask("systemctl", "disable", "-q", *(unit for units in made for unit in units))
            self.changes.put_back()
            programs.systemctl("daemon-reload")
            if self.nginx.reloaded:
                nginx_site.reload()
            if self.listen_moved:
                programs.systemctl("start", f"{self.name}-listen.socket")
        # A first setup that failed keeps its record, which lists what it has made.
        if self.record.account is not None:
            record.parse(self.name, self.former_text).write(self.run.id)

    def _require_rules(self) -> None:
        rules = self.sent.get(f"etc/sudoers.d/{self.name}")
        if rules is not None and not programs.ask("visudo", "-c", "-q", "-f", "-", data=rules).well:
            raise Refused("visudo refuses the sudo rules")

    def _install_packages(self) -> None:
        packages = self.step["packages"]
        if not packages:
            return
        self.run.say("packages", " ".join(packages))
        quiet = {"DEBIAN_FRONTEND": "noninteractive"}
        if programs.there("apt-get"):
            install = ("apt-get", "-q", "-y", *_APT, "install", *packages)
            # A new machine has no package lists yet.
            for command in (install, ("apt-get", "-q", *_APT, "update"), install):
                if programs.run(*command, seconds=_PACKAGE_SECONDS, environment=quiet) and command is install:
                    return
        elif programs.run("dnf", "-q", "-y", "install", *packages, seconds=_PACKAGE_SECONDS):
            return
        raise Refused(
            f"these packages are missing, and no mirror gave them: {' '.join(packages)}. "
            "Install them on this host, and run setup again"
        )

    def _make_directories(self, account: Account, service: Account) -> None:
        for path in ("/opt/apps", f"/etc/{self.name}/tls"):
            os.makedirs(path, 0o755, exist_ok=True)
        if not os.path.lexists(self.root):
            os.mkdir(self.root, 0o711)
            os.chown(self.root, account.uid, account.gid, follow_symlinks=False)
        with Folder.open(self.root) as folder:
            if os.fstat(folder.descriptor).st_uid != account.uid:
                raise Refused(f"{self.root} does not belong to {account.name}")
            os.fchmod(folder.descriptor, 0o711)
        root, run, readme = self.root, self.run.id, self.sent["README"]
        # The deploy account owns what lies below: make it with only that account's rights.
        static = (static_files.FOLDER,) if self.step["static"] else ()
        accounts.as_account(account, lambda _: _fill_root(root, run, readme, static), 30, 1 << 16)
        with Folder.open(root) as folder:
            for name in _READ_BY_THE_SERVICE:
                with folder.below(name) as inner:
                    _restrict(inner, account, service)
            for name in static:
                with folder.below(name) as inner:
                    _restrict(inner, account, accounts.of_nginx())
        # The locks and the directories in /run: a run uses them as soon as setup reports `directories`.
        had_link = os.path.islink(f"/run/{self.name}/ctl/live")
        handover.take_run_directory(self.run, self.name, account)
        wanted = self.sent[f"etc/tmpfiles.d/{self.name}.conf"]
        if not programs.ask("systemd-tmpfiles", "--create", "-", data=wanted).well:
            raise Refused(f"systemd-tmpfiles does not make /run/{self.name}")
        journals.require(self.run, account)
        old_layout.make_live_link(self.name, self.root)
        if had_link and not os.path.islink(f"/run/{self.name}/ctl/live"):
            old_layout.point_former_link(self.name, self.run.id, account)
        handover.remove_moved(self.name)
        self.run.point("setup.tmpfiles")

    def _load_units(self) -> None:
        run, step = self.run, self.step
        units, run_sockets, watchers = (step[key] for key in ("units", "run_sockets", "watchers"))
        # A service that is disabled at boot stays so until a start or a deploy.
        first = self.record.account is None
        wanted = first or programs.ask("systemctl", "is-enabled", f"{self.name}.service").output.strip() != "disabled"
        enabled = [*(units if wanted else ()), *run_sockets, *watchers]
        # `enable` reloads by default, the longest step on a host with many units: once, below, is enough. No
        # `enable` comes after the reload: systemd 257 would then report every unit as not read.
        if enabled and not programs.systemctl("enable", "-q", "--no-reload", *enabled):
            raise Refused(f"systemd does not enable {' '.join(enabled)}: see systemctl status on this host")
        if not programs.systemctl("daemon-reload"):
            raise Refused("systemd does not read its units again: see systemctl daemon-reload on this host")
        run.point("setup.reloaded")
        states = programs.ask("systemctl", "show", "-p", "LoadState", "--value", *units).output.split()
        for unit, loaded in zip(units, states):
            if loaded != "loaded":
                raise Refused(f"systemd does not load {unit}: it is {loaded}")
        run.point("setup.enabled")

    def _open_run_sockets(self) -> None:
        """Open the sockets of `fab run` and of health commands."""
        # Anew if its unit changed, which ends the commands of a former account.
        parts = {socket: socket.rpartition(".")[0] for socket in self.step["run_sockets"]}
        self._open({socket: (f"/{unit}.so", f"/{unit}@.") for socket, unit in parts.items()})

    def _open(self, units: Mapping[str, tuple[str, ...]]) -> None:
        """Start sockets, or other units that start services.

        units: each with parts of paths. If a file changed whose path contains one of them, the unit is restarted.
        """
        shut = [
            unit for unit, parts in units.items() if any(map(self.changes.changed, parts)) or not programs.active(unit)
        ]
        if shut and not programs.systemctl("restart", *shut):
            raise Refused(f"systemd does not open {' '.join(shut)}: see systemctl status {' '.join(shut)} on this host")

    def _move_listen(self) -> None:
        """Open the listen socket anew if its unit changed: an active one keeps its former address."""
        socket, proxy = f"{self.name}-listen.socket", f"{self.name}-listen.service"
        if not self.changes.changed(f"/{self.name}-listen.so") or not programs.active(socket):
            return
        self.run.say("listen", self.step["listen"])
        self.listen_moved = True
        programs.systemctl("stop", socket, proxy)
        if not programs.systemctl("start", socket):
            raise Refused(
                f"nothing can listen at {self.step['listen']}: is the port taken, or the address not one of this host?"
            )

    def _record(self, account: Account) -> None:
        """Record what a deploy compares with: the account, and the digest of each file as written."""
        tls = {path: ("tls", (values[-1],)) for path, (word, values) in self.record.files.items() if word == "tls"}
        tls = {} if self.step["certificate"] in certificate_pair.MODES else tls
        self.record.files = {file["path"]: ("file", (file["sha256"],)) for file in self.step["files"]}
        self.record.files.update(tls)
        self.record.values["account"], self.record.layout = account.name, str(self.step["layout"])
        self.record.write(self.run.id)


def _fill_root(root: str, run: str, readme: bytes, static: tuple[str, ...]) -> None:
    """Make the directories that a first release needs. Runs as the deploy account."""
    with Folder.open(root) as folder:
        for name in (*_READ_BY_THE_SERVICE, *static):
            folder.make(name, 0o750)
        folder.make("slots", 0o755)
        with folder.below("slots") as slots:
            slots.make("blue", 0o755)
            slots.make("green", 0o755)
        _own_alone(folder, "history.jsonl")
        if folder.status("maintenance"):
            # An operator may have made the directory, or the file in it, by hand.
            with suppress(OSError), folder.below("maintenance") as closed:
                _own_alone(closed, "state.json")
        folder.replace("README", readme, 0o644, f"README.new-{run}")


def _own_alone(folder: Folder, name: str) -> None:
    """Let only the owner read a file, if it exists: former versions let every account."""
    if folder.status(name):
        with folder.reader(name) as file:
            os.fchmod(file.fileno(), 0o600)


def _restrict(folder: Folder, account: Account, reader: Account) -> None:
    """Let only the deploy account and the group of one other enter a directory.

    The group of the service reads code, `env` and packages; that of nginx reads the static files.
    """
    found = os.fstat(folder.descriptor)
    if found.st_uid != account.uid:
        raise Refused(f"{folder.path} does not belong to {account.name}: move it away, and run setup again")
    if (found.st_gid, stat.S_IMODE(found.st_mode)) != (reader.gid, 0o750):
        os.fchown(folder.descriptor, -1, reader.gid)
        os.fchmod(folder.descriptor, 0o750)
