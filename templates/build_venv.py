"""Make a venv from wheels, on the host, by the host's Python (3.9 and newer), without pip and without an index.

It runs as `python -I -S`, never as the venv's Python: it imports and runs nothing of a wheel. A stranger may have made
the wheel, so memory has a limit: the release that serves runs on the same host.

Arguments: the archive of PyPA's `installer`; the path of the venv during the build; its final path, which its scripts
name; the directory of wheels; the list of wheels in `sha256sum` format, already verified.

Bytecode takes two thirds of the time. A sandboxed service cannot write its own, and would compile at each start, so all
processors compile here while the next wheel is installed.
"""

import compileall
import multiprocessing
import os
import re
import resource
import signal
import sys
import sysconfig
import zipfile
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from importlib import import_module
from venv import EnvBuilder

CHUNK, MOST = 20, 8
"""Files compiled in one task, and the largest number of processes."""
MEMORY = 512 << 20
"""Bytes of memory that each process may use. To compile real code takes 80 times its size, a hostile list 600 times."""
LARGEST_MODULE = 4 << 20
"""Bytes of a file that is compiled; a larger one runs without bytecode."""
LARGEST_INFO = 10 * 1000 * 1000
"""Bytes of a file in `.dist-info` at most: those are read as a whole."""
LIST = "FILES"
"""The list of a venv's files, which the host writes."""
END_WITH_PARENT = 1
"""PR_SET_PDEATHSIG of prctl(2), which Python does not offer."""
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def install_wheel(wheel: str, venv: str, final: str, replaced: "set[str]") -> "list[str]":
    """Install one wheel; return its Python files. replaced: gets the files of earlier wheels that it overwrote."""
    from installer import install  # type: ignore[import-not-found,unused-ignore]
    from installer.destinations import SchemeDictionaryDestination  # type: ignore[import-not-found,unused-ignore]
    from installer.sources import WheelFile  # type: ignore[import-not-found,unused-ignore]

    modules = []

    class Venv(SchemeDictionaryDestination):  # type: ignore[misc,unused-ignore]
        def write_to_fs(self, scheme, path, stream, is_executable):  # type: ignore[no-untyped-def]
            # Two wheels may bring the same file, often a stray tests/__init__.py: the later one wins, as with pip.
            target = os.path.join(self.scheme_dict[scheme], path)
            require_plain(wheel, path)
            require_free(wheel, path, os.path.relpath(target, venv))
            if not is_inside(os.path.dirname(target), venv):
                sys.exit(f"{os.path.basename(wheel)} is refused: {path!r} lies outside of the venv")
            if os.path.lexists(target):
                os.unlink(target)
                replaced.add(target)
            elif scheme in {"purelib", "platlib"} and target.endswith(".py"):
                modules.append(target)
            return super().write_to_fs(scheme, path, stream, is_executable)

    # The module venv does the same: distributions change posix_prefix for installs outside of a venv.
    scheme = "venv" if "venv" in sysconfig.get_scheme_names() else "posix_prefix"
    paths = sysconfig.get_paths(scheme=scheme, vars={"base": venv, "platbase": venv})
    with zipfile.ZipFile(wheel) as packed:
        for entry in packed.infolist():
            require_plain(wheel, entry.filename)
            require_small(wheel, entry)
        source = WheelFile(packed)
        # sysconfig has no place for a wheel's C headers; this is where pip puts them.
        headers = os.path.join(paths["data"], "include", "site", f"python{sys.version_info[0]}.{sys.version_info[1]}")
        places = {**paths, "headers": os.path.join(headers, source.distribution)}
        destination = Venv(places, interpreter=os.path.join(final, "bin/python"), script_kind="posix")
        install(source=source, destination=destination, additional_metadata={"INSTALLER": b"integrators-loop\n"})
    return modules


def require_plain(wheel: str, name: str) -> None:
    """Exit with a message for a name with a control character: the list of a venv has one line per file."""
    if CONTROL.search(name):
        sys.exit(f"{os.path.basename(wheel)} is refused: the name {name!r} holds a control character")


def require_free(wheel: str, name: str, place: str) -> None:
    """Exit with a message for a file in the place of the venv's own list. place: the path below the venv."""
    if os.path.normpath(place).partition("/")[0] == LIST:
        sys.exit(f"{os.path.basename(wheel)} is refused: {name!r} is in the place of the list of the venv's files")


