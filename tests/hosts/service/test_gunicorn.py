"""gunicorn runs an application as its gunicorn.conf.py and service.yaml say, on a real host."""

from __future__ import annotations

import pytest

from tests.support.clone import Clone, make
from tests.support.echo_service import put
from tests.support.front_door import ask
from tests.support.hosts import MakeHosts
from tests.support.site import Site

CONF = """\
import os

workers = 3
threads = 2
timeout = 77
raw_env = ["FROM_CONF=1"]


def post_fork(server, worker):
    os.environ["FORKED"] = "1"
"""


@pytest.fixture(scope="module")
def site(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> Site:
    hosts = module_hosts()
    return Site(make(tmp_path_factory.mktemp("gunicorn"), hosts.inventory), hosts[0])


def deployed(site: Site, conf: str, **changes: object) -> Clone:
    clone = put(site.clone, **changes)
    clone.write("service/gunicorn.conf.py", conf)
    clone.done("deploy", "-H", "shire01")
    site.drained()
    return clone


def workers(site: Site) -> int:
    return len(site.sh(f"pgrep -P {site.main_pid}").split())


def environ(site: Site) -> set[str]:
    return set(ask(site.machine.address, "/environ").json())


def test_what_the_conf_of_an_application_says_is_honoured(site: Site) -> None:
    """Once: its workers, threads, worker class and timeout were overruled in silence."""
    deployed(site, CONF)
    assert workers(site) == 3
    assert {"FROM_CONF", "FORKED"} <= environ(site)
    # Two requests at once of one worker: it has threads.
    assert "gthread" in site.sh(
        "journalctl --sync; journalctl -u 'myapp@*' -o cat | grep -o 'Using worker: .*' | tail -n 1"
    )
    (shown,) = site.done("status", "--json").json()["hosts"]
    assert (shown["workers"], shown["workers_wanted"]) == (3, None)


def test_without_any_setting_it_has_two_workers_with_threads(site: Site) -> None:
    deployed(site, "")
    assert workers(site) == 2
    (site.clone.root / "service/gunicorn.conf.py").unlink()
    site.clone.done("deploy", "-H", "shire01")
    site.drained()
    assert workers(site) == 2
    assert "FROM_CONF" not in environ(site)


def test_a_factory_gets_its_arguments(site: Site) -> None:
    site.clone.write(
        "service/made.py",
        "from echo import app\n\n\ndef make(name, *, size):\n    assert (name, size) == ('prod', 2)\n    return app\n",
    )
    deployed(site, "", app="made:make('prod', size=2)")
    assert workers(site) == 2


def test_what_both_files_say_ends_before_any_contact(site: Site) -> None:
    put(site.clone, processes={"web": {"workers": 2}}).write("service/gunicorn.conf.py", CONF)
    before = site.history
    for verb in ("plan", "deploy"):
        ended = site.fab(verb)
        assert ended.status == 2
        assert "service/gunicorn.conf.py:3" in ended.err
        assert "processes.web.workers" in ended.err
    assert site.history == before


ASGI = """
import os


async def app(scope, receive, send):
    assert scope["type"] == "http"
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    body = '{"release": "%s"}' % os.environ["RELEASE"]
    await send({"type": "http.response.body", "body": body.encode()})
"""


def test_an_asgi_application_under_a_wsgi_worker_is_named_as_that_at_once(site: Site) -> None:
    """Once: it was told after half a minute of 500, and not by its name."""
    deployed(site, "")
    put(site.clone, app="served:app", health={"path": "/healthz", "timeout": 300}).write("service/served.py", ASGI)
    before = site.answering
    ended = site.fab("deploy")
    assert ended.status == 1
    assert "it is an ASGI application, and gunicorn runs it as WSGI" in ended.both
    (failed,) = [line for line in ended.both.splitlines() if "FAILED" in line]
    assert float(failed.rpartition("(")[2].split()[0]) < 60
    assert site.answering == before
    put(site.clone, app="served:app", processes={"web": {"workers": 1, "worker_class": "asgi"}})
    site.clone.done("deploy", "-H", "shire01")
    assert site.answering == site.clone.release()
