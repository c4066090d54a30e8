r"""Non-convex losses whose critical points are known with their Hessian spectra, and how often descent finds the best.

>>> spectrum = matrix_factorization_spectrum(jnp.array([3.0, 2.0, 1.0]), index=1)
>>> [f"{value:.0f}" for value in spectrum]
['-1', '4', '1']
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from jaxtheory import guarded
from jaxtheory.checks import boundary, constrain, holds, nonnegative, positive, quantity, require
from jaxtheory.networks import train
from jaxtheory.results import Status

Number = float | Float[Array, ""]


class Success(NamedTuple):
    """How many of the starts end at the global minimum, with the binomial standard error √(p(1−p)/starts).

    `status` is `NOT_FINITE` where a run diverged: it counts as a failure.
    """

    fraction: Float[Array, ""]
    standard_error: Float[Array, ""]
    reached: Bool[Array, " starts"]
    values: Float[Array, " starts"]
    status: Int[Array, " starts"]


@boundary
def matrix_factorization(x: Float[Array, "d rank"], target: Float[Array, "d d"]) -> Float[Array, ""]:
    r"""f(X) = ¼ ‖X Xᵀ − M‖²_F, M symmetric.

    Args:
        x: X, any rank r ≥ 0.
        target: M.

    Raises:
        ValueError: shapes that do not fit. Cost: O(d² r). Source: Ge, Jin, Zheng (2017), section 3.

    >>> float(matrix_factorization(jnp.array([[1.0], [0.0]]), jnp.diag(jnp.array([1.0, 0.0]))))
    0.0
    """
    d = len(x)
    require(target.shape == (d, d), "target", target.shape, f"have shape {(d, d)}, that of x xᵀ", "pass M [d, d]")
    gap = jnp.matmul(x, x.T, precision="highest") - target
    return (gap**2).sum() / 4


@boundary(static=("index",))
def matrix_factorization_spectrum(eigenvalues: Float[Array, " d"], index: int | None = None) -> Float[Array, " d"]:
    r"""Hessian eigenvalues of ¼‖xxᵀ − M‖² at its critical points ±√λ_i v_i, or at 0.

        at √λ_i v_i: 2λ_i along v_i and λ_i − λ_j along v_j;   at 0: −λ_j

    so only the leading eigenvector is a minimum and every other critical point is a strict saddle.

    Args:
        eigenvalues: λ of M.
        index: i, with λ_i > 0; None for the origin.

    Returns:
        The eigenvalue that belongs to the direction v_j, for each j.

    Raises:
        ValueError: λ_i ≤ 0, where √λ_i v_i is no point (outside jit; NaN inside), or an index out of range.

    Source: differentiate ∇f = (xxᵀ − M)x; Baldi and Hornik (1989).

    >>> matrix_factorization_spectrum(jnp.array([2.0, 1.0]), 0).tolist()
    [4.0, 1.0]
    """
    if index is None:
        return -eigenvalues
    require(0 <= index < len(eigenvalues), "index", index, f"be within 0..{len(eigenvalues) - 1}", "count from 0")
    chosen = eigenvalues[index]
    require(holds(lambda v: v > 0, chosen), "index", index, "belong to an eigenvalue > 0", "see the eigenvalues")
    chosen = jnp.where(chosen > 0, chosen, jnp.full_like(chosen, jnp.nan))
    return jnp.where(jnp.arange(len(eigenvalues)) == index, 2 * chosen, chosen - eigenvalues)


@boundary
def phase_retrieval(x: Float[Array, " d"], signal: Float[Array, " d"]) -> Float[Array, ""]:
    r"""f(x) = ¼ E(⟨a, x⟩² − ⟨a, z⟩²)², a ~ N(0, I): ¼ (|p|²|q|² + 2⟨p, q⟩²) with p = x − z and q = x + z.

    It is ¼ (3|x|⁴ + 3|z|⁴ − 2|x|²|z|² − 4⟨x, z⟩²) without the cancellation near the minima. With |z| = 1 its critical
    points are ±z, 0 and the sphere |x| = 1/√3 across z.

    Args:
        x: the estimate.
        signal: z.

    Raises:
        ValueError: lengths that differ. Cost: O(d). Source: Sun, Qu, Wright (2018), section 2.

    >>> float(phase_retrieval(jnp.array([0.0, -1.0]), jnp.array([0.0, 1.0])))
    0.0
    """
    require(x.shape == signal.shape, "signal", signal.shape, f"have the shape of x, {x.shape}", "pair them")
    p, q = x - signal, x + signal
    pp, qq, pq = (jnp.dot(u, v, precision="highest") for u, v in ((p, p), (q, q), (p, q)))
    return (pp * qq + 2 * pq**2) / 4


@boundary(static=("dim",))
def phase_retrieval_spectrum(dim: int, point: Literal["signal", "saddle", "origin"]) -> Float[Array, " {dim}"]:
    r"""Hessian eigenvalues of phase retrieval with |z| = 1, in ascending order.

        "signal" (±z): 2 (d − 1 times), 6;   "saddle" (|x| = 1/√3, x ⊥ z): −2, 0 (d − 2 times), 2;
        "origin": −3, −1 (d − 1 times)

    Args:
        dim: d ≥ 2. point: above.

    Raises:
        ValueError: another name, or d < 2.

    Source: ∇²f = 3|x|² I + 6xxᵀ − |z|² I − 2zzᵀ; Sun, Qu, Wright (2018), section 2.

    >>> phase_retrieval_spectrum(3, "saddle").tolist()
    [-2.0, 0.0, 2.0]
    """
    require(dim >= 2, "dim", dim, "be >= 2 for a direction across the signal", "use more dimensions")
    known = {
        "signal": [2.0] * (dim - 1) + [6.0],
        "saddle": [-2.0] + [0.0] * (dim - 2) + [2.0],
        "origin": [-3.0] + [-1.0] * (dim - 1),
    }
    return jnp.array(known[point])


@boundary
def deep_linear(weights: Sequence[Float[Array, "_ _"]], target: Float[Array, "d_out d_in"]) -> Float[Array, ""]:
    r"""f = ½ ‖W_N ⋯ W_1 − Y‖²_F, the population loss of a deep linear network on white inputs.

    Args:
        weights: W_1, …, W_N, the first layer first, N ≥ 1.
        target: Y.

    Raises:
        ValueError: no layer, or shapes that do not fit. Cost: N matrix products. Source: Kawaguchi (2016).

    >>> float(deep_linear([jnp.eye(2), jnp.eye(2)], 2 * jnp.eye(2)))
    1.0
    """
    several = isinstance(weights, (list, tuple)) or getattr(weights, "ndim", 0) == 3
    require(several, "weights", type(weights).__name__, "hold a matrix a layer", "pass [W_1, ..., W_N]")
    layers = [jnp.asarray(quantity("weights", weight), target.dtype) for weight in weights]
    matrices = len(layers) >= 1 and all(weight.ndim == 2 for weight in layers)
    require(matrices, "weights", [w.shape for w in layers], "hold a matrix a layer", "pass [W_1, ..., W_N]")
    product = layers[0]
    for i, weight in enumerate(layers[1:], 1):
        fits = weight.shape[1] == product.shape[0]
        require(
            fits, "weights", weight.shape, f"take the outputs of layer {i}, {product.shape}", "pass W_l [d_out, d_in]"
        )
        product = jnp.matmul(weight, product, precision="highest")
    require(product.shape == target.shape, "target", target.shape, f"have shape {product.shape}", "match the layers")
    return ((product - target) ** 2).sum() / 2


@boundary(static=("depth",))
def deep_linear_spectrum(
    singular_values: Float[Array, " d"], kept: Bool[Array, " d"] | Sequence[bool], depth: int
) -> Float[Array, " eigenvalues"]:
    r"""Hessian eigenvalues of a deep linear network at its balanced critical points, ascending.

    At W_l = diag(a_i), a_i = σ_i^{1/N} for i in the kept set S and 0 elsewhere, the product is Y cut to S and

        i ∈ S:            N σ_i^{2−2/N} and N − 1 zeros          (entries ii)
        i ≠ k, both in S: Σ_l a_i^{2(N−l)} a_k^{2(l−1)} and N − 1 zeros, for (i, k) and for (k, i)
        i ∈ S, k ∉ S:     σ_i^{1−2/N} (σ_i ± σ_k) and 2N − 2 zeros
        i, k ∉ S:         ±σ for each of the pairs when N = 2, zeros when N > 2

    A point with a nonzero singular value outside S is a saddle: strict where S is not empty or N = 2, and with a
    Hessian that vanishes where S is empty and N > 2.

    Args:
        singular_values: σ ≥ 0 of the square target diag(σ), distinct from 0 where kept.
        kept: which of them the critical point has learned.
        depth: N ≥ 2.

    Returns:
        All N d² eigenvalues.

    Raises:
        ValueError: depth < 2, lengths that differ; negative singular values or a kept one that is 0 (outside jit; NaN
            inside).

    Cost: O(N d²). Source: second variation of the product at the point; for N = 2 Baldi and Hornik (1989), for the
    degenerate origin Kawaguchi (2016), Theorem 2.3.

    >>> [f"{v:.0f}" for v in deep_linear_spectrum(jnp.array([2.0, 1.0]), jnp.array([True, False]), 2)]
    ['-1', '0', '0', '0', '1', '1', '3', '4']
    """
    require(depth >= 2, "depth", depth, "be >= 2", "one layer is least squares")
    chosen = jnp.asarray(quantity("kept", kept)) != 0
    require(chosen.shape == singular_values.shape, "kept", chosen.shape, "be one flag a singular value", "pair them")
    sigma = nonnegative("singular_values", singular_values, "pass singular values, e.g. of jnp.linalg.svd")
    learned = holds(lambda s, k: (s > 0) | ~k, sigma, chosen)
    require(learned, "kept", kept, "keep positive singular values only", "drop the zero ones")
    return _deep_linear_spectrum(sigma, chosen, depth)


@partial(jax.jit, static_argnames="depth")
def _deep_linear_spectrum(sigma: Array, kept: Array, depth: int) -> Array:
    valid = ((sigma > 0) | ~kept).all() & ~jnp.isnan(sigma).any()
    a = jnp.where(kept, jnp.where(kept, sigma, jnp.ones_like(sigma)) ** (1 / depth), jnp.zeros_like(sigma))
    first, second = np.triu_indices(len(sigma), 1)
    own = jax.vmap(partial(_own, depth))(a, sigma, kept)
    modes = _Mode(a, sigma, kept)
    one, other = (jax.tree.map(lambda part: part[i], modes) for i in (first, second))  # noqa: B023
    pairs = jax.vmap(partial(_pair, depth))(one, other)
    spectrum = jnp.sort(jnp.concatenate([own.ravel(), pairs.ravel()]))
    return jnp.where(valid, spectrum, jnp.full_like(spectrum, jnp.nan))


def _chain(depth: int, a: Array, b: Array) -> Array:
    """Σ_l a^{2(N−l)} b^{2(l−1)}, with 0⁰ = 1."""
    return jnp.stack([a ** (2 * (depth - 1 - layer)) * b ** (2 * layer) for layer in range(depth)]).sum()


def _own(depth: int, a: Array, sigma: Array, kept: Array) -> Array:
    """The N eigenvalues of the entries (i, i) of all layers."""
    chain, shallow = _chain(depth, a, a), float(depth == 2)
    two = jnp.where(kept, jnp.stack([chain, 0 * chain]), shallow * jnp.stack([sigma, -sigma]))
    return jnp.concatenate([two, jnp.zeros(depth - 2, a.dtype)])


class _Mode(NamedTuple):
    """a = σ^(1/N) or 0, the singular value σ, and whether it is kept."""

    a: Array
    sigma: Array
    kept: Array


def _pair(depth: int, one: _Mode, other: _Mode) -> Array:
    """The 2N eigenvalues that the entries (i, k) and (k, i) of all layers share."""
    (a_i, sigma_i, kept_i), (a_k, sigma_k, kept_k) = one, other
    chain, shallow = _chain(depth, a_i, a_k), float(depth == 2)
    # one that is kept, if any, first
    a, sigma = jnp.where(kept_i, a_i, a_k), jnp.where(kept_i, sigma_k, sigma_i)
    mixed = jnp.where(kept_i | kept_k, a, jnp.ones_like(a)) ** (depth - 2) * jnp.stack(
        [a**depth + sigma, a**depth - sigma]
    )
    zeros = jnp.zeros_like(mixed)
    both = jnp.concatenate([jnp.stack([chain, chain]), zeros])
    outside = shallow * jnp.stack([sigma_i, -sigma_i, sigma_k, -sigma_k])
    four = jnp.where(kept_i & kept_k, both, jnp.where(kept_i | kept_k, jnp.concatenate([mixed, zeros]), outside))
    return jnp.concatenate([four, jnp.zeros(2 * depth - 4, a.dtype)])


@boundary
def relu_student(student: Float[Array, "m d"], teacher: Float[Array, "k d"]) -> Float[Array, ""]:
    r"""½ E(Σ_i φ(⟨w_i, x⟩) − Σ_j φ(⟨v_j, x⟩))² for ReLU φ and x ~ N(0, I), without sampling.

    Every term is E φ(⟨u, x⟩)φ(⟨v, x⟩) = |u||v| (sin θ + (π − θ) cos θ)/2π with θ the angle of u and v.

    Args:
        student, teacher: their incoming weights, of one dimension; outgoing weights are 1.

    Returns:
        The population loss, with exact first and second derivatives, also where two neurons are parallel; at a neuron
        of length 0, which has no derivative, they are the means over directions.

    Raises:
        ValueError: dimensions that differ.

    Cost: O((m + k)² d). Source: Cho and Saul (2009), equation 6; Safran and Shamir (2018), section 4.

    >>> f"{relu_student(jnp.eye(2), jnp.eye(2)):.4f}"
    '0.0000'
    """
    same = student.shape[1] == teacher.shape[1]
    require(same, "teacher", teacher.shape, f"have {student.shape[1]} columns, as student", "use one input dimension")
    rows = jnp.concatenate([student, teacher])
    sign = jnp.concatenate([jnp.ones_like(student[:, 0]), -jnp.ones_like(teacher[:, 0])])
    return jnp.linalg.multi_dot([sign, _arc_cosine(rows), sign], precision="highest") / 2


@jax.custom_jvp
def _arc_cosine(rows: Array) -> Array:
    lengths, _, cosine, sine, open_angle = _angles(rows)
    return jnp.outer(lengths, lengths) * (sine + open_angle * cosine) / (2 * jnp.pi)


@_arc_cosine.defjvp
def _arc_cosine_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    # ∂/∂u = (|v| sin θ û + (π − θ) v)/2π has no singularity at θ = 0, where that of θ itself is infinite.
    (rows,), (moved,) = primals, tangents
    lengths, directions, _, sine, open_angle = _angles(rows)
    along = (directions * moved).sum(1)
    half = (sine * jnp.outer(along, lengths) + open_angle * jnp.matmul(moved, rows.T, precision="highest")) / (
        2 * jnp.pi
    )
    return _arc_cosine(rows), half + half.T


def _angles(rows: Array) -> tuple[Array, Array, Array, Array, Array]:
    """Lengths, directions, cosines, sines and π − θ of all pairs; a zero row has the direction 0."""
    lengths = guarded.norm(rows, axis=1)
    directions = rows / jnp.where(lengths > 0, lengths, 1)[:, None]
    cosine = jnp.clip(jnp.matmul(directions, directions.T, precision="highest"), -1, 1)
    # From differences and sums, since 1 − cos² loses half the digits where neurons coincide. Their norms have
    # derivative 0 there, as the terms of the second derivative that hold them cancel.
    apart = guarded.norm(directions[:, None] - directions[None], axis=2)
    together = guarded.norm(directions[:, None] + directions[None], axis=2)
    return lengths, directions, cosine, apart * together / 2, jnp.pi - 2 * jnp.arctan2(apart, together)


@boundary(static=("starts", "steps"))
def global_success(
    loss: Callable[[Any], Array],
    init: Callable[[Array], Any],
    key: Key[Array, ""],
    *,
    starts: int,
    step_size: Number,
    steps: int,
    minimum: Number = 0.0,
    tolerance: Number,
) -> Success:
    r"""The fraction of random starts from which gradient descent reaches f ≤ minimum + tolerance.

    Strict-saddle avoidance (Lee et al.): where every critical point but the global minima is a strict saddle, the
    starts that fail have measure zero.

    Args:
        loss: f(x), any pytree x.
        init: key → a start.
        key: of all starts.
        starts: how many, at once.
        step_size: η > 0.
        steps: of gradient descent, ≥ 1.
        minimum: min f, finite.
        tolerance: > 0, between the global minimum and the best local one.

    Returns:
        `Success`; inside jit all statuses are `INVALID_INPUT` where a number is out of range.

    Raises:
        ValueError: starts or steps below 1 or traced; a step size or tolerance that is not positive, a minimum that is
            not finite (outside jit).

    Cost: `steps` gradients for each start, one compilation. Source: Lee, Simchowitz, Jordan, Recht (2016), Theorem 4.

    >>> run = global_success(lambda x: (x**2 - 1.0) ** 2, lambda k: jax.random.normal(k), jax.random.key(0),
    ...     starts=50, step_size=0.05, steps=400, tolerance=1e-6)
    >>> float(run.fraction)
    1.0
    """
    require(starts >= 1, "starts", starts, "be >= 1", "draw some starts")
    require(steps >= 1, "steps", steps, "be >= 1", "descend at least once")
    eta = positive("step_size", step_size, "pass a small step, e.g. 0.01")
    room = positive("tolerance", tolerance, "leave room for round-off")
    lowest = constrain("minimum", minimum, lambda v: abs(v) < np.inf, "be finite", "pass min f")
    numbers = jnp.asarray(eta), jnp.asarray(lowest + room)
    return _global_success(loss, init, key, *numbers, starts=starts, steps=steps)


@partial(jax.jit, static_argnums=(0, 1), static_argnames=("starts", "steps"))
def _global_success(
    loss: Callable[[PyTree], Array], init: Callable[[Array], PyTree], key: Array, step_size: Array, level: Array,
    *, starts: int, steps: int,
) -> Success:  # fmt: skip
    def final(key: Array) -> tuple[Array, Array]:
        run = train(loss, init(key), optimizer=optax.sgd(step_size), steps=steps, record_every=steps)
        return loss(run.params), run.status

    values, status = jax.vmap(final)(jax.random.split(key, starts))
    invalid = jnp.isnan(level) | jnp.isnan(step_size)
    status = jnp.where(invalid, jnp.full_like(status, Status.INVALID_INPUT), status)
    reached = (values <= level) & (status == Status.OK)
    fraction = reached.astype(values.dtype).mean()
    return Success(fraction, jnp.sqrt(fraction * (1 - fraction) / starts), reached, values, status)
