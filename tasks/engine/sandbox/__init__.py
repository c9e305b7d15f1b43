"""Real local hosts to try and test on: systemd as PID 1, sshd, nginx, python3, no route out."""

from tasks.engine.sandbox.machine import Machine
from tasks.engine.sandbox.sandbox import Sandbox

__all__ = ["Machine", "Sandbox"]
