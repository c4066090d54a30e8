"""Infinite-width kernels by averaging finite networks over independent initializations, with standard errors."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PyTree

from jaxtheory.checks import require
from jaxtheory.empirical.kernel import ntk
from jaxtheory.empirical.outputs import Output
from jaxtheory.results import standard_error


class Average(NamedTuple):
    """A kernel averaged over initializations; both fields [n1, n2] (or what `output` gives)."""

    kernel: Float[Array, "n1 n2 *outputs"]
    standard_error: Float[Array, "n1 n2 *outputs"]


def nngp(
    init: Callable[[Array], PyTree],
    f: Callable[[Any, Any], Any],
    x1: PyTree,
    x2: PyTree | None,
    key: Key[Array, ""],
    samples: int,
) -> Average:
    """Covariance of the outputs over initializations, E[f_k(x) f_k(x')], averaged over the outputs k.

    Args:
        init: key -> params, outputs of mean zero.
        f: f(params, x) -> [n, *out]; independent outputs all count, so wide outputs are cheap samples.
        samples: initializations, at least 2; the error falls as samples^(−1/2).

    Cost: `samples` forward passes, vmapped; memory `samples` · n · o.
    """

    @jax.default_matmul_precision("highest")
    def one(key: Array) -> Array:
        params = init(key)
        first = f(params, x1)
        second = first if x2 is None else f(params, x2)
        flat1, flat2 = (y.reshape(len(y), -1) for y in (first, second))
        return jnp.einsum("io,jo->ij", flat1, flat2, precision="highest") / flat1.shape[1]

    return _average(one, key, samples)


def mean_ntk(
    init: Callable[[Array], PyTree],
    f: Callable[[Any, Any], Any],
    x1: PyTree,
    x2: PyTree | None,
    key: Key[Array, ""],
    samples: int,
    output: Output = "trace",
) -> Average:
    """The empirical tangent kernel averaged over initializations.

    Cost: `samples` kernels, vmapped; memory `samples` times that of one.
    """
    return _average(lambda key: ntk(f, init(key), x1, x2, output=output, method="structured"), key, samples)


def _average(one: Callable[[Array], Array], key: Array, samples: int) -> Average:
    require(samples >= 2, "samples", samples, "be >= 2 for a standard error", "draw more initializations")
    draws = jax.vmap(one)(jax.random.split(key, samples))
    return Average(draws.mean(0), standard_error(draws))
