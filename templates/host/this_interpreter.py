"""Describe the interpreter that runs this, and its flaws for a service.

The other interpreters of the host run this text with -c: it suits any Python 3, imports nothing of ours, starts fast.
"""

import grp
import importlib.machinery
import os
import pwd
import stat
import sys

_LEVELS = {"alpha": "a", "beta": "b", "candidate": "rc"}


def describe(path: str) -> "dict[str, str]":
    """Return the interpreter's facts by name; empty if it cannot make a venv. path: the path that started it."""
    if not os.path.isdir(os.path.join(os.path.dirname(os.__file__), "venv")):
        return {}
    # The extension suffix contains SOABI; sysconfig would take three times as long.
    suffix = importlib.machinery.EXTENSION_SUFFIXES[0].strip(".")
    found = [*flaws(os.path.realpath(sys.executable), 1), *flaws(os.path.realpath(os.__file__), 4)]
    return {
        "path": path,
        "version": _version(),
        "soabi": suffix.partition("so")[0].strip("."),
        "machine": os.uname().machine,
        "libc": os.confstr("CS_GNU_LIBC_VERSION") or "" if "CS_GNU_LIBC_VERSION" in os.confstr_names else "",
        "implementation": sys.implementation.name,
        "flaws": "; ".join(" ".join(flaw) for flaw in dict(reversed(found)).items()),
    }


def _version() -> str:
    info = sys.version_info
    level = _LEVELS.get(info[3])
    return ".".join(map(str, info[:3])) + (level + str(info[4]) if level else "")


def _has_others(gid: int) -> bool:
    """Return True if an account other than root and this one is in a group."""
    try:
        named = set(grp.getgrgid(gid).gr_mem)
    except KeyError:
        named = set()
    ours = (0, os.geteuid())
    return any((user.pw_name in named or user.pw_gid == gid) and user.pw_uid not in ours for user in pwd.getpwall())


def has_list(path: str) -> bool:
    """Return True if a file or directory has an access control list: the mode then shows its group's right to write."""
    try:
        return bool(os.getxattr(path, "system.posix_acl_access"))
    except OSError:
        return False


def is_open(path: str, status: os.stat_result) -> bool:
    """Return True if an account other than root and this one can change a file, a directory or a link."""
    mode, group = status.st_mode, status.st_gid
    if status.st_uid not in (0, os.geteuid()):
        return True
    by_group = mode & 0o020 and (has_list(path) or (group and _has_others(group)))
    return not stat.S_ISLNK(mode) and bool(mode & 0o1002 == 2 or by_group)


def flaws(path: str, needed: int) -> "list[tuple[str, str]]":
    """List (kind, path) of a file and its parents: hidden from the service, open to other writers, or closed to it."""
    tops = ("/home", "/root", "/run/user", *(os.path.join(above, "tmp") for above in ("/", "/var")))
    flaws = [("hidden", top) for top in tops if path.startswith(os.path.realpath(top) + "/")]
    while path != "/":
        status = os.stat(path)
        mode, group = status.st_mode, status.st_gid
        if is_open(path, status):
            flaws.append(("open", path))
        if not (mode & needed or (group and mode & needed << 3)):
            flaws.append(("closed", path))
        path, needed = os.path.dirname(path), 1
    return flaws
