"""Explain from its transcript why a step failed: one sentence and the next step. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from tasks.engine import untrusted_json
from tasks.engine.errors import LoopError
from tasks.engine.host import history, host_program, reported_names
from tasks.engine.host.log_text import summarize
from tasks.engine.host.protocol import Transcript
from tasks.engine.host.steps import HostStep

_LONGEST = 1000
"""Characters shown of a host's text."""
_FAULT = 20
"""Lines shown of the end of a traceback."""
_ELSEWHERE = re.compile(r"answered (?:3\d\d|401|403|404|405), not ")
_PATH = ". `health: path` of service.yaml must itself give the right answer, without a redirect or a login"


class Edited(LoopError):
    """The files of a release differ from its manifest: the run sends everything again. lacks: wheels to send again."""

    code = "edited"
    lacks: frozenset[str] = frozenset()


def explain(step: HostStep, transcript: Transcript, host: str, login: str, needs: Collection[str] = ()) -> LoopError:
    """Return the error for a step that failed on a host. login: the account of the connection.

    needs: of the service; its log lines may show what else it needs.
    """
    if (holder := transcript.last("busy")) is not None:
        return busy(host, holder)
    if (now := transcript.last("moved")) is not None:
        moved = f"another run changed this host since it was looked at: it now serves {now[:_LONGEST] or 'nothing'}"
        return LoopError(moved, where=host, next="run the command again", code="moved")
    if (release := transcript.last("edited")) is not None:
        edited = Edited(f"files of release {release[:_LONGEST]} are not what its manifest says", where=host)
        edited.lacks = frozenset(transcript.all("lacks"))
        return edited
    if (pythons := transcript.last(host_program.LACKS)) is not None:
        return _no_python(host, pythons)
    if step.root and not transcript.reports:
        return _no_rights(step, host, login, transcript)
    why = transcript.last("failed") or transcript.last("refused")
    why = (why or f"{step.name} ended with status {transcript.exit}")[:_LONGEST]
    refusal = _sudo_says(transcript)
    if refusal and not transcript.all("journal") and not transcript.last("refused"):
        again = f"fab setup -H {host} --as root, which writes the rules that {login} needs"
        return LoopError(
            f"{why}; sudo says: {refusal}", where=host, next=_way_to_sudo(refusal, login) or again, code="rights"
        )
    logs = f"fab logs -H {host} -n 100"
    if (killed := transcript.last("killed")) and reported_names.is_release(killed.partition(" ")[2]):
        logs += f". The release that serves may have ended it (both run as one account): {_stop_first(killed, host)}"
    # Only a failure needs its patterns.
    from tasks.engine.host import sandbox_hints

    shown = summarize(transcript.all("journal"), transcript.all("systemd"))
    way = logs if step.name in {"activate", "hook"} else f"fab doctor -H {host}"
    return LoopError(
        why,
        where=host,
        next=way + (_PATH if _ELSEWHERE.search(why) else "") + sandbox_hints.advice(shown, needs),
        detail=shown or tuple(line[:_LONGEST] for line in transcript.all("fault")[-_FAULT:] or transcript.tail),
    )


def _no_python(host: str, pythons: str) -> LoopError:
    """Return the error of a host without a usable Python. pythons: its unusable ones, as it reports them."""
    there = f"the host has {pythons[:_LONGEST]}" if pythons else "the host has none there"
    return LoopError(
        f"this needs Python 3.9 or newer in /usr/bin or /usr/local/bin of the host, and {there}",
        where=host,
        next="on the host, as root: apt-get install python3 (dnf install python3.12), or what mends the one that is "
        "there (apt-get install --reinstall; dpkg --verify names the package), then the same command again",
        code="no-python",
    )


def _stop_first(killed: str, host: str) -> str:
    """Return the command that stops the live release first. killed: the action and its release."""
    action, _, release = killed.partition(" ")
    if action not in {"deploy", "restart"}:
        action = f"rollback --to {release}"
    return f"fab {action} -H {host} --stop-first"


def unstarted(transcript: Transcript, host: str, login: str) -> LoopError:
    """Return the error for a login that ran nothing of ours: its output is all that we know of the reason."""
    printed = f"printed: {transcript.tail[-1].strip()[:_LONGEST]}" if transcript.tail else "printed nothing"
    ended = f"the login ended with status {transcript.exit} and {printed}"
    return LoopError(
        f"{login} logged in, but the host ran none of our commands: {ended}",
        where=host,
        next="check on the host that account's shell, password and .bashrc, and ForceCommand in sshd_config",
        code="login",
        detail=tuple(transcript.tail)[-5:-1],
    )


def busy(host: str, text: str) -> LoopError:
    """Return the error for a host where another run is at work. text: what that run wrote into the lock file."""
    try:
        holder: Any = untrusted_json.load(text)
        message = (
            f"{history.author(holder['who'])} is at work here since {holder['time']}: "
            f"{holder['action']}{' of ' + str(holder['release']) if holder['release'] else ''}"
        )[:_LONGEST]
    except (ValueError, KeyError, TypeError, AttributeError):
        message = "another run is at work here"
    way = "wait for it to end (deploy, rollback and restart take --lock-wait SECONDS)"
    return LoopError(message, where=host, next=way, code="busy")


def _no_rights(step: HostStep, host: str, login: str, transcript: Transcript) -> LoopError:
    refusal = _sudo_says(transcript) or ""
    message = f"sudo refuses {login}: {refusal}"
    way = _way_to_sudo(refusal, login)
    # The sudo rules that setup writes allow neither their own removal nor a change of secrets.
    again = "the same command with --as root" if step.name in {"remove", "secret"} else f"fab setup -H {host} --as root"
    rule = f"let visudo add this rule on the host: {login} ALL=(ALL) NOPASSWD: ALL"
    if transcript.exit == 127:
        message, way = f"there is no sudo for {login}", "install sudo on the host, then run the command again"
    elif not refusal or "password is required" in refusal:
        # sudo prints the same for an account without any rule, so there is no better reason to show.
        message = f"{login} may not use sudo without a password"
    return LoopError(
        f"this needs root once, and {message}",
        where=host,
        next=f"either: {again}, or {way or rule}",
        code="rights",
        detail=tuple(transcript.tail)[-3:],
    )


def _sudo_says(transcript: Transcript) -> str | None:
    """Return the reason that sudo itself printed last; None if it printed none."""
    lines = [line for line in transcript.tail if line.startswith(("sudo: ", "Sorry, user "))]
    lines = [line for line in lines if "unable to resolve host" not in line]
    # sudo prints "a password is required" last, after the real reason.
    cause = [line for line in lines if "password is required" not in line] or lines
    return cause[-1].removeprefix("sudo: ").strip()[:_LONGEST] if cause else None


def _way_to_sudo(refusal: str, login: str) -> str | None:
    """Return the fix for a known refusal of sudo; None for a refusal in another language, or without a reason."""
    if "must have a tty" in refusal:
        return f"let visudo add on the host: Defaults:{login} !requiretty"
    if "expired" in refusal or "account validation failure" in refusal:
        return f"see on the host whether that account has expired or is locked: chage -l {login}; passwd -S {login}"
    if "setuid" in refusal or "nosuid" in refusal or "owned by uid 0" in refusal:
        return "make sudo root's again, on the host: chown root:root /usr/bin/sudo && chmod 4755 /usr/bin/sudo"
    return None
