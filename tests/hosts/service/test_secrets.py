"""Secrets on a real host: from `fab secrets.set` to every process, through changes, reboots and rollbacks."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.clone import FAB, Clone, Ended, make
from tests.support.echo_service import APP, put
from tests.support.ending import Ending
from tests.support.front_door import ask
from tests.support.hosts import MakeHosts
from tests.support.site import Site, Watch

ON = ("-H", "shire01")
TOKEN, KEY = "first value", bytes(range(1, 256)) + b"\0\n"
# It is ready unless its secret is `bad`, as with a wrong password; with `late` it is ready until after the switch.
READY = """
asked = []


@app.get("/readyz")
def readyz():
    asked.append(1)
    secret = os.environ.get("API_TOKEN")
    return {}, 500 if secret == "bad" or (secret == "late" and len(asked) > 4) else 200


@app.get("/file")
def file():
    with open(os.environ["CREDENTIALS_DIRECTORY"] + "/TLS_KEY", "rb") as key:
        return {"key": key.read().hex(), "variables": sorted(os.environ)}
"""
SAY = """import hashlib, os, pathlib, sys
told = f"{sys.argv[1]} {os.environ.get('API_TOKEN')} {len(os.listdir(os.environ['CREDENTIALS_DIRECTORY']))}"
pathlib.Path(os.environ["STATE_DIRECTORY"], sys.argv[1]).write_text(told)
"""
WORKER = f"{SAY}\nimport signal\nsignal.pause()\n"


def write(clone: Clone, **changes: object) -> None:
    put(
        clone,
        **{
            "secrets": ["API_TOKEN", {"TLS_KEY": "file"}],
            "health": {"path": "/readyz", "passes": 1, "settle": 0, "timeout": 8},
            "processes": {"web": {"workers": 1, "threads": 4}, "worker": {"command": "python worker.py worker"},
                          "nightly": {"command": "python say.py nightly", "schedule": "*-*-* 03:00:00"}},
            "hooks": {"before_activate": "python say.py hook"},
            **changes,
        },
    )  # fmt: skip
    clone.write("service/echo.py", APP + READY)
    clone.write("service/say.py", SAY)
    clone.write("service/worker.py", WORKER)


def set_to(clone: Clone, name: str, value: bytes | str, *words: str) -> Ended:
    """Run `fab secrets.set` with the value on its standard input."""
    data = value.encode() if isinstance(value, str) else value
    command = [str(FAB), "secrets.set", name, *ON, *words]
    ended = subprocess.run(command, input=data, cwd=clone.root, env=clone.variables(), capture_output=True, timeout=300)
    return Ended(ended.returncode, ended.stdout.decode(), ended.stderr.decode())


def done(ended: Ended) -> Ended:
    assert ended.status == 0, ended.both
    return ended


@pytest.fixture(scope="module")
def site(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A host that was never set up, and a clone whose service names two secrets."""
    hosts = module_hosts()
    clone = make(tmp_path_factory.mktemp("secrets"), hosts.inventory)
    write(clone)
    return Site(clone, hosts[0])


def token(site: Site) -> str | None:
    """Return the secret that the process has which answers now."""
    value = ask(site.machine.address, "/environ").json().get("API_TOKEN")
    return None if value is None else bytes.fromhex(value).decode()


def stored(site: Site, name: str = "API_TOKEN") -> str:
    return site.sh(f"cat /etc/myapp/secrets/{name}")


def test_a_deploy_without_them_is_refused_before_anything_happens(site: Site) -> None:
    ended = site.fab("deploy")
    assert ended.status == 1
    assert "shire01  FAILED  the host lacks the secrets API_TOKEN, TLS_KEY" in ended.out
    assert "next: fab secrets.set API_TOKEN -H shire01; fab secrets.set TLS_KEY -H shire01" in ended.out
    assert site.sh("ls -d /etc/myapp /opt/apps /run/myapp 2>/dev/null || true") == ""
    assert "STOPS  the secret API_TOKEN is not on this host" in site.fab("doctor").out
    listed = site.fab("secrets.list")
    assert (listed.status, listed.out.count("MISSING")) == (1, 2)


