"""Kernels and the features that approximate them: whoever made the kernel, what follows from it is here.

- random features: `random_features`, nested in the width, and their `feature_weights`

>>> import jax, jax.numpy as jnp
>>> from jaxtheory import kernels
>>> x = jax.random.normal(jax.random.key(0), (3, 10))
>>> z = kernels.random_features(x, 4096, jax.random.key(1), activation="cos")
>>> gaussian = jnp.exp(-jnp.sum((x[0] - x[1]) ** 2) / (2 * 10))
>>> bool(abs(z[0] @ z[1] / 4096 - gaussian) < 5 / 4096**0.5)
True
"""

from jaxtheory.kernels.features import FeatureWeights, feature_weights, random_features

__all__ = ["FeatureWeights", "feature_weights", "random_features"]
