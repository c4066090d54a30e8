"""What identifies a Python value from one run to the next: its content, not its name, its `repr` or its address.

Arrays are their numbers, containers and objects their parts. A function is its bytecode, constants, defaults and
closed-over values, one of the user's the globals too that it names; a function that an installed package has under its
name is that name, so that an upgrade of the package does not change it.
"""

import copyreg
import functools
import hashlib
import importlib
import pathlib
import sys
import sysconfig
import types
import weakref
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_OWN = frozenset({"jaxtheory", "jax", "jaxlib"})  # also where they are installed from a source tree
_PLAIN = (bool, int, float, complex, str, bytes, type(None), type(Ellipsis))


class NoContentError(TypeError):
    """A value that nothing lasting can be said about: a tracer, an open file, a lock, a bare `object()`."""


def digest(value: Any, strict: bool = True) -> bytes:
    """SHA-256 of the content of a value.

    Args:
        value: any object; dataclass fields with `compare=False` are left out.
        strict: raise on what has no content; otherwise such parts count as their types.

    Raises:
        NoContentError: if `strict`.

    >>> digest([1, np.array([2.0])]) == digest([1, np.array([2.0])]) != digest([1, np.array([2])])
    True
    >>> digest(lambda x: x + 1) == digest(lambda y: y + 1) != digest(lambda x: x + 2)
    True
    """
    return _Reader(strict).read(value)


class _Reader:
    """One reading of a value; parts that are being read are known by their place, so that cycles end."""

    def __init__(self, strict: bool) -> None:
        self.strict = strict
        self.known: dict[int, tuple[Any, bytes]] = {}

    def read(self, value: Any) -> bytes:
        if isinstance(value, _PLAIN):
            return _hash(type(value).__name__, repr(value))
        found = self.known.get(id(value))
        if found is None:
            self.known[id(value)] = value, _hash("cycle", str(len(self.known)))
            found = self.known[id(value)] = value, self._read(value)
        return found[1]

    def _read(self, value: Any) -> bytes:
        if isinstance(value, (np.ndarray, np.generic)):
            return self._array(np.asarray(value))
        if isinstance(value, jax.Array):
            return self._device_array(value)
        if isinstance(value, types.FunctionType):
            return self._function(value)
        if isinstance(value, types.MethodType):
            return _hash("method", self.read(value.__func__), self.read(value.__self__))
        if isinstance(value, types.CodeType):
            return self._code(value, None)
        if isinstance(value, types.ModuleType):
            return _hash("module", value.__name__)
        if isinstance(value, type):
            return self._class(value)
        if isinstance(value, (np.dtype, np.ufunc)):
            return _hash("numpy", str(value))
        if isinstance(value, weakref.ReferenceType):
            return _hash("reference", self.read(value()))
        if _has_a_lasting_name(value):
            return _hash("named", value.__module__ or "builtins", value.__qualname__)
        return self._object(value)

    def _array(self, array: np.ndarray) -> bytes:
        if array.dtype.kind in "OUSTV" and array.dtype.names is None and array.dtype.hasobject:
            return _hash("array", str(array.shape), self._parts(array.ravel().tolist()))
        little = array.astype(array.dtype.newbyteorder("<")) if array.dtype.kind in "iufcmM" else array
        return _hash("array", little.dtype.str, str(array.shape), np.ascontiguousarray(little).tobytes())

    def _device_array(self, array: jax.Array) -> bytes:
        if isinstance(array, jax.core.Tracer):
            return self._nothing(array)
        if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
            return _hash("key", str(jax.random.key_impl(array)), self.read(jax.random.key_data(array)))
        if not array.is_fully_addressable:
            return _hash("global array", str(array.dtype), str(array.shape))
        return self._array(np.asarray(array))

    def _function(self, function: types.FunctionType) -> bytes:
        if _has_a_lasting_name(function):
            return _hash("named", function.__module__, function.__qualname__)
        cells, named = [_cell(cell) for cell in function.__closure__ or ()], {}
        if not _is_library(function.__module__):
            known = function.__globals__
            named = {name: known[name] for name in _names(function.__code__) if name in known}
        own = (function.__defaults__, function.__kwdefaults__, cells, sorted(named.items()))
        return _hash("function", self._code(function.__code__, function.__doc__), self._parts(own))

    def _code(self, code: types.CodeType, doc: str | None) -> bytes:
        """Bytecode and constants, without names of local variables, places in files and the documentation."""
        constants = [constant for constant in code.co_consts if constant != doc or doc is None]
        counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
        return _hash("code", code.co_code, str(counts), self._parts(code.co_names), self._parts(constants))

    def _class(self, kind: type) -> bytes:
        name = f"{kind.__module__}.{kind.__qualname__}"
        if _is_library(kind.__module__):
            return _hash("class", name)
        own = {key: value for key, value in vars(kind).items() if key not in _CLASS_NOISE}
        return _hash("class", name, self._parts(kind.__bases__), self._parts(sorted(own.items())))

    def _object(self, value: Any) -> bytes:
        kind = self.read(type(value))
        if isinstance(value, dict):
            pairs = [(self.read(key), self.read(part)) for key, part in value.items()]
            return _hash("mapping", kind, *(half for pair in sorted(pairs) for half in pair))
        if isinstance(value, (set, frozenset)):
            return _hash("set", kind, *sorted(map(self.read, value)))
        if isinstance(value, (tuple, list)):
            return _hash("sequence", kind, self._parts(value))
        if isinstance(value, pathlib.PurePath):
            return _hash("path", kind, str(value))
        if is_dataclass(value):
            state = [(field.name, getattr(value, field.name, None)) for field in fields(value) if field.compare]
            return _hash("object", kind, self._parts(state))
        if isinstance(value, functools.partial):
            return _hash("partial", self._parts((value.func, value.args, value.keywords)))
        if hasattr(value, "__wrapped__"):  # jit, custom_jvp, vmap, lru_cache, ...
            return _hash("wrapped", kind, self.read(value.__wrapped__))
        return self._state(value, kind)

    def _state(self, value: Any, kind: bytes) -> bytes:
        """Attributes where there are some, else what pickle would take apart."""
        slots = {
            name: getattr(value, name) for base in type(value).__mro__ for name in _slots(base) if hasattr(value, name)
        }
        state = slots | getattr(value, "__dict__", {})
        if state:
            return _hash("object", kind, self.read(dict(state)))
        if type(value) is object:
            return self._nothing(value)
        try:
            taken = copyreg.dispatch_table.get(type(value))
            reduced: Any = value.__reduce_ex__(4) if taken is None else taken(value)
            _, arguments, *rest = reduced
        except Exception:  # whatever a type raises that does not take itself apart
            return self._nothing(value)
        parts = [arguments, *(list(part) if isinstance(part, types.GeneratorType) else part for part in rest[:1])]
        return _hash("object", kind, self._parts(parts))

    def _parts(self, parts: Iterable[Any]) -> bytes:
        return _hash("parts", *map(self.read, parts))

    def _nothing(self, value: Any) -> bytes:
        if self.strict:
            raise NoContentError(f"a value of {type(value)} has no content that lasts")
        return _hash("nothing", type(value).__module__, type(value).__qualname__)


