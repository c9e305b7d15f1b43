"""Golden texts of root's files and of the launchers of a small service, in tests/golden/.

Rewrite them, then read the diff: GOLDEN=write .venv/bin/pytest tests/unit/house/test_golden.py
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import pytest

from tasks.engine.host import launchers, layout, system_files
from tasks.engine.host.system_files import HostTraits
from tests.support.small_service import SERVICE

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
LAYOUT = GOLDEN.with_name("layout")
"""The layout's number, and a digest of what root installs."""
HOST = GOLDEN.parents[1] / "templates/host"
SETS_MODES = [
    HOST / f"{name}.py"
    for name in (
        "certificate",
        "certify",
        "check_secret",
        "files",
        "handover",
        "certificate_pair",
        "own_addresses",
        "setup",
    )
]
TRAITS = HostTraits("deploy", "www-data", True)


def rendered() -> dict[str, str]:
    """Path below tests/golden to text."""
    files = system_files.render(SERVICE, TRAITS)
    texts = {f"{file.path.lstrip('/')}": file.text for file in files}
    found = launchers.render(SERVICE, "0123456789ab", "shire01", "27.0.1")
    texts |= {f"release/run/{name}": text for name, text in found.items()}
    texts["README-on-the-host"] = system_files.readme(SERVICE)
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


def installed() -> str:
    """Return each file of root with its mode, without comments, and the lines of setup that set a mode."""
    texts = [f"{file.path} {file.mode:o}\n{file.text}" for file in system_files.render(SERVICE, TRAITS)]
    texts += [line for path in SETS_MODES for line in path.read_text().splitlines() if "0o" in line]
    lines = (line.strip() for text in texts for line in text.splitlines())
    return "\n".join(line for line in lines if line and not line.startswith("#"))


def test_the_layout_has_a_new_number_when_an_older_host_must_be_moved() -> None:
    line = f"{layout.VERSION} {hashlib.sha256(installed().encode()).hexdigest()}\n"
    if os.environ.get("LAYOUT") == "write":
        LAYOUT.write_text(line)
    assert LAYOUT.read_text() == line, (
        f"what root installs has changed: is it still layout {layout.VERSION}? Raise VERSION "
        "(tasks/engine/host/layout.py) if setup has to move what older versions look for. Then write the digest anew: "
        "LAYOUT=write .venv/bin/pytest tests/unit/house/test_golden.py"
    )


def test_a_comment_changes_no_layout_and_a_mode_does(monkeypatch: pytest.MonkeyPatch) -> None:
    before = installed()
    files = system_files.render(SERVICE, TRAITS)
    for change, same in (({"text": f"# New.\n{files[0].text}"}, True), ({"mode": 0o600}, False)):
        changed = (files[0]._replace(**change), *files[1:])
        monkeypatch.setattr(system_files, "render", lambda *_, changed=changed: changed)
        assert (installed() == before) == same
