"""Check the front door before traffic moves: nginx, TLS, the redirect, and names that are not ours."""

from __future__ import annotations

import os

from . import probe as probing
from .probe import Probe
from .run import Failed, Run

_SECONDS = 5


def check(run: Run, probe: Probe, slot: str, serves: str, stage: str) -> None:
    """nginx leads whoever shows the host's own secret to the candidate, and everybody else to the live slot.

    serves: the release that everybody is led to; Failed with what is wrong.
    """
    kind, name = probe.service.front.kind, probe.service.name
    if kind == "listen":
        return
    run.say("check", "the front door, before traffic moves")
    run.point(f"{stage}.door")
    if not os.access(f"/etc/{name}/check/{slot}", os.R_OK):
        raise Failed(f"/etc/{name}/check/{slot}, the secret of this check, cannot be read: run fab setup")
    if kind == "https":
        _check_gateway(probe, slot, serves or probe.release)
    else:
        require(probe.front(_SECONDS, slot))


def require(answer: probing.Answer) -> None:
    """Failed for an answer that is wrong."""
    if not answer.well:
        raise Failed(f"the front door does not answer for it: {answer.why}")


def _check_gateway(probe: Probe, slot: str, serves: str) -> None:
    """All questions in one curl, whose start takes longer than an answer. The first that gets none is the last.

    Plain HTTP comes first, since curl remembers whom it was told to ask by HTTPS alone. Between two answers stands a
    word that the service cannot have said, since it is made anew each time.
    """
    host = probe.service.front.host
    between = os.urandom(8).hex()
    each = ("-s", "--noproxy", "*", "--max-time", str(_SECONDS))
    text, _ = probing.run_curl(
        3 * _SECONDS,
        *("--fail-early", *each, "-o", "/dev/null", "--resolve", f"{host}:80:127.0.0.1"),
        *("-w", r"%{http_code} %{redirect_url}\n", f"http://{host}/"),
        *("--next", *each, "--globoff", "--path-as-is", "-w", rf"\n%{{http_code}}@{between}", *probe.door(slot)),
        *("--next", *each, "-k", "--resolve", "stranger.invalid:443:127.0.0.1"),
        *("-w", "%{http_code}", f"https://stranger.invalid{probe.path}"),
    )
    redirect, _, rest = text.partition("\n")
    service, ended, stranger = rest.partition(f"@{between}")
    if not redirect.startswith((f"301 https://{host}/", f"308 https://{host}/")):
        # Who answers nothing at all does not redirect either.
        require(probe.front(_SECONDS, slot))
        raise Failed(f"plain HTTP is not redirected to HTTPS: {redirect[:1000]}")
    if not ended:
        raise Failed("the front door does not answer for it: the answer is longer than 64 kB")
    if stranger == "\n000":
        # It was the last question, and curl says why when it is asked alone.
        require(probe.front(_SECONDS, slot))
        raise Failed("the front door did not answer for it at first")
    require(probe.judge(service, True))
    # Names that are not ours must not reach the service, whoever else answers them, and is not told the secret.
    if probing.names(stranger, serves):
        raise Failed("the service answers for any host name")
