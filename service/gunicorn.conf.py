"""Make gunicorn log JSON, like the service, and check the settings. gunicorn finds this file in its working directory.

Workers and threads are set in service.yaml; `drain` and `health.timeout` there decide the time limits.
"""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

# Loaded once, before the workers are forked, so that they share its memory. The application is not preloaded: importing
# it may start threads or open connections, importing Flask does not.
import flask  # noqa: F401

# Run as files: importing the package would run the application's code before the fork.
logs = runpy.run_path(str(Path(__file__).with_name("app") / "logs.py"))
settings = runpy.run_path(str(Path(__file__).with_name("app") / "settings.py"))

logconfig_dict = logs["settings"]()


def on_starting(server: Any) -> None:
    """Stop with one line before there is a worker, if a setting is wrong; each worker would say it again."""
    try:
        settings["load"]()
    except settings["SettingError"] as error:
        server.log.critical("%s", error)
        raise SystemExit(4) from None


# A second service of the same account would take over the path of the socket. gunicorn has one from 25.1 on.
control_socket_disable = True
