"""Describe this machine and its Python, as a host describes itself: can a wheel that is built here run there?"""

from __future__ import annotations

import os
import platform
import sys
import sysconfig

from tasks.engine.errors import UsageError
from tasks.engine.release import python_target
from tasks.engine.release.python_target import Target


def here() -> Target | None:
    """Return the target of this Python; None if it is none that a host can have, as on macOS."""
    libc = os.confstr("CS_GNU_LIBC_VERSION") if "CS_GNU_LIBC_VERSION" in os.confstr_names else ""
    soabi, distribution = str(sysconfig.get_config_var("SOABI") or ""), _distribution()
    try:
        return python_target.described(
            platform.python_version(), soabi, platform.machine(), libc or "", sys.implementation.name, distribution
        )
    except UsageError:
        return None


def _distribution() -> str:
    """Return name and version, empty on another system than Linux."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return ""
    return f"{release['ID']} {release.get('VERSION_ID') or release.get('VERSION_CODENAME') or 'unnumbered'}"
