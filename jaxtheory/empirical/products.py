"""NTK-vector products: each row of the kernel from one vector-Jacobian and one Jacobian-vector product."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from jaxtheory.empirical.outputs import Numbers, Spec, cotangents, widened
from jaxtheory.empirical.validation import Function
from jaxtheory.programs.forward import pushforward

Pull = Callable[[Array], PyTree]
Push = Callable[[PyTree], Array]


def tile(
    f: Function,
    params: PyTree,
    spec: Spec,
    numbers: tuple[Numbers, Numbers],
    x1: PyTree,
    x2: PyTree,
) -> Array:
    """The block [n1, k, n2, l] (or [n1, k, n2]) of the kernel, one example of x2 at a time.

    `numbers` are those of the directions of x1 and of x2 (None: all).
    Cost: n1·n2·o forward-mode passes; memory o·P and the forward pass of x1.
    """
    out, push = pushforward(lambda p: f(p, x1), params)
    left, right = (cotangents(spec, out.dtype, chosen) for chosen in numbers)

    def column(one: PyTree) -> Array:
        _, pull = jax.vjp(lambda p: f(p, jax.tree.map(lambda a: a[None], one))[0], params)
        return _contracted(spec, jax.vmap(lambda cotangent: push(pull(cotangent)[0]))(right), left)

    columns = jax.lax.map(column, x2)
    return columns.transpose(1, 2, 0) if spec.paired else columns.transpose(1, 2, 0, 3)


def whole_rows(f: Function, params: PyTree, spec: Spec, x1: PyTree, x2: PyTree, rows: Array, *, size: int) -> Array:
    """Rows [rows, k, n2, l] (or [rows, k, n2]) of the kernel of the function of the batch, J(x1) J(x2)ᵀ.

    Args:
        f, params: the function of a batch, whose examples may depend on one another.
        spec: the output directions.
        x1, x2: two batches.
        rows: indices of examples of x1.
        size: directions whose gradients are held at once.

    Cost: rows·o backward passes of x1 and forward-mode passes of x2; memory `size`·P and a forward pass of both.
    """
    first, pull = jax.vjp(lambda p: f(p, x1), params)
    _, push = pushforward(lambda p: f(p, x2), params)
    basis = cotangents(spec, first.dtype)

    def row(number: Array) -> Array:
        def one(cotangent: Array) -> Array:
            return push(pull(jnp.zeros_like(first).at[number].set(cotangent))[0])

        # the direction of the pulled side stands last
        found = _contracted(spec, jax.lax.map(one, basis, batch_size=size), basis)
        return found.T if spec.paired else found.transpose(2, 0, 1)

    return jax.lax.map(row, rows)


def _contracted(spec: Spec, moved: Array, basis: Array) -> Array:
    """From outputs [t l, n, *out] moved along gradients of directions: [n, k, l], or [n, k] where they are paired."""
    blocks = jnp.einsum(
        "dio,eo->die",
        widened(moved).reshape(*moved.shape[:2], -1),
        widened(basis).reshape(len(basis), -1),
        precision="highest",
    )
    shape = (spec.traced, spec.kept)
    blocks = blocks.reshape(*shape, moved.shape[1], *shape)
    return jnp.einsum("tkitk->ik" if spec.paired else "tlitk->ikl", blocks)
