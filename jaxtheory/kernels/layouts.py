"""Two layouts of a tangent kernel whose outputs couple: a tensor [n m o o] and the matrix [n o, m o].

The rows of the matrix are those of targets [n o] raveled: row i o + a holds output a of example i.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxtheory.checks import boundary, require

__all__ = ["matrix_layout", "tensor_layout"]


@boundary
def matrix_layout(kernel: Float[Array, "n m o p"]) -> Float[Array, "rows columns"]:
    r"""The matrix M[i o + a, j p + b] = Θ[i, j, a, b] of a kernel [n m o p], as `empirical.ntk` returns it.

    It acts on raveled outputs [n o], and `tensor_layout` is its inverse. Every function of training dynamics accepts
    either layout.

    Args: kernel: Θ, examples first, then outputs.

    Raises ValueError for another number of axes. Cost: one copy.

    >>> matrix_layout(jnp.arange(4.0).reshape(1, 1, 2, 2))
    Array([[0., 1.],
           [2., 3.]], dtype=float32)
    """
    n, m, o, p = kernel.shape
    return jnp.transpose(kernel, (0, 2, 1, 3)).reshape(n * o, m * p)


@boundary(static=("outputs",))
def tensor_layout(kernel: Float[Array, "rows columns"], outputs: int) -> Float[Array, "n m o o"]:
    r"""The tensor Θ[i, j, a, b] = M[i o + a, j o + b] of a matrix [n o, m o]: the inverse of `matrix_layout`.

    Args:
        kernel: M, square or between two sets of examples.
        outputs: o ≥ 1, which divides both sizes.

    Raises ValueError where `outputs` does not divide the shape. Cost: one copy.

    >>> tensor_layout(jnp.ones((6, 4)), 2).shape
    (3, 2, 2, 2)
    """
    require(outputs >= 1, "outputs", outputs, "be at least 1", "count the outputs of the network")
    rows, columns = kernel.shape
    whole = rows % outputs == 0 and columns % outputs == 0
    require(whole, "outputs", outputs, f"divide both sizes of kernel, {kernel.shape}", "count the outputs")
    blocks = kernel.reshape(rows // outputs, outputs, columns // outputs, outputs)
    return jnp.transpose(blocks, (0, 2, 1, 3))


def coupled(name: str, kernel: Float[Array, "p q ..."], outputs: int) -> Float[Array, "rows columns"]:
    """A kernel [n m], [n o, m o] or [n m o o] as a matrix.

    >>> coupled("ntk_train", jnp.ones((3, 2, 2, 2)), 2).shape
    (6, 4)
    """
    action = "pass [n m], [n o, m o] or [n m o o]"
    require(kernel.ndim in (2, 4), name, f"shape {kernel.shape}", "have 2 or 4 axes", action)
    if kernel.ndim == 2:
        return kernel
    fits = kernel.shape[2:] == (outputs, outputs)
    require(fits, name, f"shape {kernel.shape}", f"end in ({outputs}, {outputs}), a pair of outputs", action)
    return matrix_layout(kernel)
