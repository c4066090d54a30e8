"""Infinite-width limits of networks as they are written: `limit(f, params, x, prior=...)`.

>>> import jax, jax.numpy as jnp
>>> f = lambda p, x: jnp.tanh(x @ p["in"]) @ p["out"]
>>> shapes = jax.eval_shape(lambda: {"in": jnp.ones((2, 64)), "out": jnp.ones((64, 1))})
>>> kernels = limit(f, shapes, jnp.ones((1, 2)), prior=prior.ntk())
>>> kernels.ntk(jnp.ones((3, 2))).shape
(3, 3)
"""

from jaxtheory.activations import duals
from jaxtheory.infinite import corrections, networks, phase, prior
from jaxtheory.infinite.errors import NoLimitError
from jaxtheory.infinite.monte_carlo import MonteCarlo
from jaxtheory.infinite.networks import attention, cnn, mlp, myrtle, resnet_mlp
from jaxtheory.infinite.prior import Moments
from jaxtheory.infinite.transform import Both, Estimate, Limit, limit

__all__ = [
    "Both",
    "Estimate",
    "Limit",
    "Moments",
    "MonteCarlo",
    "NoLimitError",
    "attention",
    "cnn",
    "corrections",
    "duals",
    "limit",
    "mlp",
    "myrtle",
    "networks",
    "phase",
    "prior",
    "resnet_mlp",
]
