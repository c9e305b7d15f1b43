"""gunicorn reads this file by itself, from the folder it is started in, and logs JSON like the service.

Workers, threads and time limits are not set here: service.yaml has them.
"""

import runpy
from pathlib import Path

# What each worker would load: loaded once, it is there when they are forked, and its memory is shared. Importing a
# framework starts no thread and opens nothing, which is more than can be said of an application.
import flask  # noqa: F401

# Run as a file: importing the package would run the application's code before the workers are forked.
logconfig_dict = runpy.run_path(str(Path(__file__).with_name("app") / "logs.py"))["settings"]()

# A second service of the same account would take the socket's path over. Before 25.1 gunicorn had none.
control_socket_disable = True
