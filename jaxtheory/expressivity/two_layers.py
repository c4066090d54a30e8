"""The adversary of a lower bound at depth two: many two-layer networks, each trained to do its best."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from jaxtheory import networks
from jaxtheory.checks import require


class TwoLayers(NamedTuple):
    """The best of many two-layer networks: relative squared errors of every start, on the fresh points."""

    errors: Float[Array, " starts"]
    standard_error: Float[Array, " starts"]
    fitted: Float[Array, " starts"]
    """on the points that the outer weights were solved for"""


def adversary(
    key: PRNGKeyArray,
    train: tuple[Float[Array, "n d"], Float[Array, " n"]],
    fresh: tuple[Float[Array, "k d"], Float[Array, " k"]],
    neurons: int,
    *,
    starts: int = 8,
    steps: int = 300,
    activation: Callable[[Array], Array] = jax.nn.relu,
    spread: float = 1.0,
    rate: float = 0.03,
) -> TwoLayers:
    r"""Two-layer networks that do their best: inner weights by Adam, outer weights solved exactly at every step.

    The loss is min_c ‖y − Σ c_i σ(⟨w_i, x⟩ + b_i) − c_0‖² (variable projection), from independent Gaussian starts.

    Args:
        train: points and targets the network is fitted to; n well above `neurons`, or it learns the sample.
        fresh: points and targets of the same law that it is judged on.
        spread: standard deviation of ⟨w_i, x⟩ and b_i at the start; the frequency of the target for cosines.

    Returns:
        `TwoLayers`: E(f − f_N)²/E f² estimated on `fresh`, with its standard error, for every start.

    Cost: starts · steps · n · neurons · (4 d + neurons) flops. Source: Golub and Pereyra (1973).

    >>> x = jax.random.normal(jax.random.key(0), (200, 1))
    >>> points = (x, jnp.abs(x[:, 0]))
    >>> bool(adversary(jax.random.key(1), points, points, 4, starts=2).errors.min() < 0.01)
    True
    """
    require(neurons < len(train[1]), "neurons", neurons, f"be < {len(train[1])} points", "draw more points")
    return _compete(jax.random.split(key, starts), train, fresh, neurons, steps, activation, (rate, spread))


@partial(jax.jit, static_argnames=("neurons", "steps", "activation"))
def _compete(
    keys: Any, train: Any, fresh: Any, neurons: int, steps: int, activation: Any, sizes: Any
) -> TwoLayers:  # fmt: skip
    (x, y), (x_fresh, y_fresh) = train, fresh
    optimizer = optax.adam(optax.cosine_decay_schedule(sizes[0], steps))

    def features(params: Array, x: Array) -> Array:
        hidden = activation(jnp.matmul(x, params[:-1], precision="highest") + params[-1:])
        return jnp.concatenate([hidden, jnp.ones_like(x[:, :1])], axis=1)

    def loss(params: Array) -> Array:
        phi = features(params, x)
        outer = jax.lax.stop_gradient(_solve(phi, y))  # the envelope theorem: c is stationary
        return jnp.mean((jnp.matmul(phi, outer, precision="highest") - y) ** 2) / jnp.mean(y**2)

    def start(key: Any) -> TwoLayers:
        dim, scale = x.shape[1], jnp.std(x)
        params = jax.random.normal(key, (dim + 1, neurons), x.dtype) * sizes[1] / (scale * dim**0.5)
        params = networks.train(loss, params.at[-1].multiply(scale * dim**0.5), optimizer=optimizer, steps=steps).params
        outer = _solve(features(params, x), y)
        found = jnp.matmul(features(params, x_fresh), outer, precision="highest")
        squares = (found - y_fresh) ** 2 / jnp.mean(y_fresh**2)
        return TwoLayers(squares.mean(), squares.std(ddof=1) / len(squares) ** 0.5, loss(params))

    return jax.lax.map(start, keys)


def _solve(phi: Array, y: Array) -> Array:
    """Least squares by the normal equations, with a ridge at round-off that keeps them positive definite."""
    gram = jnp.matmul(phi.T, phi, precision="highest")
    ridge = 10 * jnp.finfo(phi.dtype).eps * jnp.trace(gram)
    factor = jnp.linalg.cholesky(gram + ridge * jnp.eye(gram.shape[0], dtype=gram.dtype))
    return jax.scipy.linalg.cho_solve((factor, True), jnp.matmul(phi.T, y, precision="highest"))
