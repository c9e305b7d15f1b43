"""An application with built files and large uploads, on a real host: `include` and `nginx.max_body`."""

from __future__ import annotations

import random
from pathlib import Path

from tests.support import echo_service
from tests.support.clone import make
from tests.support.front_door import ask
from tests.support.hosts import Hosts

UPLOAD = 30_000_000
STYLE, MODEL = "/static/dist/site.css", "/static/model.bin"


def inode(hosts: Hosts) -> bytes:
    """Return the inode of the committed release's model."""
    ended = hosts[0].sh(f"stat -c %i /opt/apps/myapp/current/release/code{MODEL}")
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_ignored_and_large_files_are_served_and_the_service_sets_the_largest_upload(
    one_host: Hosts, tmp_path: Path
) -> None:
    clone, address = make(tmp_path), one_host[0].address
    model = random.Random(5).randbytes(12_000_000)
    clone.write("service/static/dist/site.css", "body { color: green }")
    (clone.root / "service/static/model.bin").write_bytes(model)
    with (clone.root / ".gitignore").open("a") as file:
        file.write("dist/\n*.bin\n")
    clone.inventory = one_host.inventory
    ended = echo_service.put(clone).done("deploy", "-H", "shire01")
    assert ended.both.count("left behind") == 1
    assert "git ignores it: static/ (12.0 MB);" in ended.both
    assert "left behind" in clone.done("plan", "-H", "shire01").out
    assert [ask(address, path).status for path in (STYLE, MODEL)] == [404, 404]
    assert ask(address, "/echo", body=bytes(UPLOAD), timeout=60).status == 413

    gateway = {"server_name": "myapp.example", "max_body": "50m"}
    echo_service.deployed(clone, one_host, include=["static/dist", "static/*.bin"], nginx=gateway)
    assert clone.done("plan", "-H", "shire01", "--json").json()["left_behind"] == []
    assert ask(address, STYLE).body == b"body { color: green }"
    assert ask(address, MODEL, timeout=60).body == model
    assert ask(address, "/echo", body=bytes(UPLOAD), timeout=60).json()["length"] == UPLOAD

    there = inode(one_host)
    echo_service.deployed(clone, one_host, include=["static/dist"], nginx=gateway)
    assert ask(address, MODEL).status == 404
    echo_service.put(clone, include=["static/dist", "static/*.bin"], nginx=gateway, keep=6)
    ended = clone.done("deploy", "-H", "shire01")
    assert "large files of " in ended.both
    assert inode(one_host) == there
    assert ask(address, MODEL, timeout=60).body == model

    clone.write("build.sh", "sed s/green/blue/ style >service/static/dist/site.css; touch built")
    clone.write("style", "body { color: green }")
    changes = {"include": ["static/dist", "static/*.bin"], "nginx": gateway, "build": "sh build.sh"}
    echo_service.put(clone, **changes)
    clone.done("plan", "-H", "shire01", "--steps")
    assert not (clone.root / "built").exists()
    assert "the build changed: static/dist/site.css" in clone.done("plan", "-H", "shire01").out
    ended = clone.done("deploy", "-H", "shire01")
    assert "the build gave" not in ended.out
    assert "2 of " in ended.both
    assert ask(address, STYLE).body == b"body { color: blue }"
    assert ask(address, MODEL, timeout=60).body == model
