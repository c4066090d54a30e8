"""Monte Carlo of wide networks: the kernels of drawn networks, with standard errors."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxtheory.infinite.prior import named_leaves


class Measured(NamedTuple):
    """Means over draws and standard errors of the kernel of outputs and of the NTK of one output."""

    nngp: np.ndarray
    nngp_error: np.ndarray
    ntk: np.ndarray
    ntk_error: np.ndarray


def structs(shapes: Any, dtype: Any) -> Any:
    """Shapes as JAX wants them."""
    return jax.tree.map(lambda s: jax.ShapeDtypeStruct(s, dtype), shapes, is_leaf=lambda s: isinstance(s, tuple))


def draw(shapes: Any, prior: Any, key: Any, dtype: Any) -> Any:
    """Parameters from a prior."""
    leaves, tree = jax.tree.flatten(structs(shapes, dtype))
    rules = [prior(path, leaf.shape) for path, leaf in named_leaves(structs(shapes, dtype))]
    keys = jax.random.split(key, len(leaves))
    draws = [
        m.mean + m.variance**0.5 * jax.random.normal(k, leaf.shape, dtype)
        for m, leaf, k in zip(rules, leaves, keys, strict=True)
    ]
    return tree.unflatten(draws)


def measure(f: Callable, shapes: Any, prior: Any, x: Any, key: Any, draws: int, outputs: int) -> Measured:
    """Kernels of drawn networks with `outputs` outputs."""
    rules = [prior(path, leaf.shape) for path, leaf in named_leaves(structs(shapes, jnp.float32))]

    @jax.jit
    def one(key: Any) -> tuple[Any, Any]:
        params = draw(shapes, prior, key, jnp.float32)
        values = f(params, x)
        gradients = jax.vmap(lambda xi: jax.grad(lambda p: f(p, xi[None])[0, 0])(params))(x)
        flat = [g.reshape(len(x), -1) for g in jax.tree.leaves(gradients)]
        ntk = sum(float(m.weight) * (g @ g.T) for m, g in zip(rules, flat, strict=True))
        return values @ values.T / outputs, ntk

    found = [one(k) for k in jax.random.split(key, draws)]
    nngp, ntk = (np.stack([np.asarray(part[i], np.float64) for part in found]) for i in (0, 1))
    error = lambda a: a.std(0, ddof=1) / np.sqrt(draws)  # noqa: E731
    return Measured(nngp.mean(0), error(nngp), ntk.mean(0), error(ntk))
