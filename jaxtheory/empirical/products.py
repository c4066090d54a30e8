"""NTK-vector products: each column of the kernel from one vector-Jacobian and one Jacobian-vector product."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from jaxtheory.empirical.outputs import Spec, cotangents


def tile(f: Callable[..., Any], params: PyTree, spec: Spec, x1: Any, x2: Any) -> Array:
    """The block [n1, k, n2, l] (or [n1, k, n2]) of the kernel, one example of x2 at a time.

    Cost: n1·n2·o forward-mode passes; memory o·P and the forward pass of x1.
    """
    out, push = jax.linearize(lambda p: f(p, x1), params)
    basis = cotangents(spec, out.dtype)
    shape = (spec.traced, spec.kept)

    def column(one: Any) -> Array:
        _, pull = jax.vjp(lambda p: f(p, jax.tree.map(lambda a: a[None], one))[0], params)
        moved = jax.vmap(lambda cotangent: push(pull(cotangent)[0]))(basis)
        blocks = jnp.einsum(
            "dio,eo->die", moved.reshape(*moved.shape[:2], -1), basis.reshape(len(basis), -1), precision="highest"
        )
        blocks = blocks.reshape(*shape, len(out), *shape)
        return jnp.einsum("tkitk->ik" if spec.paired else "tlitk->ikl", blocks)

    columns = jax.lax.map(column, x2)
    return columns.transpose(1, 2, 0) if spec.paired else columns.transpose(1, 2, 0, 3)
