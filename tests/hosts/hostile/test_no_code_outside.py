"""No code of a release or its wheels runs outside the service's sandbox, whatever verb handles them on a host."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.promises.words import SANDBOXED
from tests.support import distributions
from tests.support.clone import Clone, make, quicken
from tests.support.hosts import MakeHosts
from tests.support.site import ROOT, Site

RAN = "/opt/ran"
"""Writable for every account, but not from the sandbox, which uses STATE_DIRECTORY."""

TELL = f"""import os
for place in ("{RAN}", os.environ.get("STATE_DIRECTORY", "")):
    try:
        with open(place + "/ran", "a") as file:
            file.write("%d %s\\n" % (os.getuid(), {{name!r}}))
        break
    except OSError:
        pass
"""
SHADOW = """
version_info = ({numbers})
__version__ = ".".join(map(str, version_info))
SERVER = "gunicorn"
SERVER_SOFTWARE = SERVER + "/" + __version__
"""
PROJECT = """
[project]
name = "own"
version = "1.0"
[build-system]
requires = []
build-backend = "own_backend"
backend-path = ["."]
"""
OWN_BACKEND = """
import zipfile
def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    name = "own-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel_directory + "/" + name, "w") as wheel:
        for path, text in FILES.items():
            wheel.writestr(path, text)
        wheel.writestr("own-1.0.dist-info/RECORD", "".join(path + ",,\\n" for path in FILES))
    return name
