"""Run a task once for all selected hosts, print errors as messages, and set exact exit statuses."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from inspect import signature
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from fabric import Executor

from tasks.engine.errors import LoopError, UsageError

if TYPE_CHECKING:
    from tasks.engine.parallel import Stop
    from tasks.engine.ssh.ssh_config import Options

ROOT = Path(__file__).resolve().parent.parent

# Fabric's flags that would mean something else here, or would expose a secret.
_REFUSED = {
    "echo": "every step is shown as it is; all that a host gets: fab plan --steps",
    "pty": "scripts need no terminal; for one on a host: fab shell -H HOST",
    "warn-only": "a failed host stops, the others go on",
}
# Fabric prompts for these before it calls a task, so `begin` refuses them first.
_PROMPTS = {
    "--prompt-for-sudo-password": "fab setup needs a sudo rule without a password, or: fab setup --as root",
    "--prompt-for-login-password": "use a key: `identity:` in hosts.yaml, or -i",
    "--prompt-for-passphrase": "let ssh-agent hold the key: ssh-add",
}
_WEEK = 7 * 86400
_SECONDS = f"a number of seconds, 1 or more and {_WEEK} at most"
_NO_DRY = ("add", "backup", "restore", "lock", "exec", "run", "shell", "sandbox.up", "sandbox.down",
           "secrets.set", "secrets.list", "secrets.unset", "secrets.rotate")  # fmt: skip


CONSENT = {
    "take_over": "replace the service of another clone that has this name on the host",
    "overwrite": "rewrite files that were edited on the host; the host keeps copies",
}
"""Options for what setup, and a deploy that needs setup, does only with consent."""

_JSON = "print JSON: a query one document, a run one object per line"

_Body = TypeVar("_Body", bound=Callable[..., object])


def verb(name: str | None = None, **help: str) -> Callable[[_Body], _Body]:  # noqa: A002 - Invoke's word
    """Decorate a task. help: a text for each option but --json. `fab --list` shows the docstring's first line.

    Invoke's automatic short flags would take -l, -c and -p from `fab`.
    """
    from invoke import task

    def decorate(body: _Body) -> _Body:
        shared = {"json": _JSON} if "json" in signature(body).parameters else {}
        decorated: _Body = task(name=name, help={**shared, **help}, auto_shortflags=False)(body)
        return decorated

    return decorate


class Invocation(NamedTuple):
    """The command line without the task: -H, --dry, ssh's options, and the words after `--`.

    remainder: those words as shell text
    """

    hosts: str | None
    dry: bool
    identities: tuple[str, ...]
    ssh_config: str | None
    connect_timeout: int
    command_timeout: int | None
    remainder: str

    @property
    def words(self) -> tuple[str, ...]:
        """The words after `--`."""
        return tuple(sys.argv[sys.argv.index("--") + 1 :]) if self.remainder else ()

    @property
    def options(self) -> Options:
        """Return the options of the connections."""
        from tasks.engine.report import output
        from tasks.engine.ssh.ssh_config import Options

        tell = output.err().line
        return Options(self.identities, self.ssh_config, self.connect_timeout, self.command_timeout, tell)


def invocation(c: Any) -> Invocation:
    """Return the invocation that a task runs in."""
    current = c.config["loop_invocation"]
    assert isinstance(current, Invocation)
    return current


class FleetExecutor(Executor):  # type: ignore[misc]  # Fabric is untyped
    """Call a task once for all selected hosts; Fabric's own executor calls it once for each host."""

    def execute(self, *calls: Any) -> Any:
        """Run the tasks; a LoopError becomes a message and an exit status."""
        sys.excepthook = sys.__excepthook__
        as_json = any(parsed.args["json"].value for parsed in calls if "json" in parsed.args)
        try:
            self._help(calls)
            self._refuse([parsed.name for parsed in calls])
            _refuse_words(parsed.args.values() for parsed in calls)
            self.config["loop_invocation"] = self._invocation()
            return super().execute(*calls)
        except LoopError as problem:
            _leave(problem, as_json=as_json)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(0)
        except KeyboardInterrupt:
            sys.exit(130)
        except Exception as fault:
            if type(fault).__module__.startswith("invoke"):
                raise
            _leave(_fault(fault), as_json=as_json)

    def expand_calls(self, calls: Any, apply_hosts: bool = True) -> Any:  # noqa: ARG002 - Fabric's signature
        """Return the calls unchanged: the task itself handles the hosts and the words after `--`."""
        self.core.remainder = ""
        return super().expand_calls(calls, apply_hosts=False)

    def _help(self, calls: Sequence[Any]) -> None:
        """Show a verb's help where Invoke has taken --help for an argument, as in `fab maintenance --help`."""
        for parsed in calls:
            if any(word.value in {"--help", "-h"} for word in parsed.positional_args):
                from fabric.main import program

                program.print_task_help(parsed.name)
                sys.exit(0)

    def _refuse(self, tasks: Sequence[str]) -> None:
        for name, way in _REFUSED.items():
            if self.core[0].args[name].value:
                raise UsageError(f"--{name} is not for these tasks", where=f"--{name}", next=way)
        if self.core[0].args["dry"].value:
            for name in tasks:
                if name in _NO_DRY:
                    raise UsageError(f"{name} has no dry run", where="--dry", next=f"read: fab --help {name}")

    def _invocation(self) -> Invocation:
        from tasks.engine import plain_file

        core = self.core[0].args
        for flag, name in (("-t", "connect-timeout"), ("-T", "command-timeout")):
            if core[name].value is not None and not 1 <= core[name].value <= _WEEK:
                raise UsageError(f"{flag} takes {_SECONDS}", where=flag, next=f"fab {flag} 30 ...")
        identities = tuple(core["identity"].value or ())
        for path in map(plain_file.named, identities):
            # If an agent holds the key, its public half is enough.
            if not path.is_file() and not path.with_name(path.name + ".pub").is_file():
                raise UsageError(f"there is no key {path}", where="-i", next="name the private key's file")
        return Invocation(
            hosts=core["hosts"].value,
            dry=bool(core["dry"].value),
            identities=identities,
            ssh_config=core["ssh-config"].value,
            connect_timeout=core["connect-timeout"].value or 10,
            command_timeout=core["command-timeout"].value,
            remainder=_words_after_dashes(self.core.remainder),
        )


