"""Render the files that root owns for a service: units, nginx file, sudo rules; alike for every release. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from tasks.engine import quote
from tasks.engine.config.gateway import Nginx
from tasks.engine.config.sections import NO_LIMITS, Limits
from tasks.engine.config.service import Process, Service
from tasks.engine.host import layout, nginx_file, templates


class HostFile(NamedTuple):
    """A file that root owns: absolute path, mode, whole text."""

    path: str
    mode: int
    text: str

    @property
    def hidden(self) -> bool:
        """True if its text may be secret, so that no difference of it is shown."""
        return not self.mode & 0o004 and not self.path.startswith("/etc/sudoers.d/")

    @property
    def sha256(self) -> str:
        """Hex digest of the text."""
        return hashlib.sha256(self.text.encode()).hexdigest()


class HostTraits(NamedTuple):
    """The traits of a host that these files depend on: deploy account, nginx's account, IPv6, path of systemctl.

    secrets: names of those on the host. A former release may use one that service.yaml no longer names.
    """

    account: str
    web_account: str | None
    ipv6: bool
    systemctl: str = layout.SYSTEMCTL
    secrets: tuple[str, ...] = ()


_NO_TEXTS: Mapping[str, str] = MappingProxyType({})


def render(service: Service, traits: HostTraits, given: Mapping[str, str] = _NO_TEXTS) -> tuple[HostFile, ...]:
    """Return root's files for a service on a host, sorted by path. given: texts of the operator's, by key of nginx."""
    units = {f"/etc/systemd/system/{name}": text for name, text in _units(service, traits).items()}
    texts = {**units, f"/etc/tmpfiles.d/{service.name}.conf": _tmpfiles(service, traits)}
    texts[f"/etc/{service.name}/run-server"] = templates.text("run_server.py")
    if service.nginx:
        texts.update(nginx_file.render(service, ipv6=traits.ipv6))
    files = [HostFile(path, 0o644, text) for path, text in texts.items()]
    if layout.certificate_units(service):
        script = f"/etc/{service.name}/take-certificate"
        files.append(HostFile(script, 0o644, templates.text("take_certificate.sh")))
    if service.nginx and service.nginx.balancer_check:
        files.append(HostFile(f"/etc/{service.name}/nginx/empty", 0o644, ""))
    for key in service.nginx.files if service.nginx else ():
        path, mode = nginx_file.place(service, key)
        files.append(HostFile(path, mode, given.get(key, "")))
    if traits.account != "root":
        files.append(HostFile(f"/etc/sudoers.d/{service.name}", 0o440, _sudoers(service, traits)))
    return tuple(sorted(files, key=lambda file: file.path))


def paths(service: Service, account: str) -> tuple[str, ...]:
    """Return the paths of root's files: of the traits, only `account` matters."""
    return tuple(file.path for file in render(service, HostTraits(account, None, False)))


def readme(service: Service) -> str:
    """Return the README that explains the service's directory on a host."""
    return templates.fill("host-readme", name=service.name)


def _units(service: Service, traits: HostTraits) -> dict[str, str]:
    values = {
        "name": service.name,
        "root": layout.root(service),
        "account": quote.account(traits.account),
        "socket_group": _socket_group(service, traits),
        "start_timeout": str(layout.start_timeout(service)),
        "stop_timeout": str(layout.stop_timeout(service)),
        "started": "".join(f" {unit}" for unit in layout.started_with_main(service)),
        "processes": "".join(f" {unit}" for unit in layout.processes(service, "%i")),
        "directories": _directories(service),
        "credentials": _credentials(service, traits),
        "put_back": _put_back(service, traits),
        "hardening": _hardening(set(service.needs), service.limits),
        "slice": layout.run_slices(service)[0],
    }
    name = service.name
    units = {
        f"{name}.service": templates.fill("systemd/main.service", **values),
        f"{name}@.service": templates.fill("systemd/slot.service", **_bounded(service, layout.web(service), values)),
        f"{name}@.socket": templates.fill("systemd/slot.socket", **values),
        f"{name}-live@.service": templates.fill("systemd/live.service", **values),
        f"{name}-boot@.service": templates.fill("systemd/boot.service", **values),
        f"{name}-hook@.service": templates.fill("systemd/hook.service", **values),
        f"{name}-probation@.service": templates.fill("systemd/probation.service", **values),
        **_run_units(service, values),
    }
    if service.nginx and layout.certificate_units(service):
        units.update(_certificate_units(service, service.nginx))
    for process in layout.other_processes(service):
        units.update(_process_units(service, process, values))
    if service.listen:
        units.update(_listen_units(service, traits, values))
    return units


