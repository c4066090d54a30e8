r"""Two isotropic Gaussians and units σ(⟨x, w⟩): the mean-field limit as a flow of radii alone.

y = ±1 with equal chances, x ~ N(0, (1 ± Δ)² I_d). A rotation-invariant law of w stays one, and with s = |x|, r = |w|
the network is f(s) = ∫ψ(r s) ρ(dr), ψ(a) = E σ(a n₁), n uniform on the unit sphere.
Source: Mei, Montanari, Nguyen (2018), "Centered isotropic Gaussians".
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
from jax.tree_util import Partial
from jaxtyping import Array, Float, PRNGKeyArray

from jaxtheory.checks import holds, require
from jaxtheory.meanfield.cloud import Cloud, mean
from jaxtheory.meanfield.estimators import Estimator
from jaxtheory.meanfield.flows import Flow, gradient_flow
from jaxtheory.meanfield.functionals import Functional, gradients, neuron, squared_loss
from jaxtheory.meanfield.functionals import risk as empirical_risk

_ANGLES = 8192  # of the sphere coordinate; the table is made once
_NODES = 64  # of the law of |x|
_REACH = 8.0  # standard deviations of χ_d, which are below 1/√2


class Mixture(NamedTuple):
    """Labels ±1 and points of the mixture."""

    x: Float[Array, "samples d"]
    y: Float[Array, " samples"]


class Table(NamedTuple):
    """ψ and ψ' at equally spaced a from 0."""

    spacing: Float[Array, ""]
    values: Float[Array, " points"]
    slopes: Float[Array, " points"]


def ramp(z: Float[Array, "..."]) -> Float[Array, "..."]:
    """The activation of the paper: −2.5 below 1/2, 7.5 above 3/2, linear between.

    >>> ramp(jnp.array([0.0, 1.0, 2.0]))
    Array([-2.5,  2.5,  7.5], dtype=float32)
    """
    return jnp.clip(10 * z - 7.5, -2.5, 7.5)


def mixture(key: PRNGKeyArray, samples: int, dimension: int, delta: float, *, dtype: Any = jnp.float32) -> Mixture:
    """Draws y = ±1 with equal chances and x ~ N(0, (1 + yΔ)² I).

    >>> mixture(jax.random.key(0), 5, 40, 0.8).x.shape
    (5, 40)
    """
    _require_delta(delta)
    labels, points = jax.random.split(key)
    y = jax.random.rademacher(labels, (samples,), dtype)
    return Mixture((1 + delta * y)[:, None] * jax.random.normal(points, (samples, dimension), dtype), y)


def tabulate(
    activation: Callable[[Array], Array], dimension: int, *, reach: float, points: int = 2048, dtype: Any = jnp.float32
) -> Callable[[Array], Array]:
    r"""ψ(a) = E σ(a n₁) for 0 ≤ a ≤ reach, as a smooth function of a scalar: cubic Hermite through a table.

        n₁ = cos φ, φ with density ∝ sin^(d−2) φ on (0, π);   ψ'(a) = E σ'(a n₁) n₁

    Args:
        activation: σ. dimension: d ≥ 2. reach: largest a = |w| |x|; beyond it, ψ(a) goes on along its last slope.
        points: of the table. dtype: of the table.

    Returns:
        A differentiable scalar function, a pytree.

    Raises:
        ValueError: d < 2 or reach ≤ 0.

    Cost: 8192 · points evaluations of σ, once. For a kinked σ: error 1e-7 in ψ, 1e-4 in ψ' (midpoint rule).

    >>> f"{tabulate(jnp.abs, 3, reach=2.0)(jnp.float32(1.0)):.4f}"
    '0.5000'
    """
    require(dimension >= 2, "dimension", dimension, "be >= 2 for a sphere", "take d >= 2")
    require(holds(lambda r: r > 0, reach), "reach", reach, "be > 0", "use the largest |w| |x| to be met")
    angles = (np.arange(_ANGLES) + 0.5) * np.pi / _ANGLES
    mass = np.sin(angles) ** (dimension - 2)
    nodes, weights = jnp.asarray(np.cos(angles), dtype), jnp.asarray(mass / mass.sum(), dtype)
    arguments = jnp.linspace(0, reach, points, dtype=dtype)
    return Partial(_hermite, _table(activation, arguments, nodes, weights))


