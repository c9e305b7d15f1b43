"""Links planted by accounts other than root in all places where root works: root follows none.

Where the kernel lets an account make hard links to files of others (fs.protected_hardlinks=0), it plants those, too;
on any other kernel root plants them in its place.
"""

from __future__ import annotations

import pytest

from tasks.engine.host import host_program
from tests.promises.words import ROOTS_OWN
from tests.support.fleet import Fleet, deployed
from tests.support.hosts import MakeHosts

ROOT = "/opt/apps/myapp"
NAMED = (
    *("current", "history.jsonl", ".history-new", "maintenance", "maintenance/state.json", ".maintenance"),
    *("releases", "releases/.part", "releases/.part-old", "venvs", "venvs/.part", "venvs/.part-old"),
    *("wheels", "wheels/.coming", "wheels/.part", ".program", f".program/{host_program.digest()}"),
    *("slots", "slots/blue", "slots/blue/release", "slots/green", "slots/green/release", "slots/green/is-green"),
)
"""Every path below the deploy account's directory that the program names, except paths unique to a run."""
PRECIOUS = "/etc/precious"
# All attributes that root must not change: owner, mode, size, mtime, and the content.
LOOK = f"find {PRECIOUS} -printf '%p %u %g %m %s %T@\\n' | sort; cat {PRECIOUS}/file {PRECIOUS}/directory/inner"


@pytest.fixture(scope="module")
def fleet(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    """One host that serves, with a copy of its first state."""
    made = deployed(module_hosts, tmp_path_factory.mktemp("links"), 1)
    # Until its end the guard of the deploy changes files there.
    made.sh(0, "flock -w 50 /run/myapp/lock/guard true")
    made.sh(0, f"cp -a {ROOT} /root/kept; cp -a /run/myapp /root/kept-run")
    return made


def precious(fleet: Fleet) -> str:
    """Recreate the files that root must leave alone; return their attributes."""
    fleet.sh(0, f"rm -rf {PRECIOUS}; install -d -m 700 {PRECIOUS} {PRECIOUS}/directory; cd {PRECIOUS}; umask 077; "
                "echo keep | tee file directory/inner")  # fmt: skip
    return fleet.sh(0, LOOK)


def restored(fleet: Fleet) -> None:
    fleet.sh(0, f"rm -rf {ROOT}; cp -a /root/kept {ROOT}; rm -rf /run/myapp/try /run/myapp/ctl; "
                "cp -a /root/kept-run/try /root/kept-run/ctl /run/myapp/")  # fmt: skip


def plant(fleet: Fleet, path: str, kind: str) -> None:
    """Replace a path by a link, as the account that owns its directory."""
    into = {"to a file": "file", "to a directory": "directory", "to nothing": "nothing", "hard": "file"}[kind]
    owner = fleet.sh(0, f"mkdir -p $(dirname {path}); stat -c %U $(dirname {path})").strip()
    if kind == "hard":
        fleet.sh(0, f"rm -rf {path}; ln {PRECIOUS}/{into} {path}")
    else:
        fleet.sh(0, f"runuser -u {owner} -- sh -c 'rm -rf {path}; ln -s {PRECIOUS}/{into} {path}'")


KINDS = ["to a file", "to a directory", "to nothing", "hard"]
PLACES = [*(f"{ROOT}/{path}" for path in NAMED), "/run/myapp/try/blue", "/run/myapp/ctl/probation"]


@pytest.mark.promise(ROOTS_OWN, "a link planted by the deploy account, and setup as root", part=2)
@pytest.mark.parametrize(
    ("path", "kind"), [(path, kind) for path in PLACES for kind in KINDS if kind != "hard" or path.startswith(ROOT)]
)
def test_setup_follows_no_link(fleet: Fleet, path: str, kind: str) -> None:
    before = precious(fleet)
    try:
        plant(fleet, path, kind)
        ended = fleet.clone.fab("setup", "--as", "root")
        assert ended.status in (0, 1)
        assert "Traceback" not in ended.err
        assert fleet.sh(0, LOOK) == before, ended.both
        if ended.status:
            assert "next:" in ended.both
    finally:
        restored(fleet)


DATA, CACHE = "/var/lib/myapp", "/var/cache/myapp"


@pytest.mark.promise(ROOTS_OWN, "links planted by the service in its data and its caches")
@pytest.mark.parametrize("owner", ["myapp", "root"])
def test_systemd_follows_no_link_of_the_service(fleet: Fleet, owner: str) -> None:
    before = precious(fleet)
    for place in (DATA, CACHE):
        plant(fleet, f"{place}/deep/file", "to a file")
        plant(fleet, f"{place}/deep/directory", "to a directory")
        plant(fleet, f"{place}/deep/nothing", "to nothing")
        if owner == "myapp":
            plant(fleet, f"{place}/deep/hard", "hard")
        # If the owner is wrong, systemd gives all files below to the right one: only the kernel can protect hard
        # links.
        fleet.sh(0, f"chown {owner} {place}")
    for verb in (["restart"], ["stop"], ["start"], ["setup", "--as", "root"]):
        fleet.clone.done(*verb)
    assert fleet.sh(0, f"stat -c %U {DATA} {CACHE}").split() == ["myapp", "myapp"]
    assert fleet.sh(0, LOOK) == before


def test_nobody_can_put_another_directory_in_the_place_of_its_own(fleet: Fleet) -> None:
    for account, path in (
        ("deploy", ROOT), ("deploy", "/run/myapp/try"), ("deploy", "/run/myapp/ctl"), ("deploy", "/run/myapp"),
        ("deploy", "/etc/myapp"), ("myapp", DATA), ("myapp", CACHE), ("myapp", ROOT), ("myapp", "/run/myapp"),
    ):  # fmt: skip
        assert fleet.hosts[0].sh(f"runuser -u {account} -- mv {path} {path}.away").returncode != 0, path
        assert fleet.hosts[0].sh(f"runuser -u {account} -- ln -sfn {PRECIOUS} {path}.new").returncode != 0, path


@pytest.mark.promise(ROOTS_OWN, "links planted by the deploy account and the service, and remove as root")
def test_remove_follows_no_link(fleet: Fleet) -> None:
    before = precious(fleet)
    # A path below another one would be planted through it.
    leaves = [path for path in PLACES if not any(other.startswith(f"{path}/") for other in PLACES)]
    more = [f"{folder}/{kind[-4:]}" for folder in (ROOT, DATA, CACHE, f"{ROOT}/releases") for kind in KINDS]
    for number, path in enumerate([*leaves, *more]):
        plant(fleet, path, KINDS[number % (3 if path.startswith("/run") else 4)])
    fleet.clone.done("remove", "--yes", "--data")
    assert fleet.sh(0, LOOK) == before
    assert fleet.sh(0, f"ls -d {ROOT} {DATA} {CACHE} /run/myapp /etc/myapp 2>/dev/null || :") == ""
