"""API tokens of the sample service on a real host, over HTTPS; and a setting that is wrong."""

from __future__ import annotations

import json

import pytest

from tests.support.clone import make, quicken
from tests.support.front_door import Answer, ask
from tests.support.hosts import MakeHosts
from tests.support.site import Site

SIZE = "/commands/disk-usage"
PROBLEM = "application/problem+json"


@pytest.fixture(scope="module")
def site(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> Site:
    hosts = module_hosts()
    made = Site(make(tmp_path_factory.mktemp("tokens"), hosts.inventory), hosts[0])
    quicken(made.clone)
    made.deploy()
    return made


def post(site: Site, token: str | None) -> Answer:
    """Run the sample's command with this token."""
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
    return ask(site.machine.address, SIZE, headers=headers, body=b'{"path": "/"}')


def test_without_a_token_there_is_health_and_the_front_page(site: Site) -> None:
    assert [ask(site.machine.address, path).status for path in ("/", "/healthz", "/readyz")] == [200, 200, 200]
    for answer in (ask(site.machine.address, "/commands"), post(site, None), post(site, "myapp_guess")):
        assert (answer.status, answer.headers["content-type"]) == (401, PROBLEM)
        assert answer.headers["www-authenticate"].startswith("Bearer realm=")
        assert answer.json()["request_id"] == answer.headers["x-request-id"]


def test_a_token_is_printed_alone_and_opens_what_its_role_may(site: Site) -> None:
    printed = site.token("reader", "reader")
    assert printed == f"{printed.strip()}\n"
    assert post(site, printed.strip()).status == 403
    used = post(site, site.token("operator", "operator").strip())
    assert (used.status, used.json()["exit_status"]) == (200, 0)
    assert site.sh("stat -c '%a %U' /var/lib/myapp/tokens") == "600 myapp"
    assert printed.strip() not in site.sh("cat /var/lib/myapp/tokens; journalctl --sync; journalctl -q -o cat")


def test_a_token_survives_a_deploy_and_a_rollback_and_ends_when_it_is_revoked(site: Site) -> None:
    token = site.token("ci", "admin").strip()
    site.deploy()
    assert post(site, token).status == 200
    site.done("rollback")
    assert post(site, token).status == 200
    run = ("run", "-H", site.machine.name, "--", "flask", "token")
    assert "ci admin " in site.clone.done(*run, "list").out
    site.clone.done(*run, "revoke", "ci")
    assert [post(site, token).status for _ in range(8)] == [401] * 8
    again = site.clone.fab(*run, "revoke", "ci")
    assert (again.status, "there is no token ci" in again.err) == (1, True)


def test_the_journal_names_the_token_of_a_request(site: Site) -> None:
    answer = post(site, site.token("audited", "operator").strip())
    lines = site.sh(
        f"journalctl --sync; journalctl -q -o cat -t myapp | grep {answer.headers['x-request-id']}"
    ).splitlines()
    assert [json.loads(line).get("token") for line in lines] == [None, "audited"]


def test_the_tokens_of_the_secret_count_in_place_of_those_of_the_host(site: Site) -> None:
    token = site.token("moved", "operator").strip()
    lines = site.sh("cat /var/lib/myapp/tokens").splitlines()
    value = site.clone.root / "list"
    value.write_text("".join(f"{line}\n" for line in lines if line.startswith("moved ")))
    site.clone.write("service/service.yaml", f"{site.read('service/service.yaml')}secrets: [API_TOKENS]\n")
    words = ("secrets.set", "API_TOKENS", "-H", site.machine.name, "--from", f"cat '{value}'")
    site.clone.done(*words)
    former = site.token("former", "operator").strip()
    site.done("deploy")
    assert [post(site, one).status for one in (token, former)] == [200, 401]
    assert site.token("printed", "reader").startswith("myapp_")
    value.write_text(f"{lines[0]}\nmyapp_guess\n")
    refused = site.clone.fab(*words)
    assert (refused.status, "line 2 of API_TOKENS must be" in refused.both) == (1, True), refused.both
    assert "myapp_guess" not in refused.both
    assert post(site, token).status == 200


def test_the_venv_has_what_the_framework_and_the_server_need_and_no_more(site: Site) -> None:
    listed = "from importlib.metadata import distributions as all; print(*sorted({d.name.lower() for d in all()}))"
    assert site.done("run", "--", "python", "-c", listed).out.split() == [
        "blinker", "click", "flask", "gunicorn", "itsdangerous", "jinja2", "markupsafe", "werkzeug"
    ]  # fmt: skip


def test_a_wrong_setting_is_refused_at_the_gate_with_its_line(site: Site) -> None:
    before = site.answering
    yaml = site.read("service/service.yaml")
    with site.changed("service/service.yaml", yaml.replace("  GREETING: hello\n", "  LOG_LEVEL: loud\n")):
        ended = site.fab("deploy")
    assert ended.status == 1
    assert ended.both.count("LOG_LEVEL must be one of DEBUG, INFO, WARNING, ERROR, CRITICAL, not 'loud'") == 1
    assert "Traceback" not in ended.both
    assert site.answering == before
