"""Packages that no index has as a wheel: of the operator, or built by this machine for a host like it."""

from __future__ import annotations

import json
import platform
from pathlib import Path

from tasks.engine.release import controller
from tests.support import distributions, echo_service, elf
from tests.support.clone import Clone
from tests.support.hosts import Hosts
from tests.support.site import ROOT, Site

LIBRARY = "libloop-native.so.1"
IMPORTS = """
import native
import own

app.get("/imported")(lambda: [native.WHERE, own.WHERE])
"""


def require(clone: Clone, links: Path, source: str, own: str) -> None:
    """Lock a package of which there is only the source, and one of the operator's own wheels."""
    clone.environment |= {"PIP_FIND_LINKS": str(links), "XDG_CACHE_HOME": str(links.parent / "cache")}
    pins = "".join(
        f"{name}==1.0 \\\n    --hash=sha256:{digest}\n" for name, digest in (("native", source), ("own", own))
    )
    clone.write("service/requirements.txt", (clone.root / "service/requirements.txt").read_text() + pins)
    clone.write("service/echo.py", echo_service.APP + IMPORTS)


def test_own_wheels_and_those_built_here_are_taken_if_their_libraries_are_there(
    clone: Clone, one_host: Hosts, tmp_path: Path
) -> None:
    site = Site(echo_service.deployed(clone, one_host), one_host[0])
    before, links, own = site.answering, tmp_path / "links", clone.root / "service/wheels"
    links.mkdir()
    own.mkdir()
    library = elf.library(LIBRARY, "libc.so.6")
    module: dict[str, str | bytes] = {"native.py": "WHERE = __file__\n", "parts/library.so": library}
    source = distributions.sdist(links, "native", "1.0", f"py3-none-linux_{platform.machine()}", module)
    require(clone, links, source, distributions.wheel(own, "own", "1.0", files={"own.py": "WHERE = __file__\n"}))

    ended = site.fab("deploy")
    here = controller.here()
    there = site.sh(
        """. /etc/os-release; python3 -c "import sys; print('%s.%s' % sys.version_info[:2])"; echo $ID $VERSION_ID"""
    )
    if here is None or [here.minor, here.distribution] != there.splitlines():
        assert ended.status == 1
        assert "a machine like the host" in ended.both
        return
    assert ended.status == 1, ended.both
    assert f"wheels need shared libraries that the host lacks: {LIBRARY}" in ended.both
    assert "libc.so.6" not in ended.both
    assert (site.answering, site.releases) == (before, {before})

    assert site.machine.sh(f"cat >/usr/lib/{LIBRARY}", elf.library()).returncode == 0
    planned = site.done("plan").out
    assert "built on this machine, from source: native==1.0" in planned
    site.done("deploy")
    assert site.answering == clone.release()
    paths = json.loads(site.sh("curl -ks --resolve myapp.example:443:127.0.0.1 https://myapp.example/imported"))
    assert [path.rpartition("/")[2] for path in paths] == ["native.py", "own.py"]
    record = json.loads(site.sh(f"cat {ROOT}/current/release/release.json"))
    assert record["built"] == ["native==1.0"]
    assert site.machine.sh(f"ls {ROOT}/current/release/code/wheels").returncode != 0
    built = {
        release["id"]: release["built"] for release in site.done("releases", "--json").json()["hosts"][0]["releases"]
    }
    assert built == {before: [], clone.release(): ["native==1.0"]}


def test_a_module_that_takes_memory_without_end_is_installed_and_not_compiled(clone: Clone, one_host: Hosts) -> None:
    site = Site(echo_service.deployed(clone, one_host), one_host[0])
    own = clone.root / "service/wheels"
    own.mkdir()
    # To compile the first would take 800 MB.
    files = {"hungry.py": f"x = [{'a,' * 700_000}]\n", "long.py": "#" * (5 << 20), "own.py": "a = 1\n"}
    digest = distributions.wheel(own, "own", "1.0", files=files)
    lock = (clone.root / "service/requirements.txt").read_text()
    clone.write("service/requirements.txt", f"{lock}own==1.0 \\\n    --hash=sha256:{digest}\n")
    site.done("deploy")
    assert site.answering == clone.release()
    there = site.sh(f"cd {ROOT}/current/release/venv/lib/python*/site-packages && ls *.py __pycache__").split()
    assert {"hungry.py", "long.py", "own.py"} <= set(there)
    assert [name.partition(".")[0] for name in there if name.endswith(".pyc")] == ["own"]
