"""The record of setup: it reads back as written, and a file that a setup was about to write counts as ours."""

from __future__ import annotations

import io
import os
import signal
import time
from pathlib import Path
from typing import BinaryIO

import pytest

from templates.host import accounts, claims, files, programs, record
from templates.host.files import RootFiles, read
from templates.host.flush import flush_file
from templates.host.folders import Folder
from templates.host.record import Record
from templates.host.run import Refused, Run

RUN = Run(("nonce", "run-1", '{"user":"ann"}', ""), {"name": "shop"}, io.BytesIO())


def test_what_is_written_is_what_is_read() -> None:
    known = Record("shop")
    known.made = claims.everything("shop", "/opt/apps/shop")
    known.values = {"account": "deploy", "origin": "git@example:shop.git", "by": '{"user": "ann"}', "since": "now"}
    known.add("file", "/etc/systemd/system/shop with a blank", "0" * 64)
    known.add("tls", "/etc/shop/tls/key.pem", "1" * 64)
    again = record.parse("shop", known.text())
    assert (again.made, again.values, again.files) == (known.made, known.values, known.files)
    assert again.account == "deploy"


def test_a_record_of_this_layout_stops_a_version_that_knows_no_layouts() -> None:
    known = Record("shop")
    known.layout, known.values = "2", {"account": "deploy"}
    assert known.text() == "layout 2\nuser deploy\naccount of layout 2, which needs a newer version of this tool\n"
    again = record.parse("shop", known.text())
    assert (again.layout, again.account, again.text()) == ("2", "deploy", known.text())


def test_a_record_of_an_earlier_version_names_files_and_the_account() -> None:
    known = record.parse("shop", f"account deploy\nfile {'0' * 64} /etc/x\nnothing 7\n")
    assert (known.there, known.account, known.paths, known.made) == (True, "deploy", ("/etc/x",), set())
    assert (known.layout, known.text()) == (record.FIRST, f"account deploy\nfile {'0' * 64} /etc/x\n")


def test_of_two_digests_the_former_one_is_first_for_who_reads_one() -> None:
    known = record.parse("shop", "file old /etc/x\n")
    known.add("file", "/etc/x", "new")
    known.add("file", "/etc/x", "new")
    assert known.digests("/etc/x") == ("old", "new")
    assert known.text().splitlines()[0] == "file old /etc/x"


def test_a_file_counts_as_edited_unless_it_has_a_content_that_setup_gave_it(tmp_path: Path) -> None:
    path = str(tmp_path / "file")
    known = record.parse("shop", f"account deploy\nfile {'0' * 64} {path}\n")
    changes = RootFiles(RUN, known, {path: b"wanted"}, overwrite=False)
    changes.require_unedited({})
    for content, refused in ((b"wanted", False), (b"edited", True)):
        Path(path).write_bytes(content)
        assert bool(refusal(changes)) == refused
    Path(path).unlink()
    Path(path).symlink_to("/dev/null")
    assert path in refusal(changes)


def refusal(changes: RootFiles) -> str:
    try:
        changes.require_unedited({})
    except Exception as error:
        return str(error)
    return ""


def test_what_a_failed_setup_wrote_is_taken_back(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("before")
    (tmp_path / "there").chmod(0o600)
    (tmp_path / "masked").symlink_to("/dev/null")
    paths = [str(tmp_path / name) for name in ("there", "masked", "new")]
    known = record.parse("shop", "account deploy\n" + "".join(f"file 0 {path}\n" for path in paths))
    changes = RootFiles(RUN, known, dict.fromkeys(paths, b"after"), overwrite=True)
    for path in paths:
        changes._former[path] = read(path)
        with Folder.open(str(tmp_path)) as folder:
            folder.replace(Path(path).name, b"after", 0o644, "part")
    changes.put_back()
    assert (tmp_path / "there").read_text() == "before"
    assert (tmp_path / "there").stat().st_mode & 0o777 == 0o600
    assert str((tmp_path / "masked").readlink()) == "/dev/null"
    assert not (tmp_path / "new").exists()


def test_files_are_on_the_disk_before_the_first_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [tmp_path / "units/two", tmp_path / "site/three"]
    seen: list[tuple[str, str]] = []

    def flush(path: str, descriptor: int) -> None:
        time.sleep(0.05)
        flushed = Path(f"/proc/self/fd/{descriptor}").resolve()
        assert flushed.name.startswith(f"{Path(path).name}.new-")
        assert not any(path.exists() for path in paths)
        seen.append((path, flushed.read_text()))
        flush_file(path, descriptor)

    monkeypatch.setattr(files, "flush_file", flush)
    changes = RootFiles(RUN, record.parse("shop", ""), {}, overwrite=False)
    changes.replace({str(path): (path.name.encode(), 0o600) for path in paths})
    assert sorted(seen) == [(str(path), path.name) for path in sorted(paths)]
    assert [path.read_text() for path in paths] == ["two", "three"]
    assert paths[0].stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.rglob("*.new-*")) == []


