"""A reload of nginx by hand."""

from __future__ import annotations

from tasks.engine.sandbox import Machine

_RELOAD = """
main=$(systemctl show -p MainPID --value nginx)
former=$(cat /proc/$main/task/$main/children)
systemctl reload nginx || exit
for pid in $former; do
  while grep -qsa 'worker process' /proc/$pid/cmdline && ! grep -qsa 'shutting down' /proc/$pid/cmdline; do
    sleep 0.02
  done
done
"""


def reload_nginx(machine: Machine) -> None:
    """Reload nginx, and wait until no former worker takes connections: systemd waits for neither."""
    ended = machine.sh(_RELOAD)
    assert ended.returncode == 0, ended.stderr.decode()
