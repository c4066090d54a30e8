r"""Fit of the parametric scaling law E + A/N^α + B/D^β to a table of training runs."""

from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from jaxtheory.checks import boundary, constrain, positive, require
from jaxtheory.guarded import norm, power_of_two
from jaxtheory.results import Status, finite_status, status_where

Samples = TypeVar("Samples")

_STARTS = {"slope": (0.15, 0.5, 1.2), "floor": (0.1, 0.7), "share": (0.25, 0.75)}  # of standardized logarithms
_ITERATIONS, _RESAMPLED_ITERATIONS = 160, 60
_COLLINEAR = 0.01  # of log D's spread, what log N must leave unexplained
_DETERMINED = 2.0  # the factor within which an exponent must be known


class Coefficients(NamedTuple):
    """E, A, α, B, β of E + A/N^α + B/D^β."""

    floor: Float[Array, "..."]
    params_scale: Float[Array, "..."]
    params_exponent: Float[Array, "..."]
    tokens_scale: Float[Array, "..."]
    tokens_exponent: Float[Array, "..."]


class ScalingLaw(NamedTuple):
    """The fit, the ends of its bootstrap intervals, all resampled fits [resamples], and the mean Huber loss."""

    estimate: Coefficients
    low: Coefficients
    high: Coefficients
    samples: Coefficients
    objective: Float[Array, ""]
    status: Int[Array, ""]


class _Table(NamedTuple):
    """Standardized logarithms of N and D, and the logarithm of the loss."""

    x: Array
    y: Array
    loss: Array


@boundary(static=("resamples",))
def fit_scaling_law(
    params: Float[Array, " runs"],
    tokens: Float[Array, " runs"],
    loss: Float[Array, " runs"],
    *,
    key: Key[Array, ""],
    huber: float | Float[Array, ""] = 1e-3,
    resamples: int = 200,
    level: float | Float[Array, ""] = 0.95,
) -> ScalingLaw:
    r"""Fit L(N, D) = E + A/N^α + B/D^β to a table of training runs, with bootstrap intervals.

        minimize (1/n) Σ_i Huber_δ(log(e^ε + e^(a − α log N_i) + e^(b − β log D_i)) − log L_i)

    over ε = log E, a = log A, b = log B, log α and log β, by damped Gauss–Newton steps with Huber's weights from 36
    starts at once. The logarithms are standardized first, so that units do not matter. Each bootstrap sample draws the
    runs with replacement and is fitted from the best point; intervals are percentiles.

    Args:
        params, tokens, loss: N, D, L > 0 of n ≥ 6 runs, any units.
        key: of the resampling.
        huber: δ > 0, in units of log L: larger residuals count by their absolute value; infinity for least squares.
        resamples: number of bootstrap samples ≥ 2. level: of the intervals, in (0, 1).

    Returns:
        `ScalingLaw`; ILL_CONDITIONED where the data do not determine the exponents: N or D hardly varies, or one is a
        power of the other (one aspect ratio), an interval reaches beyond a factor of 2, or fits that the noise cannot
        tell apart differ by that much. NOT_CONVERGED where the fit still improved at the end.

    Raises:
        ValueError: too few runs, shapes that differ, numbers that are not positive and finite (INVALID_INPUT inside
            `jit`).

    Cost: O((36 · 160 + 60 · resamples) n), memory resamples · n. Source: Hoffmann et al. (2022), appendix D.3;
    Besiroglu, Erdil, Barnett, You (2024).

    >>> n, d = (axis.ravel() for axis in jnp.meshgrid(jnp.geomspace(1e7, 1e10, 7), jnp.geomspace(1e9, 1e12, 7)))
    >>> law = fit_scaling_law(n, d, 1.8 + 480 / n**0.35 + 2000 / d**0.37, key=jax.random.key(0), resamples=100)
    >>> f"{law.estimate.floor:.2f} {law.estimate.params_exponent:.2f} {law.estimate.tokens_exponent:.2f}"
    '1.80 0.35 0.37'
    """
    given = {"params": params, "tokens": tokens, "loss": loss}
    for name, values in given.items():
        require(
            values.shape == loss.shape,
            name,
            values.shape,
            f"have the shape of loss, {loss.shape}",
            "pass one for each run",
        )
    require(len(loss) >= 6, "loss", len(loss), "hold at least 6 runs for 5 coefficients", "train at more sizes")
    require(resamples >= 2, "resamples", resamples, "be >= 2", "e.g. resamples=200")
    dtype = jnp.result_type(params, tokens, loss)
    runs = [positive(name, values, "drop the other runs").astype(dtype) for name, values in given.items()]
    huber = constrain("huber", huber, lambda h: h > 0, "be > 0", "e.g. huber=1e-3, or infinity for least squares")
    level = constrain("level", level, lambda q: (q > 0) & (q < 1), "lie in (0, 1)", "e.g. level=0.95")
    return _fit(*runs, key, jnp.asarray(huber, dtype), jnp.asarray(level, dtype), resamples=resamples)


