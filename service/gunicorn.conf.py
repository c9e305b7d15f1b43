"""Make gunicorn log JSON, like the service. gunicorn finds this file in its working directory.

Workers and threads are set in service.yaml; `drain` and `health.timeout` there decide the time limits.
"""

import runpy
from pathlib import Path

# Loaded once, before the workers are forked, so that they share its memory. The application is not preloaded: importing
# it may start threads or open connections, importing Flask does not.
import flask  # noqa: F401

# Run as a file: importing the package would run the application's code before the fork.
logconfig_dict = runpy.run_path(str(Path(__file__).with_name("app") / "logs.py"))["settings"]()

# A second service of the same account would take over the path of the socket. gunicorn has one from 25.1 on.
control_socket_disable = True
