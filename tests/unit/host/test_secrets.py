"""Secrets in units and launchers: who gets them, how they arrive, and what a lacking one does."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tasks.engine.config.sections import Listen
from tasks.engine.config.service import Secret, Service
from tasks.engine.errors import LoopError
from tasks.engine.host import facts, launchers, system_files
from tasks.engine.host.protocol import Report, Transcript
from tasks.engine.host.system_files import HostTraits
from templates.host.fact_schema import HostFacts, Record, plain
from tests.support.small_service import SERVICE

TRAITS = HostTraits("deploy", "www-data", True)
SOME = SERVICE._replace(secrets=(Secret("API_TOKEN"), Secret("SECRET_KEY"), Secret("TLS_KEY", file=True)))
HANDED = {"myapp@.service", "myapp-worker@.service", "myapp-nightly.service", "myapp-hook@.service",
          "myapp-run@.service", "myapp-run-health@.service"}  # fmt: skip
VALUES = [b"plain", b" two  words ", b'it\'s $HOME `id` \\ "x"', b"lines\n\n", b"\n\n", b"\xff\xfe", "é".encode(), b"*"]


def texts(service: Service, traits: HostTraits = TRAITS) -> dict[str, str]:
    return {file.path.rpartition("/")[2]: file.text for file in system_files.render(service, traits)}


def test_every_unit_that_runs_code_of_a_release_gets_one_line_for_each_secret() -> None:
    found = texts(SOME._replace(listen=Listen("127.0.0.1", 8080)))
    assert {name for name, text in found.items() if "LoadCredential=" in text} == HANDED
    for name in HANDED:
        for secret in ("API_TOKEN", "SECRET_KEY", "SECRET_KEY_FALLBACKS", "TLS_KEY"):
            lines = found[name].splitlines()
            assert lines.count(f"LoadCredential={secret}:/etc/myapp/secrets/{secret}") == 1
            assert lines.count(f"SetCredential={secret}:\\n") == 1


def test_a_secret_that_only_a_former_release_uses_is_handed_out_as_long_as_it_is_on_the_host() -> None:
    assert "LoadCredential=OLD:" in texts(SOME, TRAITS._replace(secrets=("OLD",)))["myapp@.service"]
    assert texts(SERVICE, TRAITS._replace(secrets=("OLD",))) != texts(SERVICE)


def test_a_service_without_secrets_has_the_units_of_before() -> None:
    assert not [name for name, text in texts(SERVICE).items() if "redential=" in text or "/secrets" in text]


def launch(service: Service, secrets: dict[str, bytes], folder: Path, shell: str) -> subprocess.CompletedProcess[bytes]:
    """Run the launcher of `worker` with these credentials; it prints its environment."""
    (folder / "home/code").mkdir(parents=True)
    credentials = folder / "credentials"
    credentials.mkdir()
    for name, value in secrets.items():
        (credentials / name).write_bytes(value)
    text = launchers.render(service, "0123456789ab", "shire01", "27.0.1")["worker"]
    text = text.replace("/opt/apps/myapp/releases/0123456789ab", f"{folder}/home").replace(
        "exec python", "exec env -0 #"
    )
    (folder / "script").write_text(text)
    environment = {"CREDENTIALS_DIRECTORY": str(credentials), "PATH": "/usr/bin:/bin"}
    program = [shutil.which(shell) or shell, str(folder / "script")]
    return subprocess.run(program, capture_output=True, env=environment, check=False)


@pytest.mark.parametrize("shell", ["dash", "bash"])
@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
def test_a_value_arrives_as_it_is(tmp_path: Path, shell: str, value: bytes) -> None:
    service = SERVICE._replace(secrets=(Secret("API_TOKEN"), Secret("TLS_KEY", file=True)))
    ended = launch(service, {"API_TOKEN": value, "TLS_KEY": b"\0"}, tmp_path, shell)
    assert ended.returncode == 0, ended.stderr
    variables = ended.stdout.partition(b"\n")[2].split(b"\0")
    assert b"API_TOKEN=" + value in variables
    assert not [one for one in variables if one.startswith(b"TLS_KEY=")]


@pytest.mark.parametrize("shell", ["dash", "bash"])
@pytest.mark.parametrize("kind", [False, True])
@pytest.mark.parametrize("there", [{}, {"API_TOKEN": b"\n"}], ids=["no file", "the stand-in"])
def test_without_a_secret_the_process_does_not_start(
    tmp_path: Path, shell: str, kind: bool, there: dict[str, bytes]
) -> None:
    ended = launch(SERVICE._replace(secrets=(Secret("API_TOKEN", kind),)), there, tmp_path, shell)
    assert ended.returncode == 78
    assert b"the secret API_TOKEN is not on this host: fab secrets.set API_TOKEN" in ended.stderr
    assert b"PATH=" not in ended.stdout


@pytest.mark.parametrize("shell", ["dash", "bash"])
@pytest.mark.parametrize(("other", "found"), [(b"\n", None), (b"old", b"SECRET_KEY_FALLBACKS=old")])
def test_the_other_key_of_a_rotation_is_a_variable_while_there_is_one(
    tmp_path: Path, shell: str, other: bytes, found: bytes | None
) -> None:
    service = SERVICE._replace(secrets=(Secret("SECRET_KEY"),))
    ended = launch(service, {"SECRET_KEY": b"new", "SECRET_KEY_FALLBACKS": other}, tmp_path, shell)
    variables = ended.stdout.partition(b"\n")[2].split(b"\0")
    assert b"SECRET_KEY=new" in variables
    assert next((one for one in variables if one.startswith(b"SECRET_KEY_F")), None) == found


@pytest.mark.parametrize("name", ["../shadow", "A:/etc/shadow", "A\nExecStart=/bin/sh", "", " ", "a-b", "A" * 101])
def test_no_name_that_a_host_reports_becomes_a_line_of_a_unit(name: str) -> None:
    said = Transcript()
    said.add(Report("facts", json.dumps(plain(HostFacts(record=Record(secrets=("GOOD", name)))))))
    said.add(Report("end", "ok"))
    if not name:
        assert "LoadCredential=:" not in texts(SERVICE, facts.parse(said).traits("deploy"))["myapp@.service"]
        return
    with pytest.raises(LoopError, match="impossible"):
        facts.parse(said)