_CLASS_NOISE = frozenset(
    {"__module__", "__doc__", "__dict__", "__weakref__", "__qualname__", "__annotations__", "__firstlineno__",
     "__static_attributes__", "__abstractmethods__", "_abc_impl", "__dataclass_fields__", "__annotate_func__",
     "__annotations_cache__"}
)  # fmt: skip


def _hash(*parts: str | bytes) -> bytes:
    """SHA-256 of parts that cannot run into each other."""
    made = hashlib.sha256()
    for part in parts:
        raw = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        made.update(len(raw).to_bytes(8, "little"))
        made.update(raw)
    return made.digest()


def _cell(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet: a function that names itself, while it is defined
        return None


def _names(code: types.CodeType) -> set[str]:
    """Names that a function and the functions within it look up."""
    inner = (constant for constant in code.co_consts if isinstance(constant, types.CodeType))
    return set(code.co_names).union(*map(_names, inner))


def _slots(kind: type) -> tuple[str, ...]:
    slots = vars(kind).get("__slots__", ())
    return (
        (slots,) if isinstance(slots, str) else tuple(slot for slot in slots if slot not in ("__dict__", "__weakref__"))
    )


def _has_a_lasting_name(value: Any) -> bool:
    """Whether an installed package has the value under the name that it gives itself, as `jax.nn.relu`."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if isinstance(value, types.BuiltinFunctionType) and module is None:
        module = "builtins"
    if not (isinstance(module, str) and isinstance(name, str) and _is_library(module)):
        return False
    try:
        return functools.reduce(getattr, name.split("."), importlib.import_module(module)) is value
    except (ImportError, AttributeError):
        return False


@functools.cache
def _is_library(module: str | None) -> bool:
    """Whether a module belongs to Python, to an installed package or to this one."""
    top = (module or "").partition(".")[0]
    if top in _OWN or (top in sys.stdlib_module_names and top != "__main__"):
        return True
    file = getattr(sys.modules.get(top), "__file__", None)
    if file is None:
        file = next(iter(getattr(sys.modules.get(top), "__path__", ())), None)
    places = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    return file is not None and any(pathlib.Path(place) in pathlib.Path(file).parents for place in places)
