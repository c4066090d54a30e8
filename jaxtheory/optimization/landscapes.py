r"""Non-convex losses whose critical points are known with their Hessian spectra, and how often descent finds the best.

>>> spectrum = matrix_factorization_spectrum(jnp.array([3.0, 2.0, 1.0]), index=1)
>>> [f"{value:.0f}" for value in spectrum]
['-1', '4', '1']
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, Key

from jaxtheory.checks import holds, require
from jaxtheory.networks import train
from jaxtheory.results import Status


class Success(NamedTuple):
    """How many of the starts end at the global minimum, with the binomial standard error √(p(1−p)/starts).

    `status` is `NOT_FINITE` where a run diverged: it counts as a failure.
    """

    fraction: Float[Array, ""]
    standard_error: Float[Array, ""]
    reached: Bool[Array, " starts"]
    values: Float[Array, " starts"]
    status: Int[Array, " starts"]


def matrix_factorization(x: Float[Array, "d rank"], target: Float[Array, "d d"]) -> Float[Array, ""]:
    r"""f(X) = ¼ ‖X Xᵀ − M‖²_F, M symmetric.

    Args:
        x: X, any rank r ≥ 1.
        target: M.

    Source: Ge, Jin, Zheng (2017), section 3.

    >>> float(matrix_factorization(jnp.array([[1.0], [0.0]]), jnp.diag(jnp.array([1.0, 0.0]))))
    0.0
    """
    gap = jnp.matmul(x, x.T, precision="highest") - target
    return (gap**2).sum() / 4


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
        ValueError: λ_i ≤ 0, where √λ_i v_i is no point, or an index out of range.

    Source: differentiate ∇f = (xxᵀ − M)x; Baldi and Hornik (1989).

    >>> matrix_factorization_spectrum(jnp.array([2.0, 1.0]), 0).tolist()
    [4.0, 1.0]
    """
    if index is None:
        return -eigenvalues
    require(0 <= index < len(eigenvalues), "index", index, f"be within 0..{len(eigenvalues) - 1}", "count from 0")
    chosen = eigenvalues[index]
    require(holds(lambda v: v > 0, chosen), "index", index, "belong to an eigenvalue > 0", "see the eigenvalues")
    return jnp.where(jnp.arange(len(eigenvalues)) == index, 2 * chosen, chosen - eigenvalues)


def phase_retrieval(x: Float[Array, " d"], signal: Float[Array, " d"]) -> Float[Array, ""]:
    r"""f(x) = ¼ E(⟨a, x⟩² − ⟨a, z⟩²)², a ~ N(0, I): ¼ (3|x|⁴ + 3|z|⁴ − 2|x|²|z|² − 4⟨x, z⟩²).

    With |z| = 1 its critical points are ±z, 0 and the sphere |x| = 1/√3 across z.

    Args:
        x: the estimate.
        signal: z.

    Source: Sun, Qu, Wright (2018), section 2.

    >>> float(phase_retrieval(jnp.array([0.0, -1.0]), jnp.array([0.0, 1.0])))
    0.0
    """
    a, b, c = (jnp.dot(u, v, precision="highest") for u, v in ((x, x), (signal, signal), (x, signal)))
    return (3 * a**2 + 3 * b**2 - 2 * a * b - 4 * c**2) / 4


def phase_retrieval_spectrum(dim: int, point: str) -> Float[Array, " {dim}"]:
    r"""Hessian eigenvalues of phase retrieval with |z| = 1, in ascending order.

        "signal" (±z): 2 (d − 1 times), 6;   "saddle" (|x| = 1/√3, x ⊥ z): −2, 0 (d − 2 times), 2;
        "origin": −3, −1 (d − 1 times)

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
    require(point in known, "point", point, f"be one of {sorted(known)}", "name a critical point")
    return jnp.array(known[point])


def deep_linear(weights: list[Float[Array, "d_out d_in"]], target: Float[Array, "d_out d_in"]) -> Float[Array, ""]:
    r"""f = ½ ‖W_N ⋯ W_1 − Y‖²_F, the population loss of a deep linear network on white inputs.

    Args:
        weights: W_1, …, W_N, the first layer first.
        target: Y.

    Source: Kawaguchi (2016).

    >>> float(deep_linear([jnp.eye(2), jnp.eye(2)], 2 * jnp.eye(2)))
    1.0
    """
    return ((_product(weights) - target) ** 2).sum() / 2


def _product(weights: list[Array]) -> Array:
    product = weights[0]
    for weight in weights[1:]:
        product = jnp.matmul(weight, product, precision="highest")
    return product


def deep_linear_spectrum(
    singular_values: Float[Array, " d"], kept: Bool[Array, " d"], depth: int
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
        ValueError: depth < 2, or a kept singular value that is 0.

    Cost: O(N d²). Source: second variation of the product at the point; for N = 2 Baldi and Hornik (1989), for the
    degenerate origin Kawaguchi (2016), Theorem 2.3.

    >>> [f"{v:.0f}" for v in deep_linear_spectrum(jnp.array([2.0, 1.0]), jnp.array([True, False]), 2)]
    ['-1', '0', '0', '0', '1', '1', '3', '4']
    """
    require(depth >= 2, "depth", depth, "be >= 2", "one layer is least squares")
    positive = holds(lambda s, k: (s > 0) | ~k, singular_values, kept)
    require(positive, "kept", kept, "keep positive singular values only", "drop the zero ones")
    a = jnp.where(kept, singular_values ** (1 / depth), 0)
    pairs = [_pair(a, singular_values, kept, i, k, depth) for i in range(len(a)) for k in range(i, len(a))]
    return jnp.sort(jnp.concatenate(pairs))


