"""Other libraries' kernels as kernel functions of ours, imported only when asked for.

>>> from jaxtheory.interop import neural_tangents
>>> import jax.numpy as jnp
>>> stax = neural_tangents.load().stax
>>> _, _, kernel_fn = stax.serial(stax.Dense(1, W_std=2**0.5, b_std=None), stax.Relu(), stax.Dense(1, b_std=None))
>>> kernel = neural_tangents.as_kernel(kernel_fn, "ntk")
>>> f"{kernel(jnp.array([[2.0, 0.0]]), jnp.array([[1.0, 1.0]]))[0, 0]:.4f}"
'1.8183'
"""

from jaxtheory.interop import neural_tangents

__all__ = ["neural_tangents"]
