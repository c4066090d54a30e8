"""Every public function of every room has an entry in its room's table."""

import importlib
import inspect
import pkgutil
import pydoc
from pathlib import Path

import pytest

import jaxtheory

# lecture and figures are tested by what they draw; scripts, commands and interop by what they wrap
WITHOUT_NUMBERS = {
    "lecture",
    "figures",
    "interop",
    "checks",
    "conversion",
    "placement",
    "memory",
    "benchmark",
    "cli",
    "__main__",
    "_axes",
    "_lazy",
    "_compiler",
    "_host",
}
ROOMS = [m.name for m in pkgutil.iter_modules(jaxtheory.__path__) if m.name not in WITHOUT_NUMBERS]


def public_functions(module, prefix):
    """Names of the public functions of a module, and of the modules that it lists as public."""
    listed = getattr(module, "__all__", None)
    for name in listed or [name for name in vars(module) if not name.startswith("_")]:
        value = getattr(module, name)
        ours = (
            getattr(value, "__module__", "").startswith("jaxtheory") and callable(value) and not inspect.isclass(value)
        )
        if inspect.ismodule(value) and value.__name__.startswith("jaxtheory.") and listed:
            yield from public_functions(value, f"{prefix}.{name}")
        elif ours and (listed or value.__module__ == module.__name__):
            yield f"{prefix}.{name}", value


def entries():
    """The functions in all tables; a room may list a function of a lower room under its own name."""
    tables = [path.stem for path in Path(__file__).parent.glob("test_*.py") if path.stem != Path(__file__).stem]
    names = {entry.name for name in tables for entry in importlib.import_module(f"gates.{name}").ENTRIES}
    return {id(pydoc.locate(f"jaxtheory.{name}")) for name in names}


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_function_has_an_entry(room):
    expected = dict(public_functions(importlib.import_module(f"jaxtheory.{room}"), room))
    held = entries()
    missing = [name for name, function in expected.items() if id(function) not in held]
    assert expected
    assert not missing, missing
