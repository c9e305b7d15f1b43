"""The state check finds each fault that it is there for, made once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from tests.support.clone import make, quicken
from tests.support.hosts import MakeHosts
from tests.support.site import ROOT, Site
from tests.support.state_check import check, settled_after, tidy

LIVE = f"{ROOT}/current/release"
PAGE = f"{LIVE}/code/app/health.py"
VIEWS = f"$(echo {LIVE}/venv/lib/python3*/site-packages/flask/views.py)"
KEPT = "/root/kept"

# A command that breaks the host, a word of the check's message, and the command that undoes it.
BROKEN = {
    "a file of the code is edited": (f"sed -i 1i# {PAGE}", "code is not what MANIFEST says", f"cp -p {KEPT} {PAGE}"),
    "a file of the code is missing": (f"rm {PAGE}", "code is not what MANIFEST says", f"cp -p {KEPT} {PAGE}"),
    "the code has a file too many": (f"touch {PAGE}.new", "other files than MANIFEST", f"rm {PAGE}.new"),
    "a launcher is missing": (
        f"mv {LIVE}/run/web {LIVE}/run/wet",
        "not what LAUNCHERS says",
        f"mv {LIVE}/run/wet {LIVE}/run/web",
    ),
    "the venv has another file": (f"echo >>{VIEWS}", "its RECORD says", f"truncate -s -1 {VIEWS}"),
    "the venv lost a file": (
        f"mv {VIEWS} {KEPT}-views",
        "views.py is missing",
        f"mv {KEPT}-views {LIVE}/$(cat {KEPT}-at)",
    ),
    "the venv does not import": (f"mv {LIVE}/venv {LIVE}/vent", "does not import", f"mv {LIVE}/vent {LIVE}/venv"),
    "the slot is stopped": ("systemctl stop myapp@SLOT.service", "inactive", "systemctl start myapp"),
    "nginx is stopped": ("systemctl stop nginx", "refused", "systemctl start nginx"),
    "nginx has a bad file": (
        "echo 'nonsense on;' >/etc/nginx/conf.d/bad.conf",
        "nonsense",
        "rm /etc/nginx/conf.d/bad.conf",
    ),
    # systemd reports the unit as started when the launcher begins, which only then reads its release.
    "a further process is of another release": (
        f"ln -sfn ../../releases/OLD {LIVE} && systemctl restart myapp-clock@SLOT"
        f" && until pgrep -x -u myapp sleep; do :; done && ln -sfn ../../releases/NEW {LIVE}",
        "myapp-clock@SLOT.service",
        "systemctl restart myapp-clock@SLOT",
    ),
    "a worker of the slot has another environment": (
        f"cp -p {LIVE}/run/web {KEPT}-web && sed -i s/RELEASE=NEW/RELEASE=OLD/ {LIVE}/run/web"
        " && systemctl restart myapp",
        "OLD",
        f"mv {KEPT}-web {LIVE}/run/web && systemctl restart myapp",
    ),
}

# The same for what a run may leave.
UNTIDY = {
    "a part": (f"mkdir {ROOT}/releases/.part-x", ".part-x", f"rmdir {ROOT}/releases/.part-x"),
    "half a link": ("ln -s nowhere /run/myapp/live.new-x", "live.new-x", "rm /run/myapp/live.new-x"),
    "a permission to start": ("touch /run/myapp/try/OTHER", "try/", "rm /run/myapp/try/OTHER"),
    "half a maintenance": (f"mkdir {ROOT}/.maintenance-x", ".maintenance-x", f"rmdir {ROOT}/.maintenance-x"),
    "a setup's directory": ("mkdir /run/integrators-loop.x", "integrators-loop.x", "rmdir /run/integrators-loop.x"),
    "half a file of root's": ("touch /etc/myapp/setup.new-x", "setup.new-x", "rm /etc/myapp/setup.new-x"),
    "traffic that does not follow the committed slot": (
        "systemctl start myapp-live@none.service",
        "none",
        "systemctl start myapp-live@SLOT.service",
    ),
    "an action without an outcome": (
        f"cp {ROOT}/history.jsonl {KEPT} && head -n -1 {KEPT} >{ROOT}/history.jsonl",
        "cut off",
        f"cat {KEPT} >{ROOT}/history.jsonl",
    ),
}


@pytest.fixture(scope="module")
def served(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> tuple[Site, str, str]:
    """A host that serves, with a further process; the release before, and the one that serves."""
    hosts = module_hosts()
    site = Site(make(tmp_path_factory.mktemp("state"), hosts.inventory), hosts[0])
    quicken(site.clone)
    site.clone.replace("service/service.yaml", "threads: 1}", "threads: 1}\n  clock: {command: sleep 1d}")
    made = site, site.deploy(), site.deploy()
    site.sh(f"cp -p {PAGE} {KEPT}; cd {LIVE} && echo venv/lib/python3*/site-packages/flask/views.py >{KEPT}-at")
    return made


def filled(text: str, served: tuple[Site, str, str]) -> str:
    """Fill in this host's current values."""
    site, old, new = served
    return text.replace("OLD", old).replace("NEW", new).replace("SLOT", site.slot).replace("OTHER", site.other)


def sampled(names: Iterable[str], further: pytest.MarkDecorator) -> list[Any]:
    """Mark two of three of these cases."""
    return [pytest.param(name, marks=further) if number % 3 else name for number, name in enumerate(names)]


@pytest.mark.parametrize("fault", sampled(BROKEN, pytest.mark.further("test_it_tells_what_is_broken")))
def test_it_tells_what_is_broken(served: tuple[Site, str, str], fault: str) -> None:
    site, old, new = served
    broken, told, mended = (filled(text, served) for text in BROKEN[fault])
    site.sh(broken)
    with pytest.raises((AssertionError, OSError), match=told):
        check(site, old, new)
    site.sh(f"systemctl reset-failed; {mended}")
    assert check(site, old, new) == new


def test_a_command_that_changes_nothing_settles_what_is_settled(served: tuple[Site, str, str]) -> None:
    # Before the faults below: one is a switch by hand, which `fab history --verify` finds from then on.
    site, old, new = served
    tidy(site)
    assert settled_after(site, ("deploy", "-H", "shire01"), old, new) == new


@pytest.mark.parametrize("left", sampled(UNTIDY, pytest.mark.further("test_it_tells_what_was_left")))
def test_it_tells_what_was_left(served: tuple[Site, str, str], left: str) -> None:
    dirt, told, cleared = (filled(text, served) for text in UNTIDY[left])
    served[0].sh(dirt)
    with pytest.raises(AssertionError, match=told):
        tidy(served[0])
    served[0].sh(cleared)


def test_it_tells_a_release_that_was_not_allowed(served: tuple[Site, str, str]) -> None:
    site, old, new = served
    with pytest.raises(AssertionError, match=f"{new} is committed"):
        check(site, old)
