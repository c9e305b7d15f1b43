"""The ports that nginx needs: one question to the system, and a program that holds a port is named."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from templates.host import nginx_site, programs
from templates.host.programs import Ended
from templates.host.run import Refused

NGINX = """\
LISTEN 0      511    0.0.0.0:443 0.0.0.0:* users:(("nginx",pid=190,fd=5),("nginx",pid=199,fd=5))
LISTEN 0      511       [::]:80     [::]:* users:(("nginx",pid=190,fd=8),("nginx",pid=199,fd=8))
"""
OTHER = 'LISTEN 0      511       [2001:db8::1]:443     [::]:* users:(("caddy",pid=77,fd=3))\n'


def refusal(monkeypatch: pytest.MonkeyPatch, told: str, ports: Sequence[int]) -> tuple[str, list[str]]:
    """Return why the ports are refused, empty if they are not, and the filters of the questions asked."""
    asked: list[str] = []

    def ask(*words: str) -> Ended:
        asked.append(words[-1])
        return Ended(0, told)

    monkeypatch.setattr(programs, "ask", ask)
    try:
        nginx_site.require_ports(ports, "199")
    except Refused as refused:
        return refused.text, asked
    return "", asked


def test_ports_that_nginx_has_are_asked_for_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert refusal(monkeypatch, NGINX, (80, 443)) == ("", ["sport = :80 or sport = :443"])
    assert refusal(monkeypatch, "", (80,)) == ("", ["sport = :80"])


def test_a_port_that_another_program_has_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    why, _ = refusal(monkeypatch, NGINX + OTHER, (80, 443))
    assert why == "port 443 is held by caddy (pid 77), so nginx cannot have it"
