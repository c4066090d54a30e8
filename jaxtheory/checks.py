"""How the eager boundary says no: the argument, what it must be, what it was, and the mend."""

from typing import Any

import jax


def known(*values: Any) -> bool:
    """Whether the numbers can be looked at now: True outside `jit`, False for tracers.

    >>> known(1.0), jax.jit(lambda x: x * known(x))(2.0)
    (True, Array(0., dtype=float32, weak_type=True))
    """
    return not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(values))


def require(ok: bool, name: str, value: Any, requirement: str, mend: str) -> None:
    """Raise a `ValueError` that names the argument, its requirement, its value and the mend, unless `ok`.

    >>> require(False, "ridge", -0.001, "be >= 0 to define a regression", "use ridge=0.0 for the min-norm solution")
    Traceback (most recent call last):
    ValueError: ridge must be >= 0 ... got ridge=-0.001; use ridge=0.0 for the min-norm solution.
    """
    if not ok:
        raise ValueError(f"{name} must {requirement}, got {name}={value}; {mend}.")
