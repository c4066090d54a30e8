r"""Least squares while columns are appended, block after block, from orthogonal transformations alone.

Of the p columns so far, with rank r, the state holds

    A_p = Q [L 0] Vᵀ,   Q [n r] and V orthonormal, L [r r] lower triangular,

as an orthonormal `frame` of the sample space whose first rows are Qᵀ, and every point's features times V (`points`,
whose first rows are L). For the next column a let Qᵀa = k, ρ its distance from the span, d = A⁺a, h = (−d, 1),
ĥ = h/‖h‖, θ = ρ/‖h‖, η = ĥᵀβ, and c = qᵀy with q the new direction. Then

    ρ = 0 (dependent):  the kernel of A gains ĥ,   β ← β − ĥ η
    ρ > 0 (fresh):      the rank gains one,        β ← β + ĥ (θ c − λ η)/(θ² + λ)

A ridge λ is a slack column √λ q beside each fresh column: the min-norm solution of all columns is the ridge solution,
and the slack takes up the residual. Within a block, d comes from L and the block's own ĥ; at its end L and V absorb the
block by Householder reflections. So errors do not add up from block to block, no condition number is squared, and a
width never sees a later column.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Bool, Float, Int

from jaxtheory.double_descent.reflections import absorb, factor, length, mirror
from jaxtheory.guarded import over, power_of_two, root

# A column counts as dependent when its distance from the span is below this many times √max(n, p) roundings of it: of
# exact dependencies none came above a tenth of that, of generic columns none below ten times that, at n up to 400.
_NOISE = 2.0
_ALONE = 8.0  # a leverage counts as 1 when the root of its distance from 1 is below so many roundings


class Span(NamedTuple):
    """The space that the columns so far span."""

    frame: Float[Array, "n n"]
    targets: Float[Array, "n outputs"]  # in the frame
    doubt: Float[Array, " n"]  # by how much rounding may have turned each row of the frame
    rank: Int[Array, ""]
    dropped: Float[Array, ""]  # Frobenius norm of what was taken for rounding and set to zero


class State(NamedTuple):
    """What is kept of the columns so far."""

    span: Span
    points: Float[Array, "rows n"]
    size: Float[Array, ""]  # ‖A‖²


class Split(NamedTuple):
    """One column (a row of each field) in the frame, and what is outside the span with it."""

    inside: Float[Array, " n"]  # k and, in a fresh column's row, ±ρ
    fresh: Bool[Array, ""]
    rank: Int[Array, ""]
    outside: Float[Array, " n"]  # 1 − leverage of each training point
    missed: Float[Array, "n outputs"]  # y − QQᵀy
    tail: Float[Array, ""]  # its square
    noise: Float[Array, ""]  # angle by which rounding may have turned the span
    dropped: Float[Array, ""]


class Fresh(NamedTuple):
    """What a column adds to the span; zero where it is dependent."""

    height: Float[Array, ""]  # ±ρ
    direction: Float[Array, " n"]  # q
    coordinate: Float[Array, " outputs"]  # c
    row: Int[Array, ""]  # of q in the frame


class Move(NamedTuple):
    """What one column changes: β by ĥ `change`ᵀ, the dual α = A⁺ᵀβ by z `change`ᵀ + q `dual`ᵀ."""

    unit: Float[Array, " size"]  # ĥ
    change: Float[Array, " outputs"]
    dual: Float[Array, " outputs"]
    theta: Float[Array, ""]
    power: Float[Array, ""]  # θ² + λ
    norm: Float[Array, ""]  # ‖β‖, slack included
    loss: Float[Array, ""]  # by what factor cancellation has raised rounding in this block


class Width(NamedTuple):
    """The fit at one width, for features and targets of order one."""

    train: Float[Array, ""]
    test: Float[Array, ""]
    wrong: Float[Array, ""]  # fraction of test points with another label
    norm: Float[Array, ""]
    loo: Float[Array, ""]
    inverse: Float[Array, ""]  # ‖A⁺‖², of the slack columns too
    loss: Float[Array, ""]
    worn: Float[Array, ""]  # the same for `inverse` and `loo`
    rank: Int[Array, ""]
    dropped: Float[Array, ""]
    alone: Bool[Array, ""]  # whether a leverage was taken for 1 while the rank is not full
    size: Float[Array, ""]  # ‖A‖²


class Task(NamedTuple):
    """What is the same at every width."""

    test_targets: Float[Array, "m outputs"]
    gain: Float[Array, ""]  # the unit of predictions over that of the test targets
    ridge: Float[Array, ""]


class Block(NamedTuple):
    """Some columns that follow each other."""

    columns: Float[Array, "n b"]
    tests: Float[Array, "m b"]
    width: Int[Array, " b"]
    bound: Int[Array, " b"]  # what the rank cannot exceed at each width


def begin(columns: Float[Array, "n P"], targets: Float[Array, "n outputs"], task: Task, min_norm: bool) -> State:
    """No columns yet; the rows of `points` are L, with a ridge the training points, and the test points."""
    samples = len(columns)
    rows = samples * (1 if min_norm else 2) + len(task.test_targets)
    # What a loop carries depends on every input from its start: else vmap batches a loop twice, which fails on a mesh
    # of explicit axes.
    none = 0 * jnp.isnan(jnp.stack([x.ravel()[0] for x in (columns, targets, *task)])).sum()
    zero = none.astype(columns.dtype)
    frame = jnp.eye(samples, dtype=columns.dtype) + zero
    return State(
        Span(frame, targets + zero, jnp.full(samples, zero), none, zero), jnp.full((rows, samples), zero), zero
    )


def append(state: State, block: Block, task: Task, min_norm: bool) -> tuple[State, Width]:
    """The state after a block of columns, and the fit after each."""
    samples, size = block.columns.shape
    unit = power_of_two(block.columns, axis=0)
    scaled = block._replace(columns=block.columns / unit[None])
    span, split = jax.lax.cond(state.span.rank < samples, _grow, _fill, state.span, scaled, unit)
    fresh = _fresh(span, split)

    # L⁻¹ of the frame, of the block and of the targets, in the rows that were there before
    old = (jnp.arange(samples) < state.span.rank)[:, None]
    known = jnp.where(old, jnp.concatenate([span.frame, split.inside.T, span.targets], axis=1), 0)
    factor = jnp.where(old, state.points[:samples], jnp.eye(samples, dtype=known.dtype))
    inverse, solved, beta = jnp.split(solve_triangular(factor, known, lower=True), [samples, samples + size], axis=1)
    along = jnp.where(split.fresh[None], split.inside[:, fresh.row], 0)
    moves, lifts = _move(solved, beta, along, unit, split, fresh, task=task, min_norm=min_norm)

    new = jnp.concatenate([split.inside.T * unit[None], block.tests])
    features = state.points[-len(new) :]
    within, own = moves.unit[:, :samples], moves.unit[:, samples : samples + size]
    changes = within @ features.T + own @ new.T
    duals = within @ inverse + jnp.tril(moves.unit @ lifts.T, -1) @ fresh.direction
    diagonal = (inverse**2).sum(axis=0)
    fit = _Fit(features @ beta, inverse.T @ beta, diagonal, diagonal, length(beta))
    widths = _measure(fit, changes, duals, moves, split, fresh, targets=span.targets, task=task)

    sizes = state.size + jnp.cumsum((block.columns**2).sum(axis=0))
    added = new if min_norm else _beside(new, split, fresh, task.ridge)
    return State(span, absorb(state.points, added, size), sizes[-1]), widths._replace(size=sizes)


def _beside(new: Array, split: Split, fresh: Fresh, ridge: Array) -> Array:
    """The block's columns for L and for all points, and the slack columns, which only L has."""
    samples = split.inside.shape[1]
    own = (jnp.arange(samples)[:, None] == fresh.row[None]) & split.fresh[None]
    slack = jnp.pad(jnp.where(own, jnp.sqrt(ridge), 0), ((0, len(new)), (0, 0)))
    return jnp.concatenate([jnp.concatenate([new[:samples], new]), slack], axis=1)


