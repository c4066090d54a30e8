r"""The tangent kernel as an operator, never formed: Θv by one vector-Jacobian and one Jacobian-vector product.

Vectors are shaped like the outputs, [n, *out], and Θv = J(Jᵀv). What takes a matrix-vector product takes this operator:
`trace`, `diagonal`, `top_eigenpairs` and `spectral_density` of `spectra`, conjugate gradients.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, PyTree

from jaxtheory import placement
from jaxtheory.checks import boundary, quantity, require
from jaxtheory.empirical import parts
from jaxtheory.empirical.validation import Batch, Function, prepared
from jaxtheory.programs.forward import pushforward

Operator = Callable[[Array], Array]


@boundary
@placement.automatic
@jax.default_matmul_precision("highest")
def ntk_operator(
    f: Function, params: PyTree, x: PyTree, *, batch: Batch = "each", mesh: Mesh | None = None
) -> Operator:
    """v ↦ Θ(x, x) v = J Jᵀ v, v of the shape of f's outputs; linear, symmetric, positive semidefinite, differentiable.

    Complex outputs have Θ v = J Jᴴ v, Hermitian and linear over complex v, by two such products.

    Args:
        f, params, x, batch: as in `ntk`, whose kernel this is the product with.
        mesh: examples, outputs and vectors are split over all its devices, a divisor of their number, and the
            parameters are whole on each; a product then sums P numbers, a gradient's, over the devices.

    Raises:
        ValueError: as `ntk`; a vector of another shape; a custom derivative rule that is not linear in the cotangent.

    Cost: a forward and a backward pass of f on all of x a product; memory that of one gradient.

    >>> theta = ntk_operator(lambda w, x: x @ w, jnp.ones((2, 1)), jnp.array([[1.0, 2.0], [3.0, 4.0]]))
    >>> print(theta(jnp.array([[1.0], [0.0]])).ravel())
    [ 5. 11.]
    """
    f, params, x, _ = prepared(f, params, x, None, batch, name="x", real=False)
    if mesh is not None:
        mesh = placement.line(mesh, "rows")
        placement.require_rows(len(jax.tree.leaves(x)[0]), "x", mesh)
        params, x = placement.whole(params, mesh), placement.split(x, mesh)
    out, push = pushforward(lambda p: f(p, x), params)
    pull = jax.linear_transpose(push, params)
    complexes = parts.is_complex(out)

    def product(v: Array) -> Array:
        v = v if complexes and jnp.iscomplexobj(v) else quantity("v", v, out.real.dtype)  # type: ignore[assignment]
        v = jnp.asarray(v).astype(out.dtype)
        require(v.shape == out.shape, "v", v.shape, f"have the shape of the outputs, {out.shape}", "reshape it")
        v = v if mesh is None else placement.split(v, mesh)
        if not complexes:
            return push(pull(v)[0])
        # pull(conj v) is the real part of Jᴴ v, and pull(conj(−i v)) the imaginary one
        return push(pull(v.conj())[0]) + 1j * push(pull((-1j * v).conj())[0])

    return placement.automatic(product)
