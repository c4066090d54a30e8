"""Gradients of every example under one random projection: features whose inner products estimate the tangent kernel."""

import math
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact, Key, PyTree

from jaxtheory import placement
from jaxtheory.checks import boundary, require
from jaxtheory.empirical import parts
from jaxtheory.empirical.validation import Batch, Function, prepared

_DRAWN = 2**22  # signs that are drawn at once


@boundary(static=("size",))
@placement.automatic
@jax.default_matmul_precision("highest")
def projected_gradients(
    f: Function,
    params: PyTree,
    x: PyTree,
    *,
    size: int,
    key: Key[Array, ""],
    batch: Batch = "each",
    memory: float = 2.0**28,
) -> Inexact[Array, "n *outputs size"]:
    r"""φ_k(x) = size^(−1/2) S ∂f_k(x)/∂θ with S [size, P] of random signs, for every example and output.

    Inner products of features are the tangent kernel in the mean over S:

        E φ_k(x)·φ_l(x') = Θ(x, x')_kl,   variance at most (Θ(x, x)_kk Θ(x', x')_ll + Θ(x, x')_kl²) / size

    so one pass over a data set leaves rows of `size` numbers instead of P, from which kernels, nearest neighbours and
    attributions are products of matrices. Features from the same key, size and shapes of params belong together,
    whatever the examples and the memory. Complex outputs have complex features: E φ_k(x)·conj φ_l(x') = Θ(x, x')_kl.

    Args:
        f, params, batch: as in `ntk`; for attributions f is the loss or the margin of an example. "whole" has no
            examples of its own and is refused.
        x: n examples, an array or a pytree of arrays with examples first.
        size: features of an output, ≥ 1.
        key: of the signs.
        memory: bytes for gradients of a block of examples beside the result.

    Raises:
        ValueError: as `ntk`; a size below 1; a memory that is not positive.

    Points of `sweeps.run` over blocks of examples, with one key, keep the features of a large data set on disk.

    Cost: n backward passes an output, 2 n o P size flops, and P·size signs drawn once a block of examples. Memory:
    the result, `memory` (or the gradients of one example, if those are more), and 2^22 signs.
    Source: Johnson and Lindenstrauss (1984); Achlioptas (2003); Park et al. (2023), TRAK, section 3.2.

    >>> f = lambda w, x: x @ w
    >>> features = projected_gradients(f, jnp.ones((2, 1)), jnp.eye(2), size=4000, key=jax.random.key(0))
    >>> print((features[:, 0] @ features[:, 0].T).round(1) + 0.0)
    [[1. 0.]
     [0. 1.]]
    """
    require(size >= 1, "size", size, "be >= 1", "keep at least one feature")
    require(isinstance(memory, (int, float)) and memory > 0, "memory", memory, "be positive", "pass bytes, e.g. 2**28")
    require(batch != "whole", "batch", batch, "be 'each' or 'unchecked'", "the whole batch has no gradient an example")
    f, params, x, _ = prepared(f, params, x, None, batch, name="x", real=False)
    out = jax.eval_shape(f, params, x)
    complexes = parts.is_complex(out)
    if complexes:
        f = parts.Stacked(f)
        out = jax.eval_shape(f, params, x)
    gradient = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(params))
    rows = int(min(max(memory / (gradient * math.prod(out.shape[1:])), 1), out.shape[0]))
    features = _projected(f, params, x, key, size, rows)
    return jax.lax.complex(features[..., 0, :], features[..., 1, :]) if complexes else features


@partial(jax.jit, static_argnames=("f", "size", "rows"))
def _projected(f: Function, params: PyTree, x: PyTree, key: Array, size: int, rows: int) -> Array:
    def block(part: PyTree) -> Array:
        gradients = jax.vmap(lambda one: jax.jacrev(lambda p: f(p, jax.tree.map(lambda a: a[None], one))[0])(params))(
            part
        )
        leaves = jax.tree.leaves(params)
        total = sum(
            _of_leaf(grad.reshape(*grad.shape[: grad.ndim - leaf.ndim], -1), jax.random.fold_in(key, number), size)
            for number, (grad, leaf) in enumerate(zip(jax.tree.leaves(gradients), leaves, strict=True))
        )
        return jnp.asarray(total)

    n = len(jax.tree.leaves(x)[0])
    count = -(-n // rows)
    if count == 1:
        return block(x) / size**0.5
    # the last block is filled up with copies of the last example
    index = jnp.minimum(jnp.arange(count * rows), n - 1).reshape(count, rows)
    found = jax.lax.map(lambda i: block(jax.tree.map(lambda a: a[i], x)), index)
    return found.reshape(-1, *found.shape[2:])[:n] / size**0.5


def _of_leaf(gradient: Array, key: Array, size: int) -> Array:
    """[..., entries] times random signs [entries, size], drawn a chunk of entries at a time."""
    entries = gradient.shape[-1]
    chunk = min(max(_DRAWN // size, 1), entries)
    signs = lambda number: jax.random.rademacher(jax.random.fold_in(key, number), (chunk, size), gradient.dtype)  # noqa: E731
    if chunk == entries:
        return jnp.matmul(gradient, signs(0))
    count = -(-entries // chunk)
    padded = jnp.pad(gradient, [(0, 0)] * (gradient.ndim - 1) + [(0, count * chunk - entries)])

    def add(total: Array, number: Array) -> tuple[Array, None]:
        part = jax.lax.dynamic_slice_in_dim(padded, number * chunk, chunk, axis=-1)
        return total + jnp.matmul(part, signs(number)), None

    zero = jnp.zeros((*gradient.shape[:-1], size), gradient.dtype)
    return jax.lax.scan(add, zero, jnp.arange(count))[0]
