"""Module attributes that are built when a server first asks for them. Builds nothing by itself, and nothing twice."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any

from .errors import ConfigError


class _Names(dict[str, Any]):
    """A module's names; one that is missing is asked of the module itself."""

    def __init__(self, module: ModuleType, names: dict[str, Any]) -> None:
        super().__init__(names)
        self._module = module

    def __missing__(self, name: str) -> Any:
        try:
            return getattr(self._module, name)
        except AttributeError:
            raise KeyError(name) from None


class _LazyModule(ModuleType):
    """A module whose attributes may be waiting to be built (the Python reference, section 3.3.2.1)."""

    def __getattr__(self, name: str) -> Any:
        building: Building | None = object.__getattribute__(self, "__dict__").get("_building")
        if building is None or name not in building.builders:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        return building.build(self, name)

    def __getattribute__(self, name: str) -> Any:
        # hypercorn looks its app up by `eval(name, vars(module))`, which never calls `__getattr__`.
        found = super().__getattribute__(name)
        return _Names(self, found) if name == "__dict__" else found


class Building:
    """Builds a module's attributes, each once, whichever thread comes first."""

    def __init__(self, builders: dict[str, Callable[[], object]]) -> None:
        self.builders = builders
        self._lock = threading.RLock()
        self._under_way: set[str] = set()

    def build(self, module: ModuleType, name: str) -> object:
        """Return the attribute; what its builder raises is raised at each access until it succeeds."""
        with self._lock:
            built = object.__getattribute__(module, "__dict__").get(name)
            if built is not None:
                return built
            if self._under_way:
                raise ConfigError(
                    f"{module.__name__}:{name} is asked for while it is being built.\n"
                    "WHOP_APP must name your own app, and its module must not import this one."
                )
            self._under_way.add(name)
            try:
                built = self.builders[name]()
            finally:
                self._under_way.discard(name)
            setattr(module, name, built)
            return built


def build_on_access(module_name: str, **builders: Callable[[], object]) -> None:
    """Let a module build its attributes by `builders` on first access. Call it once, at the module's end."""
    module = sys.modules[module_name]
    module._building = Building(builders)  # type: ignore[attr-defined]
    module.__class__ = _LazyModule
