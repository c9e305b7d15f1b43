"""A stage on a simulated host: it verifies input, links existing files, and leaves nothing half-made."""

from __future__ import annotations

import fcntl
import hashlib
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import pytest

from tasks.engine.fleet import failpoints
from tasks.engine.host import steps
from tasks.engine.host.steps import Activation, HostStep, Staging
from tasks.engine.release import archive
from tests.promises.words import AGAIN
from tests.support.simulated_host import NEW, OLD, SERVICE, SimulatedHost, host, serving, simulated_host

__all__ = ["host", "simulated_host"]

VENV, LATER = "1" * 16, "c" * 12
FILES = {"app.py": b"print('hello')\n", "pages/-odd name.html": b"<p>", "-x/y": b"1"}
WHEEL = ("thing-1.0-py3-none-any.whl", b"wheel")
LAUNCHER = b"#!/bin/sh\n"


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def manifest(files: Mapping[str, bytes]) -> bytes:
    return "".join(f"{digest(data)}  {path}\n" for path, data in sorted(files.items())).encode()


LAUNCHERS = f"{digest(LAUNCHER)}  run/web\n".encode()


PLACES_NAME = "shared.list"
PLACES = b"media\ndata/uploads\nx.py\n"
STATIC = b"/s/ pages\n"
WITH_SHARED = LAUNCHERS + f"{digest(PLACES)}  run/shared.list\n".encode()


def payload(
    same: Iterable[str] = (),
    wheel: bytes | None = WHEEL[1],
    sent: Mapping[str, bytes] = FILES,
    executable: Iterable[str] = (),
    tool: bool = True,
    shared: bool = False,
) -> list[bytes]:
    """Return the tar of a release with FILES: the host links those of `same`."""
    extra = {f"code/{path}": data for path, data in sent.items() if path not in same}
    if same:
        extra["EXECUTABLE"] = "".join(f"{path}\n" for path in executable).encode()
    extra["MANIFEST"] = manifest(FILES)
    extra["WHEELS"] = f"{digest(WHEEL[1])}  {WHEEL[0]}\n".encode()
    extra |= {"release.json": b"{}\n", "run/web": LAUNCHER, "LAUNCHERS": LAUNCHERS}
    extra |= {"LAUNCHERS": WITH_SHARED, f"run/{PLACES_NAME}": PLACES} if shared else {}
    extra |= {"tool/build_venv.py": b""} if tool else {}
    coming = f"{len(wheel)} {digest(WHEEL[1])} {WHEEL[0]}\n\n".encode() + wheel if wheel is not None else b"\n"
    return [coming, *archive.pack((), extra)]


def stage(base: str | None = None, present: bool = False, release: str = NEW, shared: bool = False) -> HostStep:
    lists = {"MANIFEST": digest(manifest(FILES)), "LAUNCHERS": digest(WITH_SHARED if shared else LAUNCHERS)}
    return steps.stage(SERVICE, Staging(release, VENV, "python3", base, present, lists))


def based(host: SimulatedHost) -> SimulatedHost:
    """A host with OLD serving, which has all of FILES."""
    serving(host)
    for name in (OLD, NEW):
        for path, data in FILES.items():
            target = host.root / "releases" / name / "code" / path
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(data)
        (host.root / "releases" / name / "MANIFEST").write_bytes(manifest(FILES))
    (host.root / "releases" / NEW).rename(host.folder / "new")
    return host


def is_untouched(host: SimulatedHost) -> bool:
    """Return true if the host has only the release that serves, and nothing half-made."""
    names = [path.name for path in (host.root / "releases").iterdir()]
    return (names, host.leftovers(), host.serves(), host.history()) == ([OLD], [], OLD, [])


def test_a_release_arrives_whole(simulated_host: SimulatedHost) -> None:
    assert simulated_host.execute(stage(), payload()) == 0
    home = simulated_host.root / "releases" / NEW
    assert {path: (home / "code" / path).read_bytes() for path in FILES} == FILES
    assert (home / "venv").readlink() == Path(f"../../venvs/{VENV}")
    assert (home / "run/web").stat().st_mode & 0o777 == 0o755
    assert sorted(path.name for path in home.iterdir()) == [
        "LAUNCHERS",
        "MANIFEST",
        "WHEELS",
        "code",
        "release.json",
        "run",
        "venv",
    ]
    assert (simulated_host.root / "wheels" / WHEEL[0]).read_bytes() == WHEEL[1]
    assert simulated_host.transcript.ended
    assert simulated_host.leftovers() == []


