"""The ports that nginx needs: one question to the system, and a program that holds a port is named."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from pathlib import Path

import pytest

from templates.host import nginx_site, programs
from templates.host.programs import Completed
from templates.host.run import Refused

NGINX = """\
LISTEN 0      511    0.0.0.0:443 0.0.0.0:* ino:14145911 sk:a73c cgroup:/system.slice/nginx.service <->
LISTEN 0      511       [::]:80     [::]:* ino:14145912 sk:a73d cgroup:/system.slice/nginx.service v6only:1 <->
"""
OTHER = "LISTEN 0      511       [2001:db8::1]:443     [::]:* {}uid:977 ino:77 sk:1 v6only:1 <->\n"
CADDY = OTHER.format('users:(("caddy",pid=77,fd=3)) ')


def refusal(monkeypatch: pytest.MonkeyPatch, told: str, ports: Sequence[int]) -> tuple[str, list[tuple[str, ...]]]:
    """Return why the ports are refused, empty if they are not, and the questions asked."""
    asked: list[tuple[str, ...]] = []

    def ask(*words: str, seconds: int = 90) -> Completed:
        asked.append(words[1:])
        return Completed(0, NGINX + CADDY if "p" in words[1] and seconds < 10 else told)

    monkeypatch.setattr(programs, "ask", ask)
    monkeypatch.setattr(nginx_site, "_open_files", lambda _: {"socket:[14145911]", "socket:[14145912]", "/dev/null"})
    try:
        nginx_site.require_ports(ports, "199")
    except Refused as refused:
        return refused.text, asked
    return "", asked


def test_a_log_that_is_a_pipe_is_not_read(tmp_path: Path) -> None:
    """The directory may be that of nginx's workers."""
    (tmp_path / "log").write_text("one\ntwo\n")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "log")
    assert [nginx_site._tail(str(tmp_path / name), 1) for name in ("log", "pipe", "link", "none")] == [
        ["two"],
        [],
        [],
        [],
    ]


def test_ports_that_nginx_has_are_asked_for_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once: -p read millions of files that a local user had open, and took memory for each."""
    assert refusal(monkeypatch, NGINX, (80, 443)) == ("", [("-Hltne", "sport = :80 or sport = :443")])
    assert refusal(monkeypatch, "", (80,)) == ("", [("-Hltne", "sport = :80")])


def test_a_port_that_another_program_has_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    why, _ = refusal(monkeypatch, NGINX + OTHER.format(""), (80, 443))
    assert why == "port 443 is held by caddy (pid 77), so nginx cannot have it"
    why, _ = refusal(monkeypatch, OTHER.format("").replace("ino:77", "ino:78"), (80, 443))
    assert why == "port 443 is held by another program, so nginx cannot have it"


def test_the_open_files_of_a_process_are_found() -> None:
    with socket.socket() as ours:
        there = f"socket:[{os.fstat(ours.fileno()).st_ino}]"
        assert there in nginx_site._open_files(str(os.getpid()))
    assert there not in nginx_site._open_files(str(os.getpid()))
    assert nginx_site._open_files("0") == set()
