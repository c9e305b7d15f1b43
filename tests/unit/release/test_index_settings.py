"""Every source of indexes counts for the lock and for the wheels alike, and no password of theirs is seen."""

from __future__ import annotations

import base64
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar, NamedTuple

import pytest

from tasks.engine.errors import UsageError
from tasks.engine.release import index_settings, relock, wheel_cache, wheelhouse
from tasks.engine.release import lockfile as locks
from tasks.engine.release.indexes import Indexes
from tasks.engine.release.python_target import Target
from tests.support import distributions

pytestmark = pytest.mark.usefixtures("forked_pip")
HERE = Target("3.11.2", "cp311", "x86_64", ("glibc", 2, 36))
PASSWORD = "pass%2Fword-of-the-index"  # noqa: S105


class Place(NamedTuple):
    """A clone without indexes, a folder with one wheel, and an index of it."""

    root: Path
    links: Path
    simple: Path
    set: Callable[[str, str], None]

    @property
    def source(self) -> Path:
        """The requirements.in."""
        return self.root / "service" / "requirements.in"

    def write(self, name: str, text: str) -> None:
        """Write a file below the clone, with the addresses of the folder and the index in place of their names."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace("LINKS", str(self.links)).replace("INDEX", self.simple.as_uri()))

    def find(self) -> Indexes:
        """Return the indexes that are found."""
        return index_settings.find(self.root / "service")

    def deploy(self) -> tuple[str, list[str]]:
        """Lock, and fetch the wheels; return the lock, and the names of the wheels."""
        relock.make(self.root, ">=3.9")
        lock = locks.read(self.source.with_name("requirements.txt"))
        house = wheelhouse.fetch(lock, HERE, lambda _: None, self.root / "service", self.root.parent / "cache")
        return self.source.with_name("requirements.txt").read_text(), [wheel.filename for wheel in house.wheels]


def index(folder: Path, links: Path) -> Path:
    """Write an index of the wheels in a folder."""
    for file in links.glob("*.whl"):
        page = folder / file.name.split("-")[0] / "index.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        with page.open("a") as lines:
            lines.write(f'<a href="{file.as_uri()}#sha256={wheel_cache.digest(file)}">{file.name}</a>\n')
    return folder


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    empty = tmp_path / "empty"
    empty.mkdir()
    distributions.isolate(monkeypatch, empty)
    for name in ("PIP_NO_INDEX", "UV_OFFLINE", "PIP_FIND_LINKS", "UV_FIND_LINKS", "UV_NO_CONFIG", "PIP_CONFIG_FILE"):
        monkeypatch.delenv(name)
    for name, value in {"HOME": tmp_path, "XDG_CONFIG_HOME": tmp_path / "config", "XDG_CONFIG_DIRS": empty}.items():
        monkeypatch.setenv(name, str(value))
    # PyPI is not asked; requirements.in could name another.
    monkeypatch.setenv("PIP_INDEX_URL", empty.as_uri())
    links = tmp_path / "links of, ours"
    links.mkdir()
    distributions.wheel(links, "solely", "1.0")
    made = Place(tmp_path / "root", links, index(tmp_path / "simple", links), monkeypatch.setenv)
    made.write("service/requirements.in", "solely\n")
    return made


def environment(name: str, value: str) -> Callable[[Place], None]:
    return lambda place: place.set(
        name, value.replace("LINKS", str(place.links)).replace("INDEX", place.simple.as_uri())
    )


def file(name: str, text: str) -> Callable[[Place], None]:
    return lambda place: place.write(name, text)


SOURCES = {
    "requirements.in, extra": file("service/requirements.in", "--extra-index-url INDEX\nsolely\n"),
    "requirements.in, default": file("service/requirements.in", "-i 'INDEX'\nsolely\n"),
    "requirements.in, links": file("service/requirements.in", "--find-links '../../links of, ours'\nsolely\n"),
    "pip.conf, extra": file("../config/pip/pip.conf", "[global]\nextra-index-url = INDEX\n"),
    "PIP_INDEX_URL": environment("PIP_INDEX_URL", "INDEX"),
    "UV_INDEX": environment("UV_INDEX", "ours=INDEX"),
    "UV_DEFAULT_INDEX": environment("UV_DEFAULT_INDEX", "INDEX"),
    "uv.toml": file("uv.toml", '[[index]]\nurl = "INDEX"\n'),
    "pyproject.toml": file("pyproject.toml", '[tool.uv]\nextra-index-url = ["INDEX"]\n'),
    "pyproject.toml of the service": file("service/pyproject.toml", '[[tool.uv.index]]\nurl = "INDEX"\n'),
    "uv.toml of the user": file("../config/uv/uv.toml", '[pip]\nextra-index-url = ["INDEX"]\n'),
}
# An address in which a program could see two; each program reads lists in its own way.
WITH_BLANKS = {
    "pip.conf, links": file("../config/pip/pip.conf", "[global]\nfind-links =\n    /nonexistent\n    LINKS\n"),
    "UV_FIND_LINKS": environment("UV_FIND_LINKS", "/nonexistent,LINKS"),
}


@pytest.mark.parametrize("source", sorted(SOURCES))
def test_the_lock_and_the_wheels_come_from_the_same_indexes(place: Place, source: str) -> None:
    SOURCES[source](place)
    lock, wheels = place.deploy()
    assert "solely==1.0" in lock
    assert wheels == ["solely-1.0-py3-none-any.whl"]


@pytest.mark.parametrize("source", sorted(WITH_BLANKS))
def test_folders_count_for_both_and_missing_ones_for_none(place: Place, source: str) -> None:
    plain = place.links.rename(place.links.with_name("plain"))
    WITH_BLANKS[source](place._replace(links=plain))
    lock, wheels = place.deploy()
    assert "solely==1.0" in lock
    assert wheels == ["solely-1.0-py3-none-any.whl"]


@pytest.mark.parametrize("source", ["requirements.in", "PIP_FIND_LINKS"])
def test_a_folder_gives_its_files_for_every_python_and_platform(place: Place, source: str) -> None:
    folder = place.root.parent / "ours"
    folder.mkdir()
    tags = ("cp311-cp311-linux_x86_64", "cp39-cp39-manylinux_2_28_x86_64", "cp311-cp311-manylinux_2_28_aarch64")
    digests = {distributions.wheel(folder, "common", "1.0", tag) for tag in tags}
    other = distributions.wheel(folder, "common", "0.9")
    option = "--find-links ../../ours\n" if source == "requirements.in" else ""
    place.set("PIP_FIND_LINKS", "" if option else str(folder))
    place.write("service/requirements.in", f"{option}common\n")
    lock, wheels = place.deploy()
    assert all(digest in lock for digest in digests)
    assert other not in lock
    assert wheels == [f"common-1.0-{tags[0]}.whl"]


@pytest.mark.parametrize("alone", [False, True])
def test_the_folder_of_own_wheels_goes_before_every_index(place: Place, alone: bool) -> None:
    own = place.root / "service/wheels"
    own.mkdir()
    tags = ("cp311-cp311-linux_x86_64", "cp39-cp39-linux_x86_64")
    digests = [distributions.wheel(own, "solely", "0.9", tag) for tag in tags]
    place.set("UV_INDEX", place.simple.as_uri())
    if alone:
        place.set("PIP_NO_INDEX", "1")
    lock, wheels = place.deploy()
    assert "solely==0.9" in lock
    assert all(digest in lock for digest in digests)
    assert wheels == [f"solely-0.9-{tags[0]}.whl"]


def test_an_index_of_pip_gives_only_what_the_default_index_lacks(place: Place, tmp_path: Path) -> None:
    default = tmp_path / "default"
    for folder, tag in (("a", "py3-none-any"), ("b", "cp311-cp311-linux_x86_64")):
        (tmp_path / folder).mkdir()
        distributions.wheel(tmp_path / folder, "common", "1.0", tag)
        index(default, tmp_path / folder)
    distributions.wheel(place.links, "common", "2.0")
    place.set("PIP_INDEX_URL", default.as_uri())
    place.set("PIP_EXTRA_INDEX_URL", place.simple.as_uri())
    place.set("PIP_FIND_LINKS", place.links.as_uri())
    place.write("service/requirements.in", "solely\ncommon\n")
    lock, _ = place.deploy()
    assert "common==1.0" in lock
    assert lock.count("--hash") == 3
    index(place.simple, place.links)
    place.set("UV_INDEX", place.simple.as_uri())
    place.source.with_name("requirements.txt").unlink()
    assert "common==2.0" in place.deploy()[0]


def test_no_index_is_asked_if_one_source_says_so(place: Place) -> None:
    place.write("../config/pip/pip.conf", f"[global]\nno-index = yes\nfind-links = {place.links.as_uri()}\n")
    found = place.find()
    assert (found.alone, found.after_links) == (True, (place.links.as_uri(),))
    assert "solely==1.0" in place.deploy()[0]


def test_the_default_index_is_that_of_the_nearest_source(place: Place) -> None:
    place.write("../config/pip/pip.conf", "[global]\nindex-url = https://conf.example/simple\n")
    found = [place.find().default]
    os.environ.pop("PIP_INDEX_URL")
    found.append(place.find().default)
    place.write("uv.toml", 'index-url = "https://toml.example/simple"\n')
    found.append(place.find().default)
    place.set("UV_INDEX_URL", "https://uv.example/simple")
    found.append(place.find().default)
    place.write("service/more.in", "--index-url https://in.example/simple\n")
    place.write("service/requirements.in", "-r more.in\nsolely\n")
    found.append(place.find().default)
    assert found == [
        place.root.parent.joinpath("empty").as_uri(),
        *(f"https://{name}.example/simple" for name in ("conf", "toml", "uv", "in")),
    ]


def test_settings_of_pip_that_say_how_to_reach_an_index_count_for_uv(place: Place, tmp_path: Path) -> None:
    place.write(
        "../config/pip/pip.conf",
        "[global]\ncert = /ca.pem\ntrusted-host = one.example\nkeyring-provider = import\nproxy = http://proxy.example\n",
    )
    place.set("UV_INSECURE_HOST", "two.example")
    os.environ.pop("SSL_CERT_FILE", None)
    found = place.find()
    uv, pip = found.for_uv(tmp_path), found.for_pip()
    assert (uv["SSL_CERT_FILE"], uv["ALL_PROXY"]) == ("/ca.pem", "http://proxy.example")
    assert uv["UV_KEYRING_PROVIDER"] == "subprocess"
    assert {*uv["UV_INSECURE_HOST"].split()} == {*pip["PIP_TRUSTED_HOST"].split()} == {"one.example", "two.example"}


def test_the_password_of_a_named_index_comes_from_the_environment(place: Place) -> None:
    place.set("UV_INDEX", "our-own=https://index.example/simple")
    place.set("UV_INDEX_OUR_OWN_USERNAME", "me")
    place.set("UV_INDEX_OUR_OWN_PASSWORD", "a/b")
    assert place.find().first == ("https://me:a%2Fb@index.example/simple",)


@pytest.mark.parametrize(
    ("line", "told", "remedy"),
    [
        ("--index-url https://me:secret@index.example/simple", "holds a password", "${INDEX_PASSWORD}"),
        ("--extra-index-url=https://me:${LACKING}@index.example/simple", "LACKING, which is not set", "export LACKING"),
        ("--index-url https://me:pa$$secret@index.example/simple", "holds a password", "${INDEX_PASSWORD}"),
        ("-f ./nowhere", "there is no ./nowhere", "correct the path"),
        (f"-f {'n' * 5000}", "there is no nnn", "correct the path"),
    ],
)
def test_an_option_that_cannot_be_used_is_refused_by_its_line(place: Place, line: str, told: str, remedy: str) -> None:
    place.write("service/requirements.in", f"solely\n\n{line}\n")
    with pytest.raises(UsageError, match=told) as caught:
        place.find()
    assert caught.value.where == "service/requirements.in:3:1"
    assert remedy in str(caught.value.next)
    assert "secret" not in str(caught.value)


def test_a_password_in_a_file_of_a_project_of_uv_is_refused(place: Place) -> None:
    place.write("service/pyproject.toml", '[[tool.uv.index]]\nurl = "https://me:secret@index.example/simple"\n')
    with pytest.raises(UsageError, match="holds a password") as caught:
        place.find()
    assert caught.value.where == "service/pyproject.toml"
    assert "UV_INDEX_NAME_PASSWORD" in str(caught.value.next)
    place.root.joinpath("service/pyproject.toml").rename(place.root / "pyproject.toml")
    assert place.find().first == ("https://me:secret@index.example/simple",)


def test_an_index_that_a_project_of_uv_assigns_packages_to_is_for_their_files_alone(
    place: Place, tmp_path: Path
) -> None:
    place.write("service/pyproject.toml", '[[tool.uv.index]]\nname = "ours"\nurl = "INDEX"\nexplicit = true\n')
    found = place.find()
    assert found.for_pip()["PIP_EXTRA_INDEX_URL"] == place.simple.as_uri()
    assert "UV_INDEX" not in found.for_uv(tmp_path)


def test_settings_of_odd_values_are_left_to_uv_and_pip(place: Place) -> None:
    place.write("uv.toml", 'index = "x"\nextra-index-url = 5\nfind-links = "y"\nindex-url = 7\npip = 1\n')
    place.set("PIP_FIND_LINKS", "http://[odd")
    place.set("UV_INDEX", "http://[odd")
    assert place.find().first == ("http://[odd",)
    with pytest.raises(UsageError, match="uv could not lock"):
        relock.make(place.root, ">=3.9")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("uv.toml", "no = [section\n"),
        ("uv.toml", f"x = {'[' * 5000}"),
        ("uv.toml", f"x{'.x' * 5000} = 1"),
        ("../config/pip/pip.conf", "no = [section\n"),
    ],
    ids=["uv", "uv, deep", "uv, deep key", "pip"],
)
def test_a_broken_file_of_settings_is_named(place: Place, name: str, text: str) -> None:
    place.write(name, text)
    with pytest.raises(UsageError) as caught:
        place.find()
    assert Path(name).name in f"{caught.value.where} {caught.value.detail}"


@pytest.mark.parametrize(
    ("name", "told"), [("n" * 5000, ""), ("a\\u0000b", "no folder has the name")], ids=["long", "NUL"]
)
def test_a_folder_that_cannot_be_is_none_or_refused(place: Place, name: str, told: str) -> None:
    place.write("uv.toml", f'find-links = ["{name}"]\n')
    if not told:
        assert place.find().links == ()
        return
    with pytest.raises(UsageError, match=told):
        place.find()


class Guarded(BaseHTTPRequestHandler):
    """An index that wants a password. seen: the arguments of all processes at each request."""

    folder: ClassVar[Path]
    seen: ClassVar[list[str]]

    def do_GET(self) -> None:
        for arguments in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                self.seen.append(arguments.read_text(errors="replace"))
        wanted = "Basic " + base64.b64encode(b"me:pass/word-of-the-index").decode()
        if self.headers["Authorization"] != wanted:
            self.answer(401, b"")
        elif self.path.startswith("/simple/"):
            name = self.path.split("/")[2]
            files = (file.name for file in self.folder.glob(f"{name}-*"))
            self.answer(200, "".join(f'<a href="/{file}">{file}</a>' for file in files).encode())
        else:
            self.answer(200, (self.folder / self.path.lstrip("/")).read_bytes())

    def answer(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("WWW-Authenticate", 'Basic realm="index"')
        self.send_header(
            "Content-Type", "text/html" if self.path.startswith("/simple/") else "application/octet-stream"
        )
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        with suppress(OSError):
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def guarded(place: Place) -> Iterator[tuple[str, list[str]]]:
    """Yield the address of an index with its password, and the arguments of processes that it has seen."""
    seen: list[str] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Ours", (Guarded,), {"folder": place.links, "seen": seen}))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://me:{PASSWORD}@127.0.0.1:{server.server_port}/simple", seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_the_password_of_an_index_is_in_no_lock_and_no_argument(
    place: Place, guarded: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, seen = guarded
    built = distributions.PROJECT.replace("requires = []", 'requires = ["solely"]')
    monkeypatch.setattr(distributions, "PROJECT", built)
    distributions.sdist(place.links, "source", "1.0")
    place.set("OUR_PASSWORD", PASSWORD)
    options = f"--extra-index-url {address.replace(PASSWORD, '${OUR_PASSWORD}')}\n"
    place.write("service/requirements.in", f"{options}source\nsolely\n")
    lock, wheels = place.deploy()
    assert wheels == ["solely-1.0-py3-none-any.whl", "source-1.0-py3-none-any.whl"]
    assert seen
    for text in (lock, *seen):
        assert "word-of-the-index" not in text


def test_a_failure_shows_no_password(place: Place, guarded: tuple[str, list[str]]) -> None:
    address, _ = guarded
    place.set("PIP_EXTRA_INDEX_URL", address.replace("%2F", "%2Fwrong-"))
    with pytest.raises(UsageError) as caught:
        relock.make(place.root, ">=3.9")
    assert "****@127.0.0.1" in str(caught.value.next)
    lock = locks.Lock((locks.LockedRequirement("solely", "1.0", None, ("0" * 64,)),))
    with pytest.raises(UsageError) as missing:
        wheelhouse.fetch(lock, HERE, lambda _: None, place.root / "service", place.root.parent / "cache")
    for error in (caught.value, missing.value):
        assert "word-of-the-index" not in f"{error} {error.next} {error.detail}"
