"""An old release that does not end after the new one has taken its place."""

from __future__ import annotations

import pytest

from tests.promises.words import WHOLE
from tests.support.clone import make, quicken
from tests.support.hosts import MakeHosts
from tests.support.site import Site, Watch
from tests.support.state_check import check, tidy

CLOCK = "  clock: {command: python -m clock}"
DEAF = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
LEFT = """
import os
if os.fork() == 0:
    os.setsid()
    import signal, time
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        time.sleep(60)
"""

# The old release's file that is changed, and the addition.
HANGING = {
    "its main process is deaf": (
        "service/gunicorn.conf.py",
        f"\n\ndef when_ready(server):\n    {DEAF.replace(chr(10), chr(10) + '    ')}\n",
    ),
    "its main process is stopped": (
        "service/gunicorn.conf.py",
        "\n\ndef on_exit(server):\n    import os, signal\n    os.kill(os.getpid(), signal.SIGSTOP)\n",
    ),
    "its workers never end": (
        "service/gunicorn.conf.py",
        "\n\ndef worker_exit(server, worker):\n    import time\n    time.sleep(3600)\n",
    ),
    "a process of it has left the session, and is deaf": ("service/app/__init__.py", LEFT),
    "a further process is deaf": ("service/clock.py", f"{DEAF}time.sleep(86400)\n"),
}


@pytest.fixture(scope="module")
def site(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> Site:
    hosts = module_hosts()
    made = Site(make(tmp_path_factory.mktemp("hanging"), hosts.inventory), hosts[0])
    quicken(made.clone)
    made.clone.replace("service/service.yaml", "threads: 1}", f"threads: 1}}\n{CLOCK}")
    made.clone.replace("service/service.yaml", "drain: 30", "drain: 2 ")
    made.clone.write("service/clock.py", "import time\ntime.sleep(86400)\n")
    made.deploy()
    return made


@pytest.mark.promise(WHOLE, "a process of the old release hangs on stop", part=1)
@pytest.mark.parametrize("how", HANGING)
def test_an_old_release_that_hangs_is_ended_and_the_new_one_serves(site: Site, how: str) -> None:
    path, text = HANGING[how]
    with site.changed(path, site.read(path) + text):
        old = site.deploy()
    new = site.edit()
    with Watch(site.machine.address) as watch:
        site.done("deploy")
    assert watch.seen == {old, new}
    assert check(site, new) == new
    tidy(site)
    # No process of the old release is left.
    assert old not in site.sh("cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n' | grep ^RELEASE= || true")
