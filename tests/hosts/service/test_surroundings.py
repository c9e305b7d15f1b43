"""The places that a service finds: home, caches, logs, and those of the host that its sandbox shows."""

from __future__ import annotations

import json

import pytest

from tests.support.clone import Clone, make
from tests.support.echo_service import APP, put
from tests.support.hosts import Hosts, MakeHosts

# Tells what a unit finds, and writes where libraries write; as a program it writes that to the state directory.
FOUND = """
import json, locale, os, pathlib, sys

NAMES = ("HOME", "LANG", "XDG_CACHE_HOME", "MPLCONFIGDIR", "NUMBA_CACHE_DIR", "CACHE_DIRECTORY", "LOGS_DIRECTORY")


def found():
    places = [pathlib.Path.home() / ".config", *(os.environ.get(name) for name in NAMES[2:])]
    for place in filter(None, places):
        pathlib.Path(place).mkdir(parents=True, exist_ok=True)
        (pathlib.Path(place) / "written").write_text("x")
    told = {name: os.environ.get(name) for name in NAMES}
    return {**told, "text": locale.getpreferredencoding(False).upper(), "meminfo": os.path.exists("/proc/meminfo")}


if __name__ == "__main__":
    with open(os.environ["STATE_DIRECTORY"] + "/" + sys.argv[1], "w") as file:
        json.dump(found(), file)
"""
ROUTE = """

import found


@app.get("/found")
def told():
    return found.found()
"""
UNITS = ("worker", "nightly", "hook")


@pytest.fixture(scope="module")
def shire(module_hosts: MakeHosts) -> Hosts:
    return module_hosts()


