"""Fill a new venv with wheels, on the host, by its own Python (3.9 and newer), without pip and without an index.

Arguments: the archive of PyPA's `installer`; the venv as it is being built; the path it will be renamed to, which is
what its scripts have to name; the directory of wheels; the list of wheels in `sha256sum` format, already verified.

Two thirds of the time go into bytecode: a sandboxed service can never write its own, and every start would pay for it
again. So all processors work, and what is installed is compiled while the next wheel is.
"""

import compileall
import multiprocessing
import os
import sys
import sysconfig
import zipfile

CHUNK = 20
"""Files that are compiled in one go."""


def install_wheel(wheel: str, venv: str, final: str) -> "list[str]":
    """Install one wheel; the Python files that it brought."""
    from installer import install  # type: ignore[import-not-found,unused-ignore]
    from installer.destinations import SchemeDictionaryDestination  # type: ignore[import-not-found,unused-ignore]
    from installer.sources import WheelFile  # type: ignore[import-not-found,unused-ignore]

    modules = []

    class Venv(SchemeDictionaryDestination):  # type: ignore[misc,unused-ignore]
        def write_to_fs(self, scheme, path, stream, is_executable):  # type: ignore[no-untyped-def]
            # Two wheels may bring the same file, often a stray tests/__init__.py: the later one wins, as with pip.
            target = os.path.join(self.scheme_dict[scheme], path)
            if os.path.lexists(target):
                os.unlink(target)
            if scheme in {"purelib", "platlib"} and target.endswith(".py"):
                modules.append(target)
            return super().write_to_fs(scheme, path, stream, is_executable)

    paths = sysconfig.get_paths(scheme="posix_prefix", vars={"base": venv, "platbase": venv})
    with WheelFile.open(wheel) as source:
        # sysconfig has no place for a wheel's C headers; this is where pip puts them.
        headers = os.path.join(paths["data"], "include", "site", f"python{sys.version_info[0]}.{sys.version_info[1]}")
        places = {**paths, "headers": os.path.join(headers, source.distribution)}
        destination = Venv(places, interpreter=os.path.join(final, "bin/python"), script_kind="posix")
        install(source=source, destination=destination, additional_metadata={"INSTALLER": b"integrators-loop\n"})
    return modules


def compile_files(paths: "list[str]", venv: str, final: str) -> None:
    """Bytecode of each; a file that is no Python of this version, such as a template or a test, is left without."""
    for path in paths:
        compileall.compile_file(path, quiet=2, stripdir=venv, prependdir=final)


def collide(wheels: "list[str]") -> bool:
    """Whether two wheels bring the same file, so that it matters which comes later."""
    seen = set()
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as packed:
            names = {name for name in packed.namelist() if not name.endswith("/")}
        if seen & names:
            return True
        seen |= names
    return False


def main(archive: str, venv: str, final: str, wheels: str, listing: str) -> None:
    """Install every listed wheel, compile the bytecode, and put the final path wherever the venv names itself."""
    sys.path.insert(0, archive)
    with open(listing, encoding="utf-8") as lines:
        found = [os.path.join(wheels, line.split("  ", 1)[1].rstrip("\n")) for line in lines]
    with multiprocessing.get_context("fork").Pool() as pool:
        if collide(found):
            installed = (install_wheel(wheel, venv, final) for wheel in found)
        else:
            # The largest first: the others fill the gap at its end.
            order = sorted(found, key=os.path.getsize, reverse=True)
            begun = [pool.apply_async(install_wheel, (wheel, venv, final)) for wheel in order]
            installed = (one.get() for one in begun)
        compiled = []
        for modules in installed:
            chunks = (modules[start : start + CHUNK] for start in range(0, len(modules), CHUNK))
            compiled += [pool.apply_async(compile_files, (chunk, venv, final)) for chunk in chunks]
        for one in compiled:
            one.get()
    rename_in_texts(venv, final)


def rename_in_texts(venv: str, final: str) -> None:
    """pyvenv.cfg and the activate scripts carry the path that the venv was made at, and its name as a prompt."""
    texts = [os.path.join(venv, "pyvenv.cfg")]
    scripts = os.path.join(venv, "bin")
    texts += [os.path.join(scripts, name) for name in os.listdir(scripts) if name.lower().startswith("activate")]
    for path in texts:
        with open(path, encoding="utf-8") as old:
            text = old.read()
        with open(path, "w", encoding="utf-8") as new:
            new.write(text.replace(venv, final).replace(os.path.basename(venv), os.path.basename(final)))


if __name__ == "__main__":
    main(*sys.argv[1:])
