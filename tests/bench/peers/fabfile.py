"""The tutorial's fabfile: one command after another, a channel each. Reads PROJECT and HOSTS."""

import os
import subprocess
from pathlib import Path

from fabric import Connection, task

PROJECT = Path(os.environ["PROJECT"])
NAME = PROJECT.name
ROOT = f"/srv/{NAME}"


def connections():
    for line in os.environ["HOSTS"].split():
        host, port = line.split(":")
        yield Connection(host, "deploy", int(port), connect_kwargs={"key_filename": os.environ["IDENTITY"]})


def answers(c):
    url = f"https://{NAME}.example/readyz"
    ask = f"curl -sf -o /dev/null --cacert /etc/ssl/{NAME}/cert.pem --resolve {NAME}.example:443:127.0.0.1 {url}"
    c.run(f"until {ask}; do sleep 0.05; done", hide=True, in_stream=False)


def first(c):
    c.sudo(f"useradd --system --home-dir /nonexistent --shell /usr/sbin/nologin {NAME}", hide=True)
    c.sudo(f"mkdir -p {ROOT}/wheels /etc/ssl/{NAME}", hide=True)
    c.sudo(f"chown -R deploy {ROOT}", hide=True)
    c.sudo(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30"
        f" -subj /CN={NAME}.example -addext subjectAltName=DNS:{NAME}.example"
        f" -keyout /etc/ssl/{NAME}/key.pem -out /etc/ssl/{NAME}/cert.pem",
        hide=True,
    )


@task
def deploy(_):
    subprocess.run(["tar", "-C", PROJECT, "-czf", PROJECT / "code.tar.gz", "code", "requirements.txt"], check=True)
    for c in connections():
        if c.run(f"test -d {ROOT}", warn=True, hide=True, in_stream=False).failed:
            first(c)
        there = c.run(f"ls {ROOT}/wheels", hide=True, in_stream=False).stdout.split()
        for wheel in sorted((PROJECT / "wheels").iterdir()):
            if wheel.name not in there:
                c.put(str(wheel), f"{ROOT}/wheels/{wheel.name}")
        c.put(str(PROJECT / "code.tar.gz"), f"{ROOT}/code.tar.gz")
        c.run(f"rm -rf {ROOT}/current/code", hide=True, in_stream=False)
        c.run(f"mkdir -p {ROOT}/current", hide=True, in_stream=False)
        c.run(f"tar -xzf {ROOT}/code.tar.gz -C {ROOT}/current", hide=True, in_stream=False)
        # The host has no ensurepip, as Debian leaves it out: pip comes as a wheel, which is the quicker way, too.
        c.run(f"python3 -m venv --without-pip {ROOT}/current/venv", hide=True, in_stream=False)
        pip = f"PYTHONPATH=$(echo {ROOT}/wheels/pip-*.whl) python3 -m pip --python {ROOT}/current/venv/bin/python"
        install = f"{pip} install --no-index --find-links {ROOT}/wheels -r {ROOT}/current/requirements.txt"
        c.run(install, hide=True, in_stream=False)
        for name, place in ((f"{NAME}.service", "/etc/systemd/system/"), (f"{NAME}.conf", "/etc/nginx/conf.d/")):
            c.put(str(PROJECT / "setup" / name), f"{ROOT}/{name}")
            c.sudo(f"mv {ROOT}/{name} {place}", hide=True)
        c.sudo("systemctl daemon-reload", hide=True)
        c.sudo(f"systemctl enable {NAME}", hide=True)
        c.sudo("nginx -t", hide=True)
        c.sudo("systemctl reload-or-restart nginx", hide=True)
        c.sudo(f"systemctl restart {NAME}", hide=True)
        answers(c)


@task
def restart(_):
    for c in connections():
        c.sudo(f"systemctl restart {NAME}", hide=True)
        answers(c)
