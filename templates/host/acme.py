"""Let certbot get the certificate of the front door, and wait for the first."""

from __future__ import annotations

import os
from collections.abc import Sequence

from . import certificate_pair, files, nginx_site, programs
from .files import RootFiles
from .run import Refused, Run

_SECONDS = 90
_LINES = 12
_LIMITED = 'ulimit -d 1048576 && exec "$@"'
"""Runs a program that may have 1 GB of memory: certbot reads a CA's answer as a whole, and it may have no end."""


def lineage(name: str) -> str:
    """Return the name under which certbot knows the certificate."""
    return f"loop-{name}"


def ready(name: str) -> None:
    """Make the directory in which certbot answers the questions of the CA, through nginx."""
    os.makedirs(f"/etc/{name}/acme", 0o755, exist_ok=True)


def obtain(run: Run, changes: RootFiles, asked: Sequence[str], pair: tuple[str, str]) -> None:
    """Get the certificate, unless certbot has a good one, and give it to nginx.

    asked: email and directory; pair: where certbot keeps it
    """
    name, names = run.step["name"], run.step["names"]
    run.say("certificate", f"certbot asks for {', '.join(names)}: up to {_SECONDS} s")
    email, directory = asked
    wanted = [word for one in names for word in ("-d", one)]
    ended = programs.ask(
        *("sh", "-c", _LIMITED, "sh", "certbot", "certonly", "-n", "--webroot", "-w", f"/etc/{name}/acme"),
        *("--cert-name", lineage(name), *wanted),
        *("--agree-tos", "--no-eff-email", "--email", email, "--server", directory, "--key-type", "ecdsa"),
        *("--keep-until-expiring", "--renew-with-new-domains"),
        seconds=_SECONDS,
        errors=True,
    )
    if not ended.well:
        run.quote("\n".join(ended.output.splitlines()[-_LINES:]))
        late = f" within {_SECONDS} s" if ended.status == programs.LATE else ""
        names_there = "every name must lead to this host, and the CA must reach its port 80"
        raise Refused(f"certbot got no certificate{late}; {names_there}")
    chain = certificate_pair.take(run, changes, name, pair, names)
    certificate_pair.publish(changes, name, chain)
    nginx_site.show_certificate(run)


def forget(run: Run, name: str) -> None:
    """Let certbot renew the certificate no more."""
    if files.read(f"/etc/letsencrypt/renewal/{lineage(name)}.conf"):
        run.say("remove", f"certbot's certificate {lineage(name)}")
        if not programs.ask("certbot", "delete", "-n", "--cert-name", lineage(name)).well:
            run.report("warning", f"certbot still renews {lineage(name)}: certbot delete --cert-name {lineage(name)}")