@jax.jit(static_argnames="resamples")
def _fit(
    params: Array, tokens: Array, loss: Array, key: Array, huber: Array, level: Array, *, resamples: int
) -> ScalingLaw:
    n = len(loss)
    unit = power_of_two(loss)
    (x, x_mean, x_spread), (y, y_mean, y_spread) = _standardized(params), _standardized(tokens)
    table = _Table(x, y, jnp.log(loss / unit))
    equal = jnp.ones_like(loss)
    starts = _starts(table)
    fits, objectives, gains = jax.vmap(lambda start: _descend(start, table, equal, huber, _ITERATIONS))(starts)
    best = jnp.argmin(jnp.where(jnp.isnan(objectives), jnp.inf, objectives))

    def resampled(key: Array) -> Array:
        drawn = jax.random.randint(key, (n,), 0, n, jnp.int32)
        weight = jnp.zeros_like(loss).at[drawn].add(jnp.ones_like(loss))
        return _descend(fits[best], table, weight, huber, _RESAMPLED_ITERATIONS)[0]

    def coefficients(theta: Array) -> Coefficients:
        alpha, beta = jnp.exp(theta[3]) / x_spread, jnp.exp(theta[4]) / y_spread
        a, b = theta[1] + alpha * x_mean, theta[2] + beta * y_mean
        return Coefficients(unit * jnp.exp(theta[0]), unit * jnp.exp(a), alpha, unit * jnp.exp(b), beta)

    estimate = coefficients(fits[best])
    samples = jax.vmap(coefficients)(jax.vmap(resampled)(jax.random.split(key, resamples)))
    low, high = interval(samples, level)
    ends = jnp.stack([jnp.array(each[2::2]) for each in (low, estimate, high)])
    wide = (ends[2] > _DETERMINED * ends[1]).any() | (ends[0] * _DETERMINED < ends[1]).any()
    several = _several(fits, objectives, best, n)
    undetermined = _collinear(x, y) | several | wide | _unresolved(fits[best], table)
    valid = ~jnp.isnan(jnp.stack([loss.sum(), params.sum(), tokens.sum(), huber, level])).any()
    status = status_where(
        (~valid, Status.INVALID_INPUT),
        (undetermined, Status.ILL_CONDITIONED),
        (gains[best] > 1e-3, Status.NOT_CONVERGED),
    )
    estimate, low, high, samples, objective = jax.tree.map(
        lambda v: jnp.where(valid, v, jnp.nan), (estimate, low, high, samples, objectives[best])
    )
    status = finite_status((estimate, low, high, samples, objective), status)
    return ScalingLaw(estimate, low, high, samples, objective, status)


def _standardized(sizes: Array) -> tuple[Array, Array, Array]:
    """Logarithms of mean 0 and variance 1, their mean, and their spread, 1 where they are equal."""
    unit = power_of_two(sizes)
    logs = jnp.log(sizes / unit)
    mean = jnp.mean(logs)
    spread = norm(logs - mean) / len(sizes) ** 0.5
    spread = jnp.where(spread > 1e-4, spread, 1)
    return (logs - mean) / spread, mean + jnp.log(unit), spread


def _several(fits: Array, objectives: Array, best: Array, n: int) -> Array:
    """Whether fits with other exponents are as good as the best, to two standard errors of the noise."""
    alike = objectives <= objectives[best] * (1 + 4 / max(n - 5, 1))
    others = jnp.where(alike[:, None], jnp.abs(fits[:, 3:] - fits[best][None, 3:]), 0)
    return jnp.exp(others.max()) > _DETERMINED


def _collinear(x: Array, y: Array) -> Array:
    """Whether log N explains log D, or one of them does not vary."""
    rest = y - x * (jnp.sum(x * y) / jnp.maximum(jnp.sum(x * x), 1))
    return (norm(rest) < _COLLINEAR * len(x) ** 0.5) | (norm(x) < 0.5 * len(x) ** 0.5)


def _unresolved(theta: Array, table: _Table) -> Array:
    """Whether the rounding of the logarithms alone moves an exponent by a percent."""
    jacobian = _model(theta, table)[1]
    swapped = jnp.concatenate([jacobian[:, :3], jacobian[:, 4:], jacobian[:, 3:4]], axis=1)
    # what of the last column the others leave unexplained
    apart = [jnp.abs(jnp.linalg.qr(columns, mode="r")[4, 4]) for columns in (jacobian, swapped)]
    return ~(16 * float(jnp.finfo(jacobian.dtype).eps) * len(table.loss) ** 0.5 < 0.01 * jnp.minimum(*apart))


