"""doctor: the findings about a machine."""

from __future__ import annotations

import pytest

from tasks.engine.config.gateway import Nginx, Tls
from tasks.engine.diagnose import doctor
from tasks.engine.host.facts import Facts
from templates.host.fact_schema import Answers, Machine, Survey
from tests.support.host_facts import NEW, serving, vary
from tests.support.small_service import SERVICE

NEW_YEAR = 1767225600


@pytest.mark.parametrize(
    ("changes", "stops", "told"),
    [
        ({}, None, ""),
        ({"survey systemd": 248}, False, "systemd is older than 249"),
        ({"survey systemd": 239}, True, "systemd is 239, 247 is needed"),
        ({"machine tools systemctl": None, "survey systemd": 0}, True, "systemd is missing, 247 is needed"),
        ({"survey free_bytes": 1_000_000}, True, "only 1 MB are free"),
        ({"survey free_inodes": 10}, True, "only 10 inodes are free"),
        ({"survey selinux": True}, False, "SELinux is enforcing"),
    ],
)
def test_a_machine_that_would_stop_a_deploy_is_found(changes: dict[str, object], stops: bool | None, told: str) -> None:
    here = Facts(Machine(1000, tools={"systemctl": "/usr/bin/systemctl"}), survey=Survey(systemd=252))
    found = list(doctor._machine(vary(here, changes), 0.0))
    assert [finding.stops for finding in found] == ([] if stops is None else [stops])
    assert all(told in finding.text and finding.mend for finding in found)


@pytest.mark.parametrize(
    ("there", "skew"),
    [(1000, 0), (1040, 0), (999, 0), (1041, 0), (1141, 100), (899, -100)],
)
def test_a_clock_is_wrong_by_what_the_time_of_the_question_does_not_explain(there: int, skew: float) -> None:
    """Once: on a busy machine the 40 s that a question took were held against the host's clock."""
    assert doctor._skew(there, 1000.0, 1041.0) == skew
    found = list(doctor._machine(Facts(Machine(there, tools={"systemctl": "x"}), survey=Survey(systemd=252)), skew))
    words: dict[float, str] = {100: "100 s ahead", -100: "100 s behind"}
    assert [words[skew] in one.text for one in found] == [True] * bool(skew)


@pytest.mark.parametrize(
    ("end", "mode", "told", "mend"),
    [
        ("Mar  1 00:00:00 2026 GMT", "files", "", ""),
        ("Jan 21 00:00:00 2026 GMT", "files", "ends in 20 days", "fab setup"),
        ("Dec 21 00:00:00 2025 GMT", "on_host", "has ended", "let its program renew it"),
        ("Jan 21 00:00:00 2026 GMT", "self-signed", "ends in 20 days", "rm /etc/myapp/tls/certificate.pem"),
    ],
)
def test_a_certificate_that_ends_soon_is_told(end: str, mode: str, told: str, mend: str) -> None:
    service = SERVICE._replace(nginx=Nginx(("myapp.example",), Tls(mode)))
    facts = Facts(Machine(NEW_YEAR), survey=Survey(certificate_end=end))
    found = list(doctor._certificate("shire01", service, facts))
    assert [told in one.text and mend in one.mend for one in found] == [True] * bool(told)


def test_a_certificate_that_nginx_does_not_get_is_told() -> None:
    (found,) = doctor._certificate("shire01", SERVICE, Facts(survey=Survey(certificate_fault="a.pem has expired")))
    assert "a.pem has expired" in found.text
    assert "systemctl start myapp-certificate.service" in found.mend


def test_a_certificate_that_nginx_has_not_read_is_told() -> None:
    (found,) = doctor._certificate("shire01", SERVICE, Facts(survey=Survey(certificate_differs=True)))
    assert "another certificate than /etc/myapp/tls/certificate.pem" in found.text
    assert "systemctl reload nginx" in found.mend


def test_a_command_at_work_is_told_with_its_age_and_the_way_to_end_it() -> None:
    (found,) = doctor._commands(Facts(survey=Survey(uptime=100, commands={"myapp-run@1-2-3.service": 40})))
    assert not found.stops
    assert found.text.startswith("myapp-run@1-2-3.service is at work, for 60 s")
    assert found.mend.endswith("systemctl stop myapp-run@1-2-3.service")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"state slots blue state": "inactive"}, "it is stopped"),
        ({"state slots blue state": ""}, "systemd does not answer"),
        ({"state health": Answers("answered 500", "ok")}, "answered 500"),
    ],
)
def test_a_release_is_told_as_stopped_only_where_systemd_says_so(changes: dict[str, object], told: str) -> None:
    (found,) = doctor._health("shire01", vary(serving(), {"state health": Answers(), **changes}))
    assert found.text == f"release {NEW} does not answer as it should: {told}"
    assert list(doctor._health("shire01", serving())) == []


@pytest.mark.parametrize("needs", [(), ("network",)])
def test_a_log_that_looks_like_the_sandbox_is_told_with_the_key_that_opens_it(needs: tuple[str, ...]) -> None:
    said = ("fine", "OSError: [Errno 101] Network is unreachable" + "x" * 1000)
    facts = Facts(survey=Survey(said=said))
    found = list(doctor._forbidden(SERVICE._replace(needs=needs), facts))
    assert len(found) == (0 if needs else 1)
    for finding in found:
        assert not finding.stops
        assert "Network is unreachable" in finding.text
        assert len(finding.text) < 300
        assert "`needs: [network]`" in finding.mend
