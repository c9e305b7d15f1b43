"""`fab backup` and `fab restore` on a real host."""

from __future__ import annotations

import re
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.support.clone import Ended, make, quicken
from tests.support.front_door import ask
from tests.support.hosts import MakeHosts
from tests.support.site import Site

STATE = "/var/lib/myapp"


@pytest.fixture(scope="module")
def site(module_hosts: MakeHosts, tmp_path_factory: pytest.TempPathFactory) -> Site:
    hosts = module_hosts()
    made = Site(make(tmp_path_factory.mktemp("backup"), hosts.inventory), hosts[0])
    quicken(made.clone)
    made.deploy()
    return made


def saved(site: Site) -> list[Path]:
    """Return the archives of the host, the oldest first."""
    return sorted((site.clone.root / ".backups" / site.machine.name).iterdir())


def keep(site: Site, text: str) -> None:
    """Write a file as the service does."""
    site.done("run", "--", "sh", "-c", f"printf {text} >$STATE_DIRECTORY/kept")


def kept(site: Site) -> str:
    return site.sh(f"cat {STATE}/kept")


def restored(site: Site, archive: Path) -> Ended:
    return site.clone.done("restore", str(archive), "-H", site.machine.name, "--yes")


def serves(site: Site) -> None:
    """Assert that clients are served, and that nothing of a restore is left."""
    assert ask(site.machine.address, "/readyz").status == 200
    assert site.sh(f"ls -A {STATE} | grep restore || true") == ""
    assert "off" in site.clone.done("maintenance", "status", "-H", site.machine.name).out


def test_the_data_comes_back_and_what_was_there_is_saved(site: Site) -> None:
    token = site.token("me", "reader").strip()
    keep(site, "first")
    done = site.done("backup", "--json").lines()[-1]
    (archive,) = saved(site)
    assert Path(done["path"]) == archive
    assert re.fullmatch(r"myapp-\d{8}T\d{6}Z\.tar\.gz", archive.name)
    assert archive.stat().st_mode & 0o777 == 0o600
    with tarfile.open(archive) as plain:
        assert {"state/kept", "state/tokens", "end"} < set(plain.getnames())
    keep(site, "second")
    before = len(site.history)
    ended = restored(site, archive)
    turns = [line["action"] for line in site.history[before:] if line["state"] == "done"]
    assert turns == ["maintenance-on", "stop", "start", "maintenance-off"]
    assert archive.name in ended.both
    assert kept(site) == "first"
    serves(site)
    owners = site.sh(f"find {STATE} '(' '!' -user myapp -o -perm /077 ')' -type f")
    assert owners == ""
    about = ask(site.machine.address, "/commands", headers={"Authorization": f"Bearer {token}"})
    assert about.status == 200
    restored(site, saved(site)[-1])
    assert kept(site) == "second"
    serves(site)


def test_the_newest_stay(site: Site) -> None:
    before = saved(site)
    removed = site.done("backup", "--keep", "2", "--json").lines()[-1]["removed"]
    assert removed == [path.name for path in before[:-1]]
    assert saved(site)[0] == before[-1]
    assert len(saved(site)) == 2


def test_an_archive_that_is_too_large_or_not_whole_is_none(site: Site) -> None:
    before = saved(site)
    refused = site.fab("backup", "--limit", "1K")
    assert (refused.status, "more than 1024 bytes" in refused.both) == (1, True), refused.both
    text = site.read("service/service.yaml")
    with site.changed("service/service.yaml", f"{text}backup: {{command: \"sh -c 'echo so >&2; exit 7'\"}}\n"):
        failed = site.fab("backup")
    assert (failed.status, "sh ended with 7" in failed.both) == (1, True), failed.both
    assert saved(site) == before


def test_a_restore_that_cannot_be_done_leaves_all_as_it_was(site: Site, tmp_path: Path) -> None:
    keep(site, "third")
    text = site.read("service/service.yaml")
    with site.changed("service/service.yaml", f'{text}backup: {{command: "echo rows", restore: "false"}}\n'):
        site.done("backup")
        archive = saved(site)[-1]
        keep(site, "fourth")
        failed = site.clone.fab("restore", str(archive), "-H", site.machine.name, "--yes")
    assert (failed.status, "false ended with 1" in failed.both) == (1, True), failed.both
    assert kept(site) == "fourth"
    serves(site)
    cut = tmp_path / "cut.tar.gz"
    cut.write_bytes(archive.read_bytes()[:-100])
    for words in ((str(cut), "--yes"), ("nowhere", "--yes"), (str(archive),), (str(archive), "--limit", "x")):
        refused = site.clone.fab("restore", *words, "-H", site.machine.name)
        assert refused.status == 2, refused.both
    assert kept(site) == "fourth"


