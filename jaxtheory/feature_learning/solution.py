"""What a solver of the feature-learning limit returns: estimates with standard errors, kernels and their movement."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, PyTree

from jaxtheory.results import Estimate


class Kernels(NamedTuple):
    r"""Kernels of n points and o outputs at each recorded time, [records ...].

    `features` is Φ^l = ⟨φ(h^l), φ(h^l)⟩, l = 1 … L, [records L n n]. `gradients` is G^l = ⟨g^l, g^l⟩ with
    g^l = γ0 N ∂f/∂h^l, [records L n·o n·o]. `tangent` is Σ_{l=0}^L G^{l+1} Φ^l, [records n·o n·o], the kernel of
    df/d(η t) = `tangent` (−∂ℓ/∂f). Each is an array, or an `Estimate`.
    """

    features: PyTree
    gradients: PyTree
    tangent: PyTree


class State(NamedTuple):
    """All that a run needs to go on: the groups of samples, on a leading axis."""

    groups: PyTree[Array]


class Solution(NamedTuple):
    """The course of training in the limit, at the recorded steps `times`.

    `predictions` and `test_predictions` are [records n ...]. `movement` is the change of each kernel since the start,
    right to the rounding of the kernel (about 32 ε of it): that of nearly lazy training, γ0² or less of the kernel, may
    be rounding in float32. Its standard errors are those of the differences. `fields` are samples of the
    pre-activations of each layer, [records L n fields]. `status` is OK, NOT_FINITE where training diverged,
    INVALID_INPUT, or ILL_CONDITIONED where the richness is so small that rounding decides the predictions.
    """

    times: Int[Array, " records"]
    predictions: Estimate
    test_predictions: Estimate | None
    kernels: Kernels
    movement: Kernels
    fields: Float[Array, "records L n fields"]
    state: State
    status: Int[Array, ""]


def estimates(groups: PyTree[Float[Array, "groups ..."]]) -> PyTree:
    """The same tree with each array's mean over its leading axis, and the mean's standard error √(Σ (x − x̄)²/R(R − 1)).

    Groups are added in order, so that the bits of one record do not depend on how many there are.
    """
    leaves, structure = jax.tree.flatten(groups)
    # all at once: a program of few operations compiles faster
    joined = jnp.concatenate([leaf.reshape(len(leaf), -1) for leaf in leaves], axis=1)
    count, zero = len(joined), jnp.zeros_like(joined[0])
    mean = lax.scan(lambda total, row: (total + row, None), zero, joined)[0] / count
    unit = jnp.max(jnp.abs(joined - mean[None]), axis=0, initial=0)
    unit = jnp.where(unit > 0, unit, jnp.ones_like(unit))
    squares = lax.scan(lambda total, row: (total + ((row - mean) / unit) ** 2, None), zero, joined)[0]
    error = unit * jnp.sqrt(squares / (count * (count - 1)))
    ends = np.cumsum([leaf[0].size for leaf in leaves])[:-1]
    parts = zip(jnp.split(mean, ends), jnp.split(error, ends), leaves, strict=True)
    return jax.tree.unflatten(
        structure, [Estimate(*(part.reshape(leaf.shape[1:]) for part in (m, e))) for m, e, leaf in parts]
    )


def moved(kernels: Kernels) -> Kernels:
    """The change since the first record, for arrays [groups records ...]."""
    return Kernels(*(kernel - kernel[:, :1] for kernel in kernels))


def tangent_kernel(outputs: int, features: list[Array], gradients: list[Array]) -> Float[Array, "no no"]:
    """Σ_l G^(l+1) Φ^l over all layers of weights, l = 0 … L, where G^(L+1) is 1 for equal outputs."""
    block = jnp.ones((outputs, outputs), features[0].dtype)
    last = jnp.kron(features[-1], jnp.eye(outputs, dtype=block.dtype))
    hidden = zip(features[:-1], gradients, strict=True)
    return last + sum(jnp.kron(feature, block) * gradient for feature, gradient in hidden)
