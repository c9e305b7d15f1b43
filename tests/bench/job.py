"""The job of each contender: a small Flask application behind gunicorn, systemd and nginx, and its changes."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

MODULES = 9
"""The application's modules besides the one with the edition."""
_PACKAGES = ("flask>=3.1,<4", "gunicorn>=23,<28")
_MORE, _VERSION = "humanize", "4.17.0"
"""The added dependency."""
_APP = '''"""The application of the benchmark."""

from flask import Flask

from . import {modules}
from .edition import EDITION


def create_app():
    app = Flask(__name__)
    for module in ({modules},):
        app.register_blueprint(module.pages)

    @app.get("/readyz")
    def ready():
        return {{"edition": EDITION}}

    return app
'''
_MODULE = '''"""One of the modules of the benchmark's application."""

from flask import Blueprint

pages = Blueprint("{name}", __name__)


@pages.get("/{name}")
def {name}():
    return {{"page": "{name}"}}
'''
_UNIT = r"""[Unit]
Description=%(name)s
After=network.target

[Service]
Type=notify
NotifyAccess=main
User=%(name)s
RuntimeDirectory=%(name)s
WorkingDirectory=/srv/%(name)s/current/code
ExecStart=/srv/%(name)s/current/venv/bin/python -m gunicorn --no-control-socket -w 2 --threads 4 \
  -b unix:/run/%(name)s/http.sock app:create_app()
KillMode=mixed
Restart=on-failure
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes

[Install]
WantedBy=multi-user.target
"""
_SITE = """server {
  listen 443 ssl;
  server_name %(name)s.example;
  ssl_certificate /etc/ssl/%(name)s/cert.pem;
  ssl_certificate_key /etc/ssl/%(name)s/key.pem;
  location / {
    proxy_pass http://unix:/run/%(name)s/http.sock;
    proxy_set_header Host $host;
    proxy_set_header X-Forwarded-Proto https;
  }
}
server {
  listen 80;
  server_name %(name)s.example;
  return 301 https://$host$request_uri;
}
"""


def application(code: Path) -> None:
    """Write ten files and one with the edition, in a package `app`."""
    package = code / "app"
    package.mkdir(parents=True)
    names = [f"part{number}" for number in range(1, MODULES + 1)]
    (package / "__init__.py").write_text(_APP.format(modules=", ".join(names)))
    for name in names:
        (package / f"{name}.py").write_text(_MODULE.format(name=name))
    edit(code, 0)


def edit(code: Path, edition: int) -> None:
    """Change the code."""
    (code / "app/edition.py").write_text(f'"""Which edition this is."""\n\nEDITION = {edition}\n')


def setup(folder: Path, name: str) -> None:
    """Write unit and site for a contender that has none of its own."""
    folder.mkdir(parents=True)
    (folder / f"{name}.service").write_text(_UNIT % {"name": name})
    (folder / f"{name}.conf").write_text(_SITE % {"name": name})


def wheels(folder: Path) -> Path:
    """Fetch, once, all wheels for the hosts' Python 3.11 and pip's own, from the index that pip is configured for."""
    if not folder.is_dir():
        part = folder.with_name(f"{folder.name}.part")
        words = ["--only-binary", ":all:", "--python-version", "3.11", "--dest", str(part)]
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "-q", *words, *_PACKAGES, f"{_MORE}=={_VERSION}", "pip"],
            check=True,
        )
        part.rename(folder)
    return folder


def publish(published: Path, wheels: Path, number: int) -> None:
    """Publish a release of the added dependency that no host has seen: the same files under another version."""
    for former in wheels.glob(f"{_MORE}-*.whl"):
        former.unlink()
    (source,) = published.glob(f"{_MORE}-{_VERSION}-*.whl")
    version = f"{_VERSION}.{number}"
    with ZipFile(source) as old, ZipFile(wheels / source.name.replace(_VERSION, version), "w") as new:
        for item in old.infolist():
            name = item.filename.replace(f"{_MORE}-{_VERSION}.dist-info", f"{_MORE}-{version}.dist-info")
            data = old.read(item)
            if name.endswith(".dist-info/METADATA"):
                data = data.replace(f"\nVersion: {_VERSION}\n".encode(), f"\nVersion: {version}\n".encode())
            elif name.endswith(".dist-info/RECORD"):
                data = "".join(f"{one.partition(',')[0]},,\n" for one in data.decode().splitlines()).encode()
                data = data.replace(f"{_MORE}-{_VERSION}.dist-info".encode(), f"{_MORE}-{version}.dist-info".encode())
            new.writestr(name, data, ZIP_DEFLATED)


def provide(published: Path, wheels: Path, *, pip: bool = False) -> None:
    """Copy the wheels that the application needs, without the dependency added later. pip: with pip's own wheel."""
    shutil.copytree(published, wheels, ignore=shutil.ignore_patterns(f"{_MORE}-*", *([] if pip else ["pip-*"])))


def requirements(wheels: Path, number: int) -> str:
    """Return the lock as `name==version` lines, with that release of the added dependency; 0: without it."""
    found = (wheel.name.split("-")[:2] for wheel in sorted(wheels.glob("*.whl")))
    lines = [f"{name.lower()}=={version}\n" for name, version in found if name not in {"pip", _MORE}]
    return "".join([*lines, *([f"{_MORE}=={_VERSION}.{number}\n"] if number else [])])


def digests(wheels: Path, line: str) -> str:
    """Return the hashes for a line of the requirements, in pip's format."""
    name, _, version = line.partition("==")
    found = [path for path in wheels.glob("*.whl") if path.name.lower().startswith(f"{name}-{version}-")]
    return "".join(f" --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}" for path in found)
