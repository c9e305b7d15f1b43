"""Two services on one host, one of which has an nginx file that nginx refuses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.promises.words import NEIGHBOURS
from tests.support.clone import Clone, make
from tests.support.echo_service import deployed
from tests.support.front_door import release_of
from tests.support.hosts import MakeHosts
from tests.support.site import Site, Watch
from tests.support.state_check import committed

FILE = "/etc/nginx/conf.d/other.conf"
OTHER = "other.example"


@dataclass
class Pair:
    """site: the good one. other: the one with the bad nginx file."""

    site: Site
    other: Clone

    def untouched(self) -> str:
        """Return what must not change of the other one: its processes, nginx's, and all its files."""
        files = f"find /opt/apps/other /etc/other {FILE} -type f ! -path '*/.run*' -exec sha256sum {{}} + | sort"
        return self.site.sh(f"pgrep -u other && systemctl show -p MainPID nginx && {files}")


@pytest.fixture(scope="module")
def services(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Both serve; the good one has a release to go back to."""
    hosts = module_hosts()
    other = deployed(make(tmp_path_factory.mktemp("other")), hosts, name="other", nginx={"server_name": OTHER})
    good = make(tmp_path_factory.mktemp("good"))
    site = Site(deployed(good, hosts), hosts[0])
    site.deploy()
    return Pair(site, other)


@pytest.fixture
def pair(services: Pair) -> Iterator[Pair]:
    """Both services, with a bad file in the configuration of nginx."""
    kept = services.site.sh(f"cp {FILE} /root/kept && echo 'nonsense on;' >>{FILE} && ! nginx -t && echo kept")
    assert kept == "kept"
    yield services
    services.site.sh(f"cp /root/kept {FILE} && systemctl restart nginx")


@pytest.mark.promise(NEIGHBOURS, "a verb beside a service of ours whose nginx file is bad", part=1)
@pytest.mark.parametrize("verb", ["deploy", "rollback", "restart", "stop", "start"])
def test_a_verb_beside_a_bad_nginx_file(pair: Pair, verb: str) -> None:
    """The verb works on the good one, which serves throughout; the other one does not change, and serves."""
    site, before = pair.site, pair.untouched()
    if verb == "start":
        site.done("stop")
    old, new = committed(site), site.edit()
    with Watch(site.machine.address) as watch:
        site.done(verb)
    assert pair.untouched() == before
    assert release_of(site.machine.address, OTHER) == pair.other.release()
    if verb == "stop":
        site.done("start")
    elif verb != "start":
        assert watch.seen <= {old, site.answering}
    assert (site.answering == new) == (verb == "deploy")
    site.settled()


@pytest.mark.promise(NEIGHBOURS, "a reboot with a service of ours whose nginx file is bad")
def test_a_reboot_with_a_bad_nginx_file(pair: Pair) -> None:
    """nginx starts with no bad file, whichever service's; behind it both run, and mending the file is enough."""
    site, release = pair.site, pair.site.answering
    site.machine.reboot()
    assert site.sh("systemctl is-active nginx || :") == "failed"
    for name, at_work in (("myapp", release), ("other", pair.other.release())):
        slot = site.sh(f"basename $(readlink /opt/apps/{name}/current)")
        assert at_work in site.sh(f"curl -s --unix-socket /run/{name}/{slot}.sock http://{name}.example/healthz")
    refused = site.fab("deploy")
    assert refused.status == 1, refused.both
    assert "Traceback" not in refused.both
    site.sh(f"cp /root/kept {FILE} && systemctl restart nginx")
    assert site.answering == release
    assert release_of(site.machine.address, OTHER) == pair.other.release()
