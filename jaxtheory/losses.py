r"""Losses of one sample and their first two derivatives by the prediction: squared, logistic, cross-entropy, hinge.

A loss is a function ℓ(prediction, target) of one sample, so that any function of that signature can take its place.
The prediction is a number, or a vector of outputs over which the loss sums. The target is floating and of the
prediction's shape, or an integer label: a class 0..K−1 of K outputs, or of one output the sign (label > 0).

| loss | floating target y, output f | label k, outputs f_1 … f_K |
| --- | --- | --- |
| `squared` | (f − y)²/2 | y = e_k; a label of one output is its number |
| `logistic` | log(1 + e^(−yf)), y = ±1 | one against the rest: y = ±1 |
| `cross_entropy` | −Σ y log softmax(f); one output: −y log σ(f) − (1 − y) log σ(−f) | −log softmax(f)_k |
| `hinge` | max(0, 1 − yf), y = ±1 | max(0, 1 + max_{j≠k} f_j − f_k) |

>>> slopes("squared", jnp.array([3.0, 1.0]), jnp.array([1.0, 1.0]))
Array([2., 0.], dtype=float32)
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxtheory.checks import Checked, boundary, holds, require

__all__ = ["Loss", "cross_entropy", "curvatures", "hinge", "logistic", "resolve", "slopes", "squared", "values"]

Loss = Callable[[Array, Array], Array]


@boundary
def squared(prediction: Float[Array, "..."], target: Float[Array, "..."] | Int[Array, "..."]) -> Float[Array, ""]:
    """Half the squared error of one sample, summed over outputs: |f − y|²/2.

    >>> f"{squared(jnp.float32(3.0), jnp.float32(1.0)):.1f} {squared(jnp.array([0.0, 3.0]), 1):.1f}"
    '2.0 2.0'
    """
    target = _checked(prediction, target)
    if _is_class(prediction, target):
        y = _valid(_one_hot(prediction, target), prediction, target)
    else:
        y = target.astype(prediction.dtype)
    return ((prediction - y) ** 2).sum() / 2


@boundary
def logistic(prediction: Float[Array, "..."], target: Float[Array, "..."] | Int[Array, "..."]) -> Float[Array, ""]:
    """Logistic loss log(1 + e^(−yf)) of targets y = ±1, summed over outputs, without overflow.

    Raises:
        ValueError: a floating target that is not ±1 (NaN inside `jit`).

    >>> f"{logistic(jnp.float32(0.0), jnp.float32(1.0)):.4f} {logistic(jnp.float32(0.0), 1):.4f}"
    '0.6931 0.6931'
    """
    target = _checked(prediction, target)
    return jax.nn.softplus(-_signs(prediction, target) * prediction).sum()


@boundary
def cross_entropy(prediction: Float[Array, "..."], target: Float[Array, "..."] | Int[Array, "..."]) -> Float[Array, ""]:
    """Cross-entropy of the softmax of K outputs, or of the sigmoid of one number, against probabilities or a class.

    Raises:
        ValueError: a negative target, and for one number one above 1 (NaN inside `jit`).

    >>> f"{cross_entropy(jnp.zeros(4), 2):.4f} {cross_entropy(jnp.float32(0.0), jnp.float32(0.5)):.4f}"
    '1.3863 0.6931'
    """
    target = _checked(prediction, target)
    if prediction.ndim == 0:
        if _is_floating(target):
            share = lambda y: (y >= 0) & (y <= 1)  # noqa: E731
            target = _allowed(target, share, "be a probability", "pass (1 + y) / 2 for -1 and 1, or integers")
        y = target.astype(prediction.dtype) if _is_floating(target) else (target > 0).astype(prediction.dtype)
        return y * jax.nn.softplus(-prediction) + (1 - y) * jax.nn.softplus(prediction)
    if _is_class(prediction, target):
        y = _valid(_one_hot(prediction, target), prediction, target)
    else:
        y = _allowed(target, lambda y: y >= 0, "be probabilities", "pass one-hot rows, or integers").astype(
            prediction.dtype
        )
    return -(y * jax.nn.log_softmax(prediction, axis=-1)).sum()


@boundary
def hinge(prediction: Float[Array, "..."], target: Float[Array, "..."] | Int[Array, "..."]) -> Float[Array, ""]:
    """Hinge loss max(0, 1 − yf) of targets y = ±1, or of Crammer and Singer (2001) for a class of K outputs.

    At the kink the derivative is that of the flat side, 0.

    Raises:
        ValueError: a floating target that is not ±1 (NaN inside `jit`).

    >>> f"{hinge(jnp.float32(0.5), jnp.float32(-1.0)):.1f} {hinge(jnp.array([0.0, 3.0, 2.5]), 1):.1f}"
    '1.5 0.5'
    """
    target = _checked(prediction, target)
    if not _is_class(prediction, target):
        return _flat_above_one(_signs(prediction, target) * prediction).sum()
    own = _one_hot(prediction, target) > 0
    # the sum has one term, and the maximum K − 1: an infinite or missing output reaches both
    rival = jnp.where(own, jnp.full_like(prediction, -jnp.inf), prediction).max()
    margin = jnp.where(own, prediction, jnp.zeros_like(prediction)).sum() - rival
    return _valid(_flat_above_one(margin), prediction, target)


_NAMED: dict[str, Loss] = {"squared": squared, "logistic": logistic, "cross_entropy": cross_entropy, "hinge": hinge}


def resolve(loss: str | Loss) -> Loss:
    """The loss of one sample behind a name; a function of the user's, with a check of what it returns.

    Raises:
        ValueError: the name is not "squared", "logistic", "cross_entropy" or "hinge"; when called, a function that does
            not return one floating number.

    >>> resolve("squared") is squared
    True
    """
    if callable(loss):
        return loss if isinstance(loss, Checked) or loss in _NAMED.values() else Checked("loss", loss)
    known = isinstance(loss, str) and loss in _NAMED
    require(known, "loss", repr(loss), f"be a function or one of {', '.join(_NAMED)}", "pass ℓ(prediction, target)")
    return _NAMED[loss]


@boundary
def values(
    loss: str | Loss, predictions: Float[Array, "n ..."], targets: Float[Array, "n ..."] | Int[Array, "n ..."]
) -> Float[Array, " n"]:
    """ℓ(f_i, y_i) of n samples.

    >>> values("hinge", [0.0, 2.0], [1.0, 1.0])
    Array([1., 0.], dtype=float32)
    """
    return _over_samples(resolve(loss), predictions, targets)


@boundary
def slopes(
    loss: str | Loss, predictions: Float[Array, "n ..."], targets: Float[Array, "n ..."] | Int[Array, "n ..."]
) -> Float[Array, "n ..."]:
    """∂ℓ/∂f of n samples, of the predictions' shape.

    >>> slopes("cross_entropy", jnp.zeros((1, 2)), jnp.array([0]))
    Array([[-0.5,  0.5]], dtype=float32)
    """
    return _over_samples(jax.grad(resolve(loss)), predictions, targets)


@boundary
def curvatures(
    loss: str | Loss, predictions: Float[Array, "n ..."], targets: Float[Array, "n ..."] | Int[Array, "n ..."]
) -> Float[Array, "n ..."]:
    """∂²ℓ/∂f² of n samples: [n] for predictions [n], the Hessians [n K K] for predictions [n K].

    >>> curvatures("logistic", [0.0], [1.0])
    Array([0.25], dtype=float32)
    """
    return _over_samples(jax.hessian(resolve(loss)), predictions, targets)


def _over_samples(function: Callable[[Array, Array], Array], predictions: Array, targets: Array) -> Array:
    same = targets.ndim > 0 and len(targets) == len(predictions)
    require(same, "targets", targets.shape, f"hold one target for each of {len(predictions)} samples", "pair them")
    return jax.vmap(function)(predictions, targets)


def _checked(prediction: Array, target: Array) -> Array:
    """The target, booleans as the classes 0 and 1."""
    target = target.astype(jnp.int32) if target.dtype == jnp.bool_ else target
    fits = target.shape == prediction.shape or _is_class(prediction, target)
    wish = f"have the shape of prediction, {prediction.shape}, or be one label"
    require(fits, "target", f"shape {target.shape}", wish, "take one sample at a time, by jax.vmap")
    if _is_class(prediction, target):
        count = prediction.shape[0]
        inside = holds(lambda label: (label >= 0) & (label < count), target)
        require(inside, "target", target, f"be a class in 0..{count - 1}", "count classes from 0")
    return target


def _is_floating(target: Array) -> bool:
    return bool(jnp.issubdtype(target.dtype, jnp.floating))


def _is_class(prediction: Array, target: Array) -> bool:
    """Whether the target is one integer for a vector of outputs."""
    return not _is_floating(target) and target.ndim == 0 and prediction.ndim == 1


def _one_hot(prediction: Array, target: Array) -> Array:
    return (jnp.arange(prediction.shape[0], dtype=target.dtype) == target).astype(prediction.dtype)


def _valid(value: Array, prediction: Array, target: Array) -> Array:
    """NaN for a class that there is not, which inside `jit` cannot be refused."""
    inside = (target >= 0) & (target < prediction.shape[0])
    return jnp.where(inside, value, jnp.full_like(value, jnp.nan))


def _signs(prediction: Array, target: Array) -> Array:
    """The target as ±1: a floating one as it is, a class against the rest, another label by its sign."""
    if _is_floating(target):
        sign = lambda y: (y == 1) | (y == -1)  # noqa: E731
        target = _allowed(target, sign, "be -1 or 1", "pass 2 y - 1 for 0 and 1, or integers")
        return target.astype(prediction.dtype)
    if _is_class(prediction, target):
        return _valid(2 * _one_hot(prediction, target) - 1, prediction, target)
    return jnp.where(target > 0, jnp.ones_like(prediction), -jnp.ones_like(prediction))


def _allowed(target: Array, rule: Callable[[Array], Array], wish: str, hint: str) -> Array:
    """The target, NaN where it breaks the rule inside `jit`."""
    require(holds(rule, target), "target", target, wish, hint)
    return jnp.where(rule(target), target, jnp.full_like(target, jnp.nan))


def _flat_above_one(margin: Array) -> Array:
    """max(0, 1 − margin) with derivative 0 at the kink; NaN stays NaN."""
    return jnp.where(margin >= 1, jnp.zeros_like(margin), 1 - margin)