@partial(jax.jit, static_argnums=0)
def _table(activation: Callable[[Array], Array], arguments: Array, nodes: Array, weights: Array) -> Table:
    def row(a: Array) -> tuple[Array, Array]:
        values = activation(a * nodes)
        slopes = jax.vmap(jax.grad(activation))(a * nodes) * nodes
        return jnp.vdot(weights, values, precision="highest"), jnp.vdot(weights, slopes, precision="highest")

    return Table(arguments[1], *jax.lax.map(row, arguments, batch_size=64))


def _hermite(table: Table, a: Array) -> Array:
    position = a / table.spacing
    cell = jnp.clip(jnp.floor(jax.lax.stop_gradient(position)).astype(jnp.int32), 0, len(table.values) - 2)
    t = position - cell.astype(a.dtype)
    left, right = table.values[cell], table.values[cell + 1]
    up, down = table.slopes[cell] * table.spacing, table.slopes[cell + 1] * table.spacing
    inside = left + t * (up + t * (3 * (right - left) - 2 * up - down + t * (2 * (left - right) + up + down)))
    return jnp.where(t > 1, right + (t - 1) * down, inside)


def risk(psi: Callable[[Array], Array], dimension: int, delta: float, *, dtype: Any = jnp.float32) -> Functional:
    r"""The population risk E (y − f(s))² as a functional of a cloud of radii [N].

        f(s) = ∫ψ(r s) ρ(dr),   s ~ (1 ± Δ) χ_d by 64 Gauss-Legendre nodes for each label

    Its Wasserstein gradient flow is ṙ = 2 E[(y − f(s)) s ψ'(r s)]: pass it to `gradient_flow`. Time is that of the SGD
    w_i ← w_i + 2ε (y − f(x)) ∇σ(⟨x, w_i⟩), t = ε · steps.

    Args:
        psi: from `tabulate`. dimension: d. delta: Δ in (0, 1). dtype: that of the radii.

    Raises:
        ValueError: Δ outside (0, 1).

    Cost: 128 N evaluations of ψ.
    """
    _require_delta(delta)
    lengths, weights = _chi(dimension)
    s = jnp.asarray(np.concatenate([(1 + delta) * lengths, (1 - delta) * lengths]), dtype)
    y = jnp.asarray(np.repeat([1.0, -1.0], _NODES), dtype)
    mass = jnp.asarray(np.tile(weights, 2) / 2, dtype)

    def value(cloud: Cloud) -> Array:
        outputs = mean(cloud, lambda r: jax.vmap(lambda length: psi(r * length))(s))
        return jnp.vdot(mass, (outputs - y) ** 2, precision="highest")

    return Functional(value)


