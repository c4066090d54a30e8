"""The digits, four kernels of them, and what the theory needs of each: its spectrum and the target in its modes."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxtheory import data, empirical, kernels

NAMES = ("Laplace", "arc-cosine", "NTK", "finite NTK")
_CLASSES = 10


class Population(NamedTuple):
    """Images of norm 1, and their centred one-hot labels, scaled so that predicting the mean has error 1."""

    x: Array
    y: Array

    @classmethod
    def of(cls, config: Any) -> "Population":
        split = data.mnist5k(train=config.images, dtype="float64" if config.x64 else "float32")
        targets = data.one_hot(split.y, _CLASSES, dtype=split.x.dtype)
        targets = targets - targets.mean(axis=0, keepdims=True)
        x = split.x / jnp.linalg.norm(split.x, axis=1, keepdims=True)
        return cls(x, targets / jnp.sqrt((targets**2).sum(axis=1).mean()))


def kernel_functions(config: Any) -> dict[str, Callable[..., Array]]:
    """The four kernels of the digits: two of the kernel room, and the NTK at infinite and at finite width.

    The network is v·relu(√2 W x)/√m with standard normal entries; its NTK is κ₁ + ⟨x, x'⟩ κ₀ at m = ∞.
    """
    first, second = jax.random.split(jax.random.key(config.seed))
    dtype = jnp.dtype("float64" if config.x64 else "float32")
    weights = jax.random.normal(first, (784, config.width), dtype), jax.random.normal(second, (config.width,), dtype)
    finite = empirical.kernel_fn(_network, weights)
    return dict(zip(NAMES, (kernels.laplace(1.0), kernels.arc_cosine(1), _relu_ntk, finite), strict=True))


def _network(weights: tuple[Array, Array], x: Array) -> Array:
    return jax.nn.relu(jnp.sqrt(2 / len(weights[1])).astype(x.dtype) * (x @ weights[0])) @ weights[1]


def _relu_ntk(x1: Array, x2: Array) -> Array:
    inner = jnp.matmul(x1, x2.T, precision="highest")
    return kernels.arc_cosine(1)(x1, x2) + inner * kernels.arc_cosine(0)(x1, x2)


@lru_cache(maxsize=1)
def modes(config: Any) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Of each kernel, eigenvalues of K/M, descending, and norms of the targets' coefficients, over the M images."""
    population = Population.of(config)
    return {name: _modes(kernel, population) for name, kernel in kernel_functions(config).items()}


def _modes(kernel: Callable[..., Array], population: Population) -> tuple[np.ndarray, np.ndarray]:
    values, vectors = jnp.linalg.eigh(kernels.gram(kernel, population.x))
    power = jnp.sum(jnp.matmul(vectors.T, population.y, precision="highest") ** 2, axis=1)
    count = len(population.x)
    return np.asarray(jnp.maximum(values[::-1], 0) / count), np.asarray(jnp.sqrt(power[::-1] / count))
