"""Import the host's program from SOURCES, which the controller puts ahead of this text.

The modules stay in memory, so root runs nothing that another account could have written.
"""

import sys
from importlib.machinery import ModuleSpec

SOURCES: "dict[str, str]"
PACKAGE = "host"


class Importer:
    """The importer of `host` and its modules from SOURCES."""

    def find_spec(self, name, path=None, target=None):  # type: ignore[no-untyped-def]  # noqa: ARG002
        """Return the spec of a module in SOURCES; None for any other."""
        module = "__init__" if name == PACKAGE else name[len(PACKAGE) + 1 :]
        if (name == PACKAGE or name.startswith(f"{PACKAGE}.")) and module in SOURCES:  # noqa: F821
            return ModuleSpec(name, self, origin=f"{PACKAGE}/{module}.py", is_package=name == PACKAGE)  # type: ignore[arg-type]
        return None

    def create_module(self, spec):  # type: ignore[no-untyped-def]
        """Return None: Python creates an ordinary module."""

    def get_source(self, fullname):  # type: ignore[no-untyped-def]
        """Return the source of a module."""
        return SOURCES[fullname[len(PACKAGE) + 1 :] or "__init__"]  # noqa: F821

    def exec_module(self, module):  # type: ignore[no-untyped-def]
        """Compile and run the source of a module."""
        exec(compile(self.get_source(module.__name__), module.__spec__.origin, "exec"), module.__dict__)  # type: ignore[no-untyped-call]  # noqa: S102


sys.meta_path.insert(0, Importer())
