"""A rollback whose target differs from what was staged."""

from __future__ import annotations

import random
import shlex
from collections.abc import Iterator

import pytest

from tests.promises.words import WHOLE
from tests.support.clone import make, quicken
from tests.support.hosts import MakeHosts
from tests.support.site import ROOT, Site, Watch
from tests.support.state_check import check, settled_after

KEPT = "/root/kept"
MISSING = ("", "MANIFEST", "run/web", "run", "code/app/__init__.py", "code", "venv")
"""The path removed below the target; "" is the target itself."""

FLIP = """
import sys
with open(sys.argv[1], "r+b") as file:
    text = bytearray(file.read())
    text[int(sys.argv[2]) % len(text)] ^= 1 << int(sys.argv[3])
    file.seek(0)
    file.write(text)
"""
"""Program: flips a bit of a file. Arguments: file, position, and bit of the byte."""


@pytest.fixture(scope="module")
def two(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> tuple[Site, str, str]:
    """A host with two releases: the target, and the one that serves."""
    hosts = module_hosts()
    site = Site(make(tmp_path_factory.mktemp("targets"), hosts.inventory), hosts[0])
    quicken(site.clone)
    site.clone.replace("service/service.yaml", "timeout: 30", "timeout: 5 ")
    target, serving = site.deploy(), site.deploy()
    site.sh(f"cp -a {ROOT}/releases/{target} {KEPT}")
    return site, target, serving


@pytest.fixture
def damaged(two: tuple[Site, str, str]) -> Iterator[tuple[Site, str, str]]:
    """The host of `two`; after the test the target is whole again, and the other release serves."""
    yield two
    site, target, serving = two
    site.sh(f"rm -rf {ROOT}/releases/{target} && cp -a {KEPT} {ROOT}/releases/{target}")
    if site.answering != serving:
        site.done("rollback", "--to", serving)


def refused(site: Site, target: str, serving: str) -> None:
    """Assert that a rollback to it fails with a cause, it never answers, and the release that serves is untouched."""
    pids = site.sh("pgrep -u myapp")
    with Watch(site.machine.address) as watch:
        ended = site.fab("rollback", "--to", target)
    assert ended.status == 1, ended.both
    assert "Traceback" not in ended.both
    assert f"serves now: release {serving}" in ended.out
    assert watch.seen == {serving}
    assert site.sh("pgrep -u myapp") == pids
    assert check(site, serving) == serving


@pytest.mark.promise(WHOLE, "a part of the rollback's target is missing", part=1)
@pytest.mark.parametrize("path", MISSING)
def test_a_target_that_is_not_whole_is_refused(damaged: tuple[Site, str, str], path: str) -> None:
    site, target, serving = damaged
    site.sh(f"rm -rf {ROOT}/releases/{target}/{path}")
    refused(site, target, serving)


@pytest.mark.promise(WHOLE, "a byte of the rollback's target is flipped", part=1)
@pytest.mark.parametrize("number", range(16))
def test_a_target_with_a_flipped_byte_is_refused(
    damaged: tuple[Site, str, str], dice: random.Random, number: int
) -> None:
    site, target, serving = damaged
    files = site.sh(f"cd {ROOT}/releases/{target} && find code MANIFEST -type f -size +0 ! -name '*.pyc' | sort")
    path = f"{ROOT}/releases/{target}/{dice.choice(files.splitlines())}"
    site.sh(f"python3 -c {shlex.quote(FLIP)} {path} {dice.randrange(10**6)} {number % 8}")
    refused(site, target, serving)


@pytest.mark.promise(WHOLE, "the launcher of the rollback's target is edited", part=1)
@pytest.mark.parametrize("edit", ["s/hello/hullo/", "s/^# .*/# edited/"])
def test_a_target_with_an_edited_launcher_is_refused(damaged: tuple[Site, str, str], edit: str) -> None:
    """Once: a rollback started a release with an edited launcher."""
    site, target, serving = damaged
    site.sh(f"sed -i '{edit}' {ROOT}/releases/{target}/run/web")
    refused(site, target, serving)


def test_the_deploy_of_its_content_mends_the_target(damaged: tuple[Site, str, str]) -> None:
    site, target, serving = damaged
    site.sh(f"echo >>{ROOT}/releases/{target}/code/app/__init__.py")
    with site.changed("service/edition.txt", "1\n"):
        assert site.clone.release() == target
        assert settled_after(site, ("deploy", "-H", "shire01"), target) == target
    site.done("rollback", "--to", serving)
    check(site, serving)
