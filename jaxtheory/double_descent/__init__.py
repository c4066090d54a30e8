"""Double descent: what happens to least squares and to networks as their width passes the number of samples.

`width_path` solves min-norm or ridge regression exactly at every width of nested features; `isotropic` and
`mei_montanari` are the exact risks in the proportional limit, which say what the curve must be.

>>> import jax
>>> import jax.numpy as jnp
>>> a, t = jax.random.normal(jax.random.key(0), (10, 30)), jax.random.normal(jax.random.key(1), (5, 30))
>>> width_path(a, a.sum(axis=1), t, t.sum(axis=1), widths=jnp.array([5, 10, 30])).test_mse.shape
(3,)
>>> f"{isotropic(0.5, signal=1.0, noise=0.25, lam=0.1).excess:.4f}"
'0.1768'
"""

from jaxtheory.double_descent.asymptotics import Asymptotics, isotropic, mei_montanari
from jaxtheory.double_descent.width_path import WidthPath, width_path

__all__ = ["Asymptotics", "WidthPath", "isotropic", "mei_montanari", "width_path"]
