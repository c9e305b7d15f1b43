"""Get a certificate from the operator's CA, as root: make a request, and give nginx the certificate that comes back.

The key is made here and stays here: in tls/pair.pem, which nginx reads, and a new one in tls/next.pem until its
certificate is there.
"""

from __future__ import annotations

import os
from contextlib import suppress

from . import certificate, certificate_pair, files, nginx_site, programs, record, trust
from .files import RootFiles
from .folders import Folder
from .run import Refused, Run


def perform(run: Run) -> None:
    """Make the request or install the certificate.

    `steps.request_certificate` and `steps.install_certificate` of the controller document the step's keys.
    """
    name = run.step["name"]
    if os.geteuid() != 0:
        raise Refused("this needs root")
    trust.require_roots_own(f"/etc/{name}")
    pair = files.read(certificate_pair.path(name))
    if pair is None or not record.read(name).there:
        raise Refused(f"this host has no key for {name} yet: run fab setup")
    if run.step["action"] == "request":
        _request(run, name, certificate_pair.key_of(pair.data))
    else:
        _install(run, name, certificate_pair.key_of(pair.data))


def _request(run: Run, name: str, key: bytes) -> None:
    """Report a request, and the certificate that nginx shows; none before the first."""
    with Folder.open(f"/etc/{name}/tls") as folder:
        folder.remove("next.pem")
        if run.step["rotate"]:
            run.say("key", "a new one")
            key = certificate.make_key()
            folder.replace("next.pem", key, 0o600, f"next.pem.new-{run.id}")
    request = programs.ask("openssl", "req", "-new", "-key", "/dev/stdin", "-subj", f"/CN={name}", data=key)
    if not request.well:
        raise Refused("openssl did not make a request for a certificate")
    former = files.read(certificate.paths(name)[0])
    run.report("certificate", certificate_pair.first(former.data).decode("ascii", "replace") if former else "")
    run.report("request", request.output)


def _install(run: Run, name: str, key: bytes) -> None:
    """Install the certificate, which is for the key of the request, and reload nginx; put all back if that fails."""
    chain = files.unpack(run.payload).get("tls/certificate.pem", b"")
    following = files.read(f"/etc/{name}/tls/next.pem")
    keys = [one for one in (following.data if following else b"", key) if one and certificate.belongs(chain, one)]
    if not keys:
        raise Refused("the certificate is for another request than the last of this host: run the command again")
    certificate.require_usable(chain, keys[0], run.step["names"])
    changes = RootFiles(run, record.read(name), {}, overwrite=True, unchecked=certificate_pair.unchecked(name))
    try:
        certificate_pair.publish(changes, name, chain)
        certificate_pair.place(run, changes, name, chain, keys[0], "issued by the operator's CA")
        run.point("certify.placed")
        nginx_site.show_certificate(run)
    except BaseException:
        run.begin_ending()
        changes.put_back()
        raise
    run.point("certify.shown")
    with suppress(FileNotFoundError):
        os.unlink(f"/etc/{name}/tls/next.pem")
