"""The host's Python loses files in the middle of a probation, as in an upgrade of the distribution."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tasks.engine.host import host_program
from tests.promises.words import HELD_BACK, WHOLE
from tests.support.hosts import MakeHosts
from tests.support.probation_site import NEVER, ProbationSite, trial
from tests.support.site import ROOT
from tests.support.state_check import check


@pytest.fixture(scope="module")
def site(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> ProbationSite:
    return trial(module_hosts(), tmp_path_factory.mktemp("python"))


@contextmanager
def changed(site: ProbationSite, path: str, do: str) -> Iterator[None]:
    """Replace the target of this path on the host, or remove it, for the block. do: commands; $1 is the target."""
    found = site.sh(f"readlink -f {path}")
    site.sh(f"mv {found} {found}.away; set -- {found}; {do}")
    try:
        yield
    finally:
        site.sh(f"rm -rf {found}; mv {found}.away {found}")


LIBRARY = "$(python3 -I -S -c 'import os; print(os.path.dirname(os.__file__))')"


def told_to_mend_it(site: ProbationSite, what: str) -> None:
    ended = site.fab("status")
    assert (ended.status, "Traceback" in ended.both) == (1, False), ended.both
    assert "shire01  NO PYTHON  " in ended.both
    assert "this needs Python 3.9 or newer in /usr/bin or /usr/local/bin" in ended.both
    assert what in ended.both
    assert "apt-get install --reinstall" in ended.both


@pytest.mark.promise(HELD_BACK, "the host's Python is broken in its probation")
def test_what_fails_is_taken_back_though_nothing_of_python_is_left(site: ProbationSite) -> None:
    old, new = site.begin_probation(NEVER)
    by_hand = site.sh(f"sudo -u deploy python3 -I -S {host_program.place(ROOT)}/__main__.py status")
    assert f"if the release fails, the host goes back to {old} by itself" in by_hand
    assert f"__main__.py activate {old} </dev/null" in by_hand
    broken = "printf '#!/bin/sh\\necho no libpython >&2; exit 127\\n' >$1; chmod 755 $1"
    with changed(site, LIBRARY, "true"), changed(site, "/usr/bin/python3", broken):
        site.set_fault(new, "says 500")
        site.wait_until_decided()
        assert site.answering == old
        told_to_mend_it(site, "no libpython (/usr/bin/python3)")
    assert site.require_returned(old, new).startswith(
        "the health check of the release did not hold: answered 500, not 200"
    )


@pytest.mark.further("test_what_fails_is_taken_back_though_nothing_of_python_is_left")
@pytest.mark.promise(WHOLE, "the host's Python is broken in its probation", part=1)
@pytest.mark.parametrize(
    ("path", "lacks"),
    [(LIBRARY, "encodings"), (f"{LIBRARY}/json", "json"), (f"{LIBRARY}/contextlib.py", "contextlib")],
    ids=["all", "json", "contextlib"],
)
def test_what_holds_is_committed_though_modules_are_gone(site: ProbationSite, path: str, lacks: str) -> None:
    site.deploy_committed(12)
    new = site.edit()
    site.done("deploy")
    with changed(site, path, "true"):
        assert site.on_probation
        told_to_mend_it(site, f"(/usr/bin/python3: ModuleNotFoundError: No module named '{lacks}')")
        site.wait_until_decided()
        assert site.sh("readlink /run/myapp/live") == site.slot
    assert check(site, new) == new
    site.settled()