def _pair(a: Array, sigma: Array, kept: Array, i: int, k: int, depth: int) -> Array:
    """The eigenvalues that the entries (i, k) and (k, i) of all layers share."""
    terms = [a[i] ** (2 * (depth - 1 - layer)) * a[k] ** (2 * layer) for layer in range(depth)]  # 0⁰ = 1
    chain = jnp.stack(terms).sum()
    none = jnp.zeros(depth - 2, a.dtype)
    shallow = float(depth == 2)
    if i == k:
        two = jnp.where(kept[i], jnp.stack([chain, 0 * chain]), shallow * jnp.stack([sigma[i], -sigma[i]]))
        return jnp.concatenate([two, none])
    first, second = jnp.where(kept[i], i, k), jnp.where(kept[i], k, i)  # one that is kept, if any, first
    stretch = jnp.where(kept[first], a[first], 1) ** (depth - 2)
    mixed = stretch * jnp.stack([a[first] ** depth + sigma[second], a[first] ** depth - sigma[second]])
    outside = shallow * jnp.stack([sigma[i], -sigma[i], sigma[k], -sigma[k]])
    zero = 0 * chain
    both = jnp.stack([chain, chain, zero, zero])
    one = jnp.stack([mixed[0], mixed[1], zero, zero])
    four = jnp.where(kept[i] & kept[k], both, jnp.where(kept[i] | kept[k], one, outside))
    return jnp.concatenate([four, none, none])


def relu_student(student: Float[Array, "m d"], teacher: Float[Array, "k d"]) -> Float[Array, ""]:
    r"""½ E(Σ_i φ(⟨w_i, x⟩) − Σ_j φ(⟨v_j, x⟩))² for ReLU φ and x ~ N(0, I), without sampling.

    Every term is E φ(⟨u, x⟩)φ(⟨v, x⟩) = |u||v| (sin θ + (π − θ) cos θ)/2π with θ the angle of u and v.

    Args:
        student, teacher: their incoming weights; outgoing weights are 1.

    Returns:
        The population loss, with the exact gradient also where two neurons coincide.

    Cost: O((m + k)² d). Source: Cho and Saul (2009), equation 6; Safran and Shamir (2018), section 4.

    >>> f"{relu_student(jnp.eye(2), jnp.eye(2)):.4f}"
    '0.0000'
    """
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
    lengths = jnp.linalg.norm(rows, axis=1)
    directions = rows / jnp.where(lengths > 0, lengths, 1)[:, None]
    cosine = jnp.clip(jnp.matmul(directions, directions.T, precision="highest"), -1, 1)
    # From differences and sums, since 1 − cos² loses half the digits where neurons coincide.
    apart = jnp.linalg.norm(directions[:, None] - directions[None], axis=2)
    together = jnp.linalg.norm(directions[:, None] + directions[None], axis=2)
    return lengths, directions, cosine, apart * together / 2, jnp.pi - 2 * jnp.arctan2(apart, together)


def global_success(
    loss: Callable[[Array], Array],
    init: Callable[[Array], Array],
    key: Key[Array, ""],
    *,
    starts: int,
    step_size: float,
    steps: int,
    minimum: float = 0.0,
    tolerance: float,
) -> Success:
    r"""The fraction of random starts from which gradient descent reaches f ≤ minimum + tolerance.

    Strict-saddle avoidance (Lee et al.): where every critical point but the global minima is a strict saddle, the
    starts that fail have measure zero.

    Args:
        loss: f(x), any pytree x.
        init: key → a start.
        key: of all starts.
        starts: how many, at once.
        step_size: η.
        steps: of gradient descent.
        minimum: min f.
        tolerance: > 0, between the global minimum and the best local one.

    Returns:
        `Success`.

    Raises:
        ValueError: starts < 1, a step size or tolerance that is not positive.

    Cost: `steps` gradients for each start, one compilation. Source: Lee, Simchowitz, Jordan, Recht (2016), Theorem 4.

    >>> run = global_success(lambda x: (x**2 - 1.0) ** 2, lambda k: jax.random.normal(k), jax.random.key(0),
    ...     starts=50, step_size=0.05, steps=400, tolerance=1e-6)
    >>> float(run.fraction)
    1.0
    """
    require(starts >= 1, "starts", starts, "be >= 1", "draw some starts")
    require(step_size > 0, "step_size", step_size, "be > 0", "descend")
    require(tolerance > 0, "tolerance", tolerance, "be > 0", "leave room for round-off")
    level = jnp.asarray(minimum + tolerance)
    return _global_success(loss, init, key, starts, jnp.asarray(step_size), steps, level)


@partial(jax.jit, static_argnums=(0, 1, 3, 5))
def _global_success(
    loss: Callable, init: Callable, key: Array, starts: int, step_size: Array, steps: int, level: Array
) -> Success:
    def final(key: Array) -> tuple[Array, Array]:
        run = train(loss, init(key), optimizer=optax.sgd(step_size), steps=steps, record_every=steps)
        return loss(run.params), run.status

    values, status = jax.vmap(final)(jax.random.split(key, starts))
    reached = (values <= level) & (status == Status.OK)
    fraction = reached.astype(values.dtype).mean()
    return Success(fraction, jnp.sqrt(fraction * (1 - fraction) / starts), reached, values, status)
