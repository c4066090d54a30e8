r"""The four regimes of a neural scaling law: what data or width cannot resolve, and the variance of either.

Each is a limit of the exact risk of ridgeless regression on random features, so that no curve is fitted.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxtheory.checks import boundary, constrain, nonnegative, positive, require
from jaxtheory.guarded import over
from jaxtheory.kernels import learning_curve
from jaxtheory.results import Status, status_where
from jaxtheory.scaling.one_pass import spectrum


class Regimes(NamedTuple):
    """Risks, label noise included, at each size m: `data` L(m, ∞), `width` L(∞, m), and the excess over a limit.

    `variance` is L(m, F) − L(∞, F) and also L(F, m) − L(F, ∞), which are equal: finite data at fixed width F, and
    finite width at fixed data F.
    """

    data: Float[Array, " sizes"]
    width: Float[Array, " sizes"]
    variance: Float[Array, " sizes"]
    status: Int[Array, " sizes"]


@boundary
def four_regimes(
    eigs: Float[Array, " modes"],
    target: Float[Array, " modes"],
    sizes: Float[Array, " sizes"],
    fixed: float | Float[Array, ""],
    noise: float | Float[Array, ""] = 0.0,
) -> Regimes:
    r"""Risk L(n, N) of the min-norm fit of N random features to n samples, in its four limiting regimes.

    With κ(m) from Σ λ_i/(λ_i + κ) = m, M_i = κ/(λ_i + κ) and w_i = λ_i b_i²:

        resolution-limited:  L(∞, m) = Σ M_i w_i + σ²,   L(m, ∞) = (Σ M_i² w_i + σ²) / (1 − Σ (1 − M_i)²/m)
        variance-limited:    L(m, F) − L(∞, F) = L(F, m) − L(F, ∞) = F/(m − F) · L(∞, F)

    At λ_j = j^(−2α), b_j = j^(−β), without noise, the resolution-limited risks are ~ m^(−min(2α + 2β − 1, 2α)) in the
    width and ~ m^(−min(2α + 2β − 1, 4α)) in the data, as long as m is far below the number of modes; the
    variance-limited excess is ~ 1/m for every spectrum.

    Args:
        eigs: λ_i ≥ 0. target: b_i.
        sizes: m > fixed, numbers of samples or of features. fixed: F > 0, the size that is held.
        noise: σ² ≥ 0 of the labels.

    Returns:
        `Regimes`; NOT_FINITE where L(m, ∞) is infinite: as many modes as samples, with noise.

    Raises:
        ValueError: shapes, sizes ≤ fixed, negative arguments (outside `jit`; inside, INVALID_INPUT).

    Cost: 45 passes over the modes a size. Source: Bahri, Dyer, Kaplan, Lee, Sharma (2024) for the regimes; Simon,
    Karkada, Ghosh, Belkin (2023) for L(n, N).

    >>> i = jnp.arange(1, 1001, dtype=jnp.float32)
    >>> found = four_regimes(i**-2.0, i**-0.3, jnp.array([20.0, 40.0]), 5)
    >>> [f"{jnp.log2(risk[0] / risk[1]):.2f}" for risk in (found.data, found.width, found.variance)]
    ['1.56', '1.47', '1.22']
    """
    eigs, target = spectrum(eigs, target)
    dtype = jnp.result_type(eigs, sizes)
    require(
        len(sizes) >= 1, "sizes", f"shape {sizes.shape}", "hold at least one size", "e.g. jnp.geomspace(10, 1e3, 9)"
    )
    held = jnp.asarray(positive("fixed", fixed, "count the samples or features that are held"), dtype)
    sizes = constrain("sizes", sizes, lambda m: m < jnp.inf, "be finite", "pass finite sizes")
    ahead = constrain("sizes - fixed", sizes - held, lambda gap: gap > 0, "be positive", "pass sizes above fixed")
    noise = jnp.asarray(nonnegative("noise", noise, "use 0.0 for none"), dtype)
    return _four_regimes(eigs.astype(dtype), target.astype(dtype), sizes.astype(dtype), ahead, held, noise)


@jax.jit
def _four_regimes(eigs: Array, target: Array, sizes: Array, ahead: Array, held: Array, noise: Array) -> Regimes:
    coefficients = jnp.sqrt(jnp.where(eigs > 0, eigs, 1)) * jnp.where(eigs > 0, target, 0)
    both = jnp.concatenate([sizes, held[None]])
    curve = learning_curve(eigs, coefficients, both, 0.0, noise)

    def missed(kappa: Array) -> Array:
        """Σ M w + σ², where a mode of eigenvalue 0 has no power."""
        return jnp.sum(over(kappa + 0 * eigs, eigs + kappa) * coefficients**2) + noise

    resolved = jax.vmap(missed)(curve.kappa)
    width, variance = resolved[:-1], held / ahead * resolved[-1]
    valid = ~jnp.isnan(jnp.sum(eigs) + jnp.sum(target) + noise + held) & ~jnp.isnan(sizes + ahead)
    found = [jnp.where(valid, part, jnp.nan) for part in (curve.test[:-1], width, variance)]
    finite = jnp.isfinite(jnp.stack(found)).all(axis=0)
    status = status_where((~valid, Status.INVALID_INPUT), (~finite, Status.NOT_FINITE))
    unsure = jnp.maximum(curve.status[:-1], curve.status[-1])
    data, width, variance = found
    return Regimes(data, width, variance, jnp.where(status == Status.OK, unsure, status))