def test_they_are_set_before_the_first_setup_and_reach_every_process(site: Site) -> None:
    done(set_to(site.clone, "API_TOKEN", f"{TOKEN}\n"))
    path = site.clone.root / "key"
    path.write_bytes(KEY)
    site.clone.done("secrets.set", "TLS_KEY", *ON, "--from", f"cat '{path}'")
    path.unlink()
    assert site.sh("stat -c '%a %U:%G' /etc/myapp/secrets /etc/myapp/secrets/*").split("\n") == [
        "700 root:root", "600 root:root", "600 root:root",
    ]  # fmt: skip
    assert "needs root" in site.done("deploy").out
    assert token(site) == TOKEN
    told = ask(site.machine.address, "/file").json()
    assert (told["key"], "TLS_KEY" in told["variables"]) == (KEY.hex(), False)
    site.sh("systemctl start myapp-nightly.service")
    for who in ("hook", "worker", "nightly"):
        assert site.sh(f"until [ -s /var/lib/myapp/{who} ]; do sleep 0.1; done; cat /var/lib/myapp/{who}") == (
            f"{who} {TOKEN} 2"
        )
    assert site.done("run", "--", "sh", "-c", 'echo "$API_TOKEN"; ls "$CREDENTIALS_DIRECTORY"').out.split("\n") == [
        TOKEN, "API_TOKEN", "TLS_KEY", "",
    ]  # fmt: skip
    assert site.fab("doctor").out.startswith("shire01  ready\n")
    assert site.fab("plan", "--check").status == 0
    assert site.fab("drift").status == 0


def test_a_listing_compares_hosts_and_gives_nothing_away(site: Site) -> None:
    first, second = (site.done("secrets.list", "--json").json()["hosts"][0]["secrets"] for _ in range(2))
    assert [(one["name"], one["there"], one["named"]) for one in first] == [
        ("API_TOKEN", True, True), ("TLS_KEY", True, True),
    ]  # fmt: skip
    assert {one["fingerprint"] for one in first}.isdisjoint(one["fingerprint"] for one in second)
    assert TOKEN not in site.done("secrets.list").both


@pytest.mark.parametrize(
    ("name", "value", "words", "said"),
    [
        ("API_TOKN", "x", (), "did you mean API_TOKEN?"),
        ("API_TOKEN", "", (), "the value is empty"),
        ("API_TOKEN", "\n", (), "the value is empty"),
        ("API_TOKEN", "a\0b", (), "has a NUL byte"),
        ("API_TOKEN", "a" * 100_001, (), "more than 100000 bytes"),
        ("TLS_KEY", "a" * 1_000_001, (), "more than 1000000 bytes"),
        ("API_TOKEN", "", ("--from", "sh -c 'echo secret; exit 3'"), "sh ended with status 3"),
        ("API_TOKEN", "", ("--from", "no-such-program x"), "no-such-program cannot be started"),
        ("API_TOKEN", "", ("--from", "pass 'show"), "cannot be read: No closing quotation"),
    ],
)
def test_a_value_that_no_process_could_get_is_refused_before_any_contact(
    site: Site, name: str, value: str, words: tuple[str, ...], said: str
) -> None:
    with_no_host = Clone(site.clone.root, Path(site.clone.root / "nowhere.yaml"))
    with_no_host.inventory = site.clone.root / "nowhere.yaml"
    with_no_host.inventory.write_text("hosts: {shire01: {address: 192.0.2.1, user: deploy}}\n")
    ended = set_to(with_no_host, name, value, *words)
    assert (ended.status, said in ended.err) == (2, True), ended.both


def test_a_change_restarts_what_uses_it_and_no_request_is_lost(site: Site) -> None:
    with Watch(site.machine.address) as watch:
        ended = done(set_to(site.clone, "API_TOKEN", "second"))
    assert "RESTARTED" in ended.out
    assert watch.seen == {site.clone.release()}
    assert token(site) == "second"
    assert site.sh("ls /etc/myapp/secrets") == "API_TOKEN\nTLS_KEY"
    again = done(set_to(site.clone, "API_TOKEN", "second\n"))
    assert "UNCHANGED  API_TOKEN has this value already" in again.out
    assert [line[0] for line in site.outcomes].count("restart") == 2


@pytest.mark.parametrize(("value", "probation"), [("bad", 0), ("late", 60)])
def test_a_value_with_which_the_release_does_not_hold_is_put_back_before_a_boot_reads_it(
    site: Site, value: str, probation: int
) -> None:
    write(site.clone, probation=probation)
    before, slot = stored(site), site.slot
    with Watch(site.machine.address) as watch:
        ended = set_to(site.clone, "API_TOKEN", value)
    assert ended.status == 1, ended.both
    assert "the former value of API_TOKEN is put back" in ended.out
    assert len(watch.seen) == 1
    assert (stored(site), site.slot) == (before, slot)
    assert site.sh("ls /etc/myapp/secrets") == "API_TOKEN\nTLS_KEY"
    site.machine.reboot()
    assert token(site) == before
    write(site.clone)


