"""neural-tangents 0.6.5, the last release, on a JAX that it does not know.

It imports names that JAX has dropped, and TensorFlow for a front end of its own. It gets the former while it is
imported, and an empty module in place of the latter; afterwards JAX is as it was, for everybody.
"""

import contextlib
import functools
import importlib
import importlib.metadata
import importlib.util
import sys
import threading
import types
from collections.abc import Callable, Iterator
from typing import Any, Literal

import jax
import jax.extend.core
import jax.interpreters.ad
from jax.tree_util import Partial
from jaxtyping import Array, Float

from jaxtheory.checks import require

Kernel = Callable[..., Float[Array, "n1 n2"]]

_INSTALL = 'install it with pip install "jaxtheory[neural-tangents]", or pip install --no-deps neural-tangents==0.6.5'
_RELEASE = "0.6.5"
_LOCK = threading.Lock()
_STRUCTURED = (
    "neural-tangents 0.6.5's structured derivatives (implementation 3, and AUTO, which tries it) read jaxprs as JAX "
    "wrote them in 2023 and do not run on this JAX; use jaxtheory.empirical.ntk, which has structured derivatives, or "
    "implementation 1 or 2"
)


def load() -> types.ModuleType:
    """neural-tangents, imported once; TensorFlow is not, and JAX is left as it was.

    Its `stax` and `predict` work, and the empirical kernels by Jacobian contraction (implementation 1) and by
    NTK-vector products (2). Implementations 3 and 0 (which tries all) raise `NotImplementedError`, which says what to
    use instead. `neural_tangents.experimental`, the TensorFlow front end, is not there.

    Returns:
        The module; later calls return the same.

    Raises:
        ImportError: it is not installed, or is another release; the message says how to install it.

    Its functions mix dtypes and ranks: under strict promotion wrap their calls, as `as_kernel` does.
    Source: Novak et al. (2020), Neural Tangents: Fast and Easy Infinite Neural Networks in Python.

    >>> load().__name__
    'neural_tangents'
    """
    with _LOCK:
        return _load()


def as_kernel(kernel_fn: Callable[..., Any], get: Literal["nngp", "ntk"] = "ntk") -> Kernel:
    """A kernel function of neural-tangents as one of ours, `kernel(x1, x2) -> [n1 n2]`.

    Args:
        kernel_fn: the third of what its `stax` layers return, or what its `batch` or `monte_carlo_kernel_fn` return.
        get: which kernel.

    Returns:
        A function of x1 [n1 ...] and x2 [n2 ...], jittable, ready for `kernels.gram`. The same array twice is one
        argument to it, so that its diagonal is exact. Around the call strict promotion is relaxed, and products are
        taken at the highest precision.

    Raises:
        ValueError: `get` is neither.

    Cost: that of neural-tangents, which computes both triangles.

    >>> nt = load()
    >>> import jax.numpy as jnp
    >>> as_kernel(nt.stax.Dense(1)[2], "nngp")(jnp.ones((2, 3)), jnp.ones((1, 3))).shape
    (2, 1)
    """
    require(get in ("nngp", "ntk"), "get", repr(get), "be 'nngp' or 'ntk'", "ask for one kernel at a time")

    def kernel(x1: Float[Array, "n1 ..."], x2: Float[Array, "n2 ..."]) -> Float[Array, "n1 n2"]:
        relaxed = jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow")
        with relaxed[0], relaxed[1], jax.default_matmul_precision("highest"):
            return kernel_fn(x1, None if x1 is x2 else x2, get)

    return Partial(kernel)


@functools.cache
def _load() -> types.ModuleType:
    if importlib.util.find_spec("neural_tangents") is None:
        raise ImportError(f"neural-tangents is not installed; {_INSTALL}.")
    found = importlib.metadata.version("neural-tangents")
    if found != _RELEASE:
        raise ImportError(f"neural-tangents {found} is installed and {_RELEASE} is what is known here; {_INSTALL}.")
    with _missing_names():
        module = importlib.import_module("neural_tangents")
        empirical = importlib.import_module("neural_tangents._src.empirical")
    for implementation in (module.NtkImplementation.AUTO, module.NtkImplementation.STRUCTURED_DERIVATIVES):
        empirical._implementation_to_ntk_fn[implementation] = _structured
    return module


def _structured(*_: Any, **__: Any) -> None:
    raise NotImplementedError(f"{_STRUCTURED}.")


@contextlib.contextmanager
def _missing_names() -> Iterator[None]:
    """What neural-tangents imports and JAX no longer has; gone again afterwards, whatever happens.

    `jax.core` is replaced by a module of its own that falls back on it, which neural-tangents keeps; the real one is
    never written to.
    """
    real, core = jax.core, _core()
    added = [(jax.interpreters.ad, "zeros_like_p"), (jax.lax, "device_put_p")]
    added = [(module, name) for module, name in added if not hasattr(module, name)]
    modules = {"jax.core": core, "jax.util": _util(), "neural_tangents.experimental": types.ModuleType("experimental")}
    before = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    jax.core = core
    for module, name in added:
        setattr(module, name, None)
    try:
        yield
    finally:
        jax.core = real
        for module, name in added:
            delattr(module, name)
        for name, old in before.items():
            sys.modules.pop(name) if old is None else sys.modules.update({name: old})


def _core() -> types.ModuleType:
    """jax.core with the names that went to jax.extend.core, or away."""
    core = types.ModuleType("jax.core")
    vars(core).update({name: value for name, value in vars(jax.extend.core).items() if not name.startswith("_")})
    shapes = dict.fromkeys(("AbstractValue", "DShapedArray"), jax.core.ShapedArray)
    vars(core).update(shapes, Value=Any, eval_context=jax.ensure_compile_time_eval)
    vars(core).update({name: value for name, value in vars(jax.core).items() if not name.startswith("_")})
    return core


def _util() -> types.ModuleType:
    util = types.ModuleType("jax.util")
    vars(util).update(
        safe_map=lambda function, *lists: list(map(function, *lists)),
        safe_zip=lambda *lists: list(zip(*lists, strict=True)),
    )
    return util
