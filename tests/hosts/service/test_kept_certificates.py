"""A pair that another program of the host keeps: nginx shows each new one that is good, and never another."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.engine.sandbox import Machine
from tests.support.certificates import Authority, serial
from tests.support.clone import Clone, hurried, make
from tests.support.echo_service import deployed, put
from tests.support.front_door import NAME, ask, release_of
from tests.support.hosts import Hosts, MakeHosts
from tests.support.waiting import until

LIVE = f"/etc/letsencrypt/live/{NAME}"
ON_HOST = {
    "server_name": NAME,
    "tls": {"on_host": {"certificate": f"{LIVE}/fullchain.pem", "key": f"{LIVE}/privkey.pem"}},
}
UNIT = "myapp-certificate.service"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The authority that the clients of these tests trust."""
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def host(module_hosts: MakeHosts, authority: Authority) -> Hosts:
    """One host, where certbot has a certificate."""
    made = module_hosts()
    made[0].sh(f"mkdir -m 700 /etc/letsencrypt && mkdir -p {LIVE} /etc/letsencrypt/archive")
    renew(made[0], authority, 1)
    return made


@pytest.fixture(scope="module")
def clone(host: Hosts, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone that is deployed with it."""
    return deployed(hurried(make(tmp_path_factory.mktemp("kept"))), host, nginx=ON_HOST)


def renew(machine: Machine, authority: Authority, number: int) -> None:
    """Renew as certbot does: new files, then a new link to each."""
    certificate, key = authority.folder / "new.pem", authority.folder / "new.key"
    authority.issue(certificate, key)
    settle(machine)
    for name, path in (("fullchain", certificate), ("privkey", key)):
        place = f"/etc/letsencrypt/archive/{name}{number}.pem"
        machine.sh(f"umask 077; cat >{place}; ln -sf {place} {LIVE}/{name}.pem", path.read_bytes())


def write(machine: Machine, **texts: Path) -> None:
    """Write files in place, with one command: a busy machine may be slow between two."""
    settle(machine)
    machine.sh(written(**texts))


def written(**texts: Path) -> str:
    return "".join(f"cat >{LIVE}/{name}.pem <<'END'\n{path.read_text()}END\n" for name, path in texts.items())


def settle(machine: Machine) -> None:
    """Wait until systemd looks for changes again: it does not while the unit is at work."""
    there = "systemctl is-enabled -q myapp-certificate.path"
    asked = f"! {there} || systemctl show -p SubState --value myapp-certificate.path | grep waiting"
    until(lambda: machine.sh(asked).returncode == 0)


def shown(host: Hosts, authority: Authority) -> str:
    return serial(host[0].address, authority.certificate)


def state(machine: Machine) -> str:
    return machine.sh(f"systemctl show -p ActiveState --value {UNIT}").stdout.decode().strip()


def sources(machine: Machine) -> bytes:
    return machine.sh(f"sha256sum {LIVE}/*; stat -c '%a %Y' {LIVE}/* /etc/letsencrypt/archive/*").stdout


def test_clients_see_it_and_only_root_reads_the_key(clone: Clone, host: Hosts, authority: Authority) -> None:
    assert shown(host, authority)
    assert host[0].sh("stat -c '%a %U %n' /etc/myapp/tls/*").stdout.decode().splitlines() == [
        "644 root /etc/myapp/tls/certificate.pem",
        "600 root /etc/myapp/tls/nobody.pem",
        "600 root /etc/myapp/tls/pair.pem",
    ]
    assert clone.done("status", "-H", "shire01", "--json").json()["hosts"][0]["certificate_days"] in {29, 30}
    assert clone.done("plan", "-H", "shire01", "--json").json()["hosts"][0]["unchanged"]
    assert clone.done("drift", "-H", "shire01", "--as", "root").status == 0


def test_a_renewed_one_is_shown_without_a_run_of_ours(clone: Clone, host: Hosts, authority: Authority) -> None:
    machine, before = host[0], shown(host, authority)
    main = machine.sh("systemctl show -p MainPID nginx").stdout
    renew(machine, authority, 2)
    kept = sources(machine)
    until(lambda: shown(host, authority) != before)
    assert machine.sh("systemctl show -p MainPID nginx").stdout == main, "nginx was restarted, not reloaded"
    assert release_of(machine.address) == clone.release()
    for verb in ("deploy", "setup"):
        clone.done(verb, "-H", "shire01")
    assert clone.done("drift", "-H", "shire01", "--as", "root").status == 0
    assert sources(machine) == kept


def test_one_that_is_written_in_place_is_shown_too(clone: Clone, host: Hosts, authority: Authority) -> None:
    assert clone.inventory
    before = shown(host, authority)
    certificate, key = authority.folder / "placed.pem", authority.folder / "placed.key"
    authority.issue(certificate, key)
    write(host[0], privkey=key, fullchain=certificate)
    until(lambda: shown(host, authority) != before)


def test_one_that_comes_while_the_same_is_looked_at_is_shown_too(
    clone: Clone, host: Hosts, authority: Authority
) -> None:
    """Once: the unit ended at once if nothing had changed, and what came meanwhile was seen a day later."""
    assert clone.inventory
    before = shown(host, authority)
    certificate, key = authority.folder / "late.pem", authority.folder / "late.key"
    authority.issue(certificate, key)
    settle(host[0])
    read = "until [ -s /etc/myapp/tls/.taken.two ]; do :; done"
    host[0].sh(f"systemctl start --no-block {UNIT}; {read}\n{written(privkey=key, fullchain=certificate)}")
    until(lambda: shown(host, authority) != before)


def test_one_that_comes_as_the_look_ends_is_shown_too(clone: Clone, host: Hosts, authority: Authority) -> None:
    """Once: systemd did not watch yet, and nothing looked again: it was seen a day later."""
    assert clone.inventory
    machine, before = host[0], shown(host, authority)
    certificate, key = authority.folder / "last.pem", authority.folder / "last.key"
    authority.issue(certificate, key)
    settle(machine)
    drop_in = f"/run/systemd/system/{UNIT}.d"
    once = f"[ -e {drop_in}/once ] && exit\n: >{drop_in}/once\n{written(privkey=key, fullchain=certificate)}"
    machine.sh(f"mkdir -p {drop_in}; cat >{drop_in}/late.sh", once.encode())
    # As the service's last act: its script has read the files, and has ended.
    late = f"[Service]\nExecStopPost=+/bin/sh {drop_in}/late.sh\n"
    machine.sh(f"cat >{drop_in}/late.conf; systemctl daemon-reload", late.encode())
    try:
        machine.sh(f"touch {LIVE}/fullchain.pem")
        until(lambda: shown(host, authority) != before)
    finally:
        machine.sh(f"rm -r {drop_in}; systemctl daemon-reload")


def test_of_a_file_that_has_both_only_root_reads_the_key(clone: Clone, host: Hosts, authority: Authority) -> None:
    """Once: every account of the host could read it. Other programs keep both in one file."""
    assert clone.inventory
    before, public = shown(host, authority), "/etc/myapp/tls/certificate.pem"
    certificate, key = authority.folder / "joined.pem", authority.folder / "joined.key"
    authority.issue(certificate, key)
    cut = certificate.read_text().partition("-----END")[0]
    certificate.write_text(cut + key.read_text() + certificate.read_text() + cut)
    write(host[0], privkey=certificate, fullchain=certificate)
    until(lambda: shown(host, authority) != before)
    counts = host[0].sh(f"grep -c PRIVATE {public} {LIVE}/fullchain.pem; stat -c %a {public}").stdout.decode().split()
    assert counts == [f"{public}:0", f"{LIVE}/fullchain.pem:2", "644"]


def test_one_that_does_not_belong_to_its_key_is_told_and_not_shown(
    clone: Clone, host: Hosts, authority: Authority
) -> None:
    machine, before = host[0], shown(host, authority)
    certificate, key = authority.folder / "other.pem", authority.folder / "other.key"
    authority.issue(certificate, key)
    write(machine, fullchain=certificate)
    until(lambda: state(machine) == "failed")
    assert shown(host, authority) == before
    machine.sh("systemctl restart nginx")
    assert shown(host, authority) == before
    told = f"{LIVE}/fullchain.pem and {LIVE}/privkey.pem do not belong together"
    assert told in machine.sh(f"journalctl --sync; journalctl -u {UNIT}").stdout.decode()
    assert told in clone.fab("doctor", "-H", "shire01").both
    assert told in clone.done("status", "-H", "shire01").both
    ended = clone.fab("setup", "-H", "shire01")
    assert ended.status == 1
    assert "do not belong together" in ended.both
    assert shown(host, authority) == before
    write(machine, privkey=key)
    until(lambda: shown(host, authority) != before)
    until(lambda: state(machine) == "inactive")
    assert "do not belong together" not in clone.done("status", "-H", "shire01").both


def test_nginx_that_refuses_its_configuration_keeps_the_former(clone: Clone, host: Hosts, authority: Authority) -> None:
    machine, before = host[0], shown(host, authority)
    machine.sh("echo nonsense >/etc/nginx/conf.d/broken.conf")
    renew(machine, authority, 3)
    until(lambda: state(machine) == "failed")
    machine.sh("rm /etc/nginx/conf.d/broken.conf; systemctl restart nginx")
    assert shown(host, authority) == before
    assert "nginx refuses its configuration" in clone.fab("doctor", "-H", "shire01").both
    machine.sh("systemctl start myapp-certificate.service")
    until(lambda: shown(host, authority) != before)


def test_another_certificate_takes_its_place_and_it_comes_back(clone: Clone, host: Hosts, authority: Authority) -> None:
    machine, kept = host[0], sources(host[0])
    put(clone, nginx={"server_name": NAME}).done("deploy", "-H", "shire01")
    assert ask(machine.address).status == 200
    files = machine.sh("ls /etc/myapp/tls; ls /etc/systemd/system | grep certificate; nginx -t").stdout.decode()
    assert files.split() == ["certificate.pem", "key.pem", "nobody.pem"]
    with pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED"):
        shown(host, authority)
    put(clone, nginx=ON_HOST).done("deploy", "-H", "shire01")
    assert shown(host, authority)
    assert machine.sh("ls /etc/myapp/tls").stdout.decode().split() == ["certificate.pem", "nobody.pem", "pair.pem"]
    assert sources(machine) == kept


def test_removing_the_service_leaves_the_pair(clone: Clone, host: Hosts) -> None:
    kept = sources(host[0])
    clone.done("remove", "-H", "shire01", "--as", "root", "--yes", "--data")
    assert sources(host[0]) == kept
    left = host[0].sh("ls /etc/myapp /etc/systemd/system; systemctl list-units --all 'myapp*'").stdout.decode()
    assert "myapp" not in left