def _refuse_words(given: Iterable[Iterable[Any]]) -> None:
    """Refuse words that are not UTF-8, and options with an empty value: a script's variable may be unset."""
    if any("\udc80" <= letter <= "\udcff" for word in sys.argv for letter in word):
        raise UsageError("a word of the command line is not UTF-8", where="the command line", next="write it in UTF-8")
    for argument in (argument for arguments in given for argument in arguments):
        if argument.takes_value and argument.raw_value == "":
            name = argument.name.strip("_").replace("_", "-")
            flag = f"--{name}" if len(name) > 1 else f"-{name}"
            raise UsageError(f"{flag} was given an empty value", where=flag, next=f"give it one, or leave {flag} out")


def _words_after_dashes(remainder: str) -> str:
    """Return the words after `--` as shell text: one word as it is, several each quoted."""
    if not remainder:
        return ""
    from tasks.engine import quote

    words = sys.argv[sys.argv.index("--") + 1 :]
    return words[0] if len(words) == 1 else " ".join(quote.shell(word) for word in words)


def begin() -> None:
    """Refuse flags that prompt, and set the exception hook, before Fabric acts on the command line."""
    asked = sys.argv[: sys.argv.index("--")] if "--" in sys.argv else sys.argv
    for flag in _PROMPTS.keys() & asked:
        _leave(UsageError(f"{flag} is not for these tasks", where=flag, next=_PROMPTS[flag]), as_json=False)
    sys.excepthook = _report_fabrics_error
    from fabric.main import program

    # Invoke parses the command line inside its `run`, which has no hook for refusals.
    program.parse_tasks = partial(_in_our_words, program, partial(_with_every_word, program, program.parse_tasks))
    program.parse_cleanup = partial(_in_our_words, program, program.parse_cleanup)


def _with_every_word(program: Any, read: Callable[[], None]) -> None:
    """Let `fab add` alone mean `fab add list`: Invoke cannot make the word after a verb optional."""
    words = program.core.unparsed
    if words[:1] == ["add"] and all(word in ("--yes", "--json") for word in words[1:]):
        words.insert(1, "list")
    read()


