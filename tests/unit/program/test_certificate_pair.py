"""The pair that another program of the host keeps: what is taken of its files."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Any, cast

import pytest

from tasks.engine.host import templates
from templates.host import certificate, certificate_pair
from templates.host.run import Refused

PEM = b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
KEY = b"-----BEGIN EC PRIVATE KEY-----\nMIIE\n-----END EC PRIVATE KEY-----\n"


@pytest.fixture
def placed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bytes, bytes]]:
    """The chain and the key that are placed."""
    pairs: list[tuple[bytes, bytes]] = []
    monkeypatch.setattr(certificate, "require_usable", lambda *_: None)
    monkeypatch.setattr(
        certificate_pair, "place", lambda _run, _changes, _name, chain, key, _origin: pairs.append((chain, key))
    )
    return pairs


def take(first: Path, second: Path) -> bytes:
    return certificate_pair.take(
        cast(Any, None), cast(Any, None), "myapp", (str(first), str(second)), ["myapp.example"]
    )


def test_the_chain_has_no_key_even_if_both_are_in_one_file(tmp_path: Path, placed: list[tuple[bytes, bytes]]) -> None:
    """Once: every account of the host could read such a key."""
    both = tmp_path / "both.pem"
    windows = PEM.replace(b"\n", b"\r\n")
    both.write_bytes(b"of haproxy\n%b%b%b" % (windows, KEY, PEM))
    assert take(both, both) == windows + PEM
    assert placed == [(windows + PEM, KEY)]


def test_a_block_that_was_cut_does_not_reach_into_the_key(tmp_path: Path, placed: list[tuple[bytes, bytes]]) -> None:
    """Once: the key after it counted as a part of a certificate."""
    both = tmp_path / "both.pem"
    both.write_bytes(PEM + PEM.partition(b"-----END")[0] + KEY + PEM)
    assert take(both, both) == PEM + PEM
    assert placed == [(PEM + PEM, KEY)]


def test_nothing_but_a_file_is_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/null")
    for name in ("pipe", "device"):
        with pytest.raises(Refused, match=f"{name} is no file"):
            take(tmp_path / name, tmp_path / name)


def test_a_file_that_never_ends_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once: a link to /proc/kmsg, which is a regular file for stat, held root's setup, and its locks, for ever."""
    monkeypatch.setattr(certificate_pair, "_SECONDS", 0.2)
    monkeypatch.setattr(certificate_pair, "_content", lambda _: time.sleep(60))
    began = time.monotonic()
    with pytest.raises(Refused, match=r"one.pem cannot be read: the work took longer than 0.2 s"):
        take(tmp_path / "one.pem", tmp_path / "two.pem")
    assert time.monotonic() - began < 5


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"one.pem cannot be read: No such file or directory$"):
        take(tmp_path / "one.pem", tmp_path / "two.pem")


@pytest.mark.parametrize(
    ("first", "second", "why"),
    [
        (KEY, KEY, "one.pem has no certificate in PEM"),
        (PEM, PEM, "two.pem has no private key in PEM"),
        (b"", KEY, "one.pem is no file, or an empty one"),
        (PEM + b"#" * 1_000_000, KEY, "one.pem has a megabyte or more"),
    ],
    ids=["no certificate", "no key", "empty", "large"],
)
def test_a_file_that_is_not_what_it_should_be_is_named(
    first: bytes, second: bytes, why: str, tmp_path: Path, placed: list[tuple[bytes, bytes]]
) -> None:
    for name, data in (("one.pem", first), ("two.pem", second)):
        (tmp_path / name).write_bytes(data)
    with pytest.raises(Refused, match=why):
        take(tmp_path / "one.pem", tmp_path / "two.pem")
    assert placed == []


def test_a_pipe_that_comes_after_the_look_holds_no_program_of_roots(tmp_path: Path) -> None:
    """Once: it waited for a writer until systemd ended it, two minutes later."""
    folder, look = tmp_path / "tls", '[ -f "$1" ] || return 1'
    folder.mkdir()
    script = templates.text("take_certificate.sh").replace("/etc/$name/tls", str(folder)).replace("left=50", "left=1")
    assert script.count(look) == 1
    head = script.replace(look, ":")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    ended = subprocess.run(
        ["sh", "-c", head, "take-certificate", "myapp", pipe, pipe, "myapp.example"],
        cwd=tmp_path, capture_output=True, timeout=20,
    )  # fmt: skip
    assert ended.returncode == 1, ended.stderr


def test_root_opens_no_device_for_the_program_that_keeps_the_pair() -> None:
    for unit in ("certificate", "certificate-again"):
        assert "PrivateDevices=yes" in templates.text(f"systemd/{unit}.service")
