"""What root's files and the launchers of a small service look like, word for word, in tests/golden/.

A change that is meant is read in the diff of those files after: GOLDEN=write .venv/bin/pytest tests/test_golden.py
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tasks.engine import host_files, launchers
from tasks.engine.host_files import Ground
from tasks.engine.parts import Gateway, Health, Hooks, Listen
from tasks.engine.service import Process, Service

GOLDEN = Path(__file__).resolve().parent / "golden"
SERVICE = Service(
    "myapp",
    "app:create_app()",
    processes=(
        Process("web", workers=2, threads=4),
        Process("worker", "python -m jobs --name 'two words'"),
        Process("nightly", "python -m report", "*-*-* 03:00:00"),
    ),
    health=Health("/readyz", 200, 30, 3, 2.0),
    listen=Listen("127.0.0.1", 8080),
    nginx=Gateway("myapp.example"),
    env=(("GREETING", "it's $HOME\nhere"),),
    hooks=Hooks(before_activate="flask db upgrade"),
)


def rendered() -> dict[str, str]:
    """Path below tests/golden to text."""
    files = host_files.render(SERVICE, Ground("deploy", "www-data", True))
    texts = {f"{file.path.lstrip('/')}": file.text for file in files}
    found = launchers.render(SERVICE, "0123456789ab", "shire01", "27.0.1")
    texts |= {f"release/run/{name}": text for name, text in found.items()}
    texts["README-on-the-host"] = host_files.readme(SERVICE)
    return texts


def test_every_file_is_as_it_was_read_and_approved() -> None:
    texts = rendered()
    if os.environ.get("GOLDEN") == "write":
        shutil.rmtree(GOLDEN, ignore_errors=True)
        for path, text in texts.items():
            (GOLDEN / path).parent.mkdir(parents=True, exist_ok=True)
            (GOLDEN / path).write_text(text, encoding="utf-8")
    there = {str(path.relative_to(GOLDEN)) for path in GOLDEN.rglob("*") if path.is_file()}
    assert there == set(texts)
    for path, text in texts.items():
        assert (GOLDEN / path).read_text(encoding="utf-8") == text, path
