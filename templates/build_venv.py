"""Fill a new venv with wheels, on the host, by its own Python (3.9 and newer), without pip and without an index.

Arguments: the archive of PyPA's `installer`; the venv as it is being built; the path it will be renamed to, which is
what its scripts have to name; the directory of wheels; the list of wheels in `sha256sum` format, already verified.
"""

import compileall
import os
import sys
import sysconfig


def main(archive: str, venv: str, final: str, wheels: str, listing: str) -> None:
    """Install every listed wheel, compile the bytecode, and put the final path wherever the venv names itself."""
    sys.path.insert(0, archive)
    from installer import install  # type: ignore[import-not-found,unused-ignore]
    from installer.destinations import SchemeDictionaryDestination  # type: ignore[import-not-found,unused-ignore]
    from installer.sources import WheelFile  # type: ignore[import-not-found,unused-ignore]

    class Venv(SchemeDictionaryDestination):  # type: ignore[misc,unused-ignore]
        def write_to_fs(self, scheme, path, stream, is_executable):  # type: ignore[no-untyped-def]
            # Two wheels may bring the same file, often a stray tests/__init__.py: the later one wins, as with pip.
            target = os.path.join(self.scheme_dict[scheme], path)
            if os.path.lexists(target):
                os.unlink(target)
            return super().write_to_fs(scheme, path, stream, is_executable)

    paths = sysconfig.get_paths(scheme="posix_prefix", vars={"base": venv, "platbase": venv})
    with open(listing, encoding="utf-8") as lines:
        names = [line.split("  ", 1)[1].rstrip("\n") for line in lines]
    for name in names:
        with WheelFile.open(os.path.join(wheels, name)) as source:
            # sysconfig has no place for a wheel's C headers; this is where pip puts them.
            headers = os.path.join(
                paths["data"], "include", "site", f"python{sys.version_info[0]}.{sys.version_info[1]}"
            )
            places = {**paths, "headers": os.path.join(headers, source.distribution)}
            interpreter = os.path.join(final, "bin/python")
            destination = Venv(places, interpreter=interpreter, script_kind="posix")
            install(source=source, destination=destination, additional_metadata={"INSTALLER": b"integrators-loop\n"})
    # A sandboxed service can never write its bytecode: without this, every start would pay for it again.
    compileall.compile_dir(paths["purelib"], quiet=2, stripdir=venv, prependdir=final, workers=0)
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