def _chi(dimension: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of the law of |x|, x ~ N(0, I_d)."""
    center = np.sqrt(dimension)
    low, high = max(0.0, center - _REACH / np.sqrt(2)), center + _REACH / np.sqrt(2)
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    s = low + (high - low) * (nodes + 1) / 2
    log_density = (dimension - 1) * np.log(s / center) - (s**2 - dimension) / 2
    mass = weights * np.exp(log_density - log_density.max())
    return s, mass / mass.sum()


def initial_radii(count: int, dimension: int, scale: float, *, dtype: Any = jnp.float32) -> Float[Array, " count"]:
    """Radii |w| of w ~ N(0, scale²/d I_d), at `count` equally likely quantiles.

    >>> f"{initial_radii(100, 40, 0.8).mean():.3f}"
    '0.795'
    """
    levels = (np.arange(count) + 0.5) / count
    return jnp.asarray(scale * np.sqrt(2 * scipy.special.gammaincinv(dimension / 2, levels) / dimension), dtype)


def sgd(activation: Callable[[Array], Array], delta: float, *, step_size: float, batch: int = 1) -> Flow:
    r"""Online SGD of the network, on `batch` fresh points of the mixture a step.

        w_i ← w_i + 2ε (y − f(x)) ∇σ(⟨x, w_i⟩),   f = (1/N) Σ_i σ(⟨x, w_i⟩)

    Args:
        activation: σ. delta: Δ. step_size: ε > 0. batch: fresh points a step, ≥ 1.

    Returns:
        A flow of particles [N, d]; k steps are a time k ε of the radial flow.

    Raises:
        ValueError: Δ outside (0, 1). Cost: batch · N d a step. Source: Mei, Montanari, Nguyen (2018), equation 5.
    """
    _require_delta(delta)
    unit = neuron(activation)

    def gradient(cloud: Cloud, memory: Any, key: PRNGKeyArray, index: Array) -> tuple[Any, Any]:
        seen = mixture(key, batch, cloud.particles.shape[1], delta, dtype=cloud.particles.dtype)
        return gradients(2.0 * empirical_risk(unit, squared_loss, seen.x, seen.y), cloud)[0], memory

    return gradient_flow(Estimator(lambda cloud: (), gradient), step_size)


def least_risk(activation: Callable[[Array], Array], delta: float, *, points: int = 2000) -> float:
    r"""The least risk over all laws of the radius, in the limit d → ∞: half the squared distance of (1, −1) to a hull.

        inf_ρ ½ [(1 − f₊)² + (1 + f₋)²],   f± = ∫q((1 ± Δ) r) ρ(dr),   q(t) = E σ(t G)

    Args:
        activation: σ, bounded. delta: Δ in (0, 1). points: of the curve r ↦ (q((1+Δ)r), q((1−Δ)r)).

    Returns:
        The least risk, 0 where (1, −1) is in the convex hull of the curve.

    Raises:
        ValueError: Δ outside (0, 1).

    Cost: points · 4096 evaluations of σ. Source: Mei, Montanari, Nguyen (2018), theorem on isotropic Gaussians.
    """
    _require_delta(delta)
    curve = _curve(activation, delta, points)
    target = np.array([1.0, -1.0])
    # The distance to a hull is the best over directions of the margin by which a half-plane leaves it out.
    angles = np.linspace(0, 2 * np.pi, 4000, endpoint=False)
    directions = np.stack([np.cos(angles), np.sin(angles)])
    margins = target @ directions - _support(curve, directions)
    return float(max(margins.max(), 0.0) ** 2 / 2)


def threshold(activation: Callable[[Array], Array]) -> float:
    r"""The least Δ at which zero risk is reachable in the limit d → ∞, by bisection to 1e-5; .4742 for `ramp`.

    Raises ValueError where even Δ = 0.99 leaves a positive risk. Source: Mei, Montanari, Nguyen (2018).
    """
    low, high = 0.01, 0.99
    require(least_risk(activation, high) < 1e-9, "activation", activation, "reach zero risk", "take a steeper one")
    while high - low > 1e-5:
        middle = (low + high) / 2
        low, high = (low, middle) if least_risk(activation, middle) < 1e-9 else (middle, high)
    return high


def _curve(activation: Callable[[Array], Array], delta: float, points: int) -> np.ndarray:
    """(q((1+Δ)r), q((1−Δ)r)) for r from 0 to ∞, dense where it bends."""
    r = np.tan(np.linspace(0, np.pi / 2 - 1e-4, points))
    return np.stack([_gaussian_mean(activation, (1 + delta) * r), _gaussian_mean(activation, (1 - delta) * r)], 1)


def _gaussian_mean(activation: Callable[[Array], Array], scales: np.ndarray) -> np.ndarray:
    """E σ(tG), by equal-probability midpoints refined to 1e-5."""
    quantiles = jax.scipy.special.ndtri((jnp.arange(4096, dtype=float) + 0.5) / 4096)
    return np.asarray(_means(activation, jnp.asarray(scales, quantiles.dtype), quantiles), float)


@partial(jax.jit, static_argnums=0)
def _means(activation: Callable[[Array], Array], scales: Array, quantiles: Array) -> Array:
    return jax.lax.map(lambda t: activation(t * quantiles).mean(), scales, batch_size=64)


def _support(curve: np.ndarray, directions: np.ndarray) -> np.ndarray:
    return np.concatenate([(curve @ part).max(0) for part in np.array_split(directions, 10, axis=1)])


def _require_delta(delta: float) -> None:
    require(
        holds(lambda v: (v > 0) & (v < 1), delta),
        "delta",
        delta,
        "be in (0, 1), so that the labels differ",
        "use delta=0.8",
    )
