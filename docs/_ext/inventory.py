"""The public modules and names of the package, read from its `__all__` lists."""

import enum
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from types import ModuleType
from typing import NamedTuple

import jaxtheory

NOT_FOR_IMPORT = {"__main__", "cli"}  # commands


class Public(NamedTuple):
    """A public object: the module it is imported from, its name there, and what it is."""

    module: str
    name: str
    value: object

    @property
    def path(self) -> str:
        return f"{self.module}.{self.name}"

    @property
    def kind(self) -> str:
        if inspect.isclass(self.value):
            return "class"
        return "function" if inspect.unwrap(self.value).__class__.__name__ == "function" else "data"


def rooms() -> list[ModuleType]:
    """The public modules directly under the package."""
    names = (module.name for module in pkgutil.iter_modules(jaxtheory.__path__))
    found = (name for name in names if not name.startswith("_") and name not in NOT_FOR_IMPORT)
    return [importlib.import_module(f"jaxtheory.{name}") for name in found]


def listed(module: ModuleType) -> list[str]:
    """`__all__`, or what a module without it defines under a name without underscore."""
    if hasattr(module, "__all__"):
        return list(module.__all__)
    own = (name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__)
    return sorted(name for name in own if not name.startswith("_"))


def modules() -> Iterator[ModuleType]:
    """Rooms, each followed by the modules that it lists as public."""

    def below(module: ModuleType) -> Iterator[ModuleType]:
        yield module
        for name in listed(module):
            value = getattr(module, name)
            if inspect.ismodule(value) and value.__name__.startswith("jaxtheory."):
                yield from below(value)

    for room in rooms():
        yield from below(room)


def names(module: ModuleType) -> list[Public]:
    """What a module makes public, without its modules."""
    found = (Public(module.__name__, name, getattr(module, name)) for name in listed(module))
    return [public for public in found if not inspect.ismodule(public.value)]


def fields(value: object) -> list[str]:
    """Fields of a NamedTuple or dataclass, members of an Enum."""
    if inspect.isclass(value) and issubclass(value, enum.Enum):
        return list(value.__members__)
    return list(getattr(value, "_fields", getattr(value, "__dataclass_fields__", ())))