def test_an_archive_replaces_what_cannot_be_saved(site: Site) -> None:
    keep(site, "good")
    site.done("backup")
    archive = saved(site)[-1]
    torn = "{ printf 'SQLite format 3\\0'; head -c 9000 /dev/zero; } >$STATE_DIRECTORY/torn.db"
    site.done("run", "--", "sh", "-c", f"mkfifo $STATE_DIRECTORY/foo; touch $STATE_DIRECTORY/foo-wal; {torn}")
    ended = restored(site, archive)
    assert "state/torn.db is damaged, and saved as it is" in ended.both
    with tarfile.open(saved(site)[-1]) as plain:
        assert plain.getmember("state/torn.db").size == 9016
    keep(site, "bad")
    before, text = saved(site), site.read("service/service.yaml")
    words = ("restore", str(archive), "-H", site.machine.name, "--yes")
    with site.changed("service/service.yaml", f'{text}backup: {{command: "false", restore: "true"}}\n'):
        failed = site.clone.fab(*words)
        assert (failed.status, kept(site)) == (1, "bad"), failed.both
        assert f"fab restore {archive} -H {site.machine.name} --without-save" in failed.both
        serves(site)
        assert "was not saved" in site.clone.done(*words, "--without-save").both
    assert (kept(site), saved(site)) == ("good", before)
    serves(site)


def test_after_a_restore_that_was_killed_the_same_command_finishes_it(site: Site) -> None:
    keep(site, "fifth")
    site.done("backup")
    archive = saved(site)[-1]
    keep(site, "sixth")
    broken = site.clone.start("restore", str(archive), "-H", site.machine.name, "--yes")
    assert broken.stdout
    while "replace" not in (line := broken.stdout.readline()):
        assert line, broken.communicate()
    broken.kill()
    broken.communicate()
    ended = restored(site, archive)
    assert kept(site) == "fifth"
    # It was on when this one began, so it stays: somebody may have wanted it.
    assert "fab maintenance off" in ended.both
    site.clone.done("maintenance", "off", "-H", site.machine.name)
    serves(site)


def test_an_archive_that_is_encrypted_comes_back_with_its_key(site: Site, tmp_path: Path) -> None:
    age = pytest.importorskip("pyrage")
    made = age.x25519.Identity.generate()
    (tmp_path / "key").write_text(f"{made}\n")
    keep(site, "seventh")
    site.done("backup", "--recipient", str(made.to_public()))
    archive = saved(site)[-1]
    assert archive.name.endswith(".tar.gz.age")
    keep(site, "eighth")
    words = ("restore", str(archive), "-H", site.machine.name, "--yes")
    assert site.clone.fab(*words).status == 2
    site.clone.done(*words, "--key", str(tmp_path / "key"))
    assert kept(site) == "seventh"
    assert saved(site)[-1].name.endswith(".tar.gz.age")
    assert {path.name for path in (site.clone.root / ".backups").iterdir()} == {site.machine.name}
    serves(site)


def test_nothing_beyond_the_service_is_reached_by_what_it_has_planted(site: Site) -> None:
    site.sh("install -d -o root -m 0755 /srv/other && echo root >/srv/other/kept")
    plant = "ln -sfn /srv/other $STATE_DIRECTORY/media; ln -sfn /srv/other $STATE_DIRECTORY/.restore"
    site.done("run", "--", "sh", "-c", plant)
    site.done("backup")
    restored(site, saved(site)[-1])
    assert site.sh(f"readlink {STATE}/media") == "/srv/other"
    assert site.sh("ls -A /srv/other; cat /srv/other/kept") == "kept\nroot"
    serves(site)
    site.done("run", "--", "rm", f"{STATE}/media")


def test_a_drill_puts_it_back_on_a_host_of_its_own_and_says_how_long_that_took(site: Site) -> None:
    keep(site, "drilled")
    site.done("backup")
    archive, before = saved(site)[-1], saved(site)
    text, words = site.read("service/service.yaml"), ("restore", str(archive), "--drill", "--json")
    with (
        site.changed("service/service.yaml", f"{text}secrets: [API_TOKENS, SECRET_KEY]\n"),
        site.clone.start(*words, stdin=subprocess.PIPE) as drill,
    ):
        out, err = drill.communicate(f"ci reader 2999-01-01T00:00:00Z {'0' * 64}\n", timeout=600)
    ended = Ended(drill.returncode, out, err)
    assert ended.status == 0, ended.both
    assert ended.json()["archive"] == str(archive)
    assert 0 < ended.json()["restore_seconds"] < 3600
    assert f"{archive.name} is in place" in ended.err
    assert (kept(site), saved(site)) == ("drilled", before)
    assert [path.name for path in (site.clone.root / ".backups").iterdir()] == [site.machine.name]
