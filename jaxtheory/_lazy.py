"""Rooms whose import waits for their first use, where it would load a library that most programs do not need."""

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence


def lazy(room: str, homes: Mapping[str, Sequence[str]]) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """The `__getattr__` and `__dir__` of a package that imports its modules when one of their names is first used.

    Args:
        room: `__name__` of the package.
        homes: module to the public names it defines. The first use of any name imports all modules, so that a
            function may have the name of a module.

    >>> getattribute, names = lazy("jaxtheory.sweeps", {"axes": ("grid",), "driver": ("run",)})
    >>> {"grid", "run", "__doc__"} <= set(names()), getattribute("grid").__name__
    (True, 'grid')
    >>> getattribute("walk")
    Traceback (most recent call last):
    AttributeError: module 'jaxtheory.sweeps' has no attribute 'walk'
    """

    def getattribute(name: str) -> object:
        if not any(name in names for names in homes.values()):
            raise AttributeError(f"module {room!r} has no attribute {name!r}")
        modules = {home: importlib.import_module(f"{room}.{home}") for home in homes}
        found = {known: getattr(modules[home], known) for home, names in homes.items() for known in names}
        vars(sys.modules[room]).update(found)
        return found[name]

    def names() -> list[str]:
        return sorted({*vars(sys.modules[room]), *(name for names in homes.values() for name in names)})

    return getattribute, names