def _in_our_words(program: Any, read: Callable[[], None]) -> None:
    """Let Invoke read the command line; report a refusal as our errors are, and exit with 2."""
    from invoke.exceptions import Exit, ParseError

    try:
        read()
    except (Exit, ParseError) as refused:
        said = refused.message if isinstance(refused, Exit) else str(refused)
        if not said:
            raise
        from tasks import usage

        problem = usage.explain(said, getattr(refused, "context", None), program.parser, sys.argv)
        _leave(problem, as_json="--json" in sys.argv)


def _leave(problem: LoopError, *, as_json: bool) -> None:
    from tasks.engine.misread import Misread
    from tasks.engine.report import output

    if isinstance(problem, Misread) and (log := _write_trace(problem.trace)):
        output.err().line(f"log of this run: {log}")
    output.error(problem, as_json=as_json)
    sys.exit(problem.exit_status)


def _fault(error: Exception) -> LoopError:
    """Return the error for a fault of fab itself; write its traceback into a file."""
    import traceback

    log = _write_trace("".join(traceback.format_exception(error)))
    way = f"report it, with the traceback in {log}" if log else "report it"
    return LoopError(f"a fault of fab itself: {type(error).__name__}: {str(error)[:300]}", next=way, code="fault")


def _write_trace(trace: str) -> str | None:
    import time

    from tasks.engine.report import runs

    return runs.keep_faults(runs.folder(ROOT, os.environ), f"{time.strftime('%Y%m%dT%H%M%S')}-fault", {"": trace})


def _report_fabrics_error(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Report an exception of Fabric itself: stdout that was closed during `fab --list`, a bad ssh_config of -S."""
    from paramiko import ConfigParseError

    if isinstance(error, BrokenPipeError):
        os._exit(0)
    problem = None
    if isinstance(error, AttributeError) and "list_" in str(error):
        problem = UsageError("-F takes flat, nested or json", where="-F", next="fab --list --list-format=json")
    elif isinstance(error, (OSError, ConfigParseError)):
        detail = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)
        problem = UsageError(f"a file of the command line cannot be read: {detail}", next="correct -S or -f")
    elif isinstance(error, ValueError) and _raised_in("invoke.parser", trace):
        # Only these two of Fabric's own flags take numbers.
        problem = UsageError(f"-t and -T take {_SECONDS}: {error}", where="-t, -T", next="fab -t 30 ...")
    if problem:
        from tasks.engine.report import output

        output.error(problem, as_json=False)
        os._exit(2)
    sys.__excepthook__(kind, error, trace)


def _raised_in(package: str, trace: TracebackType | None) -> bool:
    """Return whether the innermost frame of a traceback is in this package."""
    name = ""
    while trace:
        name, trace = trace.tb_frame.f_globals.get("__name__", ""), trace.tb_next
    return name == package or name.startswith(f"{package}.")


def agreed(question: str) -> bool:
    """Ask on the terminal; return True for a yes alone, so False at the end of the input."""
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


@contextmanager
def ended_by_interrupt(message: str = "") -> Iterator[None]:
    """Exit at once on Ctrl-C during a query: it changes nothing, and a thread that waits for a host cannot be woken."""

    def leave(*_: object) -> None:
        sys.stderr.write(message)
        os._exit(130)

    before = signal.signal(signal.SIGINT, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def stopped_by_signals() -> Iterator[Stop]:
    """Handle signals during a run: the first lets hosts under way finish, the second exits at once.

    A host that is cut off then undoes what it began, or has finished: it never stays in between.
    """
    from tasks.engine.parallel import Stop

    stop = Stop()

    def handle(number: int, _: FrameType | None) -> None:
        if stop:
            os._exit(128 + number)
        stop.set(number)
        sys.stderr.write(
            "\nstopping: hosts under way are finished, no other is begun; press Ctrl-C again to exit at once\n"
        )

    # A signal that nohup or a shell's `&` ignores stays ignored.
    every = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    signals = [number for number in every if signal.getsignal(number) is not signal.SIG_IGN]
    before: dict[int, Callable[[int, FrameType | None], Any] | int | None] = {}
    for number in signals:
        before[number] = signal.signal(number, handle)
    try:
        yield stop
    finally:
        for number in signals:
            signal.signal(number, before[number])
