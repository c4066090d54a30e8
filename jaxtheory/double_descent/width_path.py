"""Least squares at every width, from one pass of orthogonal transformations.

Double descent is a curve over widths; here the whole curve costs about as much as a few of its points.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxtheory.checks import boundary, constrain, holds, known, require
from jaxtheory.double_descent.columns import Block, State, Task, Width, append, begin
from jaxtheory.double_descent.repeats import rank_bound
from jaxtheory.guarded import divided, over, power_of_two, root
from jaxtheory.results import Status, status_where


class WidthPath(NamedTuple):
    """What least squares does at each width; one entry a width.

    Errors are means over points of the squared error summed over outputs. `test_error` is the fraction of test
    points whose largest output is not the target's (for one output: whose sign is not the target's). `norm` is the
    Frobenius norm of the coefficients, `loo_mse` the exact leave-one-out error, and `condition` the Frobenius
    condition number ‖A‖‖A⁺‖ of the (ridge-augmented) features on their row space.
    """

    width: Int[Array, " widths"]
    train_mse: Float[Array, " widths"]
    test_mse: Float[Array, " widths"]
    test_error: Float[Array, " widths"]
    norm: Float[Array, " widths"]
    loo_mse: Float[Array, " widths"]
    condition: Float[Array, " widths"]
    status: Int[Array, " widths"]


class _Units(NamedTuple):
    """Powers of two that bring features and targets to order one."""

    features: Float[Array, ""]
    targets: Float[Array, ""]
    test: Float[Array, ""]  # of test errors


class _Path(NamedTuple):
    """Every width, in these units, and what is known of it before anything is solved."""

    fit: Width
    units: _Units
    seen: Bool[Array, " P"]  # every number up to here is finite
    live: Int[Array, " P"]  # features that are not zero, n at most
    bound: Int[Array, " P"]  # what the rank cannot exceed


@boundary
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

    One column more adds one direction ĥ to the row space or to the kernel of A_p: β changes by a multiple of ĥ, and
    with it predictions, residuals and the leave-one-out errors (r_i/(1 − leverage) where other points determine the
    prediction at i, α_i/(AAᵀ)⁺_ii with α = (AAᵀ)⁺y where none does); `columns` has the equations. No answer
    depends on later columns: to rounding for `loo_mse`, to the bit for the others.

    Rank is decided as by a pseudo-inverse with the cut-off max(n, p) · eps: repeated points, repeated, dependent or
    dead features get the min-norm answer. float32 cannot tell a dependency from a distance below its rounding, so
    there such widths say `ILL_CONDITIONED` until the rank is n.

    Args:
        features: A, n ≥ 2 training points by P nested features.
        targets: y, [n] or [n, outputs].
        test_features: T, m ≥ 1 points.
        test_targets: [m] or [m, outputs].
        ridge: what is added to the unnormalized Gram, the same at every width; `width_ridge` converts that of the laws
            of random features, which are divided by √p. A Python 0 saves the slack columns of a ridge.
        widths: which of 1..P to report; all by default.

    Returns:
        `WidthPath` at `widths`. `status` is `ILL_CONDITIONED` where the first-order forward error
        eps · condition · (1 + ‖A⁺‖‖r‖/‖β‖), r the residual, passes 0.1, or where the condition comes near the cut-off
        of the rank; `NOT_FINITE` where a number is not finite, or a square not representable; `INVALID_INPUT`, with
        NaN, for a negative ridge or a width outside 1..P inside `jit`.

    Raises:
        ValueError: shapes that do not match, values that are not finite, a negative ridge, a width outside 1..P.

    Derivatives of every order in all five arrays, along changes that keep the rank (where it is below min(n, p), others
    have no derivative); in the ridge at 0 there is none. Reverse mode keeps one state a block.
    Cost: about (30 n² + 12 (m + n) n) P flops for outputs ≪ n; peak memory as `memory.width_path` says, about
    3 (m + n) P numbers where P is large.
    Under vmap, paths are batched, and over a sharded axis each device has its own.
    Source: Greville (1960), Some applications of the pseudoinverse of a matrix, for the update; Golub and Van Loan
    (2013), Matrix Computations, 5.2 and 6.5; Higham (2002), theorems 20.1 and 21.1, for the error.

    >>> a, t = jax.random.normal(jax.random.key(0), (20, 60)), jax.random.normal(jax.random.key(1), (50, 60))
    >>> path = width_path(a, a[:, 40], t, t[:, 40])
    >>> bool(path.test_mse[19] > 10 * path.test_mse[59])
    True
    """
    _check_shapes(features, targets, test_features, test_targets)
    arrays = [features, targets, test_features, test_targets]
    for name, array in zip(("features", "targets", "test_features", "test_targets"), arrays, strict=True):
        require(holds(np.isfinite, array), name, array, "be finite", "drop or fill what is missing")
    ridge = constrain(
        "ridge", ridge, lambda value: (value >= 0) & (value < np.inf), "be >= 0 and finite to define a regression",
        "use ridge=0.0 for the min-norm solution",
    )  # fmt: skip
    limit = features.shape[1]
    widths = jnp.arange(1, limit + 1) if widths is None else widths
    require(widths.size > 0, "widths", widths, "name at least one width", "leave it out for every width")
    inside = holds(lambda width: (width >= 1) & (width <= limit), widths)
    require(inside, "widths", widths, f"lie in 1..{limit}", "drop the widths that have no features")
    if known(widths):
        limit = -(-int(widths.max()) // _block_size(len(features))) * _block_size(len(features))
    dtype = jnp.result_type(features, targets, test_features, test_targets)
    arrays = [features[:, :limit], targets, test_features[:, :limit], test_targets]
    arrays = [x.astype(dtype).reshape(len(x), -1) for x in arrays]
    min_norm, ridge = isinstance(ridge, float) and ridge == 0, jnp.asarray(ridge, dtype)
    return _report(_path(*arrays, ridge, min_norm=min_norm), widths, ridge, len(features))


@boundary
def width_ridge(ridge: float | Float[Array, "..."], width: Float[Array, "..."]) -> Float[Array, "..."]:
    r"""The ridge of features as drawn that is `ridge` of features divided by √width: width · ridge.

    With Z of `width` columns, as `kernels.random_features` draws them, and F = Z/√width, whose FFᵀ tends to a kernel,

        Z (ZᵀZ + width · ridge I)^(−1) Zᵀ = F (FᵀF + ridge I)^(−1) Fᵀ

    The laws of random features are of F. At width p, `width_path(Z, …, ridge=width_ridge(ridge, p), widths=[p])` has
    the risk of `random_feature_spectrum` and `sphere_risk` at `ridge`, of `variance_components` and `ensemble_risk` at
    lam = ridge/n, and of `mei_montanari` at lam = d · ridge/n; at p → ∞ that of the kernel itself.

    Args:
        ridge: ≥ 0, of divided features.
        width: > 0. They broadcast.

    Returns:
        What to add to the unnormalized Gram ZZᵀ; NaN inside jit where an argument is out of range.

    Raises:
        ValueError: a negative ridge, a width ≤ 0, or numbers that are not finite.

    Cost: elementwise. Source: Simon, Karkada, Ghosh, Belkin (2023), section 2.

    >>> width_ridge(0.1, jnp.array([50.0, 200.0])).tolist()
    [5.0, 20.0]
    """
    wish, hint = "be >= 0 and finite to define a regression", "use ridge=0.0 for the min-norm solution"
    ridge = constrain("ridge", ridge, lambda value: (value >= 0) & (value < np.inf), wish, hint)
    count = "count the features; the kernel itself needs no features"
    return ridge * constrain("width", width, lambda value: (value > 0) & (value < np.inf), "be > 0 and finite", count)


def _check_shapes(features: Array, targets: Array, test_features: Array, test_targets: Array) -> None:
    rows = len(features) >= 2 and features.shape[1] >= 1
    require(rows, "features", features.shape, "be [n, P] with n >= 2 and P >= 1", "pass one row a training point")
    for name, value in (("targets", targets), ("test_features", test_features), ("test_targets", test_targets)):
        length = len(features) if name == "targets" else len(test_features)
        fits = value.ndim in (1, 2) and len(value) == length and value.size > 0
        require(fits, name, value.shape, f"have {length} rows", "pass one row a point")
    for name, value, like in (("test_features", test_features, features), ("test_targets", test_targets, targets)):
        same = value.shape[1:] == like.shape[1:]
        require(same, name, value.shape, f"have the columns of the training data, {like.shape}", "use the same columns")


@partial(jax.jit, static_argnames="min_norm")
@jax.default_matmul_precision("highest")
def _path(
    features: Array, targets: Array, test_features: Array, test_targets: Array, ridge: Array, *, min_norm: bool
) -> _Path:
    samples, limit = features.shape
    size = _block_size(samples)
    count = max(2, -(-limit // size))  # a loop of one step is inlined, and may round differently
    finite = jnp.isfinite(features).all(axis=0) & jnp.isfinite(test_features).all(axis=0)
    columns = jnp.where(finite[None], features, 0)
    first = columns[:, jnp.argmax((columns != 0).any(axis=0))]
    units = _Units(power_of_two(first), power_of_two(targets), jnp.maximum(*map(power_of_two, (targets, test_targets))))
    tests = jnp.where(finite[None], test_features, 0) / units.features
    columns = columns / units.features
    finite = finite & jnp.isfinite(columns).all(axis=0) & jnp.isfinite(tests).all(axis=0)  # in these units too
    columns, tests = (
        jnp.pad(jnp.where(finite[None], x, 0), ((0, 0), (0, count * size - limit))) for x in (columns, tests)
    )
    ridge = divided(ridge, units.features, units.features)
    task = Task(test_targets / units.test, units.targets / units.test, ridge)
    live = jnp.minimum((columns != 0).any(axis=0).cumsum(), samples)
    bound = jnp.minimum(live, rank_bound(columns))

    def step(state: State, first: Array) -> tuple[State, Width]:
        block, test_block = (jax.lax.dynamic_slice_in_dim(x, first, size, axis=1) for x in (columns, tests))
        width, top = first + jnp.arange(1, size + 1), jax.lax.dynamic_slice_in_dim(bound, first, size)
        return append(state, Block(block, test_block, width, top), task, min_norm)

    start = begin(columns, targets / units.targets, task, min_norm)
    fits = jax.lax.scan(jax.checkpoint(step), start, jnp.arange(0, count * size, size))[1]
    seen = jnp.isfinite(targets).all() & jnp.isfinite(test_targets).all() & (jnp.cumsum(~finite) == 0)
    fit = jax.tree.map(lambda leaf: leaf.reshape(-1)[:limit], fits)
    return _Path(fit, units, seen, live[:limit], bound[:limit])


def _block_size(samples: int) -> int:
    """Columns a block: a power of two near n/6, where what is done a column and what is done a block cost the same."""
    return int(min(max(2 ** round(np.log2(samples / 6)), 8), 128))


@partial(jax.jit, static_argnums=3)
def _report(path: _Path, widths: Array, ridge: Array, samples: int) -> WidthPath:
    """The fits at some widths in the units of the arguments, and the status that follows from condition and rank."""
    limit, units = len(path.seen), path.units
    inside = (widths >= 1) & (widths <= limit)
    fit, seen, live, bound = jax.tree.map(lambda leaf: leaf[widths - 1], (path.fit, path.seen, path.live, path.bound))
    ridge = divided(ridge, units.features, units.features)
    # singular values that are those of the ridge alone
    inverse = fit.inverse + (live - fit.rank).astype(ridge.dtype) * over(jnp.ones_like(ridge), ridge)
    condition = root((fit.size + ridge * live.astype(ridge.dtype)) * inverse)
    values = [
        fit.train * units.targets * units.targets,
        fit.test * units.test * units.test,
        fit.wrong,
        fit.norm * (units.targets / units.features),
        fit.loo * units.targets * units.targets,
        condition,
    ]
    scaled, held = jnp.stack([fit.train, fit.test, fit.norm, fit.loo]), jnp.stack([*values[:2], *values[3:5]])
    info = jnp.finfo(held.dtype)
    vanished = ((scaled > 100 * info.eps**2) & (held < info.tiny)).any(axis=0)
    lost, finite = ~(inside & seen), jnp.isfinite(jnp.stack(values)).all(axis=0)
    size = jnp.maximum(widths, samples).astype(condition.dtype)
    ill = _is_ill_conditioned(fit, condition, size, bound, samples, ridge)
    # `fit` has all batch axes, and a mesh of explicit axes wants the conditions alike
    invalid = (~inside | ~(ridge >= 0)) & (fit.rank >= 0)
    status = status_where(
        (invalid, Status.INVALID_INPUT),
        (lost | vanished | ~finite, Status.NOT_FINITE),
        (ill, Status.ILL_CONDITIONED),
    )
    train, test, wrong, norm, loo, condition = (jnp.where(lost, jnp.nan, value) for value in values)
    return WidthPath(widths, train, test, wrong, norm, loo, condition, status)


def _is_ill_conditioned(
    fit: Width, condition: Array, size: Array, bound: Array, samples: int, ridge: Array
) -> Bool[Array, " widths"]:
    """Whether the forward error may pass a tenth, or the rank may be another one; `size` is max(n, p)."""
    eps, extent = jnp.finfo(condition.dtype).eps, root(fit.size)
    unseen = jnp.maximum(bound - fit.rank, 0).astype(ridge.dtype)
    inverse = fit.inverse + unseen * over(jnp.ones_like(ridge), ridge)
    strain = extent * inverse * over(root(fit.train * samples), fit.norm)
    error = eps * (extent * root(inverse) * fit.loss + strain + fit.worn)
    # what was dropped is an error of the features, and so is the cut-off while the rank hangs on it
    bare, deficient = ridge == 0, (fit.dropped > 0) & (fit.rank < samples)
    moved = over(fit.dropped, extent) + jnp.where(deficient & bare, eps * size, 0)
    error = error + moved * (extent * root(inverse) + strain)
    near = size * float(np.finfo(np.float64).eps) * condition > 1
    guessed = (deficient | fit.alone) & (fit.rank < bound) & (condition.dtype != jnp.float64)
    return ~(error <= 0.1) | (bare & (near | guessed))
