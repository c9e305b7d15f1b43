"""The same job as operations of pyinfra. Reads PROJECT; with ONLY_RESTART it only restarts."""

import os
from pathlib import Path

from pyinfra.operations import files, server, systemd

PROJECT = Path(os.environ["PROJECT"])
NAME = PROJECT.name
ROOT = f"/srv/{NAME}"
CURRENT = f"{ROOT}/current"
CERTIFICATE = (
    f"test -f /etc/ssl/{NAME}/cert.pem || openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
    f" -days 30 -subj /CN={NAME}.example -addext subjectAltName=DNS:{NAME}.example"
    f" -keyout /etc/ssl/{NAME}/key.pem -out /etc/ssl/{NAME}/cert.pem"
)
ASK = (
    f"curl -sf -o /dev/null --cacert /etc/ssl/{NAME}/cert.pem --resolve {NAME}.example:443:127.0.0.1"
    f" https://{NAME}.example/readyz"
)


def deploy():
    server.user(user=NAME, system=True, shell="/usr/sbin/nologin", ensure_home=False, _sudo=True)
    for path in (ROOT, CURRENT, f"{ROOT}/wheels"):
        files.directory(path=path, user="deploy", _sudo=True)
    files.directory(path=f"/etc/ssl/{NAME}", _sudo=True)
    server.shell(commands=[CERTIFICATE], _sudo=True)
    code = files.sync(src=str(PROJECT / "code"), dest=f"{CURRENT}/code", exclude_dir="__pycache__", delete=True)
    lock = files.put(src=str(PROJECT / "requirements.txt"), dest=f"{CURRENT}/requirements.txt")
    files.sync(src=str(PROJECT / "wheels"), dest=f"{ROOT}/wheels")
    server.shell(
        commands=[
            # The host has no ensurepip, as Debian leaves it out: pip comes as a wheel, which is the quicker way, too.
            f"test -d {CURRENT}/venv || python3 -m venv --without-pip {CURRENT}/venv",
            f"PYTHONPATH=$(echo {ROOT}/wheels/pip-*.whl) python3 -m pip -q --python {CURRENT}/venv/bin/python"
            f" install --no-index --find-links {ROOT}/wheels -r {CURRENT}/requirements.txt",
        ],
        _if=lock.did_change,
    )
    unit = files.put(src=str(PROJECT / f"setup/{NAME}.service"), dest=f"/etc/systemd/system/{NAME}.service", _sudo=True)
    site = files.put(src=str(PROJECT / f"setup/{NAME}.conf"), dest=f"/etc/nginx/conf.d/{NAME}.conf", _sudo=True)
    systemd.daemon_reload(_sudo=True, _if=unit.did_change)
    server.shell(commands=["nginx -t && systemctl reload-or-restart nginx"], _sudo=True, _if=site.did_change)
    systemd.service(service=NAME, enabled=True, running=True, _sudo=True)
    changed = [code.did_change, lock.did_change, unit.did_change]
    server.shell(commands=[f"systemctl restart {NAME}"], _sudo=True, _if=lambda: any(one() for one in changed))


if os.environ.get("ONLY_RESTART"):
    server.shell(commands=[f"systemctl restart {NAME}"], _sudo=True)
else:
    deploy()
server.shell(commands=[f"until {ASK}; do sleep 0.05; done"])
