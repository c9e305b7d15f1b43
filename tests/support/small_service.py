"""A small service that uses most of what service.yaml offers."""

from __future__ import annotations

from tasks.engine.config.gateway import Nginx
from tasks.engine.config.sections import Health, Hooks, Listen
from tasks.engine.config.service import Process, Service

SERVICE = Service(
    "myapp",
    "app:create_app()",
    processes=(
        Process("web", workers=2, threads=4),
        Process("worker", "python -m jobs --name 'two words'"),
        Process("nightly", "python -m report", "*-*-* 03:00:00"),
    ),
    health=Health("/readyz", 200, 30, 3, 2.0),
    listen=Listen("127.0.0.1", 8080),
    nginx=Nginx(("myapp.example",)),
    env=(("GREETING", "it's $HOME\nhere"),),
    hooks=Hooks(before_activate="flask db upgrade"),
)
