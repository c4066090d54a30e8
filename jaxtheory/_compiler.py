"""A fault of one release of XLA, kept away before it makes a number wrong.

On the CPU, jaxlib 0.10.2 (the newest for Python 3.11) hands sums to a library that returns wrong values where a sum
follows a product of matrices and the arrays are large: `jit(vmap(lambda row: sum((m @ row) ** 2)))` of 32,769 rows is
0.8 % off, the Jacobian of a layer normalization before a dense layer 29 %. It is right in 0.10.1 and from 0.11.0 on.
The compiler reads its options when JAX first uses a device, so that they must be set before.
"""

import os
import sys
import warnings
from importlib.metadata import distributions

_OPTION = "--xla_cpu_experimental_ynn_fusion_type"
_AFFECTED = any(found.version == "0.10.2" for found in distributions(name="jaxlib"))


def keep_sums_right() -> None:
    """Switch these sums off by an option of XLA, unless the user has chosen one; warn where it comes too late."""
    flags = os.environ.get("XLA_FLAGS", "")
    if not _AFFECTED or _OPTION in flags:
        return
    os.environ["XLA_FLAGS"] = f"{flags} {_OPTION}=-reduce".strip()
    if _device_was_used():
        warnings.warn(
            "jaxlib 0.10.2 computes some sums wrongly on the CPU, and JAX had used a device before jaxtheory was "
            f"imported; import jaxtheory first, set XLA_FLAGS={_OPTION}=-reduce, or install another jaxlib.",
            RuntimeWarning,
            stacklevel=3,
        )


def _device_was_used() -> bool:
    """JAX refuses to change the number of CPU devices once it has used one; else it is put back."""
    jax = sys.modules.get("jax")
    if jax is None:
        return False
    now = jax.config.jax_num_cpu_devices
    try:
        jax.config.update("jax_num_cpu_devices", now + 2)
    except RuntimeError:
        return True
    jax.config.update("jax_num_cpu_devices", now)
    return False
