"""What identifies a Python value from one run to the next: its content, not its name, its `repr` or its address.

Arrays are their numbers, containers and objects their parts. A function is its bytecode, constants, defaults and
closed-over values, one of the user's the globals too that it names, also in modules of the user; a function that an
installed package has under its name is that name, so that an upgrade of the package does not change it.
"""

import collections
import copyreg
import functools
import hashlib
import importlib
import pathlib
import sys
import sysconfig
import types
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_OWN = frozenset({"jaxtheory", "jax", "jaxlib"})  # also where they are installed from a source tree
_PLAIN = (bool, int, float, complex, str, bytes, type(None), type(Ellipsis))


class NoContentError(TypeError):
    """A value that nothing lasting can be said about: a tracer, an open file, a lock, a bare `object()`."""


def digest(value: object, strict: bool = True) -> bytes:
    """SHA-256 of the content of a value.

    Args:
        value: any object; of a dataclass the fields that `==` compares, so not those with `compare=False`.
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

    def read(self, value: object) -> bytes:
        if isinstance(value, _PLAIN) and (type(value) in _PLAIN or isinstance(value, np.generic)):
            return _hash(type(value).__name__, repr(value))
        found = self.known.get(id(value))
        if found is None:
            self.known[id(value)] = value, _hash("cycle", str(len(self.known)))
            found = self.known[id(value)] = value, self._read(value)
        return found[1]

    def _read(self, value: Any) -> bytes:
        if isinstance(value, (np.ndarray, np.generic)):
            return self._host_array(value)
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
            hidden = str(value).endswith("(vectorized)'>")  # of np.frompyfunc, which does not show its function
            return self._nothing(value) if hidden else _hash("numpy", str(value))
        if isinstance(value, weakref.ReferenceType):
            return _hash("reference", self.read(value()))
        if isinstance(value, property):
            return _hash("property", self._parts((value.fget, value.fset, value.fdel)))
        if isinstance(value, functools.cached_property):
            return _hash("property", self.read(value.func))
        if _has_a_lasting_name(value):
            return _hash("named", value.__module__ or "builtins", value.__qualname__)
        return self._object(value)

    def _host_array(self, value: np.ndarray | np.generic) -> bytes:
        """An array's numbers; of a masked one where they are valid too, and the attributes that a subclass adds."""
        plain = self._array(np.asarray(value))
        if isinstance(value, np.ma.MaskedArray):
            return _hash("masked", plain, self._array(np.ma.getmaskarray(value)))
        if type(value) is np.ndarray or isinstance(value, np.generic):
            return plain
        return _hash("array", self.read(type(value)), plain, self.read(dict(_attributes(value))))

    def _array(self, array: np.ndarray) -> bytes:
        kind = array.dtype.str if array.dtype.names is None else str(array.dtype)
        if array.dtype.hasobject:
            head = () if array.dtype.names is None else (kind,)
            return _hash("array", *head, str(array.shape), self._parts(array.ravel().tolist()))
        little = array.astype(array.dtype.newbyteorder("<")) if array.dtype.kind in "iufcmM" else array
        kind = little.dtype.str if array.dtype.names is None else kind
        return _hash("array", kind, str(array.shape), np.ascontiguousarray(little).tobytes())

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
        cells, named, known = [_cell(cell) for cell in function.__closure__ or ()], {}, function.__globals__
        if _is_library(known.get("__name__")):  # not `__module__`, which wrappers copy from what they wrap
            cells = ["sentinel" if type(cell) is object else cell for cell in cells]  # "no name", as in jax.vmap
        else:
            named = _looked_up(_names(function.__code__), known)
        own = (function.__defaults__, function.__kwdefaults__, cells, sorted(named.items()))
        content = _hash("function", self._code(function.__code__, function.__doc__), self._parts(own))
        # a point may count its calls in an attribute; a static value's attributes are part of it
        given = {name: part for name, part in vars(function).items() if self.strict and not _dunder(name)}
        return _hash("function", content, self.read(given)) if given else content

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

    def _object(self, value: object) -> bytes:
        kind = self.read(type(value))
        if isinstance(value, (dict, types.MappingProxyType, set, frozenset, tuple, list, *_PLAIN)):
            content, more = self._container(value, kind), _attributes(value)
            return _hash("object", content, self.read(more)) if more else content
        if isinstance(value, pathlib.PurePath):
            return _hash("path", kind, str(value))
        if is_dataclass(value):
            state = [(field.name, getattr(value, field.name, None)) for field in fields(value) if field.compare]
            return _hash("object", kind, self._parts(state))
        if isinstance(value, functools.partial):
            return _hash("partial", self._parts((value.func, value.args, value.keywords)))
        if hasattr(value, "__wrapped__"):  # jit, custom_jvp with its rule, lru_cache, ...
            more = {name: part for name, part in _attributes(value).items() if not _dunder(name)}
            return _hash("wrapped", kind, self.read(value.__wrapped__), *([self.read(more)] if more else []))
        return self._state(value, kind)

    def _container(self, value: object, kind: bytes) -> bytes:
        """The parts of a container, or the number or text of a subclass of a plain type."""
        if isinstance(value, (dict, types.MappingProxyType)):
            pairs = [(self.read(key), self.read(part)) for key, part in value.items()]
            pairs = pairs if isinstance(value, collections.OrderedDict) else sorted(pairs)
            factory = [self.read(value.default_factory)] if isinstance(value, collections.defaultdict) else []
            return _hash("mapping", kind, *(half for pair in pairs for half in pair), *factory)
        if isinstance(value, (set, frozenset)):
            return _hash("set", kind, *sorted(map(self.read, value)))
        if isinstance(value, (tuple, list)):
            return _hash("sequence", kind, self._parts(value))
        base: Any = next(plain for plain in _PLAIN if isinstance(value, plain))
        return _hash(type(value).__name__, kind, base.__repr__(value))

    def _state(self, value: object, kind: bytes) -> bytes:
        """Attributes where there are some, and what pickle would take apart where they do not say all."""
        state = _attributes(value)
        if state and not _holds_more(type(value)):
            return _hash("object", kind, self.read(state))
        if type(value) is object:
            return self._nothing(value)
        try:
            taken = copyreg.dispatch_table.get(type(value))
            reduced: Any = value.__reduce_ex__(4) if taken is None else taken(value)
            _, arguments, *rest = (None, reduced) if isinstance(reduced, str) else reduced
        except Exception:  # whatever a type raises that does not take itself apart
            return _hash("object", kind, self.read(state)) if state else self._nothing(value)
        parts = [arguments, *(list(part) if isinstance(part, types.GeneratorType) else part for part in rest[:1])]
        parts += [list(items) for items in rest[1:3] if items is not None]  # of a deque, or a mapping of its own
        return _hash("object", kind, self._parts(parts))

    def _parts(self, parts: Iterable[Any]) -> bytes:
        return _hash("parts", *map(self.read, parts))

    def _nothing(self, value: object) -> bytes:
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


