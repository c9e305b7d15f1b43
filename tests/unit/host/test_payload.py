"""The data sent to a host on standard input, from which its own Python alone makes a venv."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from tasks.engine.config.gateway import Nginx, Tls
from tasks.engine.config.service import Service
from tasks.engine.errors import UsageError
from tasks.engine.host import payload, system_files
from tasks.engine.host.payload import Delivery
from tasks.engine.host.steps import Staging
from tasks.engine.host.system_files import HostTraits
from tasks.engine.release import archive, sbom
from tasks.engine.release.archive import Entry, Tree
from tasks.engine.release.build import Release
from tasks.engine.release.lockfile import Lock
from tasks.engine.release.wheel_cache import Wheel
from tasks.engine.release.wheelhouse import Wheelhouse
from tests.support.certificates import Authority
from tests.support.small_service import SERVICE

PEM = b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
KEY = b"-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\n"


def unpacked(pieces: Iterable[bytes], wheels: bool = False) -> dict[str, tuple[int, bytes]]:
    """Return path to mode and content; wheels: they come first."""
    stream, found = io.BytesIO(b"".join(pieces)), {}
    if wheels:
        lines = list(iter(lambda: stream.readline().decode().split(), []))
        for size, digest, name in lines:
            found[f"wheels/{name}"] = (0o644, stream.read(int(size)))
            assert sha256(found[f"wheels/{name}"][1]).hexdigest() == digest
    with tarfile.open(fileobj=io.BytesIO(stream.read())) as tar:
        for member in tar:
            content = tar.extractfile(member)
            assert content is not None, f"{member.name} is no file"
            found[member.name] = (member.mode, content.read())
        return found


@pytest.fixture
def release(tmp_path: Path) -> Release:
    """Two files, one of which is executable."""
    entries = []
    for name, content, executable in (("app.py", b"app = 1\n", False), ("bin/run", b"#!/bin/sh\n", True)):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        entries.append(Entry(name, path, executable, len(content), sha256(content).hexdigest()))
    return Release("b" * 12, Tree(tuple(entries)), Lock(()), None, ())


@pytest.fixture
def wheels(tmp_path: Path) -> Wheelhouse:
    """One wheel, gunicorn by name, with a module and a program."""
    path = tmp_path / "gunicorn-1.0-py3-none-any.whl"
    info = "gunicorn-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("gunicorn/__init__.py", "def main():\n    print('it runs')\n")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: gunicorn\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/entry_points.txt", "[console_scripts]\ngunicorn = gunicorn:main\n")
        names = ("gunicorn/__init__.py", *(f"{info}/{name}" for name in ("METADATA", "WHEEL", "entry_points.txt")))
        wheel.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in (*names, f"{info}/RECORD")))
    data = path.read_bytes()
    return Wheelhouse("d" * 64, (Wheel(path.name, path, sha256(data).hexdigest(), len(data)),))


def stage(release: Release, wheels: Wheelhouse, **there: Any) -> list[bytes]:
    step = Staging(release.id, "1" * 16, "python3", None, False, {})
    delivery = Delivery(step, {"web": "#!/bin/sh\n"}, wheels, frozenset(), (), frozenset(), False)._replace(**there)
    return list(payload.staging(release, delivery, {"id": release.id}, Service("myapp", "app:app")))


def staged(release: Release, wheels: Wheelhouse, **there: Any) -> dict[str, tuple[int, bytes]]:
    return unpacked(stage(release, wheels, **there), True)


def test_a_host_that_has_nothing_gets_everything(release: Release, wheels: Wheelhouse) -> None:
    found = staged(release, wheels)
    assert set(found) >= {
        "MANIFEST", "health", "WHEELS", "release.json", "run/web", "code/app.py", "code/bin/run",
        "tool/installer.zip", "tool/build_venv.py", "wheels/gunicorn-1.0-py3-none-any.whl",
    }  # fmt: skip
    assert (found["code/bin/run"][0], found["code/app.py"]) == (0o755, (0o644, b"app = 1\n"))
    assert "EXECUTABLE" not in found
    assert json.loads(found["release.json"][1]) == {"id": release.id}
    assert found["sbom.json"] == (0o644, sbom.render("myapp", release.id, wheels))


def test_of_a_projects_wheel_only_what_the_code_lacks_is_sent(
    release: Release, wheels: Wheelhouse, tmp_path: Path
) -> None:
    site = []
    for path, content, executable in (
        ("shop/app.py", b"app = 1\n", False), ("shop/other.py", b"app = 1\n", False), ("bin/run", b"#!/bin/sh\n", True)
    ):  # fmt: skip
        source = tmp_path / "site" / path
        source.parent.mkdir(parents=True, exist_ok=True)
        source.write_bytes(content)
        site.append(Entry(path, source, executable, len(content), sha256(content).hexdigest()))
    found = staged(release._replace(site=tuple(site)), wheels)
    assert {path for path in found if path.startswith("site/")} == {"site/shop/other.py", "site/bin/run"}
    assert found["site/bin/run"][0] == 0o755
    assert found["SITE"][1] == archive.manifest(site)
    assert "SITE" not in staged(release, wheels)


def test_what_is_there_is_named_and_not_sent(release: Release, wheels: Wheelhouse) -> None:
    there = frozenset({wheels.wheels[0].filename})
    found = staged(release, wheels, same=frozenset({"app.py"}), wheels_there=there, venv_there=True)
    assert {path for path in found if "/" in path} == {"run/web", "code/bin/run"}
    assert found["EXECUTABLE"][1] == b"bin/run\n"
    assert found["MANIFEST"][1] == archive.manifest(release.tree.entries)
    assert wheels.wheels[0].sha256.encode() in found["WHEELS"][1]


def test_one_edited_line_of_a_large_service_is_one_file_and_the_manifest(wheels: Wheelhouse, tmp_path: Path) -> None:
    there = frozenset({wheels.wheels[0].filename})
    (tmp_path / "app.py").write_text("app = 2\n")
    edited = Entry("app.py", tmp_path / "app.py", False, 8, sha256(b"app = 2\n").hexdigest())
    others = [Entry(f"static/{n}.png", tmp_path / "none", False, 10_000, f"{n:064x}") for n in range(5000)]
    release = Release("b" * 12, Tree((edited, *others)), Lock(()), None, ())
    same = frozenset(entry.path for entry in others)
    sent = stage(release, wheels, same=same, wheels_there=there, venv_there=True)
    assert sum(map(len, sent)) < len(archive.manifest(release.tree.entries)) + 20_000


def test_the_same_release_is_the_same_bytes(release: Release, wheels: Wheelhouse) -> None:
    both = [b"".join(stage(release, wheels)) for _ in range(2)]
    assert both[0] == both[1]


def test_the_sender_tells_a_file_that_changed_meanwhile(release: Release, wheels: Wheelhouse, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("edited meanwhile\n")
    with pytest.raises(UsageError, match="changed while the release was being made"):
        staged(release, wheels)


def test_a_host_builds_a_venv_that_runs_at_its_final_place(
    release: Release, wheels: Wheelhouse, tmp_path: Path
) -> None:
    for path, (_, content) in staged(release, wheels).items():
        target = tmp_path / "part" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    made, final = tmp_path / "venvs/.part-1", tmp_path / "venvs/one"
    part = tmp_path / "part"
    subprocess.run([sys.executable, "-I", "-S", part / "tool/build_venv.py", part / "tool/installer.zip", made, final,
                    part / "wheels", part / "WHEELS"], check=True)  # fmt: skip
    made.rename(final)
    answer = subprocess.run([final / "bin/gunicorn"], capture_output=True, text=True, check=True, env={})
    assert answer.stdout == "it runs\n"
    texts = [path for path in final.rglob("*") if path.is_file() and not path.is_symlink()]
    assert not [path for path in texts if b".part-1" in path.read_bytes()]
    compiled = list(final.rglob("gunicorn/__pycache__/*.pyc"))
    assert compiled


def with_tls(certificate: str, key: str) -> Service:
    return SERVICE._replace(nginx=Nginx(("myapp.example",), Tls("files", certificate, key)))


def setup_files(service: Service, root: Path) -> dict[str, tuple[int, bytes]]:
    files = system_files.render(service, HostTraits("deploy", "www-data", True))
    return unpacked(payload.setup(service, files, "read me\n", root))


def test_setup_gets_every_file_that_its_step_names(tmp_path: Path) -> None:
    found = setup_files(SERVICE, tmp_path)
    files = system_files.render(SERVICE, HostTraits("deploy", "www-data", True))
    assert {file.path.lstrip("/"): file.text.encode() for file in files}.items() <= {
        path: data for path, (_, data) in found.items()
    }.items()
    assert found["README"][1] == b"read me\n"
    assert not [path for path in found if path.startswith("tls/")]


def test_the_certificate_of_the_operator_goes_with_setup(tmp_path: Path) -> None:
    """Once: of a file with both, every account of the host could read the key."""
    (tmp_path / "both.pem").write_bytes(b"a comment\n%b%b%b" % (PEM, KEY, PEM.replace(b"\n", b"\r\n")))
    service = with_tls("both.pem", str(tmp_path / "both.pem"))
    found = setup_files(service, tmp_path)
    public = PEM + PEM.replace(b"\n", b"\r\n")
    assert (found["tls/certificate.pem"][1], KEY in found["tls/key.pem"][1]) == (public, True)
    assert payload.certificate(service, tmp_path) == public
    assert payload.certificate(SERVICE, tmp_path) is None


@pytest.mark.parametrize("key", ["client_ca", "ca"])
def test_of_the_file_of_a_ca_only_its_certificates_go_to_hosts(tmp_path: Path, key: str) -> None:
    authority = Authority(tmp_path / "ca")
    both = tmp_path / "both.pem"
    both.write_bytes(authority.certificate.read_bytes() + (tmp_path / "ca/ca.key").read_bytes())
    own = Tls("ca", "both.pem", "both.pem")
    nginx = GIVEN._replace(basic_auth=None, error_page=None, client_ca="both.pem" if key == "client_ca" else None)
    service = SERVICE._replace(nginx=nginx if key == "client_ca" else nginx._replace(tls=own))
    payload.check_given(service, tmp_path)
    assert payload.given(service, tmp_path) == {key: authority.certificate.read_text()}


def test_a_certificate_that_is_not_there_is_told_before_any_contact(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        payload.certificate(with_tls("missing.pem", "missing.key"), tmp_path)
    assert caught.value.where
    assert "nginx.tls" in (caught.value.next or "")


GIVEN = Nginx(("myapp.example",), basic_auth="users", client_ca="ca.pem", error_page="page.html")


def put_files(root: Path, users: str = "ann:$apr1$abc$def\n", authority: str = "", page: bytes = b"page") -> Service:
    (root / "users").write_text(users)
    (root / "users").chmod(0o600)
    (root / "ca.pem").write_text(authority)
    (root / "page.html").write_bytes(page)
    return SERVICE._replace(nginx=GIVEN._replace(client_ca="ca.pem" if authority else None))


def test_files_for_nginx_are_taken_as_they_are(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca").certificate.read_text()
    users = "# People\nann:$2y$05$abcdefgh\n\nbob:{SHA}abc=\n"
    service = put_files(tmp_path, users, authority)
    payload.check_given(service, tmp_path)
    assert payload.given(service, tmp_path) == {"error_page": "page", "basic_auth": users, "client_ca": authority}


@pytest.mark.parametrize(
    ("files", "where", "message"),
    [
        ({"users": "ann:secret\n"}, "users:1", "lines NAME:HASH"),
        ({"users": "ann:$apr1$a$b\nbob\n"}, "users:2", "lines NAME:HASH"),
        ({"users": "# nobody\n"}, "users", "lines NAME:HASH"),
        ({"users": ""}, "users", "lines NAME:HASH"),
        ({"authority": "no PEM"}, "ca.pem", "no certificate in PEM"),
        ({"authority": PEM.decode()}, "ca.pem", "could not use this CA"),
        ({"page": b"\xff\xfe"}, "page.html", "no text in UTF-8"),
    ],
)
def test_a_file_that_nginx_could_not_use_is_told_before_any_contact(
    files: dict[str, Any], where: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        payload.check_given(put_files(tmp_path, **files), tmp_path)
    assert caught.value.where == where
    assert caught.value.next


def test_passwords_that_others_may_read_are_refused_and_so_is_a_file_that_is_not_there(tmp_path: Path) -> None:
    service = put_files(tmp_path)
    (tmp_path / "users").chmod(0o640)
    with pytest.raises(UsageError, match="other accounts of this machine") as caught:
        payload.check_given(service, tmp_path)
    assert caught.value.next == "chmod 600 users"
    (tmp_path / "page.html").unlink()
    with pytest.raises(UsageError, match="the error_page cannot be read") as caught:
        payload.check_given(service, tmp_path)
    assert "nginx.error_page" in (caught.value.next or "")