def require_small(wheel: str, entry: zipfile.ZipInfo) -> None:
    """Exit with a message for a file of `.dist-info` that is too large to be read."""
    if entry.filename.partition("/")[0].endswith(".dist-info") and entry.file_size > LARGEST_INFO:
        reason = f"{entry.filename} has {entry.file_size / 1e6:.0f} MB, and may have {LARGEST_INFO / 1e6:g}"
        sys.exit(f"{os.path.basename(wheel)} is refused: {reason}")


@cache
def is_inside(folder: str, venv: str) -> bool:
    """Return whether a folder lies in the venv, after `..` and links: a wheel may name any path."""
    real, top = os.path.realpath(folder), os.path.realpath(venv)
    return real == top or real.startswith(top + os.sep)


def compile_files(paths: "list[str]", venv: str, final: str) -> None:
    """Compile files to bytecode.

    Skip those that are too large, take too much memory, or are no Python of this version, such as templates or tests.
    """
    for path in paths:
        if os.path.getsize(path) <= LARGEST_MODULE:
            with suppress(MemoryError):
                compileall.compile_file(path, quiet=2, force=True, stripdir=venv, prependdir=final)


def workers() -> Executor:
    """Return a pool with a process for each processor; with one thread if the host has no shared semaphores."""
    count, fork = min(MOST, os.cpu_count() or 1), multiprocessing.get_context("fork")
    try:
        return ProcessPoolExecutor(count, fork, initializer=end_with, initargs=(os.getpid(),))
    except (ImportError, NotImplementedError, OSError):
        return ThreadPoolExecutor(1)


def end_with(parent: int) -> None:
    """Have the kernel end this process with its parent, which may be killed: a worker would wait for work for ever."""
    with suppress(ImportError, OSError, AttributeError):
        import_module("ctypes").CDLL(None).prctl(END_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def main(archive: str, venv: str, final: str, wheels: str, listing: str) -> None:
    """Make the venv, install every listed wheel, compile the bytecode, and put in the final path as the venv's own."""
    sys.path.insert(0, archive)
    limit_memory()
    EnvBuilder(symlinks=True).create(venv)
    with open(listing, encoding="utf-8") as lines:
        paths = [os.path.join(wheels, line.split("  ", 1)[1].rstrip("\n")) for line in lines]
    replaced: set[str] = set()
    # A worker that dies, killed for want of memory, ends the pool: what is left runs without bytecode.
    with suppress(BrokenExecutor), workers() as pool:
        compiling: list[Future[None]] = []
        for wheel in paths:
            modules = install_or_exit(wheel, venv, final, replaced)
            chunks = (modules[start : start + CHUNK] for start in range(0, len(modules), CHUNK))
            with suppress(BrokenExecutor):
                compiling += [pool.submit(compile_files, chunk, venv, final) for chunk in chunks]
        for task in compiling:
            task.result()
    # A later wheel may have replaced these while they were compiled.
    compile_files([path for path in sorted(replaced) if path.endswith(".py")], venv, final)
    rename_in_texts(venv, final)


def limit_memory() -> None:
    """Limit the memory of this process, and of each that it starts; a lower limit stays."""
    with suppress(ValueError):
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, resource.getrlimit(resource.RLIMIT_DATA)[1]))


def install_or_exit(wheel: str, venv: str, final: str, replaced: "set[str]") -> "list[str]":
    """Install one wheel and return its Python files; exit with a message that names it if that fails."""
    try:
        return install_wheel(wheel, venv, final, replaced)
    except MemoryError:
        reason = f"to install it takes more than {MEMORY >> 20} MB of memory"
    except Exception as error:
        # A stranger may have made it: a file where another has a directory, no metadata, no zip.
        reason = f"{type(error).__name__}: {ascii(str(error))[1:-1][:300]}"
    sys.exit(f"{os.path.basename(wheel)} is refused: {reason}")


def rename_in_texts(venv: str, final: str) -> None:
    """Put the final path, and its name as prompt, into pyvenv.cfg and the activate scripts."""
    texts = [os.path.join(venv, "pyvenv.cfg")]
    scripts = os.path.join(venv, "bin")
    with os.scandir(scripts) as found:
        texts += [entry.path for entry in found if entry.name.lower().startswith("activate") and entry.is_file()]
    names = [(os.fsencode(of(venv)), os.fsencode(of(final))) for of in (str, os.path.basename)]
    for path in texts:
        # A wheel may have put anything there.
        with open(path, "rb") as old:
            data = old.read()
        for former, name in names:
            data = data.replace(former, name)
        with open(path, "wb") as new:
            new.write(data)


if __name__ == "__main__":
    end_with(os.getppid())
    main(*sys.argv[1:])