def _looked_up(names: set[str], known: Mapping[str, Any]) -> dict[str, Any]:
    """The globals of these names, and what the user's modules among them have under these names."""
    found = {name: known[name] for name in names if name in known}
    for name, value in list(found.items()):
        if isinstance(value, types.ModuleType) and not _is_library(value.__name__):
            inner = _looked_up(names - {name}, vars(value))
            found |= {f"{name}.{attribute}": part for attribute, part in inner.items()}
    return found


def _attributes(value: object) -> dict[str, Any]:
    """What an object holds in slots and in its dictionary."""
    slots = {
        slot: getattr(value, slot) for base in type(value).__mro__ for slot in _slots(base) if hasattr(value, slot)
    }
    return slots | dict(getattr(value, "__dict__", {}))


def _slots(kind: type) -> list[str]:
    """The slots of a class, private ones under the names that Python gives them."""
    given = vars(kind).get("__slots__", ())
    slots = [given] if isinstance(given, str) else [slot for slot in given if slot not in ("__dict__", "__weakref__")]
    private = f"_{kind.__name__.lstrip('_')}"
    return [f"{private}{slot}" if slot.startswith("__") and not _dunder(slot) else slot for slot in slots]


def _holds_more(kind: type) -> bool:
    """Whether a type is built on one written in C that takes itself apart, as exceptions, dates and deques do."""
    owner = next(base for base in kind.__mro__ if {"__reduce__", "__reduce_ex__"} & vars(base).keys())
    own = [vars(owner).get(name) for name in ("__reduce__", "__reduce_ex__")]
    return owner is not object and any(isinstance(method, types.MethodDescriptorType) for method in own)


def _dunder(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def _has_a_lasting_name(value: object) -> bool:
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
