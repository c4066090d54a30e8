r"""Norms of a network that stand in its generalization bounds, and its margins.

All take the `Chain` of matrices A_1, …, A_L in the coordinates (x, 1).
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxtheory.checks import holds, require
from jaxtheory.generalization.chain import Chain


def margins(outputs: Float[Array, "n classes"], y: Int[Array, " n"]) -> Float[Array, " n"]:
    r"""f(x)_y − max_{j≠y} f(x)_j, positive where the prediction is right.

    Args:
        outputs: f(x).
        y: labels in 0..classes−1.

    Raises:
        ValueError: fewer than two classes, or labels out of range (outside jit).

    >>> margins(jnp.array([[2.0, 0.5]]), jnp.array([0])).tolist()
    [1.5]
    """
    classes = outputs.shape[1]
    require(classes >= 2, "outputs", outputs.shape, "have at least two classes", "use one output a class")
    require_labels(y, classes)
    chosen = jnp.arange(classes, dtype=y.dtype)[None, :] == y[:, None]
    return jnp.where(chosen, outputs, 0).sum(1) - jnp.where(chosen, -jnp.inf, outputs).max(1)


def require_labels(y: Int[Array, " n"], classes: int) -> None:
    """Raise a `ValueError` unless labels are within 0..classes−1 (outside jit)."""
    within = holds(lambda v: (v >= 0) & (v < classes), y)
    require(within, "y", y, f"hold labels within 0..{classes - 1}", "number the classes from 0")


def spectral_norms(net: Chain) -> Float[Array, " layers"]:
    """‖A_l‖_σ of each layer, convolutions by the operator that they are. Cost: one SVD a layer.

    >>> spectral_norms((jnp.diag(jnp.array([3.0, 1.0])),)).tolist()
    [3.0]
    """
    return jnp.stack([jnp.linalg.norm(matrix, 2) for matrix in net])


def frobenius_norms(net: Chain) -> Float[Array, " layers"]:
    """‖A_l‖_F of each layer.

    >>> frobenius_norms((jnp.ones((2, 2)),)).tolist()
    [2.0]
    """
    return jnp.stack([jnp.linalg.norm(matrix) for matrix in net])


def group_norms(net: Chain, reference: Chain | None = None) -> Float[Array, " layers"]:
    r"""‖(A_l − M_l)ᵀ‖_{2,1}: the sum over units of the length of their incoming weights, from the reference M_l.

    >>> group_norms((jnp.array([[3.0, 4.0], [0.0, 1.0]]),)).tolist()
    [6.0]
    """
    return jnp.stack([jnp.linalg.norm(gap, axis=1).sum() for gap in _from(net, reference)])


def _from(net: Chain, reference: Chain | None) -> list[Array]:
    if reference is None:
        return list(net)
    same = [m.shape for m in net] == [m.shape for m in reference]
    told = [m.shape for m in reference]
    require(same, "reference", told, f"have the shapes of model, {[m.shape for m in net]}", "pass its initialization")
    return [matrix - start for matrix, start in zip(net, reference, strict=True)]


def spectral_complexity(net: Chain, reference: Chain | None = None) -> Float[Array, ""]:
    r"""R = Π ‖A_l‖_σ · (Σ (‖(A_l − M_l)ᵀ‖_{2,1} / ‖A_l‖_σ)^{2/3})^{3/2}, for 1-Lipschitz activations.

    For chains without biases it does not change when a layer is scaled up and another down.

    Args:
        net: A_1, …, A_L.
        reference: M_1, …, M_L, fixed before the data is seen; zero by default.

    Source: Bartlett, Foster, Telgarsky (2017), equation 1.2.

    >>> f"{spectral_complexity((jnp.eye(2), jnp.eye(2))):.4f}"
    '5.6569'
    """
    spectral = spectral_norms(net)
    ratios = group_norms(net, reference) / spectral
    return spectral.prod() * (ratios ** (2 / 3)).sum() ** 1.5


def path_norm(net: Chain) -> Float[Array, ""]:
    r"""√(Σ over paths from input to output of Π w²), as one forward pass: √(Σ_k f(1; w²)_k).

    Invariant under the rescaling of any unit of a ReLU network. Cost: one forward pass of one input.

    Source: Neyshabur, Tomioka, Srebro (2015), section 4.

    >>> float(path_norm((jnp.array([[1.0, 2.0]]), jnp.array([[2.0]]))))
    4.47213...
    """
    return jnp.sqrt(_paths([matrix**2 for matrix in net]))


def l1_path_norm(net: Chain) -> Float[Array, ""]:
    r"""max_k Σ over paths to output k of Π |w|.

    Source: Bartlett and Mendelson (2002), Theorem 18; Neyshabur, Tomioka, Srebro (2015).

    >>> float(l1_path_norm((jnp.array([[1.0, -2.0]]), jnp.array([[2.0]]))))
    6.0
    """
    return _flow([jnp.abs(matrix) for matrix in net]).max()


def _paths(matrices: list[Array]) -> Array:
    return _flow(matrices).sum()


def _flow(matrices: list[Array]) -> Array:
    h = jnp.ones_like(matrices[0][0])
    for matrix in matrices:
        h = jnp.matmul(matrix, h, precision="highest")
    return h


def weight_ratio(net: Chain, reference: Chain | None = None) -> Float[Array, ""]:
    r"""Π ‖A_l‖_σ² · Σ ‖A_l − M_l‖_F² / ‖A_l‖_σ², the PAC-Bayes spectral measure.

    Source: Neyshabur, Bhojanapalli, Srebro (2018), Theorem 1.

    >>> float(weight_ratio((jnp.eye(2), jnp.eye(2))))
    4.0
    """
    spectral = spectral_norms(net)
    squares = jnp.stack([(gap**2).sum() for gap in _from(net, reference)])
    return (spectral**2).prod() * (squares / spectral**2).sum()
