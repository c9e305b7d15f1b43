"""What the interpreter that runs this is, and what would keep a service from running by it.

Other interpreters of the host get this as a text: it is for any Python 3, imports nothing of ours, and starts fast.
"""

import grp
import importlib.machinery
import os
import pwd
import sys

_LEVELS = {"alpha": "a", "beta": "b", "candidate": "rc"}


def describe(path: str) -> "dict[str, str]":
    """Words by name; nothing for an interpreter that cannot make a venv. path: what it was called by."""
    if not os.path.isdir(os.path.join(os.path.dirname(os.__file__), "venv")):
        return {}
    # The suffix of extensions holds SOABI; sysconfig would take three times as long.
    suffix = importlib.machinery.EXTENSION_SUFFIXES[0].strip(".")
    flaws = [*_flaws(os.path.realpath(sys.executable), 1), *_flaws(os.path.realpath(os.__file__), 4)]
    return {
        "path": path,
        "version": _version(),
        "soabi": suffix.partition("so")[0].strip("."),
        "machine": os.uname().machine,
        "libc": os.confstr("CS_GNU_LIBC_VERSION") or "" if "CS_GNU_LIBC_VERSION" in os.confstr_names else "",
        "implementation": sys.implementation.name,
        "flaws": "; ".join(" ".join(one) for one in dict(reversed(flaws)).items()),
    }


def _version() -> str:
    found = sys.version_info
    level = _LEVELS.get(found[3])
    return ".".join(map(str, found[:3])) + (level + str(found[4]) if level else "")


def _others(gid: int) -> bool:
    """Whether anybody but root and this account is in a group."""
    try:
        named = set(grp.getgrgid(gid).gr_mem)
    except KeyError:
        named = set()
    ours = (0, os.geteuid())
    return any((one.pw_name in named or one.pw_gid == gid) and one.pw_uid not in ours for one in pwd.getpwall())


def _flaws(path: str, needed: int) -> "list[tuple[str, str]]":
    """What of a file and of the directories above it is hidden from the service, open to others, or closed to it."""
    tops = ("/home", "/root", "/run/user", *(os.path.join(above, "tmp") for above in ("/", "/var")))
    found = [("hidden", top) for top in tops if path.startswith(os.path.realpath(top) + "/")]
    while path != "/":
        status = os.stat(path)
        mode, group = status.st_mode, status.st_gid
        loose = mode & 0o1002 == 2 or (mode & 0o020 and group and _others(group))
        if loose or status.st_uid not in (0, os.geteuid()):
            found.append(("open", path))
        if not (mode & needed or (group and mode & needed << 3)):
            found.append(("closed", path))
        path, needed = os.path.dirname(path), 1
    return found
