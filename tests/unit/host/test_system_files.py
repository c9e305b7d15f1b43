"""Root's files: the same for every release, valid for their programs, no more permissive than the service needs."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tasks.engine.config import sections
from tasks.engine.config.gateway import Nginx, Tls
from tasks.engine.config.sections import Limits, Listen
from tasks.engine.config.service import Process, Service
from tasks.engine.host import layout, system_files
from tasks.engine.host.system_files import HostTraits
from tests.support.nasty_texts import NO_ACCOUNTS
from tests.support.small_service import SERVICE

TRAITS = HostTraits("deploy", "www-data", True)


def texts(service: Service = SERVICE, traits: HostTraits = TRAITS) -> dict[str, str]:
    return {file.path: file.text for file in system_files.render(service, traits)}


def change(**values: object) -> Service:
    return SERVICE._replace(**values)  # type: ignore[arg-type]


def unit(text: str) -> dict[str, list[str]]:
    """Return the keys of a unit file, each with its values."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line and line[0] not in "[#":
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def test_the_same_service_has_the_same_files() -> None:
    assert system_files.render(SERVICE, TRAITS) == system_files.render(change(), TRAITS)


@pytest.mark.parametrize("service", [SERVICE, change(nginx=None)])
@pytest.mark.parametrize("account", ["deploy", "root"])
def test_where_they_lie_is_known_before_a_host_is_asked(service: Service, account: str) -> None:
    traits = HostTraits(account, "www-data", True, "/usr/sbin/systemctl")
    assert system_files.paths(service, account) == tuple(file.path for file in system_files.render(service, traits))


@pytest.mark.parametrize("path", texts())
def test_nothing_is_left_to_be_filled_in(path: str) -> None:
    assert "{{" not in texts()[path]
    assert texts()[path].endswith("\n")


@pytest.mark.parametrize("tls", [Tls("on_host", "/c", "/k"), Tls("acme", email="a@b.example")], ids=["on_host", "acme"])
def test_no_process_can_have_the_name_of_a_unit_of_ours(tls: Tls) -> None:
    """Once: a job called `certificate` took the place of root's unit that gives nginx a new one."""
    full = Service("myapp", "app:app", nginx=Nginx(("myapp.example",), tls=tls), listen=SERVICE.listen)
    units = {re.sub(r"@?\.[a-z]+$", "", Path(path).name) for path in texts(full) if "/systemd/system/myapp-" in path}
    assert "myapp-certificate" in units
    assert {unit.removeprefix("myapp-") for unit in units} <= sections._RESERVED_PROCESSES


def test_only_the_sudo_rules_are_hidden_from_other_accounts() -> None:
    modes = {file.path: file.mode for file in system_files.render(SERVICE, TRAITS)}
    assert modes.pop("/etc/sudoers.d/myapp") == 0o440
    assert set(modes.values()) == {0o644}


@pytest.mark.parametrize(
    ("service", "there", "missing"),
    [
        (SERVICE, {"/etc/nginx/conf.d/myapp.conf", "/etc/systemd/system/myapp-listen.socket"}, set()),
        (change(nginx=None), {"/etc/systemd/system/myapp-listen.socket"}, {"/etc/nginx/conf.d/myapp.conf"}),
        (change(listen=None), {"/etc/nginx/conf.d/myapp.conf"}, {"/etc/systemd/system/myapp-listen.socket"}),
        (
            change(processes=(Process("web", workers=1, threads=1),)),
            {"/etc/systemd/system/myapp@.service"},
            {"/etc/systemd/system/myapp-worker@.service", "/etc/systemd/system/myapp-nightly.timer"},
        ),
    ],
)
def test_each_part_of_a_service_brings_its_own_files(service: Service, there: set[str], missing: set[str]) -> None:
    found = set(texts(service))
    assert there <= found
    assert not missing & found


@pytest.mark.parametrize(
    ("need", "key", "closed", "opened"),
    [
        ("host", "PrivateNetwork", ["yes"], ["no"]),
        ("host", "RestrictAddressFamilies", ["AF_UNIX"], ["AF_UNIX AF_INET AF_INET6"]),
        ("network", "RestrictAddressFamilies", ["AF_UNIX"], ["AF_UNIX AF_INET AF_INET6"]),
        ("host", "IPAddressDeny", ["any"], ["any"]),
        ("host", "IPAddressAllow", ["localhost"], ["localhost"]),
        ("network", "PrivateNetwork", ["yes"], ["no"]),
        ("network", "IPAddressAllow", ["localhost"], ["any"]),
        ("jit", "MemoryDenyWriteExecute", ["yes"], ["no"]),
        ("proc", "ProcSubset", ["pid"], ["all"]),
        ("gpu", "PrivateDevices", ["yes"], ["no"]),
        ("gpu", "DevicePolicy", ["closed"], None),
        ("home", "ProtectHome", ["yes"], ["read-only"]),
        ("logs", "LogsDirectory", None, ["myapp"]),
    ],
)
def test_a_need_opens_one_part_of_the_sandbox(
    need: str, key: str, closed: list[str] | None, opened: list[str] | None
) -> None:
    for name in ("myapp@.service", "myapp-worker@.service", "myapp-nightly.service"):
        path = f"/etc/systemd/system/{name}"
        before, after = unit(texts()[path]), unit(texts(change(needs=(need,)))[path])
        assert (before.get(key), after.get(key)) == (closed, opened)
        keys = {
            "host": {"PrivateNetwork", "IPAccounting", "RestrictAddressFamilies"},
            "network": {"PrivateNetwork", "IPAddressAllow", "RestrictAddressFamilies"},
            "gpu": {"PrivateDevices", "DevicePolicy"},
            "logs": {"LogsDirectory", "LogsDirectoryMode"},
        }
        assert {one for one in {*before, *after} if before.get(one) != after.get(one)} <= keys.get(need, {key})


def test_every_unit_of_the_service_is_bounded_and_keeps_its_data_to_itself() -> None:
    for path, text in texts(change(needs=("logs",))).items():
        keys = unit(text) if path.endswith(".service") else {}
        if keys.get("User") == ["myapp"] or "DynamicUser" in keys:
            assert (keys["TasksMax"], keys["LimitCORE"], keys["PrivateIPC"]) == (["4096"], ["1"], ["yes"]), path
            for call in ("io_uring_setup", "userfaultfd"):
                assert any(value.startswith("~") and call in value for value in keys["SystemCallFilter"]), (path, call)
        for kind in ("State", "Cache", "Logs"):
            ours = (["myapp"], ["0700"]) if keys.get("User") == ["myapp"] else (None, None)
            assert (keys.get(f"{kind}Directory"), keys.get(f"{kind}DirectoryMode")) == ours, path


LIMITED = (
    Process("web", limits=Limits(memory="1G")),
    Process("worker", "x", limits=Limits(tasks=16)),
    Process("nightly", "x", "daily"),
)


@pytest.mark.parametrize(
    ("unit_file", "memory", "tasks"),
    [("@", "1G", "4096"), ("-worker@", "512M", "16"), ("-nightly", "512M", "4096"), ("-hook@", "512M", "4096"),
     ("-run@", "512M", "4096"), ("-run-health@", "512M", "4096")],
)  # fmt: skip
def test_each_unit_has_the_limits_of_the_service_or_those_of_its_process(
    unit_file: str, memory: str, tasks: str
) -> None:
    service = change(limits=Limits("512M", "200%", None, 65536), processes=LIMITED)
    keys = unit(texts(service)[f"/etc/systemd/system/myapp{unit_file}.service"])
    assert (keys["MemoryMax"], keys["TasksMax"], keys["CPUQuota"]) == ([memory], [tasks], ["200%"])
    assert (keys["LimitNOFILE"], keys["OOMPolicy"]) == (["65536"], ["continue"])


def test_by_default_nothing_that_runs_today_meets_a_limit_and_the_proxy_never_does() -> None:
    proxy = "/etc/systemd/system/myapp-listen.service"
    limited = texts(change(limits=Limits("512M", "200%", 8, 64)))[proxy]
    for text in (*texts().values(), limited):
        assert not {"MemoryMax", "CPUQuota", "LimitNOFILE"} & set(unit(text))
    assert unit(limited)["TasksMax"] == ["4096"]


def test_only_the_slots_may_put_off_their_end_which_every_wait_has_a_bound_for() -> None:
    told = {path for path, text in texts().items() if unit(text).get("NotifyAccess", ["none"]) != ["none"]}
    # A command's server feeds a watchdog; a stop kills it at once.
    server = "/etc/systemd/system/myapp-run@.service"
    assert told == {"/etc/systemd/system/myapp@.service", server}
    assert unit(texts()[server])["KillSignal"] == ["SIGKILL"]


@pytest.mark.parametrize(("timeout", "seconds"), [(5, "60"), (60, "60"), (120, "120")])
def test_a_slot_may_take_as_long_to_start_as_its_health_check_may(timeout: int, seconds: str) -> None:
    text = texts(change(health=SERVICE.health._replace(timeout=timeout)))["/etc/systemd/system/myapp@.service"]
    assert unit(text)["TimeoutStartSec"] == [seconds]


def test_no_unit_runs_anything_of_the_deploy_account_as_root() -> None:
    for path, text in texts().items():
        keys = unit(text) if path.endswith(".service") else {}
        started = [value for key, values in keys.items() if key.startswith("Exec") for value in values]
        assert not [value for value in started if value[:1] in "+!@|-:"], path
        if any(f"{layout.root(SERVICE)}/" in value and "test -e" not in value for value in started):
            assert keys["User"] == ["myapp"], path
        assert not {"EnvironmentFile", "LoadCredential"} & set(keys), path


def test_at_boot_root_makes_and_removes_nothing_where_the_deploy_account_may_plant_a_link() -> None:
    text = texts()["/etc/tmpfiles.d/myapp.conf"]
    lines = [line.split() for line in text.splitlines() if not line.startswith("#")]
    made = [words for words in lines if words[0] != "a+"]
    # Below /run, new at each boot, before any account could plant one.
    assert {(words[0], words[1].startswith("/run/myapp")) for words in made} == {("d", True), ("f", True), ("L", True)}
    # The rest gives rights, where only journald and root write.
    rights = {words[1].partition("/log/journal")[0] for words in lines if words[0] == "a+"}
    assert rights == {"/run", "/var"}


def test_a_host_of_static_files_has_a_layout_of_its_own_and_a_mark_that_root_makes() -> None:
    """A version that puts no static files into a slot must not activate a release there."""
    assert SERVICE.nginx
    static = change(nginx=SERVICE.nginx._replace(static=(("/static/", "app/static"),)))
    mark = "f /run/myapp/green/is-green 0444 root root"
    assert (layout.version(SERVICE), layout.version(static)) == (layout.VERSION, layout.WITH_STATIC)
    assert [mark in texts(each)["/etc/tmpfiles.d/myapp.conf"].splitlines() for each in (SERVICE, static)] == [
        False,
        True,
    ]
    assert layout.VERSION < layout.WITH_STATIC


def test_systemd_waits_longer_than_gunicorn_and_gunicorn_longer_than_the_drain() -> None:
    stop = int(unit(texts()["/etc/systemd/system/myapp@.service"])["TimeoutStopSec"][0])
    assert stop > SERVICE.drain + 2


def test_the_stop_of_each_unit_that_runs_code_of_a_release_has_a_bound_of_its_own() -> None:
    """A host may have changed systemd's default of 90 s."""
    units = {Path(path).name: unit(text) for path, text in texts().items() if path.endswith(".service")}
    stops = {name: keys.get("TimeoutStopSec") for name, keys in units.items() if keys.get("User") == ["myapp"]}
    slot, command = str(layout.stop_timeout(SERVICE)), "5"
    assert stops == {
        "myapp@.service": [slot],
        "myapp-worker@.service": [slot],
        "myapp-hook@.service": [slot],
        "myapp-nightly.service": [str(layout.JOB_STOP)],
        "myapp-run@.service": [command],
        "myapp-run-health@.service": [command],
    }


def test_each_unit_that_a_run_waits_for_has_a_bound_for_its_start() -> None:
    """For a oneshot unit systemd has none. A job may take as long as it likes: only its timer starts it."""
    units = {Path(path).name: unit(text) for path, text in texts().items() if path.endswith(".service")}
    once = {name for name, keys in units.items() if keys.get("Type") == ["oneshot"]}
    assert {name for name in once if "TimeoutStartSec" not in units[name]} == {"myapp-nightly.service"}
    assert {"myapp.service", "myapp-boot@.service", "myapp-live@.service", "myapp-hook@.service"} < once


def test_the_sudo_rules_are_the_commands_of_a_deploy_and_nothing_else() -> None:
    rules = [line for line in texts()["/etc/sudoers.d/myapp"].splitlines() if not line.startswith("#")]
    assert rules == [
        f"deploy ALL=(root) NOPASSWD: /usr/bin/systemctl {' '.join(words)}" for words in layout.commands(SERVICE)
    ]
    assert not [rule for rule in rules if re.search(r"[*?\[\]!]|ALL$|daemon-reload|edit", rule)]


@pytest.mark.parametrize("account", NO_ACCOUNTS)
def test_an_account_that_sudo_would_misread_is_refused(account: str) -> None:
    with pytest.raises(ValueError, match="would not be one account"):
        system_files.render(SERVICE, TRAITS._replace(account=account))


@pytest.mark.parametrize(
    ("listen", "written"),
    [(None, ""), (Listen("127.0.0.1", 8080), "127.0.0.1:8080"), (Listen("::1", 8080), "[::1]:8080")],
)
def test_an_address_is_written_as_systemd_and_curl_read_it(listen: Listen | None, written: str) -> None:
    assert system_files.listen_address(change(listen=listen)) == written


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd itself is asked, and it is not here")
def test_systemd_knows_every_key(tmp_path: Path) -> None:
    for path, text in texts(change(limits=Limits("512M", "200%", 256, 65536))).items():
        if path.startswith("/etc/systemd/system/"):
            name = Path(path).name.replace("@.", "@blue.")
            (tmp_path / name).write_text(text)
    units = sorted(str(path) for path in tmp_path.iterdir())
    told = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True, check=False
    ).stderr
    assert not [line for line in told.splitlines() if re.search(r"Unknown|parse|nvalid|ignoring", line)], told


