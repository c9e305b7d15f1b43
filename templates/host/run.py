"""One run of one step: the controller's input, the reports to it, signals and failpoints."""

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
    """Return the seconds since boot, by a clock that cannot be set."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Stopped(Exception):
    """The end of a step, and its report. word: the word of that report; status: the exit status."""

    word, status = "refused", 1

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class Refused(Stopped):
    """An operator must act first. text: the reason, and what to do.

    The step has undone its changes to what serves. Packages, accounts and directories that a setup added stay, and so
    does a hand-over; a remove stays half done, and goes on when it runs again.
    """


class Busy(Stopped):
    """Another run is at work. text: the holder of the lock, one line of JSON."""

    word, status = "busy", 75


class Failed(Stopped):
    """The release or the host did not do what it should. text: the reason."""

    word = "failed"


class Moved(Stopped):
    """The host serves another release than the plan saw. text: that release."""

    word, status = "moved", 76


class Edited(Stopped):
    """The host's files differ from their lists, so the controller must send everything. text: the release."""

    word, status = "edited", 3


class Ended(Exception):
    """The step is over and has reported its end. status: the exit status."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Interrupted(Exception):
    """A signal arrived, or the controller is gone."""


class Run:
    """A run of a step. step: the controller's JSON object; who: one line of JSON; payload: what follows on stdin.

    A signal only sets a flag. `heed` looks at the flag at failpoints, in pauses and at reports, so that an undo begins
    from a known state.
    """

    def __init__(self, head: tuple[str, str, str, str], step: Mapping[str, Any], payload: BinaryIO) -> None:
        self.nonce, self.id, self.who, self._failpoint = head
        self.step, self.payload = step, payload
        self.sources: Mapping[str, str] = {}
        """The modules of this program if it was sent whole; empty if a copy is running."""
        self.in_words = False
        """True if a journal or a person gets the reports, not a controller: no nonce, and no signs of life."""
        self._signalled = self._ending = False
        self._aloud = now()

    def framed(self, step: Mapping[str, Any], *, breaks: bool = True) -> bytes:
        """Return the standard input for a process that performs a step of this run. breaks: keep the failpoint."""
        text = json.dumps(step, indent=2) + "\n"
        head = "".join(f"{line}\n" for line in (self.nonce, self.id, self.who, self._failpoint if breaks else ""))
        return f"{head}{len(text.encode())}\n{text}".encode()

    @property
    def breaks(self) -> bool:
        """True if a failpoint breaks this run."""
        return bool(self._failpoint)

    def listen(self) -> None:
        """Note signals from now on, and heed them."""
        self._ending = False
        for number in SIGNALS:
            signal.signal(number, self._note)

    def stop_listening(self) -> None:
        """Let a signal end the process again: from now on it only waits."""
        for number in SIGNALS:
            signal.signal(number, signal.SIG_DFL)

    def _note(self, *_: object) -> None:
        self._signalled = True

    def heed(self) -> None:
        """Raise Interrupted if a signal has arrived."""
        if self._signalled and not self._ending:
            raise Interrupted

    def heed_aloud(self) -> None:
        """Heed a signal, and report once a second: only a report can tell us that the controller is gone."""
        if now() >= self._aloud + 1:
            self._aloud = now()
            self.report("pass", "0")
        self.heed()

    def pause(self, seconds: float) -> None:
        """Wait; a signal ends the wait within a moment."""
        end = now() + seconds
        self.heed()
        while (left := end - now()) > 0:
            time.sleep(min(left, 0.05))
            self.heed()

    def begin_ending(self) -> None:
        """Begin to undo or to end. From here on ignore signals and a lost controller, here and in programs started."""
        self._ending = True
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)

    @property
    def ending(self) -> bool:
        """True once the run undoes or ends."""
        return self._ending

    @contextmanager
    def report_errors_while_ending(self) -> Iterator[None]:
        """Raise an OSError as usual; once the run is ending, only report it."""
        try:
            yield
        except OSError as error:
            if not self._ending:
                raise
            self.output(error_text(error))

    def report(self, word: str, text: str = "") -> None:
        """Send one report: a word and a text."""
        if self.in_words and word in {"pass", "end"}:
            return
        self.reports([(word, text)])

    def reports(self, lines: Iterable[tuple[str, str]]) -> None:
        """Send several reports at once."""
        self._write(lines)
        self.heed()

    def output(self, line: str) -> None:
        """Report a line of a program's output. Raises nothing: the program may still be at work."""
        self._write([("output", line)])

    def _write(self, lines: Iterable[tuple[str, str]]) -> None:
        text = "".join(self._line(*line) for line in lines)
        # The login's output may end without a newline, and its errors may come between two reports.
        head = "" if self.in_words else "\n"
        data = memoryview(f"{head}{text}".encode("utf-8", "surrogateescape"))
        try:
            while data:
                data = data[os.write(1, data) :]
        except OSError:
            # Without its journal a guard must go on; any other run counts this as a lost controller.
            self._signalled = self._signalled or not self.in_words

    def _line(self, word: str, text: str) -> str:
        """Return a report as a line: the nonce, which no other program knows, and a JSON object."""
        if self.in_words:
            head = "" if word in {"output", "fault"} else f"{word} "
            return printable(f"{head}{text}") + "\n"
        return f'{self.nonce} {{"report": {_quoted(word)}, "text": {_quoted(text)}}}\n'

    def trace(self, error: Exception) -> None:
        """Report the traceback of a fault of ours, as the interpreter prints it."""
        shown = io.StringIO()
        with redirect_stderr(shown):
            sys.excepthook(type(error), error, error.__traceback__)
        self.reports(("fault", line) for line in shown.getvalue().splitlines())

    def why(self, error: Exception) -> str:
        """Return the reason of a failure, for the history and the operator; report the traceback of a fault of ours."""
        if isinstance(error, Stopped):
            return error.text
        if isinstance(error, Interrupted):
            return "interrupted"
        if isinstance(error, OSError):
            return error_text(error)
        self.trace(error)
        return f"the host's program failed: {type(error).__name__}: {error}"

    def say(self, word: str, text: str = "") -> None:
        """Report an action that begins, within the step."""
        self.report("step", f"{word} {text}".rstrip())

    def quote(self, text: str) -> None:
        """Report the lines of a program or of a journal, as the reason of a failure."""
        for line in text.splitlines():
            self.report("journal", line)

    def point(self, name: str) -> None:
        """Pass a failpoint, a place between two changes of state; a test makes the run fail, die or stall, once."""
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
        """Return the line for a lock file: who is at work, since when.

        group: the process group that another run may end once its controller is gone; 0: none may be ended.
        """
        line = {"time": utc_now(), "run": self.id, "action": action, "release": release, "who": json.loads(self.who)}
        return json.dumps(line if group is None else {**line, "group": group}, separators=(",", ":"))


def printable(text: str) -> str:
    """Make one plain line of a text, which may be the service's.

    journald begins a new line at NUL, too, and gives that line the source of ours; a terminal obeys what follows ESC.
    """
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else " " if letter in "\n\t" else "?" for letter in text)


def error_text(error: OSError) -> str:
    """Return an error of the system in words, its path first."""
    place = f"{os.fsdecode(error.filename)}: " if error.filename else ""
    return f"{place}{error.strerror or error}"


def utc_now() -> str:
    """Return the time in UTC as ISO 8601, in whole seconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