def _starts(table: _Table) -> Array:
    """Points (log E, log A, log B, log α, log β) [starts, 5] around the data."""
    slopes, floors, shares = (jnp.asarray(values, table.loss.dtype) for values in _STARTS.values())
    alpha, beta, floor, share = (axis.ravel() for axis in jnp.meshgrid(slopes, slopes, floors, shares))
    least, middle = jnp.min(table.loss), jnp.mean(table.loss)
    excess = jnp.log(jnp.exp(middle) - floor * jnp.exp(least))
    columns = (
        jnp.log(floor) + least,
        excess + jnp.log(share),
        excess + jnp.log(1 - share),
        jnp.log(alpha),
        jnp.log(beta),
    )
    return jnp.stack(columns, axis=1)


def _descend(theta: Array, table: _Table, weight: Array, huber: Array, iterations: int) -> tuple[Array, Array, Array]:
    """The fit from one start, its objective, and what share of it the last quarter of the steps removed."""

    def objective(theta: Array) -> Array:
        size = jnp.abs(_model(theta, table)[0])
        each = jnp.where(size <= huber, size**2 / 2, jnp.minimum(huber, size) * (size - jnp.minimum(huber, size) / 2))
        return jnp.sum(weight * each) / jnp.sum(weight)

    def step(state: tuple[Array, Array, Array], _: None) -> tuple[tuple[Array, Array, Array], Array]:
        theta, value, damping = state
        residual, jacobian = _model(theta, table)
        # Huber's loss lies below the parabola of this weight that touches it
        share = weight * _huber_weight(residual, huber)
        root = jnp.sqrt(share / jnp.sum(share))
        move = _damped_least_squares(root[:, None] * jacobian, root * residual, damping)
        proposed = theta - jnp.clip(move, -2, 2)
        proposed_value = objective(proposed)
        better = proposed_value < value
        damping = jnp.clip(jnp.where(better, damping / 3, damping * 4), 1e-13, 1e4)
        value = jnp.where(better, proposed_value, value)
        return (jnp.where(better, proposed, theta), value, damping), value

    start = theta, objective(theta), jnp.full_like(theta[0], 1e-2)
    (theta, value, _), values = jax.lax.scan(step, start, length=iterations)
    before = values[3 * iterations // 4]
    rounding = (8 * float(jnp.finfo(value.dtype).eps)) ** 2
    return theta, value, (before - value) / (value + rounding)


def _huber_weight(residual: Array, huber: Array) -> Array:
    """1 up to δ, δ/|r| beyond."""
    size = jnp.abs(residual)
    return jnp.where(size <= huber, 1, jnp.minimum(huber, size) / jnp.where(size > 0, size, 1))


def _model(theta: Array, table: _Table) -> tuple[Array, Array]:
    """Residuals of the logarithm of the loss, and their derivatives [runs, 5]."""
    alpha, beta = jnp.exp(theta[3]), jnp.exp(theta[4])
    terms = jnp.stack([jnp.full_like(table.x, theta[0]), theta[1] - alpha * table.x, theta[2] - beta * table.y])
    share = jax.nn.softmax(terms, axis=0)
    residual = jax.nn.logsumexp(terms, axis=0) - table.loss
    columns = (*share, -alpha * table.x * share[1], -beta * table.y * share[2])
    return residual, jnp.stack(columns, axis=1)


def _damped_least_squares(matrix: Array, right: Array, damping: Array) -> Array:
    """argmin ‖Mu − r‖² + damping ‖u‖², by Gram–Schmidt, which does not square the condition number."""
    columns = matrix.shape[1]
    identity = jnp.eye(columns, dtype=matrix.dtype)
    work = jnp.concatenate([matrix, jnp.sqrt(damping) * identity])
    rest = jnp.concatenate([right, jnp.zeros_like(right, shape=columns)])

    def orthogonalize(
        state: tuple[Array, Array, Array, Array], j: Array
    ) -> tuple[tuple[Array, Array, Array, Array], None]:
        # work = (matrix, damping) @ inverse throughout
        work, inverse, rest, solution = state
        unit, made_by = (jax.lax.dynamic_index_in_dim(each, j, 1, keepdims=False) for each in (work, inverse))
        length = jnp.sqrt(jnp.sum(unit**2))
        unit, made_by = unit / length, made_by / length
        # sums, as accelerators round the factors of a matrix product
        share = jnp.sum(unit * rest)
        later = jnp.where(jnp.arange(columns) > j, jnp.sum(unit[:, None] * work, axis=0), 0)
        work, inverse = work - unit[:, None] * later[None, :], inverse - made_by[:, None] * later[None, :]
        return (work, inverse, rest - share * unit, solution + share * made_by), None

    start = work, identity, rest, jnp.zeros_like(identity[0])
    return jax.lax.scan(orthogonalize, start, jnp.arange(columns))[0][3]


def interval(samples: Samples, level: Array) -> tuple[Samples, Samples]:
    """Percentiles of the samples, which lie along the first axis."""
    low, high = (
        jax.tree.map(lambda v, q=q: jnp.quantile(v, q, axis=0), samples) for q in ((1 - level) / 2, (1 + level) / 2)
    )
    return low, high