def _grow(span: Span, block: Block, unit: Float[Array, " b"]) -> tuple[Span, Split]:
    """Split columns of order one, with a Householder reflection of the frame for each that is fresh.

    The reflections are found on the block's columns and the targets; the frame is turned by all of them at once.
    """
    samples, eps = len(block.columns), jnp.finfo(unit.dtype).eps
    rows, size = jnp.arange(samples), block.columns.shape[1]

    def step(carry: tuple[Span, Array], index: Array) -> tuple[tuple[Span, Array], tuple[Array, Split]]:
        span, panel = carry
        column, beyond, first = panel[:, index], rows >= span.rank, rows == span.rank
        tail, within = jnp.where(beyond, column, 0), jnp.where(beyond, 0, column)
        height = length(tail)
        noise = root(((eps * column) ** 2).sum() + ((within * span.doubt) ** 2).sum())
        noise = jax.lax.stop_gradient(jnp.minimum(noise, eps**0.75 * length(column)))
        least = _NOISE * jnp.sqrt(jnp.maximum(samples, block.width[index])) * noise
        fresh = (height > least) & (span.rank < block.bound[index])
        v, signed = mirror(tail, first, fresh)
        panel = panel - jnp.outer(v, v @ panel)

        rank = span.rank + fresh.astype(span.rank.dtype)
        doubt = jnp.where(first & fresh, noise / jnp.where(fresh, height, 1), span.doubt)
        dropped = root(span.dropped**2 + jnp.where(fresh, 0, height * unit[index]) ** 2)
        split = Split(
            inside=within + jnp.where(first, signed, 0),
            fresh=fresh,
            rank=rank,
            outside=jnp.zeros_like(height),  # after the block
            missed=jnp.zeros_like(height),
            tail=(jnp.where((rows >= rank)[:, None], panel[:, size:], 0) ** 2).sum(),
            noise=root(eps**2 + (doubt**2).sum()),
            dropped=dropped,
        )
        return (span._replace(doubt=doubt, rank=rank, dropped=dropped), panel), (v, split)

    panel = jnp.concatenate([span.frame @ block.columns, span.targets], axis=1)
    (turned, panel), (mirrors, split) = jax.lax.scan(step, (span, panel), jnp.arange(size))
    frame = span.frame - mirrors.T @ (factor(mirrors).T @ (mirrors @ span.frame))
    return _outside(turned._replace(frame=frame, targets=panel[:, size:]), split)


