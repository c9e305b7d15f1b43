"""Static files that nginx serves: those of the slot with the traffic, hashed ones of other releases, nothing else."""

from __future__ import annotations

import base64
import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.certificates import Authority
from tests.support.clone import make
from tests.support.echo_service import APP, put
from tests.support.front_door import NAME, Answer, ask
from tests.support.hosts import Hosts, MakeHosts
from tests.support.site import ROOT, Site
from tests.support.stand_ins import entries, write_inventory

# The application serves the same files, and says so.
PAGES = """

from pathlib import Path

EDITION = int((Path(__file__).parent / "edition").read_text())


@app.get("/page")
def page():
    return {"edition": EDITION}


@app.after_request
def said(answer):
    answer.headers["X-By"] = "application"
    return answer
"""
USERS = "ann:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n"
IMMUTABLE = "max-age=31536000, immutable"
HASHED = ["app-{}0a1b2c3.js", "chunks/view.Bx{}k9dRt.js"]


@pytest.fixture(scope="module")
def hosts(module_hosts: MakeHosts) -> Hosts:
    return module_hosts()


@pytest.fixture(scope="module")
def site(hosts: Hosts, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """The first release, behind nginx that serves two directories of it."""
    made = Site(make(tmp_path_factory.mktemp("static"), hosts.inventory), hosts[0])
    write(made, 1)
    made.done("deploy")
    return made


def write(site: Site, number: int, probation: int = 0, **nginx: object) -> str:
    """Write a release of this number; return its ID."""
    folders = {"/static/": "static", "/assets/more/": "web/dist"}
    put(
        site.clone, keep=2, probation=probation, shared=["static/uploads"],
        nginx={"server_name": NAME, "hsts": 60, "static": folders, **nginx},
    )  # fmt: skip
    clone = site.clone
    clone.write("service/echo.py", APP.replace('"/echo"', '"/static/echo"') + PAGES)
    clone.write("service/edition", str(number))
    clone.write("service/static/plain.css", style(number))
    clone.write("service/static/logo.png", "png" * 1000)
    clone.write("service/static/-odd name é.txt", "odd")
    clone.write("service/web/dist/main.mjs", "export {}")
    for former in (clone.root / "service/static").rglob("*.js"):
        former.unlink()
    for name in HASHED:
        clone.write(f"service/static/{name.format(number)}", f"release {number}")
    return clone.release()


def style(number: int) -> str:
    """Return a text that is different for each number, and never in its length."""
    return f"/* {number} */\n" + "body { color: black }\n" * 100


def get(site: Site, path: str, **headers: str) -> Answer:
    return ask(site.machine.address, path, headers={key.replace("_", "-"): text for key, text in headers.items()})


def by_nginx(answer: Answer) -> bool:
    return "x-by" not in answer.headers


def etag(data: bytes) -> str:
    """Return the ETag that follows from a content, whichever host serves it, and whenever it got the file."""
    time = 1 + int(hashlib.sha256(data).hexdigest()[:16], 16) % 1_599_999_999
    return f'"{time:x}-{len(data):x}"'


def hashed(site: Site, number: int) -> list[tuple[int, bytes]]:
    """Return the status and the content of each hashed file of a release."""
    answers = [get(site, f"/static/{name.format(number)}") for name in HASHED]
    return [(answer.status, answer.body if answer.status == 200 else b"") for answer in answers]


def there(number: int) -> list[tuple[int, bytes]]:
    return [(200, f"release {number}".encode())] * len(HASHED)


GONE = [(404, b"")] * len(HASHED)


@contextmanager
def visits(site: Site) -> Iterator[list[tuple[int, int]]]:
    """Ask for the page and then for its style, again and again; yield their editions, and check that none was lost."""
    enough, seen, lost = threading.Event(), list[tuple[int, int]](), list[str]()

    def visit() -> None:
        while not enough.wait(0.02):
            page, file = get(site, "/page"), get(site, "/static/plain.css")
            if (page.status, file.status) == (200, 200) and by_nginx(file):
                seen.append((page.json()["edition"], int(file.body.split()[1])))
            else:
                lost.append(f"{page.status} {file.status} {file.headers}")

    thread = threading.Thread(target=visit, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        enough.set()
        thread.join()
    assert lost == []


def test_nginx_serves_a_file_and_the_application_all_others(site: Site) -> None:
    for path in ("/static/plain.css", "/static/-odd%20name%20%C3%A9.txt", "/assets/more/main.mjs"):
        answer = get(site, path)
        assert (answer.status, by_nginx(answer)) == (200, True), path
        assert answer.headers["strict-transport-security"] == "max-age=60"
        assert "last-modified" not in answer.headers
    assert get(site, "/assets/more/main.mjs").headers["content-type"].startswith("application/javascript")
    strangers = ("/static/none.css", "/static/", "/static", "/static/chunks", "/assets/plain.css", "/green/static/x")
    for path in (*strangers, "/static/../echo.py", "/static/%2e%2e/echo.py", "/kept/static/plain.css"):
        answer = get(site, path)
        assert (answer.status, by_nginx(answer)) == (404, False), path
    told = ask(site.machine.address, "/static/none?a=b%20c", body=b"a question")
    assert (told.status, by_nginx(told)) == (405, False)
    logged = site.machine.sh("journalctl --sync; journalctl -q -o cat -t myapp_nginx").stdout.decode()
    assert '"path":"/static/none.css"' in logged
    assert '"path":"/static/plain.css"' not in logged


def test_the_application_gets_a_request_for_an_unknown_file_as_it_was(site: Site) -> None:
    answer = ask(site.machine.address, "/static/echo?a=%20", headers={"X-Real-IP": "192.0.2.1"}, body=b"12345")
    told = answer.json()
    assert (told["length"], told["headers"]["Host"], told["headers"]["X-Forwarded-Proto"]) == (5, NAME, "https")
    assert "X-Real-Ip" not in told["headers"]


def test_the_etag_follows_from_the_content_and_a_client_that_has_it_gets_304(site: Site) -> None:
    tag = get(site, "/static/plain.css").headers["etag"]
    assert tag == etag(style(1).encode())
    assert get(site, "/static/plain.css", If_None_Match=tag).status == 304
    # A service that had no static files before: its files were linked from that release.
    assert get(site, "/static/logo.png").headers["etag"] == etag(b"png" * 1000)


@pytest.mark.parametrize(
    ("path", "control"),
    [
        ("/static/plain.css", "no-cache"),
        (f"/static/{HASHED[0].format(1)}", f"public, {IMMUTABLE}"),
        (f"/static/{HASHED[1].format(1)}", f"public, {IMMUTABLE}"),
    ],
    ids=["plain", "hex", "base64"],
)
def test_only_a_name_with_a_hash_is_never_asked_for_again(site: Site, path: str, control: str) -> None:
    assert get(site, path).headers["cache-control"] == control


def test_text_is_compressed_and_a_picture_and_the_page_are_not(site: Site) -> None:
    answer = get(site, "/static/plain.css", Accept_Encoding="gzip")
    assert (answer.headers["content-encoding"], answer.headers["vary"]) == ("gzip", "Accept-Encoding")
    assert answer.headers["etag"] == f"W/{etag(style(1).encode())}"
    for path in ("/static/logo.png", "/environ"):
        assert "content-encoding" not in get(site, path, Accept_Encoding="gzip").headers


def test_nginx_may_read_the_static_files_and_nothing_else(site: Site) -> None:
    slot = site.slot
    assert site.sh(f"stat -c '%a %U %G' {ROOT}/static {ROOT}/releases") == "750 deploy www-data\n750 deploy myapp"
    site.sh(f"setpriv --reuid=www-data --regid=www-data --clear-groups cat {ROOT}/static/{slot}/static/plain.css")
    for account, place in (("www-data", "releases"), ("nobody", "static"), ("myapp", "static")):
        refused = site.machine.sh(f"runuser -u {account} -- ls {ROOT}/{place}/")
        assert refused.returncode != 0, account
    # Hard links, no copies.
    assert site.sh(f"stat -c %h {ROOT}/static/{slot}/static/plain.css") != "1"


def test_files_of_two_releases_are_there_from_the_switch_to_the_prune(site: Site) -> None:
    first = site.answering
    assert hashed(site, 2) == GONE
    second = write(site, 2, probation=300)
    with visits(site) as seen:
        site.clone.done("deploy", "-H", site.machine.name)
        # On probation.
        assert (hashed(site, 1), hashed(site, 2)) == (there(1), there(2))
        assert get(site, "/static/plain.css").headers["etag"] == etag(style(2).encode())
    assert all(file >= page for page, file in seen)
    assert {1, 2} <= {page for page, _ in seen}
    with visits(site) as seen:
        site.done("rollback")
    assert all(file <= page for page, file in seen)
    assert site.answering == first
    assert get(site, "/static/plain.css").body == style(1).encode()
    assert (hashed(site, 1), hashed(site, 2)) == (there(1), there(2))
    assert write(site, 2) != second
    site.done("deploy")
    write(site, 3)
    site.done("deploy")
    assert (hashed(site, 1), hashed(site, 2), hashed(site, 3)) == (GONE, there(2), there(3))
    assert site.sh(f"find {ROOT}/static -name '*10a1b2c3*' -o -name '.*'") == ""
    assert "no drift" in site.done("drift", "--as", "root").out


def test_a_release_that_fails_changes_no_file_that_is_served(site: Site) -> None:
    write(site, 4)
    with site.changed("service/echo.py", "raise SystemExit"), visits(site) as seen:
        assert site.fab("deploy").status == 1
    assert set(seen) == {(3, 3)}
    site.settled()


def test_after_a_power_cut_the_files_are_those_of_the_committed_release(site: Site) -> None:
    site.machine.reboot()
    site.settled()
    answer = get(site, "/static/plain.css")
    assert (answer.body, by_nginx(answer)) == (style(3).encode(), True)


def test_links_and_pipes_in_the_place_of_files_lead_nowhere_and_are_drift(site: Site) -> None:
    there = f"{ROOT}/static/{site.slot}"
    site.sh(f"""cd {there} && runuser -u deploy -- sh -c '
        ln -s /etc/hostname static/link.css; mkfifo static/pipe.css; ln -s /etc static/etc; echo >static/extra.css
        ln -s /etc ../kept/static/deep; rm static/plain.css; echo >static/plain.css'""")
    for path in ("static/link.css", "static/pipe.css", "static/etc/hostname", "static/deep/hostname"):
        answer = get(site, f"/{path}")
        assert (answer.status, by_nginx(answer)) == (404, path == "static/pipe.css"), path
    site.sh(f"runuser -u deploy -- sh -c 'cd {there} && rm -r assets/more && ln -s /etc assets/more'")
    assert not by_nginx(get(site, "/assets/more/hostname"))
    told = site.fab("drift", "--as", "root")
    assert told.status == 1
    for kind, path in (
        ("LINKED", "static/link.css"), ("EXTRA", "static/pipe.css"), ("EXTRA", "static/extra.css"),
        ("MISSING", "assets/more/main.mjs"), ("LINKED", "assets/more"), ("EDITED", "static/plain.css"),
    ):  # fmt: skip
        assert f"{kind} {there}/{path}:" in " ".join(told.out.split()), (kind, told.out)
    assert f"{ROOT}/static/kept/static/deep" in told.out
    for _ in range(2):
        site.done("restart")
    assert "no drift" in site.done("drift", "--as", "root").out


def test_what_closes_the_site_closes_its_files(site: Site, tmp_path: Path) -> None:
    path, address = f"/static/{HASHED[0].format(4)}", site.machine.address
    write(site, 4)
    site.done("deploy")
    site.clone.done("maintenance", "on", "-H", site.machine.name)
    assert get(site, path).status == 503
    site.clone.done("maintenance", "off", "-H", site.machine.name)
    write(site, 4, allow=["192.0.2.0/24"])
    site.done("deploy")
    assert get(site, path).status == 403
    authority = Authority(tmp_path)
    authority.issue(tmp_path / "ann.pem", tmp_path / "ann.key", "ann.example")
    site.clone.write("tls/clients.pem", authority.certificate.read_text())
    site.clone.write("users.htpasswd", USERS)
    (site.clone.root / "users.htpasswd").chmod(0o600)
    write(site, 4, basic_auth="users.htpasswd", client_ca="tls/clients.pem", rate={"requests": "1/m", "burst": 1})
    site.done("deploy")
    ann = tmp_path / "ann.pem", tmp_path / "ann.key"
    known = {"Authorization": f"Basic {base64.b64encode(b'ann:secret').decode()}"}
    assert ask(address, path, headers=known).status == 403
    assert ask(address, path, identity=ann).status == 401
    answers = [ask(address, path, headers=known, identity=ann) for _ in range(4)]
    # They are not counted by `rate`; a request that the application answers is.
    assert {answer.status for answer in answers} == {200}
    assert answers[0].headers["cache-control"] == f"private, {IMMUTABLE}"
    strange = [ask(address, "/static/none", headers=known, identity=ann).status for _ in range(4)]
    assert strange == [404, 404, 429, 429]


def test_another_deploy_account_gets_the_tree_and_removal_ends_it(site: Site) -> None:
    write(site, 5)
    site.done("deploy")
    site.sh("useradd -m other; cp -r /home/deploy/.ssh /home/other/; chown -R other: /home/other/.ssh")
    inventory = site.clone.inventory
    assert inventory
    (host,) = entries(inventory).values()
    site.clone.inventory = write_inventory(inventory.with_name("other.yaml"), {"shire01": {**host, "user": "other"}})
    with visits(site) as seen:
        site.done("setup", "--as", "root")
        assert site.sh(f"find {ROOT} ! -user other") == ""
        assert site.sh(f"stat -c '%a %U %G' {ROOT}/static") == "750 other www-data"
        site.done("restart")
    assert set(seen) == {(5, 5)}
    assert get(site, "/static/plain.css").headers["etag"] == etag(style(5).encode())
    site.clone.done("remove", "-H", site.machine.name, "--as", "root", "--yes", "--data")
    assert site.sh(f"ls -d {ROOT} /run/myapp /etc/tmpfiles.d/myapp.conf 2>/dev/null || :") == ""
