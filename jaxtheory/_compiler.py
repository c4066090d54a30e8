"""A fault of one release of XLA, kept away before it makes a number wrong.

On the CPU, jaxlib 0.10.2 (the newest for Python 3.11) hands sums to a library that returns wrong values where a sum
follows a product of matrices and the arrays are large: `jit(vmap(lambda row: sum((m @ row) ** 2)))` of 32,769 rows is
0.8 % off, the Jacobian of a layer normalization before a dense layer 29 %. It is right in 0.10.1 and from 0.11.0 on.
The compiler reads its options when JAX first uses a device, so that they must be set before.
"""

import os
import warnings
from importlib.metadata import distributions

_OPTION = "--xla_cpu_experimental_ynn_fusion_type"
_AFFECTED = any(found.version == "0.10.2" for found in distributions(name="jaxlib"))
_pending = _AFFECTED


def keep_sums_right() -> None:
    """Switch these sums off by an option of XLA, unless the user has chosen one."""
    flags = os.environ.get("XLA_FLAGS", "")
    if _AFFECTED and _OPTION not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {_OPTION}=-reduce".strip()


def warn_if_late() -> None:
    """Once, at the first call of a public function: warn if JAX had used a device before the option was set."""
    global _pending
    if not _pending:
        return
    _pending = False
    import jax  # not on top: `import jaxtheory` alone does not load JAX
    import jax.numpy as jnp

    shapes = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((40_000, 3), (3, 3)))
    program = jax.jit(lambda x, m: jnp.sum((x @ m) ** 2, axis=1)).lower(*shapes).compile().as_text()
    # a sum in the library's hands, not the product alone
    if any("= f32[40000]{0} fusion(" in line and "__ynn_fusion" in line for line in (program or "").splitlines()):
        warnings.warn(
            "jaxlib 0.10.2 computes some sums wrongly on the CPU, and JAX had used a device before jaxtheory was "
            f"imported; import jaxtheory first, set XLA_FLAGS={_OPTION}=-reduce, or install another jaxlib.",
            RuntimeWarning,
            stacklevel=3,
        )
