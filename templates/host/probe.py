"""One request to the health check, by curl, as an operator would make it."""

from __future__ import annotations

import os
import re
import subprocess
from typing import NamedTuple

from . import name_keeper, programs
from .folders import Folder
from .service import Service

_LONGEST = 1 << 16
"""Bytes to read of an answer; a longer one fails."""
_SHOWN = 200
ANSWER = 5
"""Seconds that an answer may take, outside of the health gate."""
_CURL_MARGIN = 5
"""Seconds that curl gets, beyond its own limit, to end."""
_REASON = re.compile(r"curl: \([0-9]*\).*")
_RELEASE = re.compile(r'"release"\s*:\s*"([^"]*)"')
PLAIN = ("-s", "-S", "--globoff", "--path-as-is", "--noproxy", "*")


class Answer(NamedTuple):
    """An answer of the health check. status: 000 if there was none; why: what is wrong, empty if nothing is."""

    status: str
    body: str
    why: str

    @property
    def well(self) -> bool:
        """True if nothing is wrong."""
        return not self.why


class Probe:
    """The health check of one release, as the release itself describes it: service.yaml may be newer."""

    def __init__(self, service: Service, release: str) -> None:
        self.service, self.release = service, release
        self.path, self.status = _own_check(service.root, release) or service.health[:2]

    def slot(self, slot: str, seconds: float) -> Answer:
        """Ask a slot at its own socket."""
        host = self.service.front.host
        # The last header marks our request in the service's log; nginx sets it for the front door check.
        headers = (f"Host: {host}", "X-Forwarded-Proto: https", f"X-Loop-Check: {slot}")
        options = [word for header in headers for word in ("--header", header)]
        return self._ask(seconds, "--unix-socket", self.service.socket(slot), *options, f"http://{host}{self.path}")

    def front(self, seconds: float, way: str = "live") -> Answer:
        """Ask at the front door. way: blue or green, reached by the host's secret; live, where all clients go."""
        return self._ask(seconds, *self.front_words(way))

    def front_words(self, way: str) -> tuple[str, ...]:
        """Return curl's arguments for a request at the front door."""
        name, front = self.service.name, self.service.front
        # In maintenance only requests with the host's secret are served. It also marks our requests in the log.
        path = f"/etc/{name}/check/{way}"
        secret = way != "live" or os.path.lexists(f"{self.service.root}/maintenance") or os.access(path, os.R_OK)
        header = ("--header", f"@{path}") if secret else ()
        if front.kind == "listen":
            return (f"http://{front.listen}{self.path}",)
        if front.kind == "http":
            asked = f"http://{front.host}{front.prefix}{self.path}"
            return (*header, "--resolve", f"{front.host}:80:127.0.0.1", asked)
        keeper = name_keeper.find(front.host) if front.prefix else ""
        trusted = ("--cacert", f"/etc/{keeper or name}/tls/certificate.pem")
        asked = f"https://{front.host}{front.prefix}{self.path}"
        return (*header, *trusted, "--resolve", f"{front.host}:443:127.0.0.1", asked)

    def _ask(self, seconds: float, *words: str) -> Answer:
        limits = ("--max-time", f"{seconds:g}", "--write-out", r"\n%{http_code}")
        return self.check(*run_curl(seconds, *PLAIN, *limits, *words))

    def check(self, text: str, whole: bool) -> Answer:
        """Check curl's output: the body, and on its last line the status. whole: nothing is cut off."""
        body, _, status = text.rpartition("\n")
        if status == "000":
            reasons = _REASON.findall(body)
            return Answer("000", "", f"no answer: {reasons[-1][:_SHOWN] if reasons else ''}")
        if not whole or not re.fullmatch("[0-9]{3}", status):
            return Answer("000", body, "no answer: the answer is longer than 64 kB")
        if status != str(self.status):
            shown = " ".join(body.split("\n"))[:_SHOWN]
            return Answer(status, body, f"answered {status}, not {self.status}: {shown}")
        # An application that reports a release must report this one.
        named = _RELEASE.findall(body)
        wrong = bool(named) and self.release not in named
        return Answer(status, body, f"answered for another release than {self.release}" if wrong else "")


def reports_release(body: str, release: str) -> bool:
    """Return whether an answer reports this release."""
    return release in _RELEASE.findall(body)


def run_curl(seconds: float, *words: str) -> tuple[str, bool]:
    """Run curl; return its output, and whether that is all of it.

    The last line of a whole output is 000 if curl failed, even if it had seen a status.
    """
    programs.show(("curl", *words))
    with subprocess.Popen(
        ("curl", *words),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        restore_signals=False,
    ) as curl:
        assert curl.stdout is not None
        data = curl.stdout.read(_LONGEST)
        whole = len(data) < _LONGEST
        curl.stdout.close()
        try:
            status = curl.wait(seconds + _CURL_MARGIN)
        except subprocess.TimeoutExpired:
            curl.kill()
            status = curl.wait()
    text = data.decode("utf-8", "replace").replace("\0", "")
    return (f"{text}\n000" if status and whole else text), whole


def _own_check(root: str, release: str) -> tuple[str, int] | None:
    try:
        with Folder.open(root) as service, service.below("releases") as releases, releases.below(release) as folder:
            lines = folder.read("health", 4096).decode().split("\n")
        return lines[0], int(lines[1])
    except (OSError, IndexError, ValueError):
        return None