def test_of_the_leftovers_units_go_before_what_they_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once: the unit of a kept certificate started once more without its script, and counted as failed from then on."""
    known = record.parse("shop", "account deploy\nfile 0 /etc/shop/take\nfile 0 /etc/systemd/system/shop-look.path\n")
    gone: list[str] = []
    changes = RootFiles(RUN, known, {}, overwrite=False)
    monkeypatch.setattr(changes, "remove", gone.append)
    changes.write({})
    assert gone == ["/etc/systemd/system/shop-look.path", "/etc/shop/take"]


def test_of_files_that_cannot_be_flushed_nothing_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flush(_: str, descriptor: int) -> None:
        os.close(descriptor)
        raise Refused("the disk does not answer")

    monkeypatch.setattr(files, "flush_file", flush)
    (tmp_path / "there").write_text("before")
    changes = RootFiles(RUN, record.parse("shop", "account deploy\n"), {}, overwrite=True)
    with pytest.raises(Refused, match="does not answer"):
        changes.replace({str(tmp_path / name): (b"after", 0o600) for name in ("there", "new")})
    changes.put_back()
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("there", "before")]


def test_a_file_that_cannot_be_flushed_is_named_and_closed() -> None:
    reading, writing = os.pipe()
    with pytest.raises(Refused, match="/etc/shop cannot be flushed to the disk: Invalid argument"):
        flush_file("/etc/shop", writing)
    assert os.read(reading, 1) == b""
    os.close(reading)


def test_a_file_is_like_those_that_systemd_would_take_for_it() -> None:
    assert "/usr/lib/systemd/system/getty@.service" in claims._like("/etc/systemd/system/getty@.service")
    assert "/usr/lib/tmpfiles.d/tmp.conf" in claims._like("/etc/tmpfiles.d/tmp.conf")
    assert claims._like("/etc/nginx/conf.d/shop.conf") == ["/etc/nginx/conf.d/shop.conf"]


def test_where_this_account_may_not_look_there_is_no_record(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program's directory of that name: facts go on, and setup refuses the name."""

    def closed(path: str) -> Folder:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(Folder, "open", closed)
    assert not record.read("wireguard").there


def test_an_answer_that_the_account_has_cut_off_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """The account may end the process that reads for root at any moment."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another account")
    nobody = accounts.find("nobody")
    assert nobody

    def work(file: BinaryIO) -> None:
        file.write(b"whole" * 10)

    assert accounts.as_account(nobody, work, 30, 100) == b"whole" * 10
    write = os.write

    def half(descriptor: int, data: bytes) -> int:
        write(descriptor, data[: len(data) // 2 + 3])
        os.kill(os.getpid(), signal.SIGKILL)
        return 0

    monkeypatch.setattr(os, "write", half)
    with pytest.raises(OSError, match="as nobody: the process with the rights of this account ended"):
        accounts.as_account(nobody, work, 30, 100)


def test_a_process_that_cannot_be_ended_holds_root_for_seconds_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mount of the account's that never answers: SIGKILL waits with the process, and root waited for its end."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another account")
    nobody, kill, children = accounts.find("nobody"), os.kill, list[int]()
    assert nobody
    monkeypatch.setattr(os, "kill", lambda pid, _: children.append(pid))
    monkeypatch.setattr(programs, "DEATH", 0.1)
    try:
        with pytest.raises(OSError, match="as nobody: the work took longer than"):
            accounts.as_account(nobody, lambda _: time.sleep(60), 0.1, 100)
    finally:
        (child,) = children
        kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
