"""Reading a lock: its meaning, and every error with its line."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tasks.engine.config.sections import DEPENDENCIES
from tasks.engine.errors import UsageError
from tasks.engine.release import lock_source, requirement_lines
from tasks.engine.release import lockfile as locks
from tasks.engine.release.lockfile import LockedRequirement

A, B = "a" * 64, "b" * 64
GOOD = f"""\
# made by hand
Flask_Login==3.1.0 ; python_version >= '3.9' and sys_platform == 'linux' \\
    --hash=sha256:{A} \\
    --hash=sha256:{B}
    # via -r requirements.in

zipp[extra]==1.0+local --hash=sha256:{A}  # why
"""


def write(folder: Path, lock: str | None, source: str | None = None) -> Path:
    for name, text in (("requirements.txt", lock), ("requirements.in", source)):
        if text is not None:
            (folder / name).write_text(text)
    return folder / "requirements.txt"


@pytest.fixture
def service(tmp_path: Path) -> Path:
    (tmp_path / "service").mkdir()
    return tmp_path / "service"


def test_read(service: Path) -> None:
    lock = locks.read(write(service, GOOD))
    assert lock.entries == (
        LockedRequirement("flask-login", "3.1.0", 'python_version >= "3.9" and sys_platform == "linux"', (A, B)),
        LockedRequirement("zipp", "1.0+local", None, (A,)),
    )
    assert [entry.line for entry in lock.entries] == [2, 7]
    assert lock.lowest is None


def test_line_endings_do_not_matter(service: Path) -> None:
    expected = locks.read(write(service, GOOD))
    (service / "requirements.txt").write_bytes(GOOD.replace("\n", "\r\n").encode())
    assert locks.read(service / "requirements.txt") == expected


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("flask==3.1.0", "flask has no sha256 hash"),
        (f"flask==3.1.0 --hash=sha512:{A}{A}", "flask has no sha256 hash"),
        (f"flask==3.1.0 --hash=sha256:{A[:-1]}", "flask has no sha256 hash"),
        (f"flask==3.1.0 --hash=sha256:{A} --no-binary=x", "flask has no sha256 hash"),
        (f"flask>=3.1.0 --hash=sha256:{A}", "flask is not pinned"),
        (f"flask==3.* --hash=sha256:{A}", "flask is not pinned"),
        (f"flask===3.1 --hash=sha256:{A}", "flask is not pinned"),
        (f"flask==3.1,!=3.2 --hash=sha256:{A}", "flask is not pinned"),
        (f"flask --hash=sha256:{A}", "flask is not pinned"),
        (f"flask @ https://mirror.example/flask.whl --hash=sha256:{A}", "address"),
        ("git+ssh://git@example/x.git", "address"),
        ("https://mirror.example/flask.whl", "address"),
        ("./local", "directory"),
        ("-e .", "directory"),
        ("--editable=.", "directory"),
        ("--index-url https://mirror.example/simple", "option --index-url"),
        ("--extra-index-url=https://mirror.example/simple", "option --extra-index-url"),
        ("-i https://mirror.example/simple", "option -i"),
        ("--find-links wheels", "option --find-links"),
        ("-r other.txt", "option -r"),
        ("-c other.txt", "option -c"),
        ("<<<<<<< HEAD", "no pinned requirement"),
    ],
)
def test_refused_with_the_line(service: Path, line: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason) as caught:
        locks.read(write(service, f"{GOOD}\n{line}\n", source=""))
    assert caught.value.where == "service/requirements.txt:9:1"
    assert caught.value.next


@pytest.mark.parametrize(
    ("lock", "source", "remedy"),
    [
        (None, "flask\n", "fab lock"),
        (None, None, "name the dependencies in service/requirements.in, then: fab lock"),
        ("flask==3.1.0\n", None, "git mv service/requirements.txt service/requirements.in, then: fab lock"),
        ("flask==3.1.0\n", "flask\n", "fab lock"),
        (f"# requirements.in sha256: {A}\n", "flask\n", "fab lock"),
    ],
)
def test_the_remedy_fits_what_is_there(service: Path, lock: str | None, source: str | None, remedy: str) -> None:
    with pytest.raises(UsageError) as caught:
        locks.read(write(service, lock, source))
    assert caught.value.next == remedy


def test_not_utf8(service: Path) -> None:
    (service / "requirements.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="UTF-8"):
        locks.read(service / "requirements.txt")


def test_stale_follows_what_requirements_in_includes(service: Path) -> None:
    (service / "more.in").write_text("zipp\n")
    source = service / "requirements.in"
    source.write_text("flask\n-r more.in\n")
    found = lock_source.find(service, DEPENDENCIES)
    assert found
    path = write(service, f"{locks.head(found, '3.9')}{GOOD}")
    assert locks.read(path).lowest == "3.9"
    source.write_bytes(b"flask\r\n-r more.in\r\n")
    assert locks.read(path).entries
    (service / "more.in").write_text("zipp>2\n-r requirements.in\n")
    with pytest.raises(UsageError, match="changed since"):
        locks.read(path)


@pytest.mark.parametrize(
    "included", ["d/../requirements.in", "requirements.in", "n" * 5000], ids=["other", "own", "long"]
)
def test_a_file_that_includes_itself_by_any_path_is_read_once(service: Path, included: str) -> None:
    (service / "d").mkdir()
    source = service / "requirements.in"
    source.write_text(f"flask\n-r {included}\n")
    assert [path for path, _ in requirement_lines.files(source)] == [source]


RUN = 50_000
LONG = {
    "spaces before no option": f"zipp==1.0{' ' * RUN}x",
    "spaces before an option": f"zipp==1.0{' ' * RUN}--hash=sha256:{A}",
    "spaces before no address": f"zipp {' ' * RUN}x",
    "spaces before an address": f"zipp{' ' * RUN}@{' ' * RUN}https://index.example/zipp.whl",
    "lines that go on": "zipp\\\n" * RUN * 5,
    "empty lines that go on": "\\\n" * RUN * 5,
}


@pytest.mark.parametrize("text", LONG.values(), ids=LONG)
def test_a_long_line_takes_no_longer_than_its_length(text: str) -> None:
    """A lock may have 10 MB, and may be a stranger's."""
    began = time.process_time()
    for _, line in requirement_lines.logical_lines(text):
        requirement_lines.address(line)
        requirement_lines.options(line)
    assert time.process_time() - began < 4


def test_an_address_is_found_behind_any_spaces_and_extras() -> None:
    for line in ("zipp@x://y", "zipp @ x://y", "zipp[a, b]@x://y", "zipp [a]  @  x://y", "-e x://y"):
        assert requirement_lines.address(line) == "x://y"
    assert requirement_lines.address("zipp [a] == 1") is None


def test_require(service: Path) -> None:
    lock = locks.read(write(service, GOOD, source=""))
    lock.require("Flask.Login", "the tests use it")
    with pytest.raises(UsageError, match="the lock has no gunicorn, and every web process runs it") as caught:
        lock.require("gunicorn", "every web process runs it")
    assert caught.value.next == "add gunicorn to service/requirements.in, then: fab lock"
    (service / "requirements.in").unlink()
    with pytest.raises(UsageError) as caught:
        locks.read(service / "requirements.txt").require("gunicorn", "every web process runs it")
    assert "git mv service/requirements.txt service/requirements.in first" in str(caught.value.next)
