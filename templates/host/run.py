"""One run of one step: what the controller sent, and the lines that answer it."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from typing import Any, BinaryIO, NoReturn

SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
_quoted = json.JSONEncoder(ensure_ascii=False).encode


def now() -> float:
    """Seconds since boot: no clock that somebody sets."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


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


class Failed(Stopped):
    """The release did not hold; the text says why."""

    word = "failed"


class Moved(Stopped):
    """The host serves another release than the plan saw. text: which."""

    word, status = "moved", 76


class Edited(Stopped):
    """What lies on the host is not what its lists say, so everything has to be sent. text: the release."""

    word, status = "edited", 3


class Ended(Exception):
    """The step is over, and has reported how. status: the exit status."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Interrupted(Exception):
    """A signal arrived, or the controller reads no longer."""


class Run:
    """step: the JSON object that the controller printed; who: one line of JSON; payload: what follows on stdin.

    A signal only sets a flag, which `heed` looks at: at a named point, in a pause, and whenever something is reported.
    So whatever has to be undone begins from a known state.
    """

    def __init__(self, head: tuple[str, str, str, str], step: Mapping[str, Any], payload: BinaryIO) -> None:
        self.nonce, self.id, self.who, self._failpoint = head
        self.step, self.payload = step, payload
        self.sources: Mapping[str, str] = {}
        """The modules of this program, where it was sent whole; empty where a copy is what runs."""
        self.in_words = False
        """Whether a journal or a person hears it, and no controller: no nonce, and no line that says it is alive."""
        self._signalled = self._leaving = False

    def framed(self, step: Mapping[str, Any], *, breaks: bool = True) -> bytes:
        """What the standard input of another process has to be, for that step of this run. breaks: at the failpoint."""
        text = json.dumps(step, indent=2) + "\n"
        head = "".join(f"{line}\n" for line in (self.nonce, self.id, self.who, self._failpoint if breaks else ""))
        return f"{head}{len(text.encode())}\n{text}".encode()

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

    def pause(self, seconds: float) -> None:
        """Wait; a signal ends that within a moment."""
        end = now() + seconds
        self.heed()
        while (left := end - now()) > 0:
            time.sleep(min(left, 0.05))
            self.heed()

    def leave(self) -> None:
        """From here on the run undoes or ends: no signal and no silent controller stops it, or what it starts."""
        self._leaving = True
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)

    @property
    def leaving(self) -> bool:
        """Whether it undoes or ends."""
        return self._leaving

    @contextmanager
    def surely(self) -> Iterator[None]:
        """What fails within, on the way out, is said, and keeps nothing else from being done."""
        try:
            yield
        except OSError as error:
            if not self._leaving:
                raise
            self.output(told(error))

    def report(self, word: str, text: str = "") -> None:
        """Report something: a word that says what it is, and a text."""
        if self.in_words and word in {"pass", "end"}:
            return
        self.reports([(word, text)])

    def reports(self, lines: Iterable[tuple[str, str]]) -> None:
        """Report many things at once."""
        self._write(lines)
        self.heed()

    def output(self, line: str) -> None:
        """Report a line of a program, which may be at work: a signal is heeded later."""
        self._write([("output", line)])

    def _write(self, lines: Iterable[tuple[str, str]]) -> None:
        text = "".join(self._line(word, rest) for word, rest in lines)
        # What a login has printed need not end with a line, and its errors may come between two reports.
        head = "" if self.in_words else "\n"
        data = memoryview(f"{head}{text}".encode("utf-8", "surrogateescape"))
        try:
            while data:
                data = data[os.write(1, data) :]
        except OSError:
            # A journal that is gone is no reason to end: nobody else guards the run.
            self._signalled = self._signalled or not self.in_words

    def _line(self, word: str, text: str) -> str:
        """One JSON object, led by the nonce, which nothing that a program prints can have."""
        if self.in_words:
            head = "" if word in {"output", "fault"} else f"{word} "
            return f"{head}{text}".replace("\n", " ") + "\n"
        return f'{self.nonce} {{"report": {_quoted(word)}, "text": {_quoted(text)}}}\n'

    def trace(self, error: Exception) -> None:
        """Report where a fault of ours came from, by what the interpreter itself has for that."""
        shown = io.StringIO()
        with redirect_stderr(shown):
            sys.excepthook(type(error), error, error.__traceback__)
        self.reports(("fault", line) for line in shown.getvalue().splitlines())

    def why(self, error: Exception) -> str:
        """Why something came to its end, as the history and the operator get it; a fault of ours is shown as well."""
        if isinstance(error, Stopped):
            return error.text
        if isinstance(error, Interrupted):
            return "interrupted"
        if isinstance(error, OSError):
            return told(error)
        self.trace(error)
        return f"the host's program failed: {type(error).__name__}: {error}"

    def say(self, word: str, text: str = "") -> None:
        """Report a step that begins."""
        self.report("step", f"{word} {text}".rstrip())

    def journal(self, text: str) -> None:
        """Report the lines of a program or of a journal, as the reason of a failure."""
        for line in text.splitlines():
            self.report("journal", line)

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

    def holder(self, action: str, release: str, group: int | None = None) -> str:
        """The line that a lock file gets: who is at work, since when.

        group: of the processes that may be ended when their controller is gone; 0: they may not.
        """
        line = {"time": utc_now(), "run": self.id, "action": action, "release": release, "who": json.loads(self.who)}
        return json.dumps(line if group is None else {**line, "group": group}, separators=(",", ":"))


def told(error: OSError) -> str:
    """An error of the system in words, its path first."""
    place = f"{os.fsdecode(error.filename)}: " if error.filename else ""
    return f"{place}{error.strerror or error}"


def utc_now() -> str:
    """The time as ISO 8601, in whole seconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
