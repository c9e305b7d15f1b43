"""certbot, asked for a certificate: the CA is a stranger, whose answers take no more of the host than they may."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from templates.host import acme
from templates.host.run import Refused, Run


def test_certbot_has_a_limit_of_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once: an answer without an end took 5 GB of the host before certbot was ended."""
    (tmp_path / "certbot").write_text("#!/bin/sh\nulimit -d\nprintf '%s\\n' \"$@\"\nexit 1\n")
    (tmp_path / "certbot").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    run, said = Run(("n", "r", "{}", ""), {"name": "shop", "names": ["a.example"]}, io.BytesIO()), list[str]()
    monkeypatch.setattr(run, "reports", lambda lines: said.extend(text for word, text in lines if word == "journal"))
    monkeypatch.setattr(acme, "_LINES", 100)
    changes: Any = None
    with pytest.raises(Refused, match="certbot got no certificate; every name must lead to this host"):
        acme.obtain(run, changes, ("ops@a.example", "https://ca.example/dir"), ("/c", "/k"))
    assert said[:3] == ["1048576", "certonly", "-n"]
    assert said[-2:] == ["--keep-until-expiring", "--renew-with-new-domains"]
