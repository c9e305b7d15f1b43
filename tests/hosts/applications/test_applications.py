"""Applications that other people wrote: brought, used over HTTPS, changed, rolled back, rebooted, on a real host."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from tests.hosts.applications.client import Client
from tests.hosts.applications.table import APPLICATIONS, EDITION, Application
from tests.hosts.applications.use import Served
from tests.promises.words import BROUGHT
from tests.support.clone import Clone
from tests.support.hosts import Hosts

pytestmark = pytest.mark.long

CHANGED = "edition two"
PINS = Path(__file__).with_name("pins")


def put(clone: Clone, application: Application) -> None:
    """Replace the contents of service/ by the application."""
    shutil.rmtree(clone.root / "service")
    for path, text in application.files.items():
        clone.write(f"service/{path}", text)
    # Tomorrow's release of a package must not break a test of ours. `fab lock` without the line gives newer versions.
    clone.write("service/pins.txt", (PINS / f"{application.name}.txt").read_text())
    clone.write("service/requirements.in", "\n".join(["gunicorn", *application.requirements, "-c pins.txt", ""]))
    service = {
        "name": application.name,
        "nginx": {"server_name": f"{application.name}.example"},
        # A deploy then waits for the commit.
        "probation": 0,
        **application.service,
        # Another test may have the processors.
        "health": {"timeout": 300, **application.service["health"]},
    }
    clone.write("service/service.yaml", yaml.safe_dump(service))


def change(clone: Clone) -> None:
    """Give the application another edition: in one of its files, or in service.yaml."""
    for path in sorted((clone.root / "service").rglob("*")):
        if path.is_file() and EDITION.encode() in (content := path.read_bytes()):
            path.write_bytes(content.replace(EDITION.encode(), CHANGED.encode()))
            return
    raise AssertionError("no file has an edition")


def done(clone: Clone, *words: str) -> None:
    """Run `fab WORDS`, which must succeed, and may have hundreds of megabytes to fetch."""
    ended = clone.fab(*words, timeout=1800)
    assert ended.status == 0, ended.both


def serves(served: Served, application: Application, release: str, edition: str) -> None:
    """Assert that this release serves, with its own edition."""
    # Its check has five seconds, which a busy machine may need: the application's own pages show that it is well.
    (shown,) = served.clone.fab("status", "-H", "shire01", "--json").json()["hosts"]
    assert (shown["release"], shown["committed"]) == (release, release)
    if application.shown:
        answer = served.client.ask(application.shown)
        assert answer.status == 200
        assert edition in f"{answer.headers}{answer.body.decode()}"


@pytest.mark.promise(BROUGHT, "an application of PyPI is changed, rolled back and rebooted", part=1)
@pytest.mark.parametrize("application", APPLICATIONS, ids=lambda each: str(each.name))
def test_an_application_is_live_and_keeps_its_data(application: Application, clone: Clone, one_host: Hosts) -> None:
    machine = one_host[0]
    clone.inventory = one_host.inventory
    put(clone, application)
    served = Served(Client(machine.address, f"{application.name}.example"), clone)
    done(clone, "lock")

    done(clone, "deploy", "-H", "shire01")
    first = clone.release()
    serves(served, application, first, EDITION)
    application.use(served)

    change(clone)
    clone.done("deploy", "-H", "shire01")
    serves(served, application, clone.release(), CHANGED)
    application.kept(served)

    clone.done("rollback", "-H", "shire01")
    serves(served, application, first, EDITION)
    application.kept(served)

    machine.reboot()
    machine.sh("systemctl is-system-running --wait", timeout=300)
    # Waits in the queue of the socket while the application still starts.
    Client(machine.address, served.client.name).get(application.service["health"]["path"])
    serves(served, application, first, EDITION)
    application.kept(served)
