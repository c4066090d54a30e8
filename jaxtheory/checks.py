"""How the eager boundary says no: the argument, what it must be, what it was, and the mend."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np


def known(*values: Any) -> bool:
    """Whether the numbers can be looked at now: True outside `jit`, False for tracers and other hosts' arrays.

    >>> known(1.0), jax.jit(lambda x: x * known(x))(2.0)
    (True, Array(0., dtype=float32, weak_type=True))
    """
    leaves = jax.tree.leaves(values)
    return all(not isinstance(leaf, jax.core.Tracer) and getattr(leaf, "is_fully_addressable", True) for leaf in leaves)


def holds(predicate: Callable[..., Any], *values: Any) -> bool:
    """Whether `predicate(*values)` is true everywhere; True where the numbers cannot be looked at now.

    The predicate gets numpy arrays, since JAX would trace it inside somebody's `jit` or `shard_map`.

    >>> holds(lambda x: x > 0, np.array([1.0, -1.0])), jax.jit(lambda x: x * holds(lambda y: y > 0, x))(-2.0)
    (False, Array(-2., dtype=float32, weak_type=True))
    """
    return not known(*values) or bool(np.all(predicate(*map(np.asarray, values))))


def require(ok: bool, name: str, value: Any, requirement: str, mend: str) -> None:
    """Raise a `ValueError` that names the argument, its requirement, its value and the mend, unless `ok`.

    >>> require(False, "ridge", -0.001, "be >= 0 to define a regression", "use ridge=0.0 for the min-norm solution")
    Traceback (most recent call last):
    ValueError: ridge must be >= 0 ... got ridge=-0.001; use ridge=0.0 for the min-norm solution.
    """
    if not ok:
        raise ValueError(f"{name} must {requirement}, got {name}={value}; {mend}.")
