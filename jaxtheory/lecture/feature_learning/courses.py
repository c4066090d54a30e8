"""Training in the limit and of finite networks, which several studies share: each computed once for a configuration."""

from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxtheory import feature_learning
from jaxtheory.feature_learning import State
from jaxtheory.lecture.claims import estimated
from jaxtheory.lecture.feature_learning import problems
from jaxtheory.lecture.feature_learning.problems import Problem

DEPTH = 2  # hidden layers
LAST = DEPTH - 1  # index of the last hidden layer
_LIMIT, _NETWORKS = range(2)  # streams of random numbers: no prediction shares one with a measurement


class Course(NamedTuple):
    """Training in the limit: its `Solution`, with arrays on the host."""

    loss: np.ndarray  # [records], of the training points
    loss_error: np.ndarray  # a bound: errors of all points taken to be of one sign
    test_loss: np.ndarray
    test_loss_error: np.ndarray
    kernel: np.ndarray  # Φ of the last hidden layer, [records n n]
    kernel_error: np.ndarray
    fields: np.ndarray  # samples of the last pre-activation of the first point at the end
    predictions: np.ndarray  # at the end, [n + m]
    prediction_errors: np.ndarray


class Ensemble(NamedTuple):
    """Networks of one width, each with its own f(0) subtracted; the first axis counts them."""

    loss: np.ndarray  # [networks records]
    test_loss: np.ndarray
    kernel: np.ndarray  # [networks 2 n n], at the start and at the end
    fields: np.ndarray  # [networks width]
    predictions: np.ndarray  # [networks n + m]


@lru_cache(maxsize=8)
def problem(config: Any, name: str) -> Problem:
    """The points of one of the two problems, the same for every seed."""
    if name == "digits":
        return problems.digits(config.samples, config.tests)
    return problems.teacher(config.samples, config.tests, jax.random.key(7))


@lru_cache(maxsize=32)
def limit(config: Any, name: str, richness: float, repeat: int = 0) -> Course:
    """Training of infinitely wide networks, by independent samples for each `repeat`."""
    given = problem(config, name)
    found = feature_learning.solve(
        given.x, given.y, richness=richness, key=jax.random.fold_in(_key(config, _LIMIT), repeat), test_x=given.test_x,
        samples=config.draws, fields=config.draws // 8, **_training(config),
    )  # fmt: skip
    found = found._replace(state=State(()))  # large, and not needed
    found = jax.tree.map(np.asarray, found)
    kernels = found.kernels.features
    losses = [
        _risk(estimate, np.asarray(target))
        for estimate, target in ((found.predictions, given.y), (found.test_predictions, given.test_y))
    ]
    ends = [np.concatenate([a[-1], b[-1]]) for a, b in zip(found.predictions, found.test_predictions, strict=True)]
    return Course(*losses[0], *losses[1], kernels.value[:, LAST], kernels.standard_error[:, LAST],
                  found.fields[-1, LAST, 0], *ends)  # fmt: skip


@lru_cache(maxsize=32)
def networks(config: Any, name: str, richness: float, width: int, count: int) -> Ensemble:
    """Training of at least `count` finite networks, a batch of `config.batch` after the other."""
    key = jax.random.fold_in(_key(config, _NETWORKS), width)
    parts = [
        _batch(config, name, richness, width, jax.random.fold_in(key, i)) for i in range(-(-count // config.batch))
    ]
    return Ensemble(*(np.concatenate(leaves) for leaves in zip(*parts, strict=True)))


def widest(config: Any) -> tuple[int, int]:
    """The two largest widths, from which 1/N is extrapolated to 0."""
    return config.widths[-2], config.widths[-1]


def extrapolated(config: Any, name: str, values: list[np.ndarray]) -> dict[str, float]:
    """The mean at 1/N = 0 on the line through those at the two largest widths, as the claim `name` wants it.

    `values` holds one number a network, for each of the two widths.
    """
    near, far = widest(config)
    weights = np.array([-near, far]) / (far - near)
    means = np.array([v.mean() for v in values])
    errors = np.array([v.std(ddof=1) / len(v) ** 0.5 for v in values])
    return estimated(name, weights @ means, np.hypot(*(weights * errors)), min(map(len, values)))


def remainder(config: Any) -> float:
    """Of that extrapolation, for numbers of order 1: the term of order 1/N², n²/(N₁ N₂)."""
    near, far = widest(config)
    return config.samples**2 / (near * far)


def _training(config: Any) -> dict[str, Any]:
    return {"depth": DEPTH, "step_size": config.step_size, "steps": config.steps, "record_every": 1}


def _key(config: Any, stream: int) -> jax.Array:
    return jax.random.fold_in(jax.random.key(config.seed), stream)


def _risk(predictions: Any, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    residual = predictions.value - targets
    return (residual**2).mean(-1) / 2, (np.abs(residual) * predictions.standard_error).mean(-1)


def _batch(config: Any, name: str, richness: float, width: int, key: jax.Array) -> Ensemble:
    given = problem(config, name)
    found = feature_learning.networks(
        given.x, given.y, width=width, richness=richness, key=key, count=config.batch, test_x=given.test_x,
        centered=True, **_training(config),
    )  # fmt: skip
    first, second = found.params[0].weight, found.params[1].weight
    point = jnp.tanh(given.x[0] / problems.FEATURES**0.5 @ first)
    fields = jnp.einsum("kn,knm->km", point, second) / width**0.5
    assert found.test_predictions is not None
    train, test = np.asarray(found.predictions), np.asarray(found.test_predictions)
    return Ensemble(
        ((train - np.asarray(given.y)) ** 2).mean(-1) / 2,
        ((test - np.asarray(given.test_y)) ** 2).mean(-1) / 2,
        np.asarray(found.kernels.features[:, jnp.array([0, -1]), LAST]),
        np.asarray(fields),
        np.concatenate([train[:, -1], test[:, -1]], axis=1),
    )