def test_shared_directories_are_links_to_the_services_data_which_are_not_followed(
    simulated_host: SimulatedHost,
) -> None:
    host, home = simulated_host, simulated_host.root / "releases" / NEW
    assert host.execute(stage(shared=True), payload(shared=True)) == 0
    for place in ("media", "data/uploads", "x.py"):
        assert str((home / "code" / place).readlink()) == f"/var/lib/{host.root.name}/{place}"
    # It is the release of the step, so another deploy of it sends nothing.
    assert host.execute(stage(present=True, shared=True)) == 0
    (home / "code/media").unlink()
    (home / "code/media").symlink_to("/etc")
    assert host.execute(stage(present=True, shared=True)) != 0
    assert host.transcript.last("edited") == NEW


def test_the_time_of_a_static_file_follows_from_its_digest_and_a_hashed_one_is_kept_at_once(
    simulated_host: SimulatedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, home = based(simulated_host), simulated_host.root / "releases" / NEW
    (host.root / "static").mkdir()
    for path, data in {"pages/a-0a1b2c3d.js": b"hashed"}.items():
        monkeypatch.setitem(FILES, path, data)
    launchers = LAUNCHERS + f"{digest(STATIC)}  run/static.list\n".encode()
    monkeypatch.setattr(sys.modules[__name__], "WITH_SHARED", launchers)
    monkeypatch.setattr(sys.modules[__name__], "PLACES", STATIC)
    monkeypatch.setattr(sys.modules[__name__], "PLACES_NAME", "static.list")
    # One of them is linked from the release that serves, which had no static files.
    odd = "pages/-odd name.html"
    assert host.execute(stage(OLD, shared=True), payload(same=[odd, "app.py"], shared=True)) == 0
    times = {path: 1 + int(digest(FILES[path])[:16], 16) % 1_599_999_999 for path in FILES if path.startswith("pages/")}
    assert {path: (home / "code" / path).stat().st_mtime for path in times} == times
    assert (host.root / "releases" / OLD / "code" / odd).samefile(home / "code" / odd)
    assert (home / "code/app.py").stat().st_mtime > 1_600_000_000
    kept = host.root / "static/kept/s/a-0a1b2c3d.js"
    assert kept.samefile(home / "code/pages/a-0a1b2c3d.js")
    assert list(kept.parent.iterdir()) == [kept]
    # The next deploy of the same content mends a time that has changed, as a restored copy has.
    os.utime(home / "code" / odd, (1, 1))
    assert host.execute(stage(present=True, shared=True)) == 0
    assert (home / "code" / odd).stat().st_mtime == times[odd]


def test_unchanged_files_are_links_to_those_that_are_there(simulated_host: SimulatedHost) -> None:
    host = based(simulated_host)
    assert host.execute(stage(OLD), payload(same=FILES)) == 0
    for path in FILES:
        both = [host.root / "releases" / name / "code" / path for name in (OLD, NEW)]
        assert both[0].samefile(both[1]), path
    assert host.serves() == OLD


def test_a_file_that_differs_from_the_base_is_not_linked(simulated_host: SimulatedHost) -> None:
    host = based(simulated_host)
    old, home = {**FILES, "app.py": b"1", "gone.py": b"2"}, host.root / "releases" / OLD
    (home / "MANIFEST").write_bytes(manifest(old))
    for path, data in old.items():
        (home / "code" / path).write_bytes(data)
    assert host.execute(stage(OLD), payload(same=set(FILES) - {"app.py"})) == 0
    made = host.root / "releases" / NEW
    assert (made / "MANIFEST").read_bytes() == manifest(FILES)
    assert {path: (made / "code" / path).read_bytes() for path in FILES} == FILES
    assert sorted(path.name for path in made.iterdir()) == [
        "LAUNCHERS",
        "MANIFEST",
        "WHEELS",
        "code",
        "release.json",
        "run",
        "venv",
    ]


@pytest.mark.parametrize("now", [True, False])
def test_a_file_that_is_linked_gets_the_mode_of_its_own_release(simulated_host: SimulatedHost, now: bool) -> None:
    host = based(simulated_host)
    old = host.root / "releases" / OLD / "code/-x/y"
    old.chmod(0o644 if now else 0o755)
    assert host.execute(stage(OLD), payload(same=FILES, executable=["-x/y"] if now else [])) == 0
    new = host.root / "releases" / NEW / "code/-x/y"
    assert (new.stat().st_mode & 0o777, new.read_bytes()) == (0o755 if now else 0o644, FILES["-x/y"])
    assert old.stat().st_mode & 0o777 == (0o644 if now else 0o755)


@pytest.mark.parametrize(
    "damage",
    [
        *(lambda home, path=path: (home / "code" / path).write_text("edited") for path in FILES),
        lambda home: (home / "code/app.py").unlink(),
        lambda home: (home / "MANIFEST").write_bytes(manifest({"app.py": FILES["app.py"]})),
        lambda home: (home / "MANIFEST").unlink(),
    ],
)
def test_a_base_that_was_edited_asks_for_everything(
    simulated_host: SimulatedHost, damage: Callable[[Path], object]
) -> None:
    host = based(simulated_host)
    damage(host.root / "releases" / OLD)
    assert host.execute(stage(OLD), payload(same=FILES)) == 3
    assert host.transcript.last("edited") == OLD
    assert is_untouched(host)


@pytest.mark.parametrize(
    "sent", [{**FILES, "app.py": b"other"}, {"app.py": FILES["app.py"]}, {**FILES, "extra.py": b"not in the manifest"}]
)
def test_what_is_not_what_its_manifest_says_never_becomes_a_release(
    simulated_host: SimulatedHost, sent: dict[str, bytes]
) -> None:
    assert simulated_host.execute(stage(), payload(sent=sent)) == 3
    assert not list((simulated_host.root / "releases").iterdir())


@pytest.mark.parametrize("same", [(), FILES])
def test_a_venv_that_has_gone_is_asked_for(simulated_host: SimulatedHost, same: Iterable[str]) -> None:
    host = based(simulated_host)
    assert host.execute(stage(OLD if same else None), payload(same=same, tool=False)) == 3
    assert host.transcript.last("edited") == NEW
    assert is_untouched(host)


def test_a_wheel_that_is_not_the_locked_one_is_refused(simulated_host: SimulatedHost) -> None:
    """Once: a venv broken on the host made every further deploy fail."""
    assert simulated_host.execute(stage(), payload(wheel=b"tampered")) == 1
    assert f"{WHEEL[0]} did not arrive as it was sent" in (simulated_host.transcript.last("refused") or "")
    assert not (simulated_host.root / "wheels" / WHEEL[0]).exists()
    assert (list((simulated_host.root / "releases").iterdir()), simulated_host.leftovers()) == ([], [])


def test_a_wheel_that_was_damaged_on_the_host_is_asked_for_and_no_other(simulated_host: SimulatedHost) -> None:
    (simulated_host.root / "wheels" / WHEEL[0]).write_bytes(b"tampered")
    assert simulated_host.execute(stage(), payload(wheel=None)) == 3
    assert (simulated_host.transcript.last("edited"), simulated_host.transcript.all("lacks")) == (NEW, (WHEEL[0],))
    assert (list((simulated_host.root / "releases").iterdir()), simulated_host.leftovers()) == ([], [])


def wheels(*content: bytes) -> Iterator[bytes]:
    """Yield wheels as they come before the tar."""
    yield b"".join(f"{len(data)} {digest(data)} w{n}-1-py3-none-any.whl\n".encode() for n, data in enumerate(content))
    yield b"\n"
    yield from content


def names(host: SimulatedHost) -> list[str]:
    """Return the names of the wheels."""
    return sorted(path.name for path in (host.root / "wheels").iterdir())


def test_wheels_that_came_whole_before_a_cut_are_kept_until_the_next_stage_has_its_own(host: SimulatedHost) -> None:
    (host.root / "wheels/unused-1-py3-none-any.whl").touch()
    cut = list(wheels(b"one", b"", b"three" * 1000, b"four"))
    assert host.execute(stage(release=LATER), [*cut[:-2], cut[-2][:-1]]) == 1
    kept = ["w0-1-py3-none-any.whl", "w1-1-py3-none-any.whl"]
    assert names(host) == [".coming", "unused-1-py3-none-any.whl", *kept]
    assert (host.root / "wheels" / kept[0]).read_bytes() == b"one"
    assert host.leftovers() == []
    # Another release is committed meanwhile.
    assert host.execute(steps.activate(SERVICE, Activation("deploy", NEW, OLD))) == 0
    assert names(host) == [".coming", *kept]
    assert host.execute(stage(release=LATER), payload()) == 0
    assert names(host) == [WHEEL[0], *kept]
    assert host.execute(steps.activate(SERVICE, Activation("deploy", LATER, NEW))) == 0
    assert names(host) == [WHEEL[0]]


@pytest.mark.parametrize("action", ["fail", "die"])
def test_a_wheel_that_came_whole_is_kept_however_the_step_ends(simulated_host: SimulatedHost, action: str) -> None:
    simulated_host.failpoint = f"stage.wheel={action}"
    assert simulated_host.execute(stage(), wheels(b"one", b"two")) != 0
    assert names(simulated_host) == [".coming", "w0-1-py3-none-any.whl"]


def test_a_venv_that_cannot_be_built_leaves_nothing(simulated_host: SimulatedHost) -> None:
    host = based(simulated_host)
    (host.root / "venvs" / VENV / "bin/python").write_text("#!/bin/false\n")
    (host.folder / "no-venv").touch()
    assert host.execute(stage(), payload()) == 1
    assert is_untouched(host)
    (host.folder / "no-venv").unlink()
    assert host.execute(stage(), payload()) == 0


def listed(host: SimulatedHost) -> Path:
    """A venv with the list of its files, as a stage leaves it."""
    host.venv(VENV)
    host.list_venv(host.root / "venvs" / VENV)
    return host.root / "venvs" / VENV


def said_steps(host: SimulatedHost) -> tuple[str, ...]:
    return tuple(text for text in host.transcript.all("step") if text.startswith("venv "))


def test_a_venv_that_is_whole_by_its_own_list_is_not_built_again(simulated_host: SimulatedHost) -> None:
    venv = listed(simulated_host)
    inode = venv.stat().st_ino
    assert simulated_host.execute(stage(), payload()) == 0
    assert said_steps(simulated_host) == ("venv is there already",)
    assert venv.stat().st_ino == inode


@pytest.mark.parametrize(
    "damage",
    [
        lambda venv: (venv / "FILES").unlink(),
        lambda venv: (venv / "more.pth").touch(),
        lambda venv: (venv / "bin/gunicorn").unlink(),
        lambda venv: (venv / "bin/python").write_text("#!/bin/true\n\n"),
        lambda venv: (venv / "lib/python3/site-packages/gunicorn/__init__.py").write_text("edited"),
    ],
)
def test_a_venv_that_is_not_is_built_again_and_nothing_of_it_is_run(
    simulated_host: SimulatedHost, damage: Callable[[Path], object]
) -> None:
    venv, ran = listed(simulated_host), simulated_host.folder / "ran"
    for program in ("python", "gunicorn"):
        (venv / "bin" / program).write_text(f"#!/bin/sh\ntouch '{ran}'\n")
    simulated_host.list_venv(venv)
    damage(venv)
    assert simulated_host.execute(stage(), payload()) == 0
    assert said_steps(simulated_host) == ("venv building with python3",)
    assert not ran.exists()
    assert (venv / "bin/python").read_text() == "#!/bin/sh\nexit 0\n"
    assert (simulated_host.leftovers(), (venv / "FILES").exists()) == ([], True)
    # The next stage reads the list that this one wrote.
    assert simulated_host.execute(stage(present=True)) == 0


def test_a_venv_without_gunicorn_is_refused_by_its_files(simulated_host: SimulatedHost) -> None:
    (simulated_host.folder / "no-gunicorn").touch()
    assert simulated_host.execute(stage(), payload()) == 1
    assert simulated_host.transcript.last("refused") == "no wheel of the lock brings bin/gunicorn"
    assert (list((simulated_host.root / "releases").iterdir()), simulated_host.leftovers()) == ([], [])


def test_a_payload_that_is_cut_off_leaves_nothing(simulated_host: SimulatedHost) -> None:
    host = based(simulated_host)
    whole = b"".join(payload())
    assert host.execute(stage(), [whole[: len(whole) // 2]]) != 0
    assert not host.transcript.ended
    assert is_untouched(host)


def test_a_signal_at_any_step_leaves_nothing(simulated_host: SimulatedHost) -> None:
    host = based(simulated_host)
    for number in (1, 2):
        host.forget()
        host.cut(number, "TERM")
        assert host.execute(stage(OLD), payload(same=FILES)) == 129
        assert host.leftovers() == []
        assert host.serves() == OLD


def test_what_a_killed_run_left_is_taken_away_by_the_next(simulated_host: SimulatedHost) -> None:
    for path in ("releases/.part-dead/code", "venvs/.part-dead", "releases/.part-old-dead"):
        (simulated_host.root / path).mkdir(parents=True)
    (simulated_host.root / "releases/.part-old-file").touch()
    assert simulated_host.execute(stage(), payload()) == 0
    assert simulated_host.leftovers() == []


def test_a_replaced_release_stays_while_something_runs_from_it(simulated_host: SimulatedHost) -> None:
    """Neither the next stage nor a prune may remove it then."""
    former = simulated_host.root / f"releases/.part-old-{OLD}"
    former.mkdir()
    held = os.open(former, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_SH)
    assert simulated_host.execute(stage(), payload()) == 0
    assert former.is_dir()
    os.close(held)
    assert simulated_host.execute(stage(), payload()) == 0
    assert not former.exists()


def test_what_another_run_is_making_is_left_alone(simulated_host: SimulatedHost) -> None:
    theirs = simulated_host.root / "releases/.part-theirs"
    theirs.mkdir()
    with (simulated_host.run_folder / "lock/stage").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        assert simulated_host.execute(stage(), payload()) == 0
    assert theirs.is_dir()
    assert (simulated_host.root / "releases" / NEW).is_dir()


def test_who_stages_shares_with_others_who_stage_and_with_nobody_who_clears_away(simulated_host: SimulatedHost) -> None:
    lock = (simulated_host.run_folder / "lock/stage").open("a")
    seen: list[bool] = []

    def look() -> None:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            seen.append(True)

    def payload_that_waits() -> Iterator[bytes]:
        yield from payload()[:1]
        assert received.wait(30)
        look()
        yield from payload()[1:]

    received = threading.Event()
    assert simulated_host.execute(stage(), payload_that_waits(), at="receive", do=received.set) == 0
    assert seen == [True]
    lock.close()


def test_a_release_that_is_there_is_checked_and_not_made_again(simulated_host: SimulatedHost) -> None:
    assert simulated_host.execute(stage(), payload()) == 0
    home = simulated_host.root / "releases" / NEW
    inode = home.stat().st_ino
    assert simulated_host.execute(stage(present=True)) == 0
    assert home.stat().st_ino == inode
    (home / "code/app.py").write_text("edited")
    assert simulated_host.execute(stage(present=True)) == 3
    assert simulated_host.execute(stage(), payload()) == 0
    assert (home / "code/app.py").read_bytes() == FILES["app.py"]
    assert simulated_host.leftovers() == []


def edit(home: Path, path: str, listed_in: str) -> None:
    """Edit a file of a release together with its line in a list, as its owner can."""
    file, listing = home / path, home / listed_in
    before = digest(file.read_bytes())
    file.write_bytes(file.read_bytes() + b"# edited\n")
    listing.write_text(listing.read_text().replace(before, digest(file.read_bytes())))


@pytest.mark.parametrize(("path", "listed_in"), [("code/app.py", "MANIFEST"), ("run/web", "LAUNCHERS")])
def test_a_file_that_was_edited_together_with_its_line_is_sent_again(
    simulated_host: SimulatedHost, path: str, listed_in: str
) -> None:
    assert simulated_host.execute(stage(), payload()) == 0
    home = simulated_host.root / "releases" / NEW
    was = (home / path).read_bytes()
    edit(home, path, listed_in)
    assert simulated_host.execute(stage(present=True)) == 3
    assert simulated_host.execute(stage(), payload()) == 0
    assert (home / path).read_bytes() == was
    assert simulated_host.execute(stage(present=True)) == 0


def test_a_venv_that_a_release_is_led_to_is_the_one_that_was_built_for_it(simulated_host: SimulatedHost) -> None:
    assert simulated_host.execute(stage(), payload()) == 0
    home, venvs = simulated_host.root / "releases" / NEW, simulated_host.root / "venvs"
    (venvs / VENV).rename(venvs / "elsewhere")
    (home / "venv").unlink()
    (home / "venv").symlink_to("../../venvs/elsewhere")
    assert simulated_host.execute(stage(present=True)) == 3
    assert simulated_host.execute(stage(), payload()) == 0
    assert (home / "venv").readlink() == Path(f"../../venvs/{VENV}")


def test_a_damaged_release_that_serves_is_replaced_and_what_runs_keeps_its_directory(host: SimulatedHost) -> None:
    home, former = host.root / "releases" / OLD, host.root / "releases" / f".part-old-{OLD}"
    (home / "code/app.py").write_text("edited")
    inode = home.stat().st_ino
    assert host.execute(stage(release=OLD), payload()) == 0
    assert ((home / "code/app.py").read_bytes(), former.stat().st_ino) == (FILES["app.py"], inode)
    assert host.serves() == OLD
    # The former directory is removed when the slot that ran it has ended.
    activate = steps.activate(SERVICE, Activation("deploy", OLD, OLD))
    assert (host.execute(activate), host.leftovers()) == (0, [])


def test_a_stage_that_fails_in_the_middle_of_it_leaves_the_damaged_one_where_it_was(host: SimulatedHost) -> None:
    home = host.root / "releases" / OLD
    (home / "code/app.py").write_text("edited")
    host.failpoint = "stage.replace=fail"
    assert host.execute(stage(release=OLD), payload()) == 1
    assert ((home / "code/app.py").read_text(), host.leftovers()) == ("edited", [])
    host.failpoint = "stage.replace=die"
    assert host.execute(stage(release=OLD), payload()) == -9
    assert (home / "code/app.py").read_text() == "edited"
    host.failpoint = ""
    assert host.execute(stage(release=OLD), payload()) == 0
    assert (home / "code/app.py").read_bytes() == FILES["app.py"]
    # The slot still runs from the damaged one.
    assert [Path(path).name for path in host.leftovers()] == [f".part-old-{OLD}"]


@pytest.mark.promise(AGAIN, "a stage that fails or dies at each of its steps, on a simulated host", part=13)
@pytest.mark.parametrize("action", ["fail", "die"])
@pytest.mark.parametrize("point", [name for name in failpoints.names() if name.startswith("stage.")])
def test_each_place_is_passed_and_the_next_run_makes_it_whole(tmp_path: Path, point: str, action: str) -> None:
    host = based(SimulatedHost(tmp_path))
    present = point == "stage.reuse"
    if present or point == "stage.replace":
        assert host.execute(stage(), payload()) == 0
    if point == "stage.replace":
        (host.root / "releases" / NEW / "code/app.py").write_text("edited")
    host.failpoint = f"{point}={action}"
    ended = host.execute(stage(present=present), [] if present else payload())
    assert ended == (1 if action == "fail" else -9), point
    if action == "fail":
        assert host.transcript.last("refused") == f"failpoint {point}"
        assert host.leftovers() == []
    assert (host.serves(), host.history()) == (OLD, [])
    host.failpoint = ""
    assert host.execute(stage(), payload()) == 0
    assert host.leftovers() == []
    assert host.execute(stage(present=True)) == 0


def test_a_venv_that_is_not_there_and_was_not_sent_asks_for_everything(simulated_host: SimulatedHost) -> None:
    whole = payload()
    extra = {f"code/{path}": data for path, data in FILES.items()}
    extra |= {"MANIFEST": manifest(FILES), "EXECUTABLE": b"", "run/web": b"", "WHEELS": b""}
    assert simulated_host.execute(stage(), [whole[0], *archive.pack((), extra)]) == 3
    assert simulated_host.transcript.last("edited") == NEW
    assert (list((simulated_host.root / "releases").iterdir()), simulated_host.leftovers()) == ([], [])


def test_a_release_that_came_meanwhile_is_left_as_it_is(simulated_host: SimulatedHost) -> None:
    assert simulated_host.execute(stage(), payload()) == 0
    home = simulated_host.root / "releases" / NEW
    inode = home.stat().st_ino
    (simulated_host.root / "venvs" / VENV / "bin/python").unlink()
    assert simulated_host.execute(stage(), payload()) == 0
    assert said_steps(simulated_host) == ("venv building with python3",)
    assert (home.stat().st_ino, simulated_host.leftovers()) == (inode, [])
