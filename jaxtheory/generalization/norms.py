r"""Norms of a network that stand in its generalization bounds, and its margins.

All take the `Chain` of matrices A_1, …, A_L in the coordinates (x, 1). Layers are divided by powers of two first, so
that a network whose layers are rescaled has the same norms to the bit wherever they can be represented.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from jaxtheory.checks import boundary, holds, require
from jaxtheory.generalization.chain import Chain, matrices
from jaxtheory.guarded import norm, over, power_of_two, root


@boundary
def margins(outputs: Float[Array, "n classes"], y: Int[Array, " n"]) -> Float[Array, " n"]:
    r"""f(x)_y − max_{j≠y} f(x)_j, positive where the prediction is right.

    Args:
        outputs: f(x).
        y: labels in 0..classes−1.

    Returns:
        Margins; NaN where a label is out of range (inside jit).

    Raises:
        ValueError: fewer than two classes, another number of labels, or labels out of range (outside jit).

    >>> margins(jnp.array([[2.0, 0.5]]), jnp.array([0])).tolist()
    [1.5]
    """
    classes = outputs.shape[1]
    require(classes >= 2, "outputs", outputs.shape, "have at least two classes", "use one output a class")
    y = labels(y, len(outputs), classes)
    chosen = jnp.arange(classes, dtype=y.dtype)[None, :] == y[:, None]
    found = jnp.where(chosen, outputs, 0).sum(1) - jnp.where(chosen, -jnp.inf, outputs).max(1)
    return jnp.where((y >= 0) & (y < classes), found, jnp.nan)


def labels(y: Array, count: int, classes: int) -> Array:
    """Labels as int32.

    Raises:
        ValueError: another number of labels than of examples, or labels outside 0..classes−1 (outside jit).
    """
    require(y.shape == (count,), "y", y.shape, f"hold one label for each of {count} examples", "pair inputs and labels")
    within = holds(lambda v: (v >= 0) & (v < classes), y)
    require(within, "y", "labels out of range", f"hold labels within 0..{classes - 1}", "number the classes from 0")
    return y.astype(jnp.int32)


def share_wrong(margins: Float[Array, " n"]) -> Float[Array, ""]:
    """The share of examples without a positive margin; NaN where a margin is not finite."""
    share = (margins <= 0).astype(margins.dtype).mean()
    return jnp.where(jnp.isfinite(margins).all(), share, jnp.full_like(share, jnp.nan))


@boundary
def spectral_norms(net: Chain) -> Float[Array, " layers"]:
    """‖A_l‖_σ of each layer, convolutions by the operator that they are.

    Differentiable where the largest singular value is simple; otherwise along one of its singular vectors.
    Cost: the singular values of each layer; their vectors for derivatives.

    >>> spectral_norms((jnp.diag(jnp.array([3.0, 1.0])),)).tolist()
    [3.0]
    """
    return jnp.stack([_spectral_norm(matrix) for matrix in matrices("net", net)])


def _spectral_norm(matrix: Array) -> Array:
    unit = power_of_two(matrix)
    return _largest_singular_value(matrix / unit) * unit


@jax.custom_jvp
def _largest_singular_value(matrix: Array) -> Array:
    return jnp.linalg.norm(matrix, 2)


@_largest_singular_value.defjvp
def _largest_singular_value_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    return _largest_singular_value(primals[0]), jax.jvp(_from_fixed_vectors, primals, tangents)[1]


def _from_fixed_vectors(matrix: Array) -> Array:
    """The largest singular value as |A v| / |v|, v one step of perturbation theory from the right singular vector.

    The step makes v right to first order in a change of A, and the quotient, which is stationary in v, to third.
    """
    tall = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T
    _, values, rows = jnp.linalg.svd(lax.stop_gradient(tall), full_matrices=False)
    gaps = values[0] ** 2 - values**2
    apart = jnp.where(gaps > 100 * jnp.finfo(values.dtype).eps * values[0] ** 2, gaps, 0)
    product = lambda a, b: jnp.matmul(a, b, precision="highest")  # noqa: E731
    start = rows[0]
    moved = product(rows, product(tall.T, product(tall, start)))
    vector = start + product(rows.T, over(moved, apart))
    return norm(product(tall, vector)) / norm(vector)


@boundary
def frobenius_norms(net: Chain) -> Float[Array, " layers"]:
    """‖A_l‖_F of each layer. Cost: one pass over the weights.

    >>> frobenius_norms((jnp.ones((2, 2)),)).tolist()
    [2.0]
    """
    return jnp.stack([norm(matrix) for matrix in matrices("net", net)])


@boundary
def group_norms(net: Chain, reference: Chain | None = None) -> Float[Array, " layers"]:
    r"""‖(A_l − M_l)ᵀ‖_{2,1}: the sum over units of the length of their incoming weights, from the reference M_l.

    Args:
        net: A_1, …, A_L.
        reference: M_1, …, M_L of the same shapes; zero by default.

    Cost: one pass over the weights. Source: Bartlett, Foster, Telgarsky (2017), section 1.

    >>> group_norms((jnp.array([[3.0, 4.0], [0.0, 1.0]]),)).tolist()
    [6.0]
    """
    return jnp.stack([norm(gap, axis=1).sum() for gap in differences(net, reference)])


def differences(net: Chain, reference: Chain | None) -> list[Array]:
    """A_l − M_l."""
    net = matrices("net", net)
    if reference is None:
        return list(net)
    start = matrices("reference", reference)
    told, wanted = ([m.shape for m in chain] for chain in (start, net))
    require(told == wanted, "reference", told, f"have the shapes of net, {wanted}", "pass its initialization")
    return [matrix - initial for matrix, initial in zip(net, start, strict=True)]


@boundary
def spectral_complexity(net: Chain, reference: Chain | None = None) -> Float[Array, ""]:
    r"""R = Π ‖A_l‖_σ · (Σ (‖(A_l − M_l)ᵀ‖_{2,1} / ‖A_l‖_σ)^{2/3})^{3/2}, for 1-Lipschitz activations.

    Computed as (Σ_l (‖(A_l − M_l)ᵀ‖_{2,1} Π_{k≠l} ‖A_k‖_σ)^{2/3})^{3/2}, which is right where a layer is 0 as well.
    For chains without biases it does not change when a layer is scaled up and another down.

    Args:
        net: A_1, …, A_L.
        reference: M_1, …, M_L, fixed before the data is seen; zero by default.

    Returns:
        R ≥ 0; terms that are 0 have no derivative, and 0 is returned for it.

    Cost: the singular values of each layer. Source: Bartlett, Foster, Telgarsky (2017), equation 1.2.

    >>> f"{spectral_complexity((jnp.eye(2), jnp.eye(2))):.4f}"
    '5.6569'
    """
    terms, unit = _without_own(spectral_norms(net), group_norms(net, reference))
    powers = jnp.where(terms == 0, 0, jnp.where(terms == 0, 1, terms) ** (2 / 3))
    total = powers.sum()
    return _times(jnp.where(total == 0, 0, jnp.where(total == 0, 1, total) ** 1.5), unit)


@boundary
def weight_ratio(net: Chain, reference: Chain | None = None) -> Float[Array, ""]:
    r"""Π ‖A_l‖_σ² · Σ ‖A_l − M_l‖_F² / ‖A_l‖_σ², the PAC-Bayes spectral measure.

    Computed as Σ_l ‖A_l − M_l‖_F² Π_{k≠l} ‖A_k‖_σ², which is right where a layer is 0 as well.

    Args:
        net: A_1, …, A_L.
        reference: M_1, …, M_L of the same shapes; zero by default.

    Cost: the singular values of each layer. Source: Neyshabur, Bhojanapalli, Srebro (2018), Theorem 1, for M = 0.

    >>> f"{weight_ratio((jnp.eye(2), jnp.eye(2))):.4f}"
    '4.0000'
    """
    distances = jnp.stack([norm(gap) for gap in differences(net, reference)])
    terms, unit = _without_own(spectral_norms(net), distances)
    return _times((terms**2).sum(), [*unit, *unit])


def _without_own(spectral: Array, own: Array) -> tuple[Array, list[Array]]:
    """own_l Π_{k≠l} spectral_k for each layer, divided by the product of the powers of two that come with it."""
    unit = power_of_two(jnp.stack([spectral, own]), axis=0)
    others = jnp.where(jnp.eye(len(own), dtype=bool), 1, (spectral / unit)[None, :]).prod(1)
    return own / unit * others, list(unit)


def _times(value: Array, units: Sequence[Array]) -> Array:
    """The product with powers of two, which may not be representable themselves."""
    total = sum((jnp.frexp(unit)[1] - 1 for unit in units), jnp.int32(0))
    one = jnp.ones_like(value)
    for part in (total // 3, total // 3, total - 2 * (total // 3)):
        value = value * jnp.ldexp(one, part)
    return value


@boundary
def path_norm(net: Chain) -> Float[Array, ""]:
    r"""√(Σ over paths from input to output of Π w²), as one forward pass: √(Σ_k f(1; w²)_k).

    Invariant under the rescaling of any unit of a ReLU network. Cost: one forward pass of one input.

    Source: Neyshabur, Tomioka, Srebro (2015), section 4.

    >>> float(path_norm((jnp.array([[1.0, 2.0]]), jnp.array([[2.0]]))))
    4.47213...
    """
    scaled, units = _units(matrices("net", net))
    return _times(root(_flow([matrix**2 for matrix in scaled]).sum()), units)


@boundary
def l1_path_norm(net: Chain) -> Float[Array, ""]:
    r"""max_k Σ over paths to output k of Π |w|. Cost: one forward pass of one input.

    Source: Bartlett and Mendelson (2002), Theorem 18; Neyshabur, Tomioka, Srebro (2015).

    >>> float(l1_path_norm((jnp.array([[1.0, -2.0]]), jnp.array([[2.0]]))))
    6.0
    """
    scaled, units = _units(matrices("net", net))
    return _times(_flow([jnp.abs(matrix) for matrix in scaled]).max(), units)


def _units(net: Chain) -> tuple[list[Array], list[Array]]:
    """Each layer over a power of two, and those."""
    units = [power_of_two(matrix) for matrix in net]
    return [matrix / unit for matrix, unit in zip(net, units, strict=True)], units


def _flow(matrices: list[Array]) -> Array:
    h = jnp.ones_like(matrices[0][0])
    for matrix in matrices:
        h = jnp.matmul(matrix, h, precision="highest")
    return h