def _listen_units(service: Service, traits: HostTraits, values: dict[str, str]) -> dict[str, str]:
    """Return the units of the proxy that listens at the address of `listen`."""
    name = service.name
    filled = {
        **values,
        "listen": quote.systemd(listen_address(service)),
        # Clients may come from anywhere: only the address of `listen:` limits them.
        "hardening": _hardening({"network"}, NO_LIMITS),
        # When nginx is added or removed, the sockets of the slots have different groups until both slots are started
        # anew; the proxy needs both groups.
        "socket_group": f"{name} {traits.web_account}" if traits.web_account else name,
    }
    kinds = ("socket", "service")
    return {f"{name}-listen.{kind}": templates.fill(f"systemd/listen.{kind}", **filled) for kind in kinds}


def _run_units(service: Service, values: dict[str, str]) -> dict[str, str]:
    """Return the units of `fab run`, and those of health commands, whose socket has connections of its own."""
    name, (every, health) = service.name, layout.run_slices(service)
    kinds = {
        f"{name}-run": {"what": "commands of fab run", "file": "run", "slice": every, "bound": "watchdog"},
        f"{name}-run-health": {"what": "health commands", "file": "health", "slice": health, "bound": "seconds"},
    }
    units = {}
    for unit, kind in kinds.items():
        filled = {**values, **kind, "unit": unit, "bound": templates.text(f"systemd/run-{kind['bound']}.conf").rstrip()}
        units[f"{unit}@.service"] = templates.fill("systemd/run.service", **filled)
        units[f"{unit}.socket"] = templates.fill("systemd/run.socket", **filled)
    return units


def _certificate_units(service: Service, nginx: Nginx) -> dict[str, str]:
    """Return the units that give nginx each new certificate that the host keeps."""
    name, (certificate, key) = service.name, layout.watched_pair(service) or ("", "")
    values = {
        "name": name,
        "certificate": quote.systemd(certificate),
        "key": quote.systemd(key),
        "folders": "\n".join(f"PathChanged={quote.systemd(folder)}" for folder in _folders(certificate, key)),
        "server_names": " ".join(map(quote.nginx_name, nginx.names)),
    }
    kinds = (".path", ".service", "-again.service", ".timer")
    return {f"{name}-certificate{kind}": templates.fill(f"systemd/certificate{kind}", **values) for kind in kinds}


def _folders(*paths: str) -> list[str]:
    return sorted({path.rpartition("/")[0] or "/" for path in paths})


def _process_units(service: Service, process: Process, values: dict[str, str]) -> dict[str, str]:
    unit = f"{service.name}-{process.name}"
    stop = str(layout.stop_seconds(service, process))
    values = {**_bounded(service, process, values), "process": process.name, "stop_timeout": stop}
    if process.schedule is None:
        text = templates.fill("systemd/process.service", **values)
        return {f"{numbered}@.service": text for numbered in layout.numbered(service, process)}
    values["schedule"] = quote.systemd(process.schedule)
    return {
        f"{unit}.service": templates.fill("systemd/job.service", **values),
        f"{unit}.timer": templates.fill("systemd/job.timer", **values),
    }


def listen_address(service: Service) -> str:
    """Return `listen:` as systemd and curl write it, IPv6 in brackets."""
    if service.listen is None:
        return ""
    address = f"[{service.listen.address}]" if ":" in service.listen.address else service.listen.address
    return f"{address}:{service.listen.port}"


def _socket_group(service: Service, traits: HostTraits) -> str:
    """Return the group that may connect to a slot's socket: nginx's, or that of the proxy of `listen:`."""
    return traits.web_account or "www-data" if service.nginx else service.name


