"""service.yaml alone and with the overrides of a host."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.engine.config import inventory, service
from tasks.engine.config.gateway import Nginx, Tls
from tasks.engine.config.sections import Health, Listen, Process
from tasks.engine.config.service import Service
from tasks.engine.errors import UsageError
from tests.support.refusals import refusal, require_error

SMALLEST = 'name: myapp\napp: "app:app"\nlisten: 127.0.0.1:8080\n'
WHOLE = """\
name: myapp
app: "app:create_app()"
python: ">=3.10"
processes:
  web: {workers: 3, threads: 4}
  worker: {command: "python -m jobs"}
health: {path: /healthz, timeout: 20, passes: 2, settle: 1.5}
drain: 10
listen: 127.0.0.1:8080
nginx:
  server_name: myapp.example
  tls: {certificate: tls/a.pem, key: tls/a.key}
needs: [network]
env: {GREETING: hello}
keep: 7
"""


def described(folder: Path, text: str, override: str | None = None) -> Service:
    """Return the service of this text, for a host with this override."""
    path = folder / "service.yaml"
    path.write_text(text)
    document = service.load(path)
    if override is None:
        return service.describe(document)
    (folder / "hosts.yaml").write_text(f"hosts:\n  shire01:\n    service: {override}\n")
    (host,) = inventory.load(folder, {}).hosts
    return service.describe(document, host)


@pytest.fixture(autouse=True)
def _in_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_three_lines_are_a_service(tmp_path: Path) -> None:
    assert described(tmp_path, SMALLEST) == Service(
        name="myapp",
        app="app:app",
        python=">=3.9",
        processes=(Process("web"),),
        health=Health("/readyz", 200, 30, 3, 2.0),
        drain=30,
        listen=Listen("127.0.0.1", 8080),
        nginx=None,
        needs=(),
        env=(),
        keep=5,
    )


def test_every_key_is_read(tmp_path: Path) -> None:
    assert described(tmp_path, WHOLE) == Service(
        name="myapp",
        app="app:create_app()",
        python=">=3.10",
        processes=(Process("web", workers=3, threads=4), Process("worker", "python -m jobs")),
        health=Health("/healthz", 200, 20, 2, 1.5),
        drain=10,
        listen=Listen("127.0.0.1", 8080),
        nginx=Nginx(("myapp.example",), Tls("files", "tls/a.pem", "tls/a.key")),
        needs=("network",),
        env=(("GREETING", "hello"),),
        keep=7,
    )


@pytest.mark.parametrize(
    ("text", "where", "message", "fix"),
    [
        ("", "service.yaml:1:1", "the service description is empty", "create it with"),
        ("- a\n", "service.yaml:1:1", "expected a mapping", "key: value"),
        ('app: "a:a"\n', "service.yaml:1:1 (name)", "name is missing", "add `name: myapp`"),
        ("name: a\n", "service.yaml:1:1 (app)", "app is missing", 'add `app: "app:create_app()"`'),
        (SMALLEST.replace("myapp", "My"), "service.yaml:1:7 (name)", "expected a name of a-z", "myapp"),
        (SMALLEST.replace("myapp", "nginx"), "service.yaml:1:7 (name)", "a name of the system's own", "another"),
        (SMALLEST.replace("myapp", "no"), "service.yaml:1:7 (name)", "YAML reads no as false", 'name: "no"'),
        (SMALLEST + "python: 3.9\n", "service.yaml:4:9 (python)", "YAML reads 3.9 as a number", '">=3.9"'),
        (SMALLEST + "drian: 3\n", "service.yaml:4:1 (drian)", 'unknown key "drian"', "did you mean 'drain'?"),
        (SMALLEST + "passwords: [A]\n", "service.yaml:4:1 (passwords)", 'unknown key "passwords"', "known here"),
        (SMALLEST + "drain: 301\n", "service.yaml:4:8 (drain)", "from 0 to 300", "write drain: 0"),
        (SMALLEST + "keep: 1\n", "service.yaml:4:7 (keep)", "from 2 to 100", "write keep: 2"),
        (SMALLEST + "nginx:\n", "service.yaml:4:7 (nginx)", '"nginx" has no value', "`null`"),
        ('name: a\napp: "a:a"\n', "service.yaml:1:1", "nothing could reach the service", "add `listen:"),
        (
            SMALLEST.replace("8080", "443") + "nginx: {server_name: a}\n",
            "service.yaml:3:9 (listen)",
            "nginx itself uses port 443",
            "another port",
        ),
        (
            SMALLEST + "shared: [data/media]\nnginx:\n  server_name: a\n  static: {/m/: data/media/thumbs}\n",
            "service.yaml:7:17 (nginx.static./m/)",
            "data/media is `shared`",
            "take data/media out of `shared`",
        ),
        (
            SMALLEST + "nginx:\n  server_name: a\n  static: {/s/: app}\n",
            "service.yaml:6:17 (nginx.static./s/)",
            "app has the code of the application",
            "such as app/static",
        ),
        (
            SMALLEST + "pythonpath: [src]\nnginx:\n  server_name: a\n  static: {/s/: src}\n",
            "service.yaml:7:17 (nginx.static./s/)",
            "src has the code of the application",
            "such as src/static",
        ),
        (
            SMALLEST + "nginx: {server_name: a, path: /a}\n",
            "service.yaml:4:31 (nginx.path)",
            "would not come below /a",
            "remove path or listen",
        ),
        (
            SMALLEST + "health: {path: '/a?b'}\nnginx: {server_name: a, balancer_check: true}\n",
            "service.yaml:5:41 (nginx.balancer_check)",
            "nginx cannot ask for health.path",
            "remove balancer_check",
        ),
    ],
)
def test_a_wrong_description_is_refused_where_it_stands(
    tmp_path: Path, text: str, where: str, message: str, fix: str
) -> None:
    require_error(refusal(described, tmp_path, text), message, where, fix)


def test_a_missing_description_says_what_to_create(tmp_path: Path) -> None:
    error = refusal(service.load, tmp_path / "service.yaml")
    assert error.message == "service.yaml is missing"
    require_error(error, fix="name: myapp")


def test_overrides_merge_replace_and_remove(tmp_path: Path) -> None:
    override = (
        "{health: {settle: 0.5}, processes: {worker: null}, listen: null, keep: 9, needs: [home],"
        " nginx: {server_name: shire01.example, tls: self-signed}, env: {GREETING: null, OTHER: x}}"
    )
    changed = described(tmp_path, WHOLE, override)
    assert changed.health == Health("/healthz", 200, 20, 2, 0.5)
    assert changed.processes == (Process("web", workers=3, threads=4),)
    assert changed.listen is None
    assert changed.keep == 9
    assert changed.needs == ("home",)
    assert changed.nginx == Nginx(("shire01.example",), Tls("self-signed"))
    assert changed.env == (("OTHER", "x"),)


@pytest.mark.parametrize(
    ("override", "where", "message"),
    [
        (
            "{drian: 3}",
            "hosts.yaml:3:15 (hosts.shire01.service.drian)",
            'with the overrides of shire01: unknown key "drian"',
        ),
        ("{drian: null}", "hosts.yaml:3:15 (hosts.shire01.service.drian)", 'unknown key "drian"'),
        ("{nginx: yes}", "hosts.yaml:3:22 (hosts.shire01.service.nginx)", "expected a mapping"),
        ("{health: {passes: 0}}", "hosts.yaml:3:32 (hosts.shire01.service.health.passes)", "from 1 to 20"),
        ("{name: other}", "hosts.yaml:3:15 (hosts.shire01.service.name)", "name is the same on every host"),
        ("{build: make}", "hosts.yaml:3:15 (hosts.shire01.service.build)", "build is the same on every host"),
        ("{include: [x]}", "hosts.yaml:3:15 (hosts.shire01.service.include)", "include is the same on every host"),
        ("{pythonpath: [x]}", "hosts.yaml:3:15 (hosts.shire01.service.pythonpath)", "pythonpath is the same on every"),
        ("{shared: [x]}", "hosts.yaml:3:15 (hosts.shire01.service.shared)", "shared is the same on every host"),
        ("{name: null}", "hosts.yaml:3:15 (hosts.shire01.service.name)", "name is the same on every host"),
        ("{app: null}", "service.yaml:1:1 (app)", "with the overrides of shire01: app is missing"),
        ("{listen: null, nginx: null}", "service.yaml:1:1", "with the overrides of shire01: nothing could reach"),
    ],
)
def test_a_wrong_override_is_refused_where_it_was_written(
    tmp_path: Path, override: str, where: str, message: str
) -> None:
    require_error(refusal(described, tmp_path, WHOLE, override), message, where)


VALUES = st.sampled_from(
    ["no", "22:22", "''", "x", "-1", "1e9", "[a]", "{a: b}", "null", "", "'/a'", '"\\0"', "0644", "é"]
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(key=st.sampled_from([line.split(":")[0].strip() for line in WHOLE.splitlines()]), value=VALUES)
def test_any_value_of_any_key_is_a_service_or_a_usage_error(tmp_path: Path, key: str, value: str) -> None:
    lines = [line for line in WHOLE.splitlines() if not line.strip().startswith(f"{key}:")]
    try:
        described(tmp_path, "\n".join([*lines, f"{key}: {value}", ""]))
    except UsageError as error:
        fault: UsageError | None = error
    else:
        fault = None
    assert fault is None or (fault.where and fault.next)
