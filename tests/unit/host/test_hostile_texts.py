"""Texts from files in the texts generated from them: they stay values for shell, unit files, nginx and sudo."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tasks.engine.config import formats, sections
from tasks.engine.config.gateway import Nginx
from tasks.engine.config.nodes import HIDDEN
from tasks.engine.config.schema import Shape
from tasks.engine.config.sections import Process
from tasks.engine.config.service import Service
from tasks.engine.config.yaml_reader import parse
from tasks.engine.errors import UsageError
from tasks.engine.host import launchers, steps, system_files
from tasks.engine.host.questions import Question
from tasks.engine.host.steps import Activation, Staging
from tasks.engine.host.system_files import HostTraits
from tasks.engine.ssh.session import framed
from tests.promises.words import NO_INJECTION
from tests.support.nasty_texts import ANY, PWNED, TEXTS, in_yaml
from tests.support.small_service import SERVICE

pytestmark = pytest.mark.promise(
    NO_INJECTION, "nasty texts in scripts, launchers and root's files, read by dash and bash"
)

SHELLS = ["dash", "bash"]
RELEASE = "0123456789ab"
# Texts that schema.text allows in any field.
WORDS = [text for text in TEXTS if text.isprintable() and len(text) <= 8192]
SHOW = "import os, sys; os.write(1, b'\\0'.join(map(os.fsencode, sys.argv[1:])))"


def run(shell: str, text: str, folder: Path, *words: str) -> bytes:
    """Run a script; return its output, and assert that it had no other effect."""
    (folder / "script").write_text(text, encoding="utf-8", errors="surrogateescape")
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin"}
    program = [shutil.which(shell) or shell, *(["--posix"] if shell == "bash" else [])]
    answer = subprocess.run([*program, "script", *words], cwd=folder, capture_output=True, env=environment, check=False)
    assert answer.returncode == 0, answer.stderr.decode("utf-8", "replace")[-2000:]
    assert not [*folder.rglob(PWNED)]
    return answer.stdout


def run_launcher(shell: str, service: Service, folder: Path) -> list[bytes]:
    """Run the launcher of `worker` in a directory of its own."""
    (folder / "home/code").mkdir(parents=True, exist_ok=True)
    text = launchers.render(service, RELEASE, "shire01", "27.0.1")["worker"]
    told = run(shell, text.replace(f"/opt/apps/myapp/releases/{RELEASE}", f"{folder}/home"), folder)
    return told.removeprefix(f"release {RELEASE}\n".encode()).split(b"\0")


@pytest.mark.parametrize("shell", SHELLS)
def test_every_value_of_the_environment_arrives_and_runs_nothing(shell: str, tmp_path: Path) -> None:
    lines = [text for text in TEXTS if not HIDDEN.search(text)]
    env = tuple((f"V{number}", text) for number, text in enumerate({**dict.fromkeys(WORDS), **dict.fromkeys(lines)}))
    command = "env -0"
    service = SERVICE._replace(env=env, processes=(SERVICE.processes[0], Process("worker", command)))
    found = dict(line.split(b"=", 1) for line in run_launcher(shell, service, tmp_path)[:-1])
    assert {name: found[name.encode()].decode() for name, _ in env} == dict(env)


@pytest.mark.parametrize("shell", SHELLS)
def test_every_word_of_a_command_arrives_and_runs_nothing(shell: str, tmp_path: Path) -> None:
    words = [text for text in WORDS if formats.COMMAND.fits(shlex.join(["x", text]))]
    assert set(WORDS) - set(words) <= {"&&", "||", "|", ";", "&", ">", ">>", "<", "2>&1"}
    for start in range(0, len(words), 60):
        some = words[start : start + 60]
        command = shlex.join([sys.executable, "-c", SHOW, *some])
        service = SERVICE._replace(processes=(SERVICE.processes[0], Process("worker", command)))
        assert [word.decode() for word in run_launcher(shell, service, tmp_path)] == some


@pytest.mark.parametrize("shell", SHELLS)
def test_a_name_that_the_shell_keeps_for_itself_is_refused_and_any_other_arrives(shell: str, tmp_path: Path) -> None:
    """Once: a variable that the shell keeps for itself (UID, OPTIND) arrived changed, or ended the launcher."""
    bash = subprocess.run(["bash", "--posix", "-c", "compgen -v"], capture_output=True, text=True, check=True).stdout
    dash = subprocess.run(["dash", "-c", "set"], capture_output=True, text=True, check=True).stdout
    known = {*bash.split(), *(line.partition("=")[0] for line in dash.splitlines())}
    known |= {
        "RANDOM",
        "SRANDOM",
        "SECONDS",
        "LINENO",
        "EPOCHSECONDS",
        "EPOCHREALTIME",
        "FUNCNAME",
        "HISTCMD",
        "PS1",
        "PS4",
    }
    known |= {
        "OPTARG",
        "OPTERR",
        "PWD",
        "OLDPWD",
        "COLUMNS",
        "LINES",
        "TZ",
        "LC_ALL",
        "LANG",
        "HOME",
        "MAILPATH",
        "REPLY",
        "histchars",
        "http_proxy",
    }
    names = sorted(name for name in known if formats.VARIABLE.fits(name))
    taken = [name for name in names if _is_taken(name)]
    assert {"UID", "_", "OPTIND", "BASHOPTS", "IFS"} <= {*names} - {*taken}
    text = "".join(f"export {name}='a b'\n" for name in taken) + "exec /usr/bin/env -0\n"
    assert {f"{name}=a b".encode() for name in taken} <= {*run(shell, text, tmp_path).split(b"\0")}


def _is_taken(name: str) -> bool:
    try:
        sections.env(parse(f"{name}: a b\n".encode(), "f.yaml"))
    except UsageError:
        return False
    return True


@given(text=ANY)
def test_any_text_in_a_step_is_a_value(text: str) -> None:
    text = text.encode("utf-8", "replace").decode()
    sent = framed(steps.activate(SERVICE, Activation(text, text, text)).text)
    told = json.loads(sent.split(b"\n", 1)[1])
    assert (told["action"], told["release"], told["expect"]) == (text, text, [text])
    told = json.loads(steps.hold(SERVICE, text, text, 0).text)
    assert (told["action"], told["release"]) == (text, text)
    told = json.loads(steps.stage(SERVICE, Staging(text, text, text, text, False, {text: text})).text)
    assert [told[key] for key in ("release", "venv", "python", "base")] == [text] * 4
    told = json.loads(steps.facts(SERVICE, Question(frozenset(), (text,), text, text)).text)
    assert (told["files"], told["python"], told["wanted"]) == ([text], text, text)


LISTEN = st.builds(
    lambda address, port: f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}",
    st.ip_addresses(),
    st.integers(0, 70_000),
)
# Texts that become words of root's files: shape, a plain example, and possible characters.
WORD = st.from_regex("[a-z]([a-z0-9-]{0,12}[a-z0-9])?", fullmatch=True)
PLACES: dict[str, tuple[Shape, str, st.SearchStrategy[str]]] = {
    "schedule": (formats.SCHEDULE, "daily", st.text("abMon019*.,:/~_+ -", max_size=30)),
    "server name": (formats.SERVER_NAME, "a.example", st.lists(WORD, min_size=1, max_size=4).map(".".join)),
    "listen": (formats.LISTEN, "127.0.0.9:8081", LISTEN),
    "name": (formats.SERVICE_NAME, "another", WORD),
    "process": (formats.PROCESS_NAME, "nightly", WORD),
}


def with_text(place: str, text: str) -> Service:
    """Return the service with this text in its place."""
    web = SERVICE.processes[0]
    if place == "schedule":
        return SERVICE._replace(processes=(web, Process("nightly", "x", text)))
    if place == "server name":
        return SERVICE._replace(nginx=Nginx((text,)))
    if place == "listen":
        return SERVICE._replace(listen=sections.listen(parse(in_yaml(text).encode(), "f.yaml")))
    if place == "name":
        return SERVICE._replace(name=text)
    return SERVICE._replace(processes=(web, Process(text, "x", "daily")))


def lines(service: Service) -> list[str]:
    """Return root's files line by line, each after its path."""
    files = system_files.render(service, HostTraits("deploy", "www-data", True))
    return [line for file in files for line in (file.path, *file.text.splitlines())]


@pytest.mark.parametrize("place", PLACES)
@given(data=st.data())
@settings(deadline=None)
def test_a_word_in_files_of_root_changes_no_other_line(place: str, data: st.DataObject) -> None:
    shape, plain, texts = PLACES[place]
    # Any text that fits is tried, too. Few do: to filter them would throw most examples away.
    odd = "" if place == "listen" else data.draw(ANY)
    text = odd if odd and shape.fits(odd) else data.draw(texts.filter(shape.fits))
    # The reader of the file refuses two processes of one name.
    assume(place != "process" or text != "web")
    try:
        found = lines(with_text(place, text))
    except ValueError:
        return
    assert len(found) == len(lines(with_text(place, plain)))
    assert all(line.isprintable() for line in found)
