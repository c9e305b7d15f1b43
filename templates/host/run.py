"""One run of one step: what the controller sent, and the lines that answer it."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Mapping
from typing import Any, BinaryIO, NoReturn

SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)


class Stopped(Exception):
    """The step ends here with this report. word: of the line that says so; status: the exit status."""

    word, status = "refused", 1

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class Refused(Stopped):
    """The operator has to do something first; the text says what."""


class Busy(Stopped):
    """Another run is at work. text: who, one line of JSON."""

    word, status = "busy", 75


class Interrupted(Exception):
    """A signal arrived, or the controller reads no longer."""


class Run:
    """step: the JSON object that the controller printed; who: one line of JSON; payload: what follows on stdin.

    A signal only sets a flag, which `heed` looks at: at a named point and whenever something is reported. So whatever
    has to be undone begins from a known state.
    """

    def __init__(self, head: tuple[str, str, str, str], step: Mapping[str, Any], payload: BinaryIO) -> None:
        self._nonce, self.id, self.who, self._failpoint = head
        self.step, self.payload = step, payload
        self._signalled = self._leaving = False

    def listen(self) -> None:
        """Take note of signals from now on."""
        for number in SIGNALS:
            signal.signal(number, self._note)

    def _note(self, *_: object) -> None:
        self._signalled = True

    def heed(self) -> None:
        """Raise Interrupted if a signal has arrived."""
        if self._signalled and not self._leaving:
            raise Interrupted

    def leave(self) -> None:
        """From here on the run undoes or ends: no signal and no silent controller stops it."""
        self._leaving = True

    def mark(self, word: str, text: str = "") -> None:
        """Report one line; the nonce tells it from the output of programs."""
        line = f"@{self._nonce} {word} {text}".replace("\n", " ").encode("utf-8", "surrogateescape") + b"\n"
        try:
            while line:
                line = line[os.write(1, line) :]
        except OSError:
            if not self._leaving:
                raise Interrupted from None
        self.heed()

    def say(self, word: str, text: str = "") -> None:
        """Report a step that begins."""
        self.mark("step", f"{word} {text}".rstrip())

    def fact(self, key: str, value: str) -> None:
        """Report a fact."""
        self.mark("fact", f"{key} {value}")

    def journal(self, text: str) -> None:
        """Report the lines of a program or of a journal, as the reason of a failure."""
        for line in text.splitlines():
            self.mark("journal", line)

    def point(self, name: str) -> None:
        """A named place between two changes of state, where a test makes the run fail, die or stall, once."""
        self.heed()
        reached, _, action = self._failpoint.partition("=")
        if reached != name:
            return
        if action == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        self._failpoint = ""
        if action == "fail":
            raise Refused(f"failpoint {name}")
        self.say("stall", name)
        self._stall()

    def _stall(self) -> NoReturn:
        while True:
            self.heed()
            time.sleep(0.05)

    def holder(self, action: str, release: str) -> str:
        """The line that a lock file gets: who is at work, since when."""
        line = {"time": utc_now(), "run": self.id, "action": action, "release": release, "who": json.loads(self.who)}
        return json.dumps({**line, "group": 0}, separators=(",", ":"))


def utc_now() -> str:
    """The time as ISO 8601, in whole seconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
