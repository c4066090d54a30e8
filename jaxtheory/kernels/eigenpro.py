"""EigenPro: stochastic gradient descent whose largest directions are damped."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxtheory.kernels.functions import Kernel
from jaxtheory.kernels.solvers import Iterates


@partial(jax.jit, static_argnames=("subsample", "modes", "batch", "epochs"))
def eigenpro(
    kernel: Kernel,
    x: Array,
    y: Float[Array, "n o"],
    ridge: Float[Array, "n 1"],
    key: Array,
    *,
    subsample: int,
    modes: int,
    batch: int,
    epochs: int,
    tolerance: float | Array,
) -> Iterates:
    r"""Stochastic gradient descent in the RKHS, its `modes` largest directions damped to the size of the next.

    Interpolates with the kernel K + ridge 1{i = j}, whose solution is (K + ridge I)⁻¹ y. A batch B has the step

        α_B ← α_B − (η/m) g,   α_S ← α_S + (η/m) V D Vᵀ K(S, B) g,   g = (K α + ridge α − y)_B,
        D = (1 − σ_{q+1}/σ_i)/σ_i,   η = m / (β + (m − 1) σ_{q+1}/s)

    with (σ, V) the eigenpairs of K(S, S) + ridge I on a random subsample S of s points, β = max K_ii + ridge. The
    stop looks at ‖g‖² summed over its batches, for each output, so that the caller must recompute the residual.
    Not differentiable: `solvers.solution_of` makes it so.

    Cost: an epoch is n² kernel evaluations; memory n · batch + s². Source: Ma and Belkin (2019), Algorithm 1.

    >>> from jaxtheory.kernels.functions import laplace
    >>> x = jnp.arange(8.0)[:, None]
    >>> run = eigenpro(laplace(), x, jnp.ones((8, 1)), jnp.full((8, 1), 0.1), jax.random.key(0), subsample=8, modes=2,
    ...     batch=4, epochs=200, tolerance=1e-5)
    >>> bool(jnp.abs(laplace()(x, x) @ run.solution + 0.1 * run.solution - 1).max() < 1e-3)
    True
    """
    n = x.shape[0]
    chosen = jax.random.permutation(key, n)[:subsample]
    damped = _damped(kernel, x[chosen], ridge[chosen], modes, batch)
    target = tolerance**2 * jnp.sum(y**2, axis=0)

    def visit(state: tuple[Array, Array], members: Array) -> tuple[tuple[Array, Array], None]:
        alpha, squares = state
        rows = kernel(x[members], x)
        gradient = jnp.matmul(rows, alpha, precision="highest") + ridge[members] * alpha[members] - y[members]
        cross = rows[:, chosen] + ridge[members] * (members[:, None] == chosen[None]).astype(y.dtype)
        seen = jnp.linalg.multi_dot([damped.vectors.T, cross.T, gradient], precision="highest")
        lifted = jnp.matmul(damped.vectors, damped.damping[:, None] * seen, precision="highest")
        alpha = alpha.at[members].add(-damped.rate * gradient).at[chosen].add(damped.rate * lifted)
        return (alpha, squares + jnp.sum(gradient**2, axis=0)), None

    def going(state: tuple[Array, Array, Array]) -> Array:
        return (state[1] > target).any() & (state[2] < epochs)

    def epoch(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        alpha, _, i = state
        shuffled = jax.random.permutation(jax.random.fold_in(key, i), n)[: n // batch * batch].reshape(-1, batch)
        alpha, squares = jax.lax.scan(visit, (alpha, jnp.zeros_like(state[1])), shuffled)[0]
        return alpha, squares, i + 1

    start = (jnp.zeros_like(y), jnp.full_like(target, jnp.inf), jnp.int32(0))
    alpha, squares, done = jax.lax.while_loop(going, epoch, start)
    return Iterates(alpha, done, damped.indefinite, damped.singular, squares <= target)


class _Damped(NamedTuple):
    """EigenPro's V, D and η/m; and what the subsample shows of K + ridge I."""

    vectors: Float[Array, "s q"]
    damping: Float[Array, " q"]
    rate: Float[Array, ""]
    indefinite: Bool[Array, ""]
    singular: Bool[Array, ""]


def _damped(kernel: Kernel, sample: Array, ridge: Array, modes: int, batch: int) -> _Damped:
    corner = kernel(sample, sample)
    corner = corner + ridge * jnp.eye(sample.shape[0], dtype=corner.dtype)
    values, vectors = jnp.linalg.eigh((corner + corner.T) / 2)
    rounding = sample.shape[0] * float(jnp.finfo(values.dtype).eps) * jnp.abs(values).max()
    level, top = jnp.maximum(values[-modes - 1], rounding), jnp.maximum(values[-modes:], rounding)
    rate = 1 / (jnp.diagonal(corner).max() + (batch - 1) * level / sample.shape[0])
    indefinite = (values[0] < -10 * rounding) | ~(values[-1] > 0)
    return _Damped(vectors[:, -modes:], (1 - level / top) / top, rate, indefinite, values[0] <= rounding)
