"""The adversary of a lower bound at depth two: many two-layer networks, each trained to do its best."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key

from jaxtheory import guarded, networks
from jaxtheory.checks import boundary, positive, quantity, require
from jaxtheory.results import standard_error

Number = float | Float[Array, ""]


class TwoLayers(NamedTuple):
    """The best of many two-layer networks: relative squared errors of every start, on the fresh points."""

    errors: Float[Array, " starts"]
    standard_error: Float[Array, " starts"]
    fitted: Float[Array, " starts"]
    """on the points that the outer weights were solved for"""


@boundary(static=("neurons", "starts", "steps"))
def adversary(
    key: Key[Array, ""],
    train: tuple[Float[Array, "n d"], Float[Array, " n"]],
    fresh: tuple[Float[Array, "k d"], Float[Array, " k"]],
    neurons: int,
    *,
    starts: int = 8,
    steps: int = 300,
    activation: Callable[[Array], Array] = jax.nn.relu,
    spread: Number = 1.0,
    rate: Number = 0.03,
) -> TwoLayers:
    r"""Two-layer networks that do their best: inner weights by Adam, outer weights solved exactly at every step.

    The loss is min_c ‖y − Σ c_i σ(⟨w_i, x⟩ + b_i) − c_0‖² (variable projection), from independent Gaussian starts.

    Args:
        train: points and targets the network is fitted to; n well above `neurons`, or it learns the sample.
        fresh: two or more points and targets of the same law that it is judged on.
        neurons: N ≥ 1. starts, steps: ≥ 1.
        activation: elementwise.
        spread: standard deviation of ⟨w_i, x⟩ and b_i at the start; the frequency of the target for cosines.
        rate: of Adam, > 0, for inputs scaled to largest entries between 1 and 2.

    Returns:
        `TwoLayers`: E(f − f_N)²/E f² estimated on `fresh`, with its standard error, for every start; NaN where the
        targets vanish or a run diverges.

    Raises:
        ValueError: shapes that differ, sizes too small; spread or rate ≤ 0 (outside jit; NaN inside).

    Cost: starts · steps · n · neurons · (4 d + neurons) flops. Source: Golub and Pereyra (1973).

    >>> x = jax.random.normal(jax.random.key(0), (200, 1))
    >>> points = (x, jnp.abs(x[:, 0]))
    >>> bool(adversary(jax.random.key(1), points, points, 4, starts=2).errors.min() < 0.01)
    True
    """
    fitted, judged = _pair("train", train), _pair("fresh", fresh)
    same = fitted[0].shape[1] == judged[0].shape[1]
    require(same, "fresh", judged[0].shape, f"have {fitted[0].shape[1]} columns, as train", "draw both alike")
    require(len(judged[1]) >= 2, "fresh", len(judged[1]), "hold at least 2 points", "draw more points")
    count = len(fitted[1])
    require(1 <= neurons < count, "neurons", neurons, f"be >= 1 and < {count} points", "draw more points")
    for name, value in (("starts", starts), ("steps", steps)):
        require(value >= 1, name, value, "be >= 1", "use the default")
    sizes = positive("rate", rate, "use the default 0.03"), positive("spread", spread, "use the default 1.0")
    # relative errors do not depend on units, but Adam's steps do
    (units, scale) = (guarded.power_of_two(part) for part in fitted)
    scaled = [(x / units, y / scale) for x, y in (fitted, judged)]
    return _compete(jax.random.split(key, starts), *scaled, sizes, neurons=neurons, steps=steps, activation=activation)


def _pair(name: str, data: Any) -> tuple[Array, Array]:
    """Points [n, d] and targets [n]."""
    require(
        isinstance(data, tuple | list) and len(data) == 2,
        name,
        type(data).__name__,
        "be (points, targets)",
        "pair them",
    )
    x, y = (jnp.asarray(quantity(name, part)) for part in data)
    x = x[:, None] if x.ndim == 1 else x
    fits = x.ndim == 2 and y.shape == x.shape[:1]
    require(fits, name, (x.shape, y.shape), "be points [n, d] and targets [n]", "pass one target a point")
    return x, y


@partial(jax.jit, static_argnames=("neurons", "steps", "activation"))
def _compete(
    keys: Any, train: Any, fresh: Any, sizes: Any, *, neurons: int, steps: int, activation: Any
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
        # a point at infinity, where a neuron may be 0, must not be judged in silence
        squares = jnp.where(jnp.isfinite(x_fresh).all(), squares, jnp.full_like(squares, jnp.nan))
        return TwoLayers(squares.mean(), standard_error(squares), loss(params))

    return jax.lax.map(start, keys)


def _solve(phi: Array, y: Array) -> Array:
    """Least squares by the normal equations, with a ridge at round-off that keeps them positive definite."""
    gram = jnp.matmul(phi.T, phi, precision="highest")
    ridge = 10 * jnp.finfo(phi.dtype).eps * jnp.trace(gram)
    factor = jnp.linalg.cholesky(gram + ridge * jnp.eye(gram.shape[0], dtype=gram.dtype))
    return jax.scipy.linalg.cho_solve((factor, True), jnp.matmul(phi.T, y, precision="highest"))
