"""The parts of the service beyond its core: modules with `init_app(app)`. `fab add` lists those that there are."""

from __future__ import annotations

from types import ModuleType

PARTS: tuple[ModuleType, ...] = ()
