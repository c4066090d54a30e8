"""The mathematics of deep learning, runnable: pure JAX functions, each checked against the theorem it states.

Rooms are imported when they are first named and touch no device until they are called:

>>> import jaxtheory
>>> jaxtheory.results.Status.OK.name
'OK'
"""

import importlib
import pkgutil
import types

from jaxtheory._compiler import choose_options

choose_options()

# The one place of the version: pyproject.toml reads this line, and a source tree knows it without installation.
__version__ = "0.1.0"

_ROOMS = tuple(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))


def __getattr__(name: str) -> types.ModuleType:
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; its rooms are {', '.join(_ROOMS)}")
    return importlib.import_module(f"{__name__}.{name}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_ROOMS})
