"""Which nginx may speak HTTP/2 for one site alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from templates.host import http2, programs


def told(monkeypatch: pytest.MonkeyPatch, folder: Path, version: str) -> Path:
    """Stand in for an nginx of this version; return the path of the file that setup writes for it."""
    monkeypatch.setattr(programs, "ask", lambda *_, **__: programs.Completed(0, f"nginx version: {version}\n"))
    path = folder / "http2.conf"
    monkeypatch.setattr(http2, "_path", lambda _: str(path))
    return path


@pytest.mark.parametrize(
    "version", ["nginx/1.25.1", "nginx/1.26.3 (Debian)", "nginx/1.100.0", "nginx/2.0.0", "openresty/1.27.1.2"]
)
def test_a_newer_nginx_speaks_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, version: str) -> None:
    path = told(monkeypatch, tmp_path, version)
    assert http2.wanted("myapp") == {str(path): b"http2 on;\n"}
    assert [http2.write("myapp", "run"), http2.write("myapp", "run")] == [True, False]
    assert path.read_text() == "http2 on;\n"
    assert [http2.remove("myapp"), http2.remove("myapp")] == [True, False]


@pytest.mark.parametrize("version", ["nginx/1.25.0", "nginx/1.22.1", "nginx/0.99.9", "what", "nginx/1.x", ""])
def test_an_older_or_unknown_one_does_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, version: str) -> None:
    path = told(monkeypatch, tmp_path, version)
    assert http2.wanted("myapp") == {str(path): b""}
    assert not http2.write("myapp", "run")
    path.write_text("http2 on;\n")
    assert http2.write("myapp", "run")
    assert not path.exists()