def _outside(span: Span, split: Split) -> tuple[Span, Split]:
    """What each column leaves outside: what the block leaves, and the directions of the columns between."""
    rest = jnp.where((jnp.arange(len(span.frame)) >= span.rank)[:, None], span.frame, 0)
    fresh = _fresh(span, split)
    outside = _later(fresh.direction**2) + (rest**2).sum(axis=0)[None]
    missed = _later(fresh.direction[:, :, None] * fresh.coordinate[:, None]) + (rest.T @ span.targets)[None]
    return span, split._replace(outside=outside, missed=missed)


def _later(x: Array) -> Array:
    """For each row, the sum of those after it."""
    return jnp.concatenate([jnp.cumsum(x[:0:-1], axis=0)[::-1], jnp.zeros_like(x[:1])])


def _fill(span: Span, block: Block, unit: Float[Array, " b"]) -> tuple[Span, Split]:
    """Split columns where the span is everything: each is dependent, and nothing is left outside."""
    inside = (span.frame @ block.columns).T
    none = jnp.zeros_like(inside)

    def each(value: Array) -> Array:
        return jnp.broadcast_to(value, (len(none), *value.shape))

    missed = each(jnp.zeros_like(span.targets))
    split = Split(inside, none[:, 0] > 0, each(span.rank), none, missed, none[:, 0], none[:, 0], each(span.dropped))
    return span, split


