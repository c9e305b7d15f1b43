"""Check the front door before traffic moves: nginx, TLS, the redirect, and names that are not ours."""

from __future__ import annotations

import os

from . import probe as probing
from .probe import ANSWER, Probe
from .run import Failed, Run


def check(run: Run, probe: Probe, slot: str, serves: str, prefix: str) -> None:
    """Ask the candidate through nginx, which leads a request with the host's secret there; Failed for a wrong answer.

    serves: the release in the live slot, which gets all other requests; prefix: of the failpoint.
    """
    kind, name = probe.service.front.kind, probe.service.name
    if kind == "listen":
        return
    run.say("check", "the front door, before traffic moves")
    run.point(f"{prefix}.door")
    if not os.access(f"/etc/{name}/check/{slot}", os.R_OK):
        raise Failed(f"/etc/{name}/check/{slot}, the secret of this check, cannot be read: run fab setup")
    if kind == "https":
        _check_https(probe, slot, serves or probe.release)
    else:
        require(probe.front(ANSWER, slot))


def require(answer: probing.Answer) -> None:
    """Raise Failed for a wrong answer."""
    if not answer.well:
        raise Failed(f"the front door gives no right answer for the new release: {answer.why}")


def _check_https(probe: Probe, slot: str, serves: str) -> None:
    """Ask all questions with one curl, since its start takes longer than an answer; a missing answer ends it.

    Plain HTTP comes first, since curl remembers which hosts want HTTPS only (HSTS). The separator between two answers
    is random, so the service cannot forge it.
    """
    host = probe.service.front.host
    between = os.urandom(8).hex()
    each = ("-s", "--noproxy", "*", "--max-time", str(ANSWER))
    text, _ = probing.run_curl(
        3 * ANSWER,
        *("--fail-early", *each, "-o", "/dev/null", "--resolve", f"{host}:80:127.0.0.1"),
        *("-w", r"%{http_code} %{redirect_url}\n", f"http://{host}/"),
        *("--next", *each, "--globoff", "--path-as-is", "-w", rf"\n%{{http_code}}@{between}", *probe.front_words(slot)),
        *("--next", *each, "-k", "--resolve", "stranger.invalid:443:127.0.0.1"),
        *("-w", "%{http_code}", f"https://stranger.invalid{probe.path}"),
    )
    redirect, _, answers = text.partition("\n")
    service, ended, stranger = answers.partition(f"@{between}")
    if not redirect.startswith((f"301 https://{host}/", f"308 https://{host}/")):
        # A front door that gives no answer at all does not redirect either.
        require(probe.front(ANSWER, slot))
        raise Failed(f"plain HTTP is not redirected to HTTPS: {redirect[:1000]}")
    if not ended:
        raise Failed("the front door gives no right answer for the new release: the answer is longer than 64 kB")
    if stranger == "\n000":
        # curl ended at the question to the service; asked alone, it prints why.
        require(probe.front(ANSWER, slot))
        raise Failed("the front door gave a wrong answer for the new release first, and a right one when asked again")
    require(probe.check(service, True))
    # A foreign host name must not reach the service; another site may answer it, so it is asked without the secret.
    if probing.reports_release(stranger, serves):
        raise Failed("the service answers for any host name")