@pytest.fixture(scope="module")
def clone_there(shire: Hosts, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    clone = make(tmp_path_factory.mktemp("surroundings"), shire.inventory)
    clone.write("service/found.py", FOUND)
    return clone


def deploy(clone: Clone, needs: list[str]) -> None:
    """Deploy a service with a worker, a job and a hook, which needs this."""
    put(
        clone,
        needs=needs,
        processes={
            "worker": {"command": "sh -c 'python found.py worker; exec sleep infinity'"},
            "nightly": {"command": "python found.py nightly", "schedule": "*-*-* 03:00:00"},
        },
        hooks={"before_activate": "python found.py hook"},
    )
    clone.write("service/echo.py", f"{APP}{ROUTE}\n# {needs}\n")
    clone.done("deploy", "-H", "shire01")


def found_by_all(clone: Clone, shire: Hosts) -> dict[str, dict[str, object]]:
    """Return what each kind of unit has found."""
    machine = shire[0]
    assert machine.sh("systemctl start myapp-nightly.service").returncode == 0
    ask = "curl -sSf --unix-socket /run/myapp/live/http.sock http://localhost/found"
    texts = {"web": machine.sh(ask).stdout.decode()}
    for name in UNITS:
        file = f"/var/lib/myapp/{name}"
        texts[name] = machine.sh(f"until [ -s {file} ]; do sleep 0.05; done; cat {file}; rm {file}").stdout.decode()
    command = "import found, json; print(json.dumps(found.found()))"
    texts["run"] = clone.done("run", "-H", "shire01", "--", "python", "-c", command).out
    return {name: json.loads(text) for name, text in texts.items()}


OPEN = pytest.param(
    ["proc", "logs"], marks=pytest.mark.further("test_every_unit_has_a_home_caches_and_text_as_utf_8"), id="open"
)


@pytest.mark.parametrize("needs", [pytest.param([], id="closed"), OPEN])
def test_every_unit_has_a_home_caches_and_text_as_utf_8(clone_there: Clone, shire: Hosts, needs: list[str]) -> None:
    deploy(clone_there, needs)
    wanted = {
        "HOME": "/var/lib/myapp/home",
        "LANG": "C.UTF-8",
        "XDG_CACHE_HOME": "/var/cache/myapp",
        "MPLCONFIGDIR": "/var/cache/myapp/matplotlib",
        "NUMBA_CACHE_DIR": "/var/cache/myapp/numba",
        "CACHE_DIRECTORY": "/var/cache/myapp",
        "LOGS_DIRECTORY": "/var/log/myapp" if needs else None,
        "text": "UTF-8",
        "meminfo": bool(needs),
    }
    for name, told in found_by_all(clone_there, shire).items():
        assert told == wanted, name
    look = "stat -c '%a %U %n' /var/lib/myapp/home /var/cache/myapp"
    assert shire[0].sh(look).stdout == b"700 myapp /var/lib/myapp/home\n700 myapp /var/cache/myapp\n"
    assert shire[0].sh("runuser -u deploy -- ls /var/cache/myapp").returncode != 0


def test_remove_takes_the_caches_and_leaves_the_logs_to_data(clone_there: Clone, shire: Hosts) -> None:
    deploy(clone_there, ["logs"])
    there = "ls -d /var/lib/myapp /var/cache/myapp /var/log/myapp 2>/dev/null || :"
    assert shire[0].sh(there).stdout.split() == [b"/var/cache/myapp", b"/var/lib/myapp", b"/var/log/myapp"]
    ended = clone_there.done("remove", "-H", "shire01", "--yes")
    assert "its data stays in /var/lib/myapp and /var/log/myapp" in ended.out
    assert shire[0].sh(there).stdout.split() == [b"/var/lib/myapp", b"/var/log/myapp"]
    # The next setup knows that they are ours, also when service.yaml names no logs any more.
    deploy(clone_there, [])
    clone_there.done("remove", "-H", "shire01", "--yes", "--data")
    assert shire[0].sh(there).stdout == b""


def test_a_directory_of_logs_that_setup_did_not_make_is_refused_and_stays(clone_there: Clone, shire: Hosts) -> None:
    shire[0].sh("mkdir -p /var/log/myapp; echo theirs >/var/log/myapp/theirs")
    deploy(clone_there, [])
    clone_there.replace("service/service.yaml", "needs: []", "needs: [logs]")
    ended = clone_there.fab("setup", "-H", "shire01")
    assert ended.status == 1
    assert "/var/log/myapp is there, and setup did not make it: move it away" in ended.out
    clone_there.done("remove", "-H", "shire01", "--yes", "--data")
    assert shire[0].sh("cat /var/log/myapp/theirs; stat -c %U /var/log/myapp").stdout == b"theirs\nroot\n"


REACHES = "import socket; socket.create_connection(('192.0.2.1', 9), 3)"
NAMED = "`needs: [network]` opens networks and name resolution"


def test_what_the_sandbox_forbids_is_told_with_the_key_that_opens_it(clone_there: Clone) -> None:
    put(clone_there)
    clone_there.write("service/echo.py", f"{REACHES}\n{APP}")
    ended = clone_there.fab("deploy", "-H", "shire01")
    assert ended.status == 1
    assert "Address family not supported by protocol" in ended.both
    assert NAMED in ended.both
    put(clone_there, hooks={"before_activate": f'python -c "{REACHES}"'})
    ended = clone_there.fab("deploy", "-H", "shire01")
    assert (ended.status, NAMED in ended.both) == (1, True)


def test_doctor_names_the_key_that_a_services_log_asks_for(clone_there: Clone, shire: Hosts) -> None:
    clone_there.write("service/reaches.py", REACHES)
    worker = {"worker": {"command": "sh -c 'python reaches.py; exec sleep infinity'"}}
    put(clone_there, processes=worker).done("deploy", "-H", "shire01")
    wait = "until journalctl -q -o cat -u 'myapp-worker@*' | grep -q 'not supported'; do sleep 0.1; done"
    assert shire[0].sh(wait).returncode == 0
    told = clone_there.fab("doctor", "-H", "shire01").both
    assert (
        "the service logs what its sandbox may cause: OSError: [Errno 97] Address family not supported by protocol"
        in told
    )
    assert NAMED in told