def _fresh(span: Span, split: Split) -> Fresh:
    row = jnp.minimum(split.rank - split.fresh.astype(split.rank.dtype), len(span.frame) - 1)
    height = jnp.take_along_axis(split.inside, row[:, None], axis=1)[:, 0]
    fresh = split.fresh[:, None]
    direction, coordinate = (jnp.where(fresh, x[row], 0) for x in (span.frame, span.targets))
    return Fresh(jnp.where(split.fresh, height, 0), direction, coordinate, row)


def _move(
    solved: Float[Array, "n b"], beta: Float[Array, "n outputs"], along: Float[Array, "b b"], unit: Float[Array, " b"],
    split: Split, fresh: Fresh, *, task: Task, min_norm: bool,
) -> tuple[Move, Float[Array, "b size"]]:  # fmt: skip
    """ĥ of each column, in coordinates of V, then of the block's columns, then (with a ridge) of their slacks.

    Args:
        solved, beta: L⁻¹k of each column, L⁻¹Qᵀy before the block.
        along: each column's share in each fresh direction of the block.
        unit: what the columns were divided by.

    Returns:
        The moves, and of each fresh direction q what maps to it with the least norm.
    """
    samples, count = solved.shape
    slacks, dtype = 0 if min_norm else count, solved.dtype
    ridge, root_ridge = task.ridge, jnp.sqrt(task.ridge)
    least = float(jnp.finfo(dtype).tiny) ** 0.49  # smaller columns change nothing that the dtype can hold
    identity = jnp.diag(1 / jnp.maximum(unit, least))
    start = jnp.concatenate([-solved.T, identity, jnp.zeros((count, slacks), dtype)], axis=1)
    slack = jnp.eye(count, samples + count + slacks, samples + count, dtype=dtype)

    def step(carry: Any, column: Any) -> tuple[Any, Move]:
        kernel, lifts, beta, loss = carry
        start, along, slack, is_fresh, added, index = column
        before = start - along @ lifts
        h = before - (kernel @ before) @ kernel
        h = h - (kernel @ h) @ kernel
        size = length(h)
        unit, theta = h / size, added.height / size
        loss = jnp.maximum(loss, length(before) / size)
        eta = unit @ beta
        power = jnp.where(is_fresh, theta**2 + ridge, 1)
        change = jnp.where(is_fresh, (theta * added.coordinate - ridge * eta) / power, -eta)
        dual = jnp.where(is_fresh, (added.coordinate + theta * eta) / power, 0)
        lift = jnp.where(is_fresh, (theta * unit + root_ridge * slack) / power, 0)
        null = jnp.where(is_fresh, (root_ridge * unit - theta * slack) / jnp.sqrt(power), unit)
        beta = beta + jnp.outer(unit, change) + jnp.outer(slack, root_ridge * dual)
        kernel, lifts = kernel.at[index].set(null), lifts.at[index].set(lift)
        return (kernel, lifts, beta, loss), Move(unit, change, dual, theta, power, length(beta), loss)

    zero = jnp.zeros_like(start) + 0 * split.tail[0]
    beta = jnp.concatenate([beta, jnp.zeros((count + slacks, beta.shape[1]), dtype)])
    columns = (start, along, slack, split.fresh, fresh, jnp.arange(count))
    carry, moves = jax.lax.scan(step, (zero, zero, beta, 1 + zero[0, 0]), columns)
    return moves, carry[1]


class _Fit(NamedTuple):
    """What changes by one column from width to width."""

    prediction: Float[Array, "points outputs"]
    alpha: Float[Array, "n outputs"]  # (AAᵀ + λ)⁺y
    diagonal: Float[Array, " n"]  # of (AAᵀ + λ)⁺
    peak: Float[Array, " n"]  # of the diagonal in this block
    largest: Float[Array, ""]  # ‖β‖ in this block