def _directories(service: Service) -> str:
    """Return the directives of the service's own directories, which its variables name (STATE_DIRECTORY, ...)."""
    logs = f"LogsDirectory={service.name}\nLogsDirectoryMode=0700\n" if "logs" in service.needs else ""
    return templates.fill("systemd/directories.conf", name=service.name, logs=logs).rstrip("\n")


def _credentials(service: Service, traits: HostTraits) -> str:
    """Return the directives that hand out the secrets; empty if there are none."""
    names = layout.credentials(service, traits.secrets)
    lines = [templates.fill("systemd/credential.conf", name=service.name, secret=name) for name in names]
    # Without the file a unit would not start, and a boot with a release that does not use the secret would fail.
    head = (
        "# A line feed stands for a secret that is not on the host; the launcher of a release that uses it says so.\n"
    )
    return head + "".join(lines) if lines else ""


def _put_back(service: Service, traits: HostTraits) -> str:
    """Return the directives by which a boot undoes changes of secrets that were never committed."""
    if not layout.credentials(service, traits.secrets):
        return ""
    return templates.fill("systemd/put-back.conf", name=service.name, root=layout.root(service))


def _bounded(service: Service, process: Process, values: dict[str, str]) -> dict[str, str]:
    """Return the values with the limits of this process."""
    return {**values, "hardening": _hardening(set(service.needs), process.limits.beside(service.limits))}


def _hardening(needs: set[str], limits: Limits) -> str:
    """Return the sandbox directives, opened as far as `needs` says, and the limits."""
    return templates.fill(
        "systemd/hardening.conf",
        protect_home="read-only" if "home" in needs else "yes",
        private_devices="no" if "gpu" in needs else "yes",
        device_policy="" if "gpu" in needs else "DevicePolicy=closed\n",
        proc_subset="all" if "proc" in needs else "pid",
        limits=_limits(limits),
        deny_write_execute="no" if "jit" in needs else "yes",
        families="AF_UNIX AF_INET AF_INET6" if needs & {"host", "network"} else "AF_UNIX",
        network_policy=_network_policy(needs),
    ).rstrip("\n")


def _limits(limits: Limits) -> str:
    """Return the directives of the limits. None of memory by default: it could kill what runs well today."""
    others = {"MemoryMax": limits.memory, "CPUQuota": limits.cpu, "LimitNOFILE": limits.files}
    lines = "".join(f"{key}={value}\n" for key, value in others.items() if value is not None)
    tasks = limits.tasks or layout.TASKS
    return templates.fill("systemd/limits.conf", tasks=str(tasks), others=lines).rstrip("\n")


def _network_policy(needs: set[str]) -> str:
    """Return directives for a private network; the host's loopback alone for `host`; the whole network for `network`.

    IPAccounting shows whether systemd can filter addresses on this host: if it cannot, there are no counters.
    """
    if "network" in needs:
        # This list closes nothing. systemd's rating counts it, and a drop-in of the operator's can shorten it.
        return "PrivateNetwork=no\nIPAddressDeny=any\nIPAddressAllow=any\n"
    private = "PrivateNetwork=no\nIPAccounting=yes\n" if "host" in needs else "PrivateNetwork=yes\n"
    return f"{private}IPAddressDeny=any\nIPAddressAllow=localhost\n"


def _tmpfiles(service: Service, traits: HostTraits) -> str:
    # By it nginx knows, through the link `live`, whose static files to serve.
    mark = f"f /run/{service.name}/green/is-green 0444 root root\n"
    return templates.fill(
        "systemd/tmpfiles.conf",
        name=service.name,
        account=quote.account(traits.account),
        static=mark if service.nginx and service.nginx.static else "",
    )


def _sudoers(service: Service, traits: HostTraits) -> str:
    account = quote.account(traits.account)
    rules = [
        f"{account} ALL=(root) NOPASSWD: {' '.join(map(quote.sudoers, (traits.systemctl, *words)))}"
        for words in layout.commands(service)
    ]
    return templates.fill("sudoers", name=service.name, rules="\n".join(rules))
