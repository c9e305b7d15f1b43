"""A session over a shell of this machine, for tests that need no host."""

from __future__ import annotations

import os
import secrets
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO, NamedTuple

from tasks.engine.host import host_program
from tasks.engine.host.protocol import Reader, Transcript
from tasks.engine.host.steps import HostStep
from tasks.engine.ssh.session import LinkLost, Run, Sink, command, opening, stream


class Started(NamedTuple):
    """A process of this machine. wait: returns its exit status, or minus its signal."""

    stdin: IO[bytes]
    stdout: IO[bytes]
    wait: Callable[[], int]


@dataclass(frozen=True)
class LocalShell:
    """Runs steps here, as this user, under `shell` like a login shell; `become` is put before them.

    program: replaces the host's program: its starter, and its text.
    """

    shell: str = "/bin/sh"
    environment: Mapping[str, str] | None = None
    become: tuple[str, ...] = ()
    program: tuple[str, str] | None = None

    def execute(self, step: HostStep, run: Run, sink: Sink, payload: Iterable[bytes] = ()) -> Transcript:
        """See `SshSession.execute`."""
        nonce = secrets.token_hex(8)
        reader, transcript = Reader(nonce), Transcript()
        process = self.start()
        feeder = threading.Thread(
            target=_feed, args=(process.stdin, self._stream(step._replace(place=""), run, nonce, payload))
        )
        feeder.start()
        try:
            while data := os.read(process.stdout.fileno(), 65536):
                for item in reader.feed(data):
                    transcript.add(item)
                    sink(item)
        finally:
            process.stdout.close()
            feeder.join()
            status = process.wait()
        for item in reader.close():
            transcript.add(item)
            sink(item)
        if status < 0:
            raise LinkLost(f"the local shell was ended by signal {-status}", detail=tuple(transcript.tail))
        transcript.exit = status
        return transcript

    def start(self) -> Started:
        """Start the shell."""
        process = subprocess.Popen(
            [self.shell, "-c", command(self.become)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self.environment,
        )
        assert process.stdin
        assert process.stdout
        return Started(process.stdin, process.stdout, process.wait)

    def _stream(self, step: HostStep, run: Run, nonce: str, payload: Iterable[bytes]) -> Iterator[bytes]:
        starter, text = self.program or (host_program.STARTER, host_program.text())
        yield opening(step.place, starter, text)
        yield from stream(step, run, nonce, payload)


def _feed(stdin: IO[bytes], pieces: Iterable[bytes]) -> None:
    try:
        with stdin as pipe:
            for piece in pieces:
                pipe.write(piece)
                # The next report may take a while.
                pipe.flush()
    except BrokenPipeError:
        pass  # it ended without reading everything: its exit status says why