def _measure(
    fit: _Fit, changes: Array, duals: Array, moves: Move, split: Split, fresh: Fresh, *, targets: Array, task: Task
) -> Width:
    """The fit after each column of a block, from its ĥ at every point and its z = A⁺ᵀĥ."""

    def step(fit: _Fit, column: Any) -> tuple[_Fit, Width]:
        change, z, move, at, q = column
        gained = (q**2 + 2 * move.theta * z * q - task.ridge * z**2) / move.power
        diagonal = fit.diagonal + jnp.where(at.fresh, gained, -(z**2))
        fit = _Fit(
            fit.prediction + jnp.outer(change, move.change),
            fit.alpha + jnp.outer(z, move.change) + jnp.outer(q, move.dual),
            diagonal,
            jnp.maximum(fit.peak, diagonal),
            jnp.maximum(fit.largest, move.norm),
        )
        return fit, _width(fit, move, at, targets, task)

    return jax.lax.scan(step, fit, (changes, duals, moves, split, fresh.direction))[1]


def _width(fit: _Fit, move: Move, at: Split, targets: Array, task: Task) -> Width:
    samples, ridge, eps = len(targets), task.ridge, jnp.finfo(targets.dtype).eps
    learned = (jnp.arange(samples) < at.rank)[:, None]
    fitted, tests = jnp.where(learned, fit.prediction[:samples], 0), fit.prediction[samples:] * task.gain
    within = jnp.where(learned, targets - fitted, 0)
    # ‖β‖² is ⟨r, Aβ⟩/λ, or what the slack leaves of the norm
    aligned = over(root((within * fitted).sum()), root(ridge))
    rest = root(move.norm**2 - ridge * (fit.alpha**2).sum())
    strong = (within**2).sum() > (fitted**2).sum()
    norm = jnp.where(strong, aligned, rest)
    # how much larger than λ‖β‖² what it is the difference of is
    total = jnp.where(strong, length(within) * length(fitted), ridge * move.norm**2)
    blurred = jnp.where(ridge * norm**2 > 0, total / (ridge * norm**2), jnp.where(total > 0, jnp.inf, 0.0))
    # where a point alone decides a direction (leverage 1), its error is the limit of no ridge
    alone = at.outside <= (_ALONE * at.noise) ** 2
    weight = jnp.where(ridge > 0, ridge, alone.astype(ridge.dtype))
    missed, outside = jnp.where(alone[:, None], 0, at.missed), jnp.where(alone, 0, at.outside)
    left_out = (missed + weight[:, None] * fit.alpha) / (outside + weight * fit.diagonal)[:, None]
    turned = over(at.noise, eps * root(jnp.where(alone, 1, outside).min()))
    return Width(
        train=((within**2).sum() + at.tail) / samples,
        test=((tests - task.test_targets) ** 2).sum(axis=1).mean(),
        wrong=(label(tests) != label(task.test_targets)).mean(dtype=tests.dtype),
        norm=jnp.where(ridge > 0, norm, move.norm),
        loo=(left_out**2).sum(axis=1).mean(),
        inverse=fit.diagonal.sum(),
        loss=jnp.maximum(move.loss, over(fit.largest, move.norm)),
        worn=jnp.maximum(jnp.maximum(over(fit.peak, fit.diagonal).max(), turned), blurred),
        rank=at.rank,
        dropped=at.dropped,
        alone=(alone & (ridge * fit.diagonal <= 100 * at.noise**2) & (at.rank < samples)).any(),
        size=jnp.zeros_like(ridge),
    )


def label(outputs: Float[Array, "m outputs"]) -> Int[Array, " m"]:
    """The largest of several outputs, the sign of one."""
    return outputs.argmax(axis=1) if outputs.shape[1] > 1 else jnp.sign(outputs[:, 0]).astype(jnp.int32)
