"""How we log in: paramiko's transport, but for what it asks a host for first, whom it asks, and what it waits for."""

from __future__ import annotations

import threading
from typing import Any

from tasks.engine.ssh.byte_stream import Wire
from tasks.engine.ssh.compression import Sparing
from tasks.engine.ssh.host_keys import Trust
from tasks.engine.ssh.limits import Limited


def transport(trust: Trust) -> Any:
    """The class of a transport over a wire. trust: the host keys that are known, whose types are asked for first."""
    from paramiko import AuthenticationException, SSHException

    class Asking(Limited):
        asked_for_more = False
        # What seals and encrypts in one comes first: it takes half of the time.
        _preferred_ciphers = tuple(sorted(Limited._preferred_ciphers, key=lambda name: "-gcm@" not in name))
        _compression_info = {  # noqa: RUF012 - as paramiko has it
            name: (compressor and Sparing, decompressor)
            for name, (compressor, decompressor) in Limited._compression_info.items()
        }

        def __init__(self, line: Wire, *arguments: Any, **named: Any) -> None:
            line.transport = self
            super().__init__(line, *arguments, **named)

        @property
        def preferred_keys(self) -> tuple[str, ...]:
            return tuple(sorted(super().preferred_keys, key=trust.rank))

        def auth_publickey(self, username: str, key: Any, event: Any = None) -> Any:
            if not (self.active and self.initial_kex_done):
                raise SSHException("No existing session")
            done = event or threading.Event()
            self.auth_handler = handler()(self)
            self.auth_handler.auth_publickey(username, key, done)
            return [] if event else self.auth_handler.wait_for_response(done)

        def auth_interactive_dumb(self, *_: Any) -> Any:
            self.asked_for_more = True
            raise AuthenticationException("nobody is asked for a password")

    return Asking


def handler() -> Any:
    """Asks for the service and shows the key in one go, where paramiko waits a round trip between the two.

    A server that does not let people log in hangs up on either (RFC 4253, section 10), so there is nothing to wait for.
    """
    from paramiko import Message
    from paramiko.auth_handler import AuthHandler

    class Prompt(AuthHandler):  # type: ignore[misc]  # paramiko is untyped
        def _request_auth(self) -> None:
            super()._request_auth()
            accepted = Message()
            accepted.add_string("ssh-userauth")
            accepted.rewind()
            super()._parse_service_accept(accepted)

        def _parse_service_accept(self, m: Any) -> None:
            """What it says has been taken for granted."""

    return Prompt