@pytest.mark.parametrize("shell", ["dash", "bash"])
@pytest.mark.parametrize("committed", ["blue", "green"])
def test_the_traffic_is_moved_only_with_a_way_back_and_back_without_room(
    tmp_path: Path, shell: str, committed: str
) -> None:
    """Root's command, run in a directory of the test; it has no room where `ln` fails."""
    (command,) = unit(texts()["/etc/systemd/system/myapp-live@.service"])["ExecStart"]
    text = re.fullmatch(r"/bin/sh -c '(.*)'", command)
    assert text
    (tmp_path / "full").mkdir()
    (tmp_path / "full/ln").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "full/ln").chmod(0o755)
    (tmp_path / "current").mkdir()
    (tmp_path / "current" / f"is-{committed}").touch()

    def move(slot: str, full: bool = False) -> bool:
        script = text[1].replace("$$", "$").replace("%i", slot).replace("/opt/apps/myapp", str(tmp_path))
        path = f"{tmp_path}/full:/usr/bin:/bin" if full else "/usr/bin:/bin"
        ended = subprocess.run([shell, "-c", script], cwd=tmp_path, env={"PATH": path}, check=False)
        assert (ended.returncode == 0) == (
            (tmp_path / "live").is_symlink() and (tmp_path / "live").readlink() == Path(slot)
        )
        return ended.returncode == 0

    other = "green" if committed == "blue" else "blue"
    for _ in range(2):
        assert not move(other, full=True)
        assert move(other)
        assert move(committed, full=True)
        assert move(committed)
    assert move("none")
