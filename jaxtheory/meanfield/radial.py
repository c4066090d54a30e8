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
from jax.tree_util import Partial
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Key, PRNGKeyArray, PyTree

from jaxtheory.activations.named import elementwise
from jaxtheory.checks import boundary, constrain, nonnegative, positive, require
from jaxtheory.meanfield.cloud import Cloud, mean
from jaxtheory.meanfield.estimators import Estimator
from jaxtheory.meanfield.flows import Flow, gradient_flow
from jaxtheory.meanfield.functionals import Functional, gradients, neuron
from jaxtheory.meanfield.functionals import risk as empirical_risk

_ANGLES = 8192  # of the sphere coordinate; the table is made once
_NODES = 64  # of the law of |x|
_REACH = 8.0  # standard deviations of χ_d, which are below 1/√2
_BAND = 10.0  # standard deviations 1/√d of the sphere coordinate's angle about π/2

Number = float | Float[Array, ""]
Activation = str | Callable[[Array], Array]


class Mixture(NamedTuple):
    """Labels ±1 and points of the mixture."""

    x: Float[Array, "samples d"]
    y: Float[Array, " samples"]


class Table(NamedTuple):
    """ψ and ψ' at equally spaced a from 0."""

    spacing: Float[Array, ""]
    values: Float[Array, " points"]
    slopes: Float[Array, " points"]


@boundary
def ramp(z: Float[Array, "..."]) -> Float[Array, "..."]:
    """The activation of the paper: −2.5 below 1/2, 7.5 above 3/2, linear between.

    >>> ramp(jnp.array([0.0, 1.0, 2.0]))
    Array([-2.5,  2.5,  7.5], dtype=float32)
    """
    return jnp.clip(10 * z - 7.5, -2.5, 7.5)


@boundary(static=("samples", "dimension"))
def mixture(
    key: Key[Array, ""], samples: int, dimension: int, delta: Number, *, dtype: DTypeLike | None = None
) -> Mixture:
    """Draws y = ±1 with equal chances and x ~ N(0, (1 + yΔ)² I).

    Args:
        key: of the draws. samples: ≥ 0. dimension: ≥ 1. delta: Δ in (0, 1). dtype: the default float unless given.

    Raises:
        ValueError: Δ outside (0, 1) (NaN inside `jit`), a negative number of samples, no dimension.

    Cost: samples · dimension draws. Source: Mei, Montanari, Nguyen (2018), "Centered isotropic Gaussians".

    >>> mixture(jax.random.key(0), 5, 40, 0.8).x.shape
    (5, 40)
    """
    require(samples >= 0, "samples", samples, "be >= 0", "count the points")
    _require_dimension(dimension, 1)
    dtype = jnp.result_type(float) if dtype is None else dtype
    delta = jnp.asarray(_difference(delta), dtype)
    labels, points = jax.random.split(key)
    y = jax.random.rademacher(labels, (samples,), dtype)
    return Mixture((1 + delta * y)[:, None] * jax.random.normal(points, (samples, dimension), dtype), y)


@boundary(static=("dimension", "points"))
def tabulate(
    activation: Activation, dimension: int, *, reach: Number, points: int = 2048, dtype: DTypeLike | None = None
) -> Callable[[Array], Array]:
    r"""ψ(a) = E σ(a n₁) for |a| ≤ reach, as a smooth even function of a scalar: cubic Hermite through a table.

        n₁ = cos φ, φ with density ∝ sin^(d−2) φ on (0, π);   ψ'(a) = E σ'(a n₁) n₁

    Args:
        activation: σ, a name of `activations.resolve` or a function. dimension: d ≥ 2.
        reach: largest a = |w| |x|; beyond it, ψ(a) goes on along its last slope.
        points: of the table, at least 2. dtype: of the table, the default float unless given.

    Returns:
        A differentiable scalar function, a pytree.

    Raises:
        ValueError: d < 2, fewer than two points, or reach ≤ 0 (NaN inside `jit`).

    Cost: 8192 · points evaluations of σ, once. For a kinked σ: error 1e-7 in ψ, 1e-4 in ψ' (midpoint rule), in any
    dimension. Source: Mei, Montanari, Nguyen (2018), "Centered isotropic Gaussians".

    >>> f"{tabulate(jnp.abs, 3, reach=2.0)(jnp.float32(1.0)):.4f}"
    '0.5000'
    """
    _require_dimension(dimension, 2)
    require(points >= 2, "points", points, "be >= 2 for a cubic", "use 2048")
    dtype = jnp.result_type(float) if dtype is None else dtype
    reach = positive("reach", reach, "use the largest |w| |x| to be met")
    # angles where n₁ has its mass: all of them in low dimension
    band = min(np.pi / 2, _BAND / np.sqrt(dimension))
    offsets = ((np.arange(_ANGLES) + 0.5) / _ANGLES * 2 - 1) * band  # φ − π/2
    mass = np.exp((dimension - 2) * np.log(np.cos(offsets)))
    nodes, weights = jnp.asarray(-np.sin(offsets), dtype), jnp.asarray(mass / mass.sum(), dtype)
    arguments = jnp.linspace(0, jnp.asarray(reach, dtype), points, dtype=dtype)
    return Partial(_hermite, _table(elementwise(activation), arguments, nodes, weights))


