"""Why a script failed, as a sentence with the way on. Pure: from what it said."""

from __future__ import annotations

from typing import Any

from tasks.engine import foreign
from tasks.engine.errors import LoopError
from tasks.engine.marks import Transcript
from tasks.engine.saying import readable
from tasks.engine.scripts import Script


class Edited(LoopError):
    """What lies on the host differs from its manifest, so everything has to be sent."""

    code = "edited"


def explain(script: Script, transcript: Transcript, host: str, login: str) -> LoopError:
    """The failure of a script on a host, where we are logged in as `login`."""
    if (holder := transcript.last("busy")) is not None:
        return busy(host, holder)
    if (now := transcript.last("moved")) is not None:
        told = f"somebody else changed this host since it was looked at: it now serves {now or 'nothing'}"
        return LoopError(told, where=host, next="run the command again", code="moved")
    if (release := transcript.last("edited")) is not None:
        return Edited(f"files of release {release} are not what its manifest says", where=host)
    if script.root and not transcript.marks:
        return _no_rights(host, login, transcript)
    why = transcript.last("failed") or transcript.last("refused")
    return LoopError(
        why or f"{script.stage} ended with status {transcript.exit}",
        where=host,
        next=f"fab logs -H {host} -n 100" if script.stage in {"activate", "hook"} else f"fab doctor -H {host}",
        detail=readable(transcript.all("journal")) or tuple(transcript.tail),
    )


def unstarted(transcript: Transcript, host: str, login: str) -> LoopError:
    """Nothing of ours ran: what the login says stands for all that is known of why."""
    said = f"it says: {transcript.tail[-1].strip()}" if transcript.tail else "it says nothing"
    return LoopError(
        f"the login of {login} ran nothing of what it was asked to, and ended with status {transcript.exit}; {said}",
        where=host,
        next="see to that account on the host: its shell, password and .bashrc, or ForceCommand in sshd_config",
        code="login",
        detail=tuple(transcript.tail)[-5:-1],
    )


def busy(host: str, text: str) -> LoopError:
    """Who is at work on a host: as that run wrote it into the lock's file."""
    try:
        holder: Any = foreign.load(text)
        who = holder["who"]
        told = (
            f"{who.get('git') or who.get('user')} (on {who.get('host')}) is at work here since {holder['time']}: "
            f"{holder['action']} of {holder['release']}"
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        told = "another run is at work here"
    return LoopError(told, where=host, next="wait for it to end, or say --lock-wait SECONDS", code="busy")


def _no_rights(host: str, login: str, transcript: Transcript) -> LoopError:
    return LoopError(
        f"this needs root once, and {login} may not use sudo without a password",
        where=host,
        next=f"either: fab setup -H {host} --as root, or let visudo add this rule on the host: "
        f"{login} ALL=(ALL) NOPASSWD: ALL",
        code="rights",
        detail=tuple(transcript.tail)[-3:],
    )
