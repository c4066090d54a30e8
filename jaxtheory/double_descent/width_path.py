"""Least squares at every width, from one pass of orthogonal factorizations.

Double descent is a curve over widths; here the whole curve costs about as much as a few of its points. Below the
interpolation threshold one QR serves every width, since the leading block of an inverse triangle is the inverse of
the leading block. Above it, features are removed one by one: move along the null space of the features until the
coefficient of the removed one vanishes. Every transformation is orthogonal, so no condition number is squared, and
float32 stays useful up to the peak.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import sequential_vmap
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Float, Int

from jaxtheory.checks import holds, require
from jaxtheory.results import Status, status_where


class WidthPath(NamedTuple):
    """What least squares does at each width; one entry a width.

    Errors are means over points of the squared error summed over outputs. `test_error` is the fraction of test
    points whose largest output is not the target's (for one output: whose sign is not the target's). `norm` is the
    Frobenius norm of the coefficients, `loo_mse` the exact leave-one-out error, and `condition` the Frobenius
    condition number ‖A‖‖A⁺‖ of the (ridge-augmented) features.
    """

    width: Int[Array, " widths"]
    train_mse: Float[Array, " widths"]
    test_mse: Float[Array, " widths"]
    test_error: Float[Array, " widths"]
    norm: Float[Array, " widths"]
    loo_mse: Float[Array, " widths"]
    condition: Float[Array, " widths"]
    status: Int[Array, " widths"]


class _Problem(NamedTuple):
    """Features of test points, then of training points, by live column; what to predict; and what is added."""

    rows: Float[Array, "points features"]
    targets: Float[Array, "n outputs"]
    test_targets: Float[Array, "m outputs"]
    ridge: Float[Array, ""]

    @property
    def features(self) -> Float[Array, "n features"]:
        return self.rows[len(self.test_targets) :]


class _Step(NamedTuple):
    """One width, as the scans see it; squares are left to be rooted at the end."""

    train_mse: Array
    test_mse: Array
    test_error: Array
    norm_squared: Array
    loo_mse: Array
    inverse_squared: Array  # ‖A⁺‖_F²
    amplification: Array  # what multiplies eps · condition in the forward error


def width_path(
    features: Float[Array, "n P"],
    targets: Float[Array, "n *outputs"],
    test_features: Float[Array, "m P"],
    test_targets: Float[Array, "m *outputs"],
    *,
    ridge: float | Float[Array, ""] = 0.0,
    widths: Int[Array, " widths"] | None = None,
) -> WidthPath:
    r"""Min-norm or ridge least squares on the first p features, exactly, at every p.

    With A_p the first p columns of `features` and y the targets,

        ridge = 0:  β_p = A_p⁺ y        ridge > 0:  β_p = (A_pᵀA_p + ridge · I)⁻¹ A_pᵀ y

    Ridge λ is √λ·I appended: as n more features above the threshold, as rows below it. With A = QR, the prediction
    at p < n is Σ_{j≤p} (T R⁻¹)_j (Qᵀy)_j. For p ≥ n, let [Q N] be the complete orthogonal factor of A_{p₁}ᵀ, N's
    columns turned so that its rows at features p₁, p₁−1, … form a lower triangle C; then

        β_{p₁−k} = β_{p₁} − Σ_{j≤k} N_j s_j,   C s = β_{p₁} at those features,   ‖β_{p₁−k}‖² = ‖β_{p₁}‖² + Σ_{j≤k} s_j²

    Features that are zero on every training point get no coefficient and do not count towards the threshold.

    Args:
        features: A, n ≥ 2 training points by P nested features.
        targets: y, [n] or [n, outputs], in the dtype of `features`.
        test_features: T, m ≥ 1 points.
        test_targets: [m] or [m, outputs].
        ridge: what is added to the unnormalized Gram. A Python 0 selects the min-norm solution; an array takes the
            ridge path and gets `INVALID_INPUT` where it is not positive.
        widths: which of 1..P to report; all by default.

    Returns:
        `WidthPath` at `widths`. `status` is `ILL_CONDITIONED` where the first-order forward error
        eps · condition · (1 + ‖A⁺‖‖r‖/‖β‖ below the threshold) passes 0.1: no digit of the answer is left.

    Raises:
        ValueError: shapes that do not match, values that are not finite, a negative ridge, a width outside 1..P.

    Cost: about (13 n² + 8 (m + n) n) P flops for P > n and outputs ≪ n; peak memory 4 (m + n) n + (m + n) P + 12 n²
    numbers beside the inputs. jit once per shape; vmap over seeds, targets and ridges runs path after path.
    Source: Golub and Van Loan (2013), Matrix Computations, 5.2 and 6.5 (updating); Higham (2002), theorems 20.1, 21.1.

    >>> a, t = jax.random.normal(jax.random.key(0), (20, 60)), jax.random.normal(jax.random.key(1), (50, 60))
    >>> path = width_path(a, a[:, 40], t, t[:, 40])
    >>> bool(path.test_mse[19] > 10 * path.test_mse[59])
    True
    """
    _check(features, targets, test_features, test_targets, ridge)
    limit = features.shape[1]
    widths = jnp.arange(1, limit + 1) if widths is None else jnp.asarray(widths)
    require(widths.size > 0, "widths", widths, "name at least one width", "leave it out for every width")
    whole = jnp.issubdtype(widths.dtype, jnp.integer)
    require(whole, "widths", widths, "be integers", "pass widths.astype(int)")
    inside = holds(lambda width: (width >= 1) & (width <= limit), widths)
    require(inside, "widths", widths, f"lie in 1..{limit}", "drop the widths that have no features")
    min_norm = isinstance(ridge, int | float) and ridge == 0
    targets, test_targets = (y.reshape(len(y), -1) for y in (targets, test_targets))
    return _path(
        features, targets, test_features, test_targets, jnp.asarray(ridge, features.dtype), widths, min_norm=min_norm
    )


def _check(features: Array, targets: Array, test_features: Array, test_targets: Array, ridge: float | Array) -> None:
    """Say no to what has no answer, naming the argument."""
    rows = features.ndim == 2 and len(features) >= 2 and features.shape[1] >= 1
    require(rows, "features", features.shape, "be [n, P] with n >= 2 and P >= 1", "pass one row a training point")
    kind = features.dtype
    require(jnp.issubdtype(kind, jnp.floating), "features", kind, "be floating", "pass features.astype('float32')")
    rest = {"targets": targets, "test_features": test_features, "test_targets": test_targets}
    for name, value in rest.items():
        length = len(features) if name == "targets" else len(test_features)
        fits = value.ndim in (1, 2) and len(value) == length and value.size > 0
        require(fits, name, value.shape, f"have {length} rows", "pass one row a point")
        require(value.dtype == kind, name, value.dtype, f"have the dtype of features, {kind}", f"cast {name}")
    for name, value, like in (("test_features", test_features, features), ("test_targets", test_targets, targets)):
        same = value.shape[1:] == like.shape[1:]
        require(same, name, value.shape, f"have the columns of the training data, {like.shape}", "use the same columns")
    numbers: dict[str, float | Array] = {"features": features, **rest, "ridge": ridge}
    for name, number in numbers.items():
        require(holds(np.isfinite, number), name, number, "be finite", "drop or fill what is missing")
    require(np.ndim(ridge) == 0, "ridge", ridge, "be one number", "jax.vmap over many ridges")
    legal = holds(lambda value: value >= 0, ridge)
    require(legal, "ridge", ridge, "be >= 0 to define a regression", "use ridge=0.0 for the min-norm solution")


@partial(jax.jit, static_argnames="min_norm")
def _path(*arrays: Array, min_norm: bool) -> WidthPath:
    # One path fills a device, so vmap maps. On a CPU two batched LAPACK calls at once can wait for each other forever.
    return sequential_vmap(partial(_solve, min_norm=min_norm))(*arrays)


@jax.default_matmul_precision("highest")
def _solve(
    features: Array,
    targets: Array,
    test_features: Array,
    test_targets: Array,
    ridge: Array,
    widths: Array,
    min_norm: bool,
) -> WidthPath:
    samples, limit = features.shape
    dead = (features == 0).all(axis=0)
    order = jnp.argsort(dead, stable=True)
    rows = jnp.concatenate([test_features, features])[:, order]
    problem = _Problem(rows, targets, test_targets, ridge)
    empty = _step(problem, jnp.zeros((len(rows), targets.shape[1]), rows.dtype))
    steps = [jax.tree.map(lambda leaf: leaf[None], empty), _below(problem, min(limit, samples - 1), min_norm)]
    if limit >= samples:
        steps.append(_above(problem, min_norm))
    live = jnp.cumsum(~dead)[widths - 1]
    step = jax.tree.map(lambda *parts: jnp.concatenate(parts)[live], *steps)
    return _report(step, widths, features, ridge, live, min_norm)


def _step(problem: _Problem, prediction: Array) -> _Step:
    """The errors of one prediction of all points; what the scans add is left at the values of the empty model."""
    tests = len(problem.test_targets)
    test, residual = prediction[:tests], problem.targets - prediction[tests:]
    train_mse = (residual**2).sum(axis=1).mean()
    return _Step(
        train_mse=train_mse,
        test_mse=((test - problem.test_targets) ** 2).sum(axis=1).mean(),
        test_error=(_label(test) != _label(problem.test_targets)).mean(dtype=prediction.dtype),
        norm_squared=jnp.zeros_like(train_mse),
        loo_mse=train_mse,
        inverse_squared=jnp.zeros_like(train_mse),
        amplification=jnp.ones_like(train_mse),
    )


def _label(outputs: Array) -> Array:
    return outputs.argmax(axis=1) if outputs.shape[1] > 1 else jnp.sign(outputs[:, 0]).astype(jnp.int32)


class _Columns(NamedTuple):
    """What each width below n adds: one row a feature."""

    direction: Float[Array, "count points"]  # (T R⁻¹)_j at the test points, Q_j at the training points
    coefficients: Float[Array, "count count"]  # (R⁻¹)_j
    coordinate: Float[Array, "count outputs"]  # (Qᵀy)_j
    free: Float[Array, "count n"]  # 1 − leverage of each training point


def _columns(problem: _Problem, count: int, min_norm: bool) -> _Columns:
    """One QR of the first `count` features, the ridge as appended rows."""
    tests, samples = len(problem.test_targets), len(problem.targets)
    design = problem.features[:, :count]
    slack = jnp.sqrt(problem.ridge) * jnp.eye(count, dtype=design.dtype)
    orthogonal, triangle = jnp.linalg.qr(design if min_norm else jnp.concatenate([design, slack]), mode="complete")
    orthogonal, triangle = orthogonal[:samples], triangle[:count]
    # 1 - leverage, summed from the columns not yet used: at p = n - 1 a subtraction would leave nothing.
    squares = jnp.cumsum((orthogonal**2)[:, ::-1], axis=1)[:, ::-1]
    spare = jnp.pad(squares, ((0, 0), (0, 1)))[:, 1 : count + 1]
    orthogonal = orthogonal[:, :count]
    # Dead columns come last and are never read, but must not divide by zero on the way.
    triangle = triangle + jnp.diag((jnp.diag(triangle) == 0).astype(design.dtype))
    basis = solve_triangular(triangle, problem.rows[:tests, :count].T, trans=1)
    inverse = solve_triangular(triangle, jnp.eye(count, dtype=design.dtype))
    directions = jnp.concatenate([basis, orthogonal.T], axis=1)
    return _Columns(directions, inverse.T, orthogonal.T @ problem.targets, spare.T)


def _below(problem: _Problem, count: int, min_norm: bool) -> _Step:
    """Widths 1..count < n: β_p is the sum of the first p columns of R⁻¹ times the first p entries of Qᵀy."""
    columns, tests = _columns(problem, count, min_norm), len(problem.test_targets)

    def add(carry: tuple[Array, ...], column: _Columns) -> tuple[tuple[Array, ...], _Step]:
        prediction, beta, inverse_squared = carry
        prediction = prediction + jnp.outer(column.direction, column.coordinate)
        beta = beta + jnp.outer(column.coefficients, column.coordinate)
        inverse_squared = inverse_squared + (column.coefficients**2).sum()
        residual, norm_squared = problem.targets - prediction[tests:], (beta**2).sum()
        misfit = (residual**2).sum() + problem.ridge * norm_squared
        step = _step(problem, prediction)._replace(
            norm_squared=norm_squared,
            loo_mse=((residual / column.free[:, None]) ** 2).sum(axis=1).mean(),
            inverse_squared=inverse_squared,
            amplification=1 + jnp.sqrt(inverse_squared * misfit / norm_squared),
        )
        return (prediction, beta, inverse_squared), step

    zero, outputs = problem.rows[0, 0] * 0, problem.targets.shape[1]
    blank = partial(jnp.full, fill_value=zero, dtype=zero.dtype)
    start: tuple[Array, ...] = blank((len(problem.rows), outputs)), blank((count, outputs)), zero
    return jax.lax.scan(add, start, columns)[1]


def _above(problem: _Problem, min_norm: bool) -> _Step:
    """Widths n..P: blocks of features are appended by QR, then removed one by one, last first."""
    samples, limit = problem.features.shape
    blocks = -(-(limit - samples + 1) // samples)
    size = -(-(limit - samples + 1) // blocks)
    # Zero columns fill the last block; removing one changes nothing, and uncovers width P.
    rows = jnp.pad(problem.rows, ((0, 0), (0, samples + blocks * size - limit)))

    def append(carry: tuple[Array, Array], block: Array) -> tuple[tuple[Array, Array], _Step]:
        columns = jax.lax.dynamic_slice_in_dim(rows, samples + block * size, size, axis=1)[:, ::-1]
        carry, steps = _remove(problem, *carry, columns, min_norm)
        return carry, jax.tree.map(lambda leaf: leaf[::-1], steps)

    steps = jax.lax.scan(append, _first_basis(problem, min_norm), jnp.arange(blocks))[1]
    return jax.tree.map(lambda leaf: leaf.reshape(-1), steps)


def _first_basis(problem: _Problem, min_norm: bool) -> tuple[Array, Array]:
    """A factor R with RᵀR = AAᵀ + ridge·I at width n, and every point in the basis that it belongs to."""
    samples = len(problem.targets)
    rows = problem.rows[:, :samples]
    transposed = problem.features[:, :samples].T
    if min_norm:
        return transposed, rows
    slack = jnp.sqrt(problem.ridge) * jnp.eye(samples, dtype=rows.dtype)
    orthogonal, triangle = jnp.linalg.qr(jnp.concatenate([transposed, slack]))
    return triangle, rows @ orthogonal[:samples]


def _remove(
    problem: _Problem, factor: Array, points: Array, columns: Array, min_norm: bool
) -> tuple[tuple[Array, Array], _Step]:
    """Append `columns` (last feature first), then walk back over them along the null space of the features."""
    tests, samples = len(problem.test_targets), len(problem.targets)
    orthogonal, triangle = jnp.linalg.qr(jnp.concatenate([factor, columns[tests:].T]), mode="complete")
    triangle, kept, null = triangle[:samples], orthogonal[:, :samples], orthogonal[:, samples:]
    turn, upper = jnp.linalg.qr(null[samples:].T)  # so that null @ turn ends in the lower triangle upper.T
    points = jnp.concatenate([points, columns], axis=1)
    points, directions = points @ kept, points @ (null @ turn)

    whitened = solve_triangular(triangle, problem.targets, trans=1)
    shifts = solve_triangular(upper, kept[samples:] @ whitened, trans=1)
    duals = solve_triangular(triangle, solve_triangular(upper, kept[samples:], trans=1).T)
    inverse = solve_triangular(triangle, jnp.eye(samples, dtype=triangle.dtype))

    def remove(carry: tuple[Array, ...], column: tuple[Array, ...]) -> tuple[tuple[Array, ...], _Step]:
        prediction, dual, diagonal, norm_squared = carry
        direction, dual_direction, shift = column
        prediction = prediction - jnp.outer(direction, shift)
        dual = dual + jnp.outer(dual_direction, shift)
        diagonal = diagonal + dual_direction**2
        norm_squared = norm_squared + (shift**2).sum()
        step = _step(problem, prediction)._replace(
            norm_squared=norm_squared if min_norm else _feature_norm(problem, prediction[tests:], norm_squared),
            loo_mse=((dual / diagonal[:, None]) ** 2).sum(axis=1).mean(),
            inverse_squared=diagonal.sum(),
        )
        return (prediction, dual, diagonal, norm_squared), step

    start: tuple[Array, ...] = points @ whitened, inverse @ whitened, (inverse**2).sum(axis=1), (whitened**2).sum()
    per_feature: tuple[Array, ...] = directions.T, duals.T, shifts
    return (triangle, points), jax.lax.scan(remove, start, per_feature)[1]


def _feature_norm(problem: _Problem, fitted: Array, total: Array) -> Array:
    """‖β‖² without the appended slack r/√ridge: `total` − ‖r‖²/ridge, or ⟨r, fit⟩/ridge where r is most of y."""
    residual = problem.targets - fitted
    slack, aligned = (residual**2).sum() / problem.ridge, (residual * fitted).sum() / problem.ridge
    return jnp.where((residual**2).sum() > (fitted**2).sum(), aligned, total - slack)


def _report(step: _Step, widths: Array, features: Array, ridge: Array, live: Array, min_norm: bool) -> WidthPath:
    """Roots of the squares, the condition number, and the status that follows from it."""
    size = jnp.cumsum((features**2).sum(axis=0))[widths - 1]
    size = size + ridge * jnp.minimum(live, len(features)).astype(features.dtype)
    condition = jnp.sqrt(size * step.inverse_squared)
    error = jnp.finfo(features.dtype).eps * condition * step.amplification
    path = WidthPath(
        widths,
        step.train_mse,
        step.test_mse,
        step.test_error,
        jnp.sqrt(step.norm_squared),
        step.loo_mse,
        condition,
        widths,
    )
    finite = jnp.stack([jnp.isfinite(values) for values in path[1:-1]]).all(axis=0)
    invalid = jnp.zeros_like(finite) if min_norm else jnp.broadcast_to(~(ridge > 0), finite.shape)
    return path._replace(
        status=status_where(
            (invalid, Status.INVALID_INPUT), (~finite, Status.NOT_FINITE), (error > 0.1, Status.ILL_CONDITIONED)
        )
    )