@partial(jax.jit, static_argnums=0)
def _table(activation: Callable[[Array], Array], arguments: Array, nodes: Array, weights: Array) -> Table:
    def row(a: Array) -> tuple[Array, Array]:
        values = activation(a * nodes)
        slopes = jax.vmap(jax.grad(activation))(a * nodes) * nodes
        return jnp.vdot(weights, values, precision="highest"), jnp.vdot(weights, slopes, precision="highest")

    return Table(arguments[1], *jax.lax.map(row, arguments, batch_size=64))


def _hermite(table: Table, a: Array) -> Array:
    a = jnp.asarray(a, table.values.dtype)
    a = jnp.where(a < 0, -a, a)  # n₁ and −n₁ have one law; not abs, whose second derivative is lost at 0
    position = a / table.spacing
    cell = jnp.clip(jnp.floor(jax.lax.stop_gradient(position)).astype(jnp.int32), 0, len(table.values) - 2)
    t = position - cell.astype(a.dtype)
    left, right = table.values[cell], table.values[cell + 1]
    up, down = table.slopes[cell] * table.spacing, table.slopes[cell + 1] * table.spacing
    inside = left + t * (up + t * (3 * (right - left) - 2 * up - down + t * (2 * (left - right) + up + down)))
    return jnp.where(t > 1, right + (t - 1) * down, inside)


@boundary(static=("dimension",))
def risk(psi: Callable[[Array], Array], dimension: int, delta: Number, *, dtype: DTypeLike | None = None) -> Functional:
    r"""The population risk E (y − f(s))² as a functional of a cloud of radii [N].

        f(s) = ∫ψ(r s) ρ(dr),   s ~ (1 ± Δ) χ_d by 64 Gauss-Legendre nodes for each label

    Its Wasserstein gradient flow is ṙ = 2 E[(y − f(s)) s ψ'(r s)]: pass it to `gradient_flow`. Time is that of the SGD
    w_i ← w_i + 2ε (y − f(x)) ∇σ(⟨x, w_i⟩), t = ε · steps.

    Args:
        psi: from `tabulate`. dimension: d ≥ 1. delta: Δ in (0, 1). dtype: that of the radii, the default float unless
            given.

    Raises:
        ValueError: Δ outside (0, 1) (NaN inside `jit`), d < 1.

    Cost: 128 N evaluations of ψ. Source: Mei, Montanari, Nguyen (2018), "Centered isotropic Gaussians".

    >>> psi = tabulate(ramp, 40, reach=40.0)
    >>> f"{risk(psi, 40, 0.8)(initial_radii(100, 40, 0.8)):.2f}"
    '1.70'
    """
    _require_dimension(dimension, 1)
    dtype = jnp.result_type(float) if dtype is None else dtype
    delta = jnp.asarray(_difference(delta), dtype)
    nodes, weights = _chi(dimension)
    lengths = jnp.asarray(nodes, dtype)
    s = jnp.concatenate([(1 + delta) * lengths, (1 - delta) * lengths])
    y = jnp.asarray(np.repeat([1.0, -1.0], _NODES), dtype)
    mass = jnp.asarray(np.tile(weights, 2) / 2, dtype)

    def value(cloud: Cloud) -> Array:
        outputs = mean(cloud, lambda r: jax.vmap(lambda length: psi(r.reshape(()) * length))(s))
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


@boundary(static=("count", "dimension"))
def initial_radii(
    count: int, dimension: int, scale: Number, *, dtype: DTypeLike | None = None
) -> Float[Array, " count"]:
    """Radii |w| of w ~ N(0, scale²/d I_d), at `count` equally likely quantiles.

    Args:
        count: ≥ 1. dimension: d ≥ 1. scale: ≥ 0. dtype: the default float unless given.

    Raises:
        ValueError: count < 1, d < 1, or scale < 0 (NaN inside `jit`).

    Cost: count quantiles. Source: Abramowitz, Stegun (1964), 26.4.19, for the law of |w|².

    >>> f"{initial_radii(100, 40, 0.8).mean():.3f}"
    '0.795'
    """
    import scipy.special

    require(count >= 1, "count", count, "be >= 1", "use e.g. 500")
    _require_dimension(dimension, 1)
    dtype = jnp.result_type(float) if dtype is None else dtype
    levels = (np.arange(count) + 0.5) / count
    quantiles = jnp.asarray(np.sqrt(2 * scipy.special.gammaincinv(dimension / 2, levels) / dimension), dtype)
    return jnp.asarray(nonnegative("scale", scale, "use e.g. scale=0.8"), dtype) * quantiles


