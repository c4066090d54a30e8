"""How the eager boundary says no: the argument, what it must be, what it was, and the mend."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def known(*values: Any) -> bool:
    """Whether the numbers can be looked at now: True outside `jit`, False for tracers.

    >>> known(1.0), jax.jit(lambda x: x * known(x))(2.0)
    (True, Array(0., dtype=float32, weak_type=True))
    """
    return not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(values))


def holds(predicate: Callable[..., Any], *values: Any) -> bool:
    """Whether `predicate(*values)` is true everywhere; True where the numbers cannot be looked at now.

    Works on constants inside somebody's `jit`, too, where plain operations on them would be traced.

    >>> holds(lambda x: x > 0, jnp.array([1.0, -1.0])), jax.jit(lambda x: x * holds(lambda y: y > 0, x))(-2.0)
    (False, Array(-2., dtype=float32, weak_type=True))
    """
    if not known(*values):
        return True
    with jax.ensure_compile_time_eval():
        return bool(jnp.all(predicate(*map(jnp.asarray, values))))


def require(ok: bool, name: str, value: Any, requirement: str, mend: str) -> None:
    """Raise a `ValueError` that names the argument, its requirement, its value and the mend, unless `ok`.

    >>> require(False, "ridge", -0.001, "be >= 0 to define a regression", "use ridge=0.0 for the min-norm solution")
    Traceback (most recent call last):
    ValueError: ridge must be >= 0 ... got ridge=-0.001; use ridge=0.0 for the min-norm solution.
    """
    if not ok:
        raise ValueError(f"{name} must {requirement}, got {name}={value}; {mend}.")
