"""Double descent: what happens to least squares and to networks as their width passes the number of samples.

`width_path` solves min-norm or ridge regression exactly at every width of nested features; the asymptotic risks say
what the curve must be.

>>> import jax
>>> import jax.numpy as jnp
>>> a, t = jax.random.normal(jax.random.key(0), (10, 30)), jax.random.normal(jax.random.key(1), (5, 30))
>>> width_path(a, a.sum(axis=1), t, t.sum(axis=1), widths=jnp.array([5, 10, 30])).test_mse.shape
(3,)
"""

from jaxtheory.double_descent.width_path import WidthPath, width_path

__all__ = ["WidthPath", "width_path"]
