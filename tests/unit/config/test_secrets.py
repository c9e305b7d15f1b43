"""The key `secrets` of service.yaml: names, kinds, and what is refused with its place and a suggestion."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.engine.config import service
from tasks.engine.config.service import Secret
from tasks.engine.errors import UsageError

SMALLEST = 'name: myapp\napp: "app:app"\nlisten: 127.0.0.1:8080\n'
TOKEN, KEY = Secret("API_TOKEN"), Secret("TLS_KEY", file=True)


def read(folder: Path, text: str) -> tuple[Secret, ...]:
    path = folder / "service.yaml"
    path.write_text(f"{SMALLEST}{text}\n")
    return service.describe(service.load(path)).secrets


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", ()),
        ("secrets: []", ()),
        ("secrets: [API_TOKEN]", (TOKEN,)),
        ("secrets: {TLS_KEY: file}", (KEY,)),
        ("secrets: [{TLS_KEY: file}, API_TOKEN]", (TOKEN, KEY)),
        ("secrets: {TLS_KEY: file, API_TOKEN: variable}", (TOKEN, KEY)),
        ("secrets: {TLS_KEY: file, API_TOKEN: null}", (KEY,)),
        ("env: {TLS_KEY: a}\nsecrets: {TLS_KEY: file}", (KEY,)),
    ],
)
def test_each_form_is_read_and_the_order_changes_nothing(tmp_path: Path, text: str, found: tuple[Secret, ...]) -> None:
    assert read(tmp_path, text) == found


@pytest.mark.parametrize(
    ("text", "where", "message", "fix"),
    [
        ("secrets: API_TOKEN", ":4:10 (secrets)", "expected a list", "write secrets: [first, second]"),
        ("secrets: [api-token]", ":4:11 (secrets[0])", "expected a variable name", "GREETING"),
        ("secrets: [PATH]", ":4:11 (secrets[0])", "set by the deploy", "another name"),
        ("secrets: [CREDENTIALS_DIRECTORY]", ":4:11 (secrets[0])", "set by the deploy", "another name"),
        ("secrets: [PYTHONPATH]", ":4:11 (secrets[0])", "made from the key", "pythonpath: [src]"),
        ("secrets: [A, {A: file}]", ":4:15 (secrets[1].A)", "A is named twice", "keep one"),
        ("secrets: {A: fil}", ":4:14 (secrets.A)", "expected one of variable, file", "did you mean 'file'?"),
        ("secrets: [SECRET_KEY_FALLBACKS]", ":4:11 (secrets[0])", "comes with SECRET_KEY", "SECRET_KEY alone"),
        ("env: {A: x}\nsecrets: [A]", ":4:6 (env)", "`env` sets it, too", "remove it there"),
        ("env: {SECRET_KEY_FALLBACKS: x}\nsecrets: [SECRET_KEY]", ":4:6 (env)", "`env` sets it, too", "remove"),
        ("processes: {web: {env: {A: x}}}\nsecrets: [A]", "(processes.web.env)", "`env` sets it, too", "remove"),
        (f"secrets: [{', '.join(f'A{one}' for one in range(101))}]", "(secrets)", "101 secrets", "one file"),
    ],
)
def test_what_no_launcher_could_hand_out_is_refused(
    tmp_path: Path, text: str, where: str, message: str, fix: str
) -> None:
    with pytest.raises(UsageError) as refused:
        read(tmp_path, text)
    assert where in (refused.value.where or "")
    assert message in refused.value.message
    assert fix in (refused.value.next or "")
