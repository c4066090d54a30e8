"""Infinite-width kernels by averaging finite networks over independent initializations, with standard errors."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact, Key, PyTree

from jaxtheory import placement
from jaxtheory.checks import boundary, require
from jaxtheory.empirical.kernel import ntk
from jaxtheory.empirical.outputs import Output, widened
from jaxtheory.empirical.parts import is_complex
from jaxtheory.empirical.validation import Batch, Function, check_output, examples, require_function
from jaxtheory.results import standard_error


class Average(NamedTuple):
    """A kernel averaged over initializations; both fields [n1, n2] (or what `output` gives)."""

    kernel: Inexact[Array, "n1 n2 *outputs"]
    standard_error: Float[Array, "n1 n2 *outputs"]


@boundary(static=("samples",))
@placement.automatic
def nngp(
    init: Callable[[Array], PyTree],
    f: Function,
    x1: PyTree,
    x2: PyTree | None,
    key: Key[Array, ""],
    samples: int,
) -> Average:
    """Covariance of the outputs over initializations, E[f_k(x) f_k(x')], averaged over the outputs k.

    Of complex outputs E[f_k(x) conj f_k(x')].

    Args:
        init: key -> params, outputs of mean zero.
        f: f(params, x) -> [n, *out]; independent outputs all count, so wide outputs are cheap samples.
        x1, x2: n1 and n2 examples; x2=None means x1.
        key: of the initializations.
        samples: initializations, at least 2; the error falls as samples^(−1/2).

    Raises:
        ValueError: fewer than two samples; an f that returns no array of floats with the examples first.

    Cost: `samples` forward passes, vmapped; memory `samples` · n · o.

    >>> found = nngp(lambda key: jax.random.normal(key, (2, 1)), lambda w, x: x @ w, jnp.eye(2), None,
    ...              jax.random.key(0), 1000)
    >>> bool((abs(found.kernel - jnp.eye(2)) <= 4 * found.standard_error).all())
    True
    """
    x1, x2 = examples("x1", x1), None if x2 is None else examples("x2", x2)
    params = _drawn(init, f, key)
    for name, x in (("x1", x1), ("x2", x2)):
        if x is not None:
            check_output(f, params, x, name, real=False)

    @jax.default_matmul_precision("highest")
    def one(key: Array) -> Array:
        params = init(key)
        first = widened(f(params, x1))
        second = first if x2 is None else widened(f(params, x2))
        flat1, flat2 = (y.reshape(len(y), -1) for y in (first, second))
        return jnp.einsum("io,jo->ij", flat1, flat2.conj(), precision="highest") / flat1.shape[1]

    return _average(one, key, samples)


@boundary(static=("samples",))
@placement.automatic
def mean_ntk(
    init: Callable[[Array], PyTree],
    f: Function,
    x1: PyTree,
    x2: PyTree | None,
    key: Key[Array, ""],
    samples: int,
    *,
    output: Output = "trace",
    batch: Batch = "each",
) -> Average:
    """The empirical tangent kernel averaged over initializations.

    Args:
        init, key, samples: as in `nngp`.
        f, x1, x2, output, batch: as in `ntk`.

    Raises:
        ValueError: as `ntk`; fewer than two samples.

    Cost: `samples` kernels, vmapped; memory `samples` times that of one.

    >>> found = mean_ntk(lambda key: jax.random.normal(key, (2, 1)), lambda w, x: x @ w, jnp.eye(2), None,
    ...                  jax.random.key(0), 2)
    >>> print(found.kernel)
    [[1. 0.]
     [0. 1.]]
    """
    _drawn(init, f, key)
    method = "auto" if batch == "whole" else "structured"
    return _average(lambda key: ntk(f, init(key), x1, x2, output=output, method=method, batch=batch), key, samples)


def _drawn(init: Callable[[Array], PyTree], f: Function, key: Array) -> PyTree:
    """Shapes of the parameters that `init` draws."""
    require_function(f)
    try:
        return jax.eval_shape(init, key)
    except Exception as error:
        told = f"{type(error).__name__} for a key"
        raise ValueError(f"init must map a key to params, got {told}; pass net.init, or bind its inputs.") from error


def _average(one: Callable[[Array], Array], key: Array, samples: int) -> Average:
    require(samples >= 2, "samples", samples, "be >= 2 for a standard error", "draw more initializations")
    draws = jax.vmap(one)(jax.random.split(key, samples))
    error = standard_error(draws.real)
    if is_complex(draws):
        error = jnp.hypot(error, standard_error(draws.imag))
    return Average(draws.mean(0), error)
