"""Two faults of one release of XLA, kept away before they make a number wrong or a program hang.

On the CPU, jaxlib 0.10.2 (the newest for Python 3.11) hands sums to a library that returns wrong values where a sum
follows a product of matrices and the arrays are large: `jit(vmap(lambda row: sum((m @ row) ** 2)))` of 32,769 rows is
0.8 % off, the Jacobian of a layer normalization before a dense layer 29 %. It also runs factorizations and triangular
solves of batches at the same time, and on few cores each waits for threads that the other holds: six lasso problems of
256 samples under `vmap` never end. Its older schedule, one after another, ends, and is no slower. Both are right in
0.10.1 and from 0.11.0 on. The compiler reads its options when JAX first uses a device, so that they must be set before.
"""

import os
import sys
import warnings
from importlib.metadata import distributions

_OPTIONS = {
    "--xla_cpu_experimental_ynn_fusion_type": "-reduce",
    "--xla_cpu_enable_concurrency_optimized_scheduler": "false",
}
_AFFECTED = any(found.version == "0.10.2" for found in distributions(name="jaxlib"))


def choose_options() -> None:
    """Set the options of XLA that keep both away, unless the user has chosen; warn where it comes too late."""
    flags = os.environ.get("XLA_FLAGS", "")
    ours = [f"{option}={value}" for option, value in _OPTIONS.items() if option not in flags]
    if not _AFFECTED or not ours:
        return
    os.environ["XLA_FLAGS"] = " ".join([flags, *ours]).strip()
    if _device_was_used():
        warnings.warn(
            "jaxlib 0.10.2 computes some sums wrongly on the CPU and may hang on batches of factorizations, "
            "and JAX had used a device before jaxtheory was imported; import jaxtheory first, set "
            f'XLA_FLAGS="{" ".join(ours)}", or install another jaxlib.',
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
