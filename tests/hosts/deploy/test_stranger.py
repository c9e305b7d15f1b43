"""A Flask application from PyPI, unchanged: only the contents of service/ are replaced."""

from __future__ import annotations

import json
import shutil

from tests.support.clone import Clone
from tests.support.front_door import ask
from tests.support.hosts import Hosts

# Five lines; bepasty is a pastebin that PyPI has only as source, with a dozen dependencies.
DESCRIPTION = """\
name: pastebin
app: "bepasty.app:create_app()"
python: ">=3.9"
health: {path: /}
nginx: {server_name: paste.example}
"""


def test_a_strangers_application_deploys_with_nothing_else_edited(clone: Clone, one_host: Hosts) -> None:
    machine = one_host[0]
    clone.inventory = one_host.inventory
    shutil.rmtree(clone.root / "service")
    clone.write("service/requirements.in", "bepasty\ngunicorn\n")
    clone.write("service/service.yaml", DESCRIPTION)
    clone.done("lock")
    clone.done("deploy", "-H", "shire01")
    answer = ask(machine.address, "/", "paste.example")
    assert answer.status == 200
    assert b"bepasty" in answer.body
    assert "UNCHANGED" in clone.done("deploy", "-H", "shire01").out

    # Source-only packages were built here, compiled ones are for the host's platform.
    names = machine.sh("ls /opt/apps/pastebin/wheels").stdout.decode()
    assert "bepasty-" in names
    python = "/opt/apps/pastebin/current/release/venv/bin/python"
    probe = "import bepasty, json, os, markupsafe._speedups as s, platform as p"
    probe += "; print(json.dumps([p.machine(), os.path.realpath(s.__file__)]))"
    shown = machine.sh(f"cd / && {python} -I -c '{probe}'")
    architecture, compiled = json.loads(shown.stdout)
    assert architecture in compiled
    assert compiled.startswith("/opt/apps/pastebin/venvs/")

    clone.done("restart", "-H", "shire01")
    assert b"bepasty" in ask(machine.address, "/", "paste.example").body
    clone.done("remove", "-H", "shire01", "--yes")
    assert machine.sh("ls /opt/apps /etc/nginx/conf.d").stdout == b"/etc/nginx/conf.d:\n\n/opt/apps:\n"
