r"""Neural collapse: the minimum of cross-entropy over features that are free, a simplex.

>>> found = neural_collapse(4, 10, weight_decay=0.005, feature_decay=0.001)
>>> f"{found.gap:.4f} {found.objective:.4f}"
'4.9303 0.1260'
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxtheory.checks import boundary, positive, require

Number = float | Float[Array, ""]


class Collapse(NamedTuple):
    """The minimum: logit of the right class less any other, objective, ‖W‖², ‖H‖², and cosine of two classes."""

    gap: Float[Array, ""]
    objective: Float[Array, ""]
    weights: Float[Array, ""]
    features: Float[Array, ""]
    cosine: Float[Array, ""]


@boundary(static=("classes", "per_class"))
def neural_collapse(classes: int, per_class: int, *, weight_decay: Number, feature_decay: Number) -> Collapse:
    r"""The global minimum of cross-entropy over a last layer W [K, d] and free features H [d, nK], d ≥ K − 1.

        (1/nK) Σ_i CE(W h_i, y_i) + λ_W/2 ‖W‖² + λ_H/2 ‖H‖²

    Its logits are c (I − 11ᵀ/K) for each of the n examples of a class, and with s = √(n λ_W λ_H)

        c = log(1/s − (K − 1)) where s < 1/K, and 0 (all of W and H vanish) otherwise,
        objective = log(1 + (K − 1)e^{−c}) + s (K − 1) c,   ‖W‖² = (K − 1) c √(nλ_H/λ_W),   ‖H‖² = (λ_W/λ_H) ‖W‖²

    The features of a class are equal, and the class means a simplex: any two have the cosine −1/(K − 1). Every local
    minimum is global.

    Args:
        classes: K ≥ 2. per_class: n ≥ 1.
        weight_decay: λ_W > 0. feature_decay: λ_H > 0.

    Returns:
        `Collapse`; derivatives jump at s = 1/K.

    Raises:
        ValueError: counts out of range, decays that are not positive (outside jit; NaN inside).

    Cost: O(1). Source: Zhu, Ding, Zhou, Li, You, Sulam, Qu (2021), "A geometric analysis of neural collapse with
    unconstrained features"; the formulas from ‖W‖‖H‖ ≥ ‖WH‖_* (nuclear norm) with equality at the minimum.

    >>> f"{neural_collapse(4, 10, weight_decay=0.005, feature_decay=0.001).cosine:.4f}"
    '-0.3333'
    """
    require(classes >= 2, "classes", classes, "be at least 2", "pass the number of labels")
    require(per_class >= 1, "per_class", per_class, "be at least 1", "pass the examples of a class")
    first = jnp.asarray(positive("weight_decay", weight_decay, "pass e.g. 5e-4"), float)
    second = jnp.asarray(positive("feature_decay", feature_decay, "pass e.g. 5e-4"), float)
    dtype = jnp.result_type(first, second)
    first, second = first.astype(dtype), second.astype(dtype)
    others = classes - 1
    s = jnp.sqrt(per_class * first) * jnp.sqrt(second)
    learned = s * classes < 1
    safe = jnp.where(learned, s, jnp.full_like(s, 0.5 / classes))
    gap = jnp.where(learned, jnp.log1p(-others * safe) - jnp.log(safe), jnp.zeros_like(s))
    gap = jnp.where(jnp.isnan(s), s, gap)
    ratio = jnp.sqrt(second) / jnp.sqrt(first)
    weights = others * gap * per_class**0.5 * ratio
    objective = jnp.log1p(others * jnp.exp(-gap)) + s * others * gap
    features = others * gap * per_class**0.5 / ratio
    return Collapse(gap, objective, weights, features, jnp.full_like(gap, -1 / others) + 0 * gap)
