r"""Priors: the elementwise mean and variance of every parameter, and its weight in the NTK.

A prior is a function of a parameter's path ("layers/0/kernel") and shape. The NTK is Σ weight · ∂f ∂f' over
parameters: with weight = variance it is that of the NTK parameterization and does not depend on width; with weight = 1
it is that of plain gradient descent at the widths of the given shapes.

>>> ntk(sigma_w=2.0)("dense/kernel", (100, 50)).variance
0.04
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, PyTree

from jaxtheory.checks import require

Scalar = float | Float[Array, ""]


class Moments(NamedTuple):
    """Elementwise mean and variance of a parameter, and its learning-rate weight in the NTK."""

    mean: Scalar
    variance: Scalar
    weight: Scalar


Prior = Callable[[str, tuple[int, ...]], Moments]

_SCALES = ("scale", "gamma", "g")
_CONSTANTS = ("mean", "var", "count")
_OF_HEADS = tuple(f"{role}/kernel{end}" for role in ("query", "key", "value") for end in ("", "/value"))


def ntk(sigma_w: Scalar = 1.0, sigma_b: Scalar = 0.0) -> Prior:
    r"""W ~ N(0, σ_w²/fan_in), b ~ N(0, σ_b²), each trained in proportion to its variance: the NTK parameterization.

    The function is that of f = (σ_w/√fan_in) W x + σ_b b with standard Gaussian W, b; so is its NTK. fan_in is the
    product of all axes but the last (in Flax's attention, whose kernels `query`, `key` and `value` have axes of inputs,
    heads and channels: the first). Layers that are stacked into one leaf, as by `nn.scan` or `nn.vmap`, need a rule of
    their own, such as lambda path, shape: rule(path, shape[1:] if "stack" in path else shape). Leaves of one axis are
    biases, or, by their names, scales (1, not trained) and running averages (`mean` 0, `var` 1, not trained); leaves
    named `embedding` have variance σ_w².

    Source: Jacot, Gabriel and Hongler (2018), section 2; Lee et al. (2019), equation 1.

    >>> ntk(1.5, 0.1)("dense/bias", (50,)).variance
    0.010000000000000002
    """
    return _by_role(lambda fan_in: sigma_w**2 / fan_in, sigma_b**2, sigma_w**2, lambda variance: variance)


def lecun(sigma_b: Scalar = 0.0, *, weight: str = "one") -> Prior:
    """W ~ N(0, 1/fan_in) as Flax draws it, embeddings N(0, 1/features), biases N(0, σ_b²), scales 1.

    Args:
        sigma_b: standard deviation of biases.
        weight: "one" for gradient descent on the parameters themselves, "variance" for the NTK parameterization.

    >>> lecun()("Dense_0/kernel", (100, 50))
    Moments(mean=0.0, variance=0.01, weight=1.0)
    """
    return _by_role(lambda fan_in: 1.0 / fan_in, sigma_b**2, None, _WEIGHTS[_known(weight)])


def he(sigma_b: Scalar = 0.0, *, weight: str = "one") -> Prior:
    """W ~ N(0, 2/fan_in) for ReLU networks; else as `lecun`.

    >>> he()("Dense_0/kernel", (100, 50)).variance
    0.02
    """
    return _by_role(lambda fan_in: 2.0 / fan_in, sigma_b**2, None, _WEIGHTS[_known(weight)])


def unit() -> Prior:
    """N(0, 1) and weight 1 for every parameter: for functions that carry their own factors σ_w/√n.

    >>> unit()("w", (3, 4))
    Moments(mean=0.0, variance=1.0, weight=1.0)
    """
    return lambda path, shape: Moments(0.0, 1.0, 1.0)


def by_path(rules: Mapping[str, Moments], default: Prior) -> Prior:
    """The moments of the first key that is part of a parameter's path, else those of `default`.

    >>> by_path({"gain": Moments(1.0, 0.0, 0.0)}, unit())("block/gain", (5,)).mean
    1.0
    """

    def prior(path: str, shape: tuple[int, ...]) -> Moments:
        return next((m for part, m in rules.items() if part in path), None) or default(path, shape)

    return prior


def validate(prior: Prior, params: PyTree[Any], *, errors: float = 6.0) -> None:
    """Raise unless the sample mean and variance of every parameter agree with its prior.

    The standard errors are those of Gaussian draws, √(v/n) and v√(2/n); truncated normals and uniforms have smaller.

    Args:
        prior: a rule.
        params: draws, as an initializer makes them (not trained parameters).
        errors: how many standard errors are agreement.

    Raises:
        ValueError: naming the parameter, what it was drawn with and what the prior says.

    >>> validate(unit(), {"w": jax.random.normal(jax.random.key(0), (1000,))})
    """
    for path, leaf in named_leaves(params):
        values, moments = np.asarray(leaf, np.float64), prior(path, leaf.shape)
        mean, variance, n = float(moments.mean), float(moments.variance), values.size
        off_mean = abs(values.mean() - mean) > errors * math.sqrt(variance / n) + 1e-6
        off_variance = abs(((values - mean) ** 2).mean() - variance) > errors * variance * math.sqrt(2 / n) + 1e-6
        found = f"drawn with mean {values.mean():.4g} and variance {values.var():.4g}"
        requirement = f"describe parameter {path}, {found}"
        told = f"mean {mean:.4g} and variance {variance:.4g}"
        require(not (off_mean or off_variance), "prior", told, requirement, "use the rule that the initializer follows")


def named_leaves(params: PyTree[Any]) -> list[tuple[str, Any]]:
    """Leaves with their paths, such as "layers/0/kernel"."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(params)
    return [("/".join(_name(key) for key in path), leaf) for path, leaf in leaves]


def _name(key: Any) -> str:
    for attribute in ("key", "name", "idx"):
        if hasattr(key, attribute):
            return str(getattr(key, attribute))
    return str(key)


def _by_role(kernel: Callable[[int], Any], bias: Any, table: Any, weight: Callable[[Any], Any]) -> Prior:
    def prior(path: str, shape: tuple[int, ...]) -> Moments:
        name = next((part for part in reversed(path.split("/")) if part != "value"), path)
        if name in _CONSTANTS:
            return Moments(1.0 if name == "var" else 0.0, 0.0, 0.0)
        if name in _SCALES:
            return Moments(1.0, 0.0, weight(0.0))
        if name == "embedding":
            variance = 1.0 / shape[-1] if table is None else table
            return Moments(0.0, variance, weight(variance))
        inputs = shape[:1] if len(shape) == 3 and path.endswith(_OF_HEADS) else shape[:-1]
        variance = bias if len(shape) < 2 or name == "bias" else kernel(math.prod(inputs))
        return Moments(0.0, variance, weight(variance))

    return prior


_WEIGHTS: dict[str, Callable[[Any], Any]] = {"one": lambda variance: 1.0, "variance": lambda variance: variance}


def _known(weight: str) -> str:
    require(weight in _WEIGHTS, "weight", repr(weight), "be 'one' or 'variance'", "write a rule of your own otherwise")
    return weight


__all__ = ["Moments", "Prior", "by_path", "he", "lecun", "named_leaves", "ntk", "unit", "validate"]