@boundary(static=("batch",))
def sgd(activation: Activation, delta: Number, *, step_size: Number, batch: int = 1) -> Flow:
    r"""Online SGD of the network, on `batch` fresh points of the mixture a step.

        w_i ← w_i + 2ε (y − f(x)) ∇σ(⟨x, w_i⟩),   f = (1/N) Σ_i σ(⟨x, w_i⟩)

    Args:
        activation: σ. delta: Δ in (0, 1). step_size: ε > 0. batch: fresh points a step, ≥ 1.

    Returns:
        A flow of particles [N, d]; k steps are a time k ε of the radial flow.

    Raises:
        ValueError: Δ outside (0, 1), ε ≤ 0 (inside `jit`, the particles become NaN), batch < 1.

    Cost: batch · N d a step. Source: Mei, Montanari, Nguyen (2018), equation 5.

    >>> from jaxtheory import meanfield
    >>> flow = meanfield.radial.sgd(ramp, 0.8, step_size=1e-3, batch=4)
    >>> int(meanfield.simulate(flow, jnp.ones((8, 5)), steps=3, key=jax.random.key(0)).status)
    0
    """
    require(batch >= 1, "batch", batch, "be >= 1", "use e.g. 100")
    delta = _difference(delta)
    unit = neuron(activation)

    def gradient(cloud: Cloud, memory: PyTree, key: PRNGKeyArray, index: Array) -> tuple[PyTree, PyTree]:
        seen = mixture(key, batch, cloud.particles.shape[1], delta, dtype=cloud.particles.dtype)
        return gradients(2.0 * empirical_risk(unit, "squared", seen.x, seen.y), cloud)[0], memory

    return gradient_flow(Estimator(lambda cloud: (), gradient), step_size)


@boundary(static=("delta", "points"))
def least_risk(activation: Activation, delta: float, *, points: int = 1000) -> float:
    r"""The least risk over all laws of the radius, in the limit d → ∞: half the squared distance of (1, −1) to a hull.

        inf_ρ ½ [(1 − f₊)² + (1 + f₋)²],   f± = ∫q((1 ± Δ) r) ρ(dr),   q(t) = E σ(t G)

    Args:
        activation: σ, bounded. delta: Δ in (0, 1), not traced.
        points: of the curve r ↦ (q((1+Δ)r), q((1−Δ)r)), ≥ 2, where its first coordinate bends, and as many where its
            second does.

    Returns:
        The least risk, 0 where (1, −1) is in the convex hull of the curve.

    Raises:
        ValueError: Δ outside (0, 1), fewer than two points.

    Cost: points · 8192 evaluations of σ. Source: Mei, Montanari, Nguyen (2018), theorem on isotropic Gaussians.

    >>> f"{least_risk(ramp, 0.3):.3f} {least_risk(ramp, 0.8):.3f}"
    '0.139 0.000'
    """
    delta = _difference(delta)
    require(points >= 2, "points", points, "be >= 2", "use 1000")
    curve = _curve(elementwise(activation), delta, points)
    target = np.array([1.0, -1.0])
    # The distance to a hull is the best over directions of the margin by which a half-plane leaves it out.
    angles = np.linspace(0, 2 * np.pi, 4000, endpoint=False)
    directions = np.stack([np.cos(angles), np.sin(angles)])
    margins = target @ directions - _support(curve, directions)
    return float(max(margins.max(), 0.0) ** 2 / 2)


@boundary
def threshold(activation: Activation) -> float:
    r"""The least Δ at which zero risk is reachable in the limit d → ∞, by bisection to 1e-5; .4742 for `ramp`.

    Args:
        activation: σ, bounded.

    Raises:
        ValueError: an activation that leaves a positive risk even at Δ = 0.99.

    Cost: 18 times that of `least_risk`. Source: Mei, Montanari, Nguyen (2018).

    >>> f"{threshold(ramp):.3f}"
    '0.474'
    """
    low, high = 0.01, 0.99
    require(
        least_risk(activation, high) < 1e-9,
        "activation",
        activation,
        "reach zero risk",
        "use a bounded one with a steep step, e.g. ramp",
    )
    while high - low > 1e-5:
        middle = (low + high) / 2
        low, high = (low, middle) if least_risk(activation, middle) < 1e-9 else (middle, high)
    return high


def _curve(activation: Callable[[Array], Array], delta: float, points: int) -> np.ndarray:
    """(q((1+Δ)r), q((1−Δ)r)) for r from 0 to ∞, dense where either coordinate bends."""
    reach = np.tan(np.linspace(0, np.pi / 2 - 1e-4, points))
    r = np.concatenate([reach / (1 + delta), reach / (1 - delta)])
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


def _difference(delta: Any) -> Any:
    wish = "be in (0, 1), so that the labels differ"
    return constrain("delta", delta, lambda v: (v > 0) & (v < 1), wish, "use delta=0.8")


def _require_dimension(dimension: int, least: int) -> None:
    require(dimension >= least, "dimension", dimension, f"be >= {least}", "pass the number of coordinates of x")