def test_a_boot_puts_the_former_value_back_where_the_controller_died(site: Site) -> None:
    before = stored(site)
    site.clone.environment["FAILPOINT"] = "controller.activate=die"
    assert set_to(site.clone, "API_TOKEN", "bad").status == -signal.SIGKILL
    del site.clone.environment["FAILPOINT"]
    assert stored(site) == "bad"
    assert "a change of the secret API_TOKEN was cut short" in site.fab("doctor").out
    assert "its change was cut short" in site.done("secrets.list").out
    site.machine.power_cut()
    site.machine.boot()
    assert (token(site), stored(site)) == (before, before)
    done(set_to(site.clone, "API_TOKEN", "third"))
    assert site.fab("doctor").out.startswith("shire01  ready\n")


@pytest.mark.further("test_a_boot_puts_the_former_value_back_where_the_controller_died")
def test_a_committed_change_stays_where_the_controller_died_after_it(site: Site) -> None:
    site.clone.environment["FAILPOINT"] = "controller.activated=die"
    assert set_to(site.clone, "API_TOKEN", "fourth").status == -signal.SIGKILL
    del site.clone.environment["FAILPOINT"]
    assert token(site) == "fourth"
    # Once: the same slot was committed again, and the boot took the change for one that was not.
    site.done("restart")
    site.machine.reboot()
    assert (token(site), stored(site)) == ("fourth", "fourth")
    assert site.sh("ls /etc/myapp/secrets") == "API_TOKEN\nTLS_KEY"
    # The same value again: nothing restarts, and what was cut short is settled.
    assert "UNCHANGED" in done(set_to(site.clone, "API_TOKEN", "fourth")).out
    assert site.fab("doctor").out.startswith("shire01  ready\n")


def test_an_interrupt_leaves_the_decision_to_the_probation(site: Site) -> None:
    """Once: the former value was put back at once, and then the host committed the new one."""
    write(site.clone, probation=3)
    command = [str(FAB), "secrets.set", "API_TOKEN", *ON]
    with Ending(command, cwd=site.clone.root, env=site.clone.variables(), text=True, stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as fab:  # fmt: skip
        assert fab.stdin
        assert fab.stdout
        with fab.stdin as stdin:
            stdin.write("fifth")
        for line in fab.stdout:
            if "RESTARTED" in line:
                fab.send_signal(signal.SIGINT)
    assert (token(site), stored(site)) == ("fifth", "fifth")
    assert site.fab("doctor").out.startswith("shire01  ready\n")
    write(site.clone)
    done(set_to(site.clone, "API_TOKEN", "fourth"))


def test_a_rollback_keeps_todays_secrets_and_is_refused_without_one_that_it_uses(site: Site) -> None:
    first = site.clone.release()
    write(site.clone, secrets={"TLS_KEY": "file"}, hooks=None)
    second = site.clone.release()
    assert "API_TOKEN, which serves" not in site.done("deploy").both
    # The former release may still boot, or be gone back to: its secret is still handed out, if it is there.
    assert token(site) is None
    done(set_to(site.clone, "TLS_KEY", "today's"))
    site.done("rollback", "--to", first)
    assert token(site) == "fourth"
    assert ask(site.machine.address, "/file").json()["key"] == b"today's".hex()
    refused = site.clone.fab("secrets.unset", "API_TOKEN", *ON)
    assert (refused.status, "which serves or would after a boot, uses the secret API_TOKEN" in refused.out) == (1, True)
    assert stored(site) == "fourth"

    site.done("rollback", "--to", second)
    assert "not in service.yaml" in site.done("secrets.list").out
    warned = site.clone.done("secrets.unset", "API_TOKEN", *ON).out
    assert f"warning: {first} kept here use API_TOKEN" in warned
    before = site.history
    ended = site.fab("rollback", "--to", first)
    assert ended.status == 1
    assert f"release {first} uses the secret API_TOKEN, which the host lacks" in ended.out
    assert site.history == before
    assert site.sh("ls /etc/myapp/secrets") == "TLS_KEY"
    # The units still name it, and they start.
    site.machine.reboot()
    assert site.answering == second


def test_without_data_remove_keeps_them_and_with_it_they_go(site: Site) -> None:
    site.done("remove", "--yes")
    assert site.sh("ls /etc/myapp/secrets") == "TLS_KEY"
    site.done("deploy")
    assert ask(site.machine.address, "/file").json()["key"] == b"today's".hex()
    site.done("remove", "--yes", "--data")
    assert site.sh("ls -d /etc/myapp 2>/dev/null || true") == ""