"""
PROGRAM = f"#!/bin/sh\necho program >>{RAN}/ran\nexit 1\n"


def tell(name: str) -> str:
    """Return a module that appends a line with its uid there."""
    return TELL.format(name=name)


def mischief(site: Site, links: Path, version: str = "1.0", **files: str) -> None:
    """Lock a wheel that runs code whenever a Python starts in its venv."""
    numbers = re.search(r"^gunicorn==([0-9.]+)", site.read("service/requirements.txt"), re.MULTILINE)
    assert numbers
    brought = {
        "mischief.pth": f"import os; exec({tell('pth')!r})\n",
        "sitecustomize.py": tell("sitecustomize"),
        "usercustomize.py": tell("usercustomize"),
        # Later in the alphabet than gunicorn, so that it wins.
        "gunicorn/__init__.py": tell("gunicorn") + SHADOW.format(numbers=numbers[1].replace(".", ", ")),
        f"mischief-{version}.data/scripts/activate": PROGRAM,
        **files,
    }
    digest = distributions.wheel(links, "mischief", version, files=brought)
    site.clone.environment["PIP_FIND_LINKS"] = f"{os.environ.get('PIP_FIND_LINKS', '')} {links}".strip()
    lock = re.sub(r"mischief==.*\n.*\n", "", site.read("service/requirements.txt"))
    site.clone.write("service/requirements.txt", lock + f"mischief=={version} \\\n    --hash=sha256:{digest}\n")


def own_mischief(site: Site) -> None:
    """Make the service a package whose wheel runs code whenever a Python finds it, and has programs of the system."""
    info = "own-1.0.dist-info"
    files = {
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: own\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "sitecustomize.py": tell("the site"),
        "own.pth": f"import os; exec({tell('pth of the site')!r})\n",
        **{f"own-1.0.data/scripts/{name}": PROGRAM for name in ("sudo", "systemctl", "sync", "gunicorn")},
    }
    site.clone.write("service/pyproject.toml", PROJECT)
    site.clone.write("service/own_backend.py", f"FILES = {files!r}\n{OWN_BACKEND}")
    lock = site.read("service/requirements.txt")
    site.clone.write("service/requirements.txt", re.sub(r"# requirements.in sha256: .*\n", "", lock))


@pytest.fixture(scope="module")
def site(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> Site:
    hosts = module_hosts()
    made = Site(make(tmp_path_factory.mktemp("mischief"), hosts.inventory), hosts[0])
    quicken(made.clone)
    # A Python started with the code in its path loads this module.
    made.clone.write("service/sitecustomize.py", tell("the code"))
    made.clone.replace("service/service.yaml", "keep: 5", "keep: 2")
    made.sh(f"mkdir -m 0777 {RAN} && chmod 0777 {RAN}")
    own_mischief(made)
    mischief(made, tmp_path_factory.mktemp("links"))
    made.deploy()
    return made


def require_sandboxed(site: Site) -> None:
    """Assert that the code ran only as the service, in its sandbox."""
    assert site.sh(f"cat {RAN}/ran 2>/dev/null || true") == ""
    told = {tuple(line.split(" ", 1)) for line in site.sh("cat /var/lib/myapp/ran").splitlines()}
    uid = site.sh("id -u myapp")
    # A distribution may have its own sitecustomize, which comes first.
    assert {(uid, "pth"), (uid, "gunicorn"), (uid, "the site")} <= told
    assert {who for who, _ in told} == {uid}


def deploy_broken(clone: Clone, failpoint: str) -> None:
    """Run a deploy that breaks there."""
    clone.environment["FAILPOINT"] = failpoint
    try:
        assert clone.fab("deploy", "-H", "all").status == 1
    finally:
        del clone.environment["FAILPOINT"]


@pytest.mark.promise(SANDBOXED, "a wheel that acts wherever a Python starts, and every verb")
def test_no_verb_runs_code_of_a_release_or_its_wheels_outside_the_sandbox(site: Site) -> None:
    """Once: staging ran code of wheels as the deploy account: a .pth, a package called gunicorn, or a bin/python."""
    require_sandboxed(site)
    site.edit()
    deploy_broken(site.clone, "controller.staged=fail")
    with site.changed(
        "service/service.yaml", site.read("service/service.yaml").replace("probation: 0", "probation: 1")
    ):
        site.done("deploy", "--wait")
    site.done("rollback")
    site.done("restart")
    for verb in ("plan", "doctor", "status", "health", "releases", "history", "drift"):
        site.fab(verb)
    site.done("stop")
    site.done("start")
    site.done("setup")
    require_sandboxed(site)
    # More than `keep` allows, so that some are pruned.
    kept = site.releases
    for _ in range(3):
        site.deploy()
    assert not kept & site.releases
    require_sandboxed(site)


@pytest.mark.promise(SANDBOXED, "a damaged venv of such a wheel", part=1)
@pytest.mark.parametrize(
    "damage",
    [
        "rm -r venvs/*/lib/python3*/site-packages/gunicorn",
        "echo '# by hand' >>$(ls venvs/*/lib/python3*/site-packages/gunicorn/__init__.py)",
        "echo >$(ls -d venvs/*/lib/python3*/site-packages)/by_hand.py",
        "rm venvs/*/bin/python",
        "rm venvs/*/FILES",
    ],
)
def test_a_damaged_venv_is_found_without_running_anything_of_it(site: Site, damage: str) -> None:
    site.deploy()
    site.sh(f"cd {ROOT} && {damage}")
    site.edit()
    assert "venv: building" in site.done("deploy").out
    assert site.answering == site.clone.release()
    require_sandboxed(site)


@pytest.mark.promise(SANDBOXED, "a wheel that brings the venv's own Python")
def test_a_wheel_that_brings_the_python_of_its_venv_is_stopped_by_the_check(
    site: Site, tmp_path_factory: pytest.TempPathFactory
) -> None:
    before = site.deploy()
    lock = site.read("service/requirements.txt")
    with site.changed("service/requirements.txt", lock):
        mischief(site, tmp_path_factory.mktemp("links"), "2.0", **{"mischief-2.0.data/scripts/python": PROGRAM})
        assert site.fab("deploy").status == 1
    assert site.answering == before
    require_sandboxed(site)


@pytest.mark.promise(SANDBOXED, "a wheel with names that lead out of its venv", part=1)
@pytest.mark.parametrize(
    "name", ["../../../../../../.profile", "/home/deploy/.profile", "mischief-3.0.data/data/../../x"]
)
def test_a_wheel_that_would_write_outside_its_venv_is_refused(
    site: Site, tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    before = site.deploy()
    with site.changed("service/requirements.txt", site.read("service/requirements.txt")):
        mischief(site, tmp_path_factory.mktemp("links"), "3.0", **{name: PROGRAM})
        ended = site.fab("deploy")
    assert ended.status == 1
    assert "outside of the venv" in ended.out
    assert "Traceback" not in ended.both
    assert site.answering == before
    require_sandboxed(site)
