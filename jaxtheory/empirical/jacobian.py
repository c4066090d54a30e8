"""Jacobian contraction: the explicit Jacobian of every example, contracted leaf by leaf."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from jaxtheory.empirical.outputs import Numbers, Spec, cotangents, widened
from jaxtheory.empirical.structured import inner
from jaxtheory.empirical.validation import Function


def prepare(f: Function, params: PyTree, spec: Spec, numbers: Numbers, x: PyTree) -> list[Array]:
    """Jacobians of every example along the directions `numbers` (None: all), one [n, t, k, entries] array a leaf.

    Cost: n·o backward passes; n·o·P numbers.
    """

    def example(one: PyTree) -> list[Array]:
        out, pull = jax.vjp(lambda p: f(p, jax.tree.map(lambda a: a[None], one))[0], params)
        rows = jax.vmap(pull)(cotangents(spec, out.dtype, numbers))[0]
        return [widened(row).reshape(spec.traced, spec.kept, -1) for row in jax.tree.leaves(rows)]

    return jax.vmap(example)(x)


def pair(spec: Spec, first: list[Array], second: list[Array]) -> Array:
    """Σ_p J1 J2, [n1, k, n2, l] (or [n1, k, n2]). Cost: n1·n2·o²·P flops."""
    return jax.tree.reduce(jnp.add, [inner(spec, j1, j2) for j1, j2 in zip(first, second, strict=True)])
