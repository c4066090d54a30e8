r"""Priors: the elementwise mean and variance of every parameter, and its weight in the NTK.

A prior is a function of a parameter's path ("layers/0/kernel") and shape. The NTK is Σ weight · ∂f ∂f' over
parameters: with weight = variance it is that of the NTK parameterization and does not depend on width; with weight = 1
it is that of plain gradient descent at the widths of the given shapes.

By path and shape alone, `ntk`, `lecun` and `he` take weights as [in, out]. `infinite.limit` sees in the program which
axes a weight contracts: where the last one is among them, as in the [out, in] of Equinox and of the Conv1D of Hugging
Face, the fan-in is that of the contracted axes, and a table whose rows are looked up has none. The rule that it used is
`Limit.prior`, to draw or to `validate` parameters by.

>>> ntk(sigma_w=2.0)("dense/kernel", (100, 50)).variance
0.04
"""

import inspect
import math
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Key, PyTree

from jaxtheory._host import as_array, short
from jaxtheory.checks import boundary, constrain, nonnegative, positive, require, require_arrays

Scalar = float | Float[Array, ""]


class Moments(NamedTuple):
    """Elementwise mean and variance of a parameter, and its learning-rate weight in the NTK."""

    mean: Scalar
    variance: Scalar
    weight: Scalar


Prior = Callable[[str, tuple[int, ...]], Moments]
OfVariance = Callable[[Scalar], Scalar]


class Role(NamedTuple):
    """How a program uses a parameter: the axes that it contracts, if any, or as a table whose rows are looked up.

    A `factor` is a vector or a number that multiplies activations.
    """

    inputs: frozenset[int] = frozenset()
    table: bool = False
    factor: bool = False


@runtime_checkable
class ByRole(Protocol):
    """A prior that also takes the role that a program gives a parameter."""

    def __call__(self, path: str, shape: tuple[int, ...]) -> Moments:
        """The moments of a parameter by path and shape alone."""
        ...

    def in_role(self, path: str, shape: tuple[int, ...], role: Role) -> Moments:
        """The moments of a parameter as a program uses it."""
        ...


_SCALES = ("scale", "gamma", "g")
_CONSTANTS = ("mean", "var", "count")
_OF_HEADS = tuple(f"{role}/kernel{end}" for role in ("query", "key", "value") for end in ("", "/value"))


@boundary
def ntk(sigma_w: Scalar = 1.0, sigma_b: Scalar = 0.0) -> Prior:
    r"""W ~ N(0, σ_w²/fan_in), b ~ N(0, σ_b²), each trained in proportion to its variance: the NTK parameterization.

    The function is that of f = (σ_w/√fan_in) W x + σ_b b with standard Gaussian W, b; so is its NTK. By shape alone,
    fan_in is the product of all axes but the last (in Flax's attention, whose kernels `query`, `key` and `value` have
    axes of inputs, heads and channels: the first); in a limit also that of [out, in] weights, which the program tells.
    Layers that are stacked into one leaf, as by `nn.scan` or `nn.vmap`, need a rule of their own, such as lambda path,
    shape: rule(path, shape[1:] if "stack" in path else shape). Leaves of one axis are biases, or, by their names,
    scales (1, not trained: `scale`, `gamma`, `g`, or a `weight` of one axis) and running averages (`mean` 0, `var` 1,
    not trained). In a limit a vector that multiplies activations under another name is refused, and `by_path` says what
    it is. A leaf of several axes is no scale where a program contracts it, and by shape alone where it is
    named `g` and two of its axes are longer than 1. Tables that a program looks up have variance σ_w², and so have
    leaves named `embedding` that none contracts.

    Args:
        sigma_w, sigma_b: standard deviations, ≥ 0; may be traced.

    Raises:
        ValueError: a negative number (NaN inside `jit`).

    Source: Jacot, Gabriel and Hongler (2018), section 2; Lee et al. (2019), equation 1.

    >>> ntk(1.5, 0.1)("dense/bias", (50,)).variance
    0.010000000000000002
    """
    weight_variance, bias_variance = _square("sigma_w", sigma_w), _square("sigma_b", sigma_b)
    return _ByShape(lambda fan_in: weight_variance / fan_in, bias_variance, weight_variance, _WEIGHTS["variance"])


@boundary
def lecun(sigma_b: Scalar = 0.0, *, weight: Literal["one", "variance"] = "one") -> Prior:
    """W ~ N(0, 1/fan_in) as Flax draws it, embeddings N(0, 1/features), biases N(0, σ_b²), scales 1.

    Args:
        sigma_b: standard deviation of biases.
        weight: "one" for gradient descent on the parameters themselves, "variance" for the NTK parameterization.

    >>> lecun()("Dense_0/kernel", (100, 50))
    Moments(mean=0.0, variance=0.01, weight=1.0)
    """
    return _ByShape(lambda fan_in: 1.0 / fan_in, _square("sigma_b", sigma_b), None, _WEIGHTS[weight])


@boundary
def he(sigma_b: Scalar = 0.0, *, weight: Literal["one", "variance"] = "one") -> Prior:
    """W ~ N(0, 2/fan_in) for ReLU networks; else as `lecun`.

    >>> he()("Dense_0/kernel", (100, 50)).variance
    0.02
    """
    return _ByShape(lambda fan_in: 2.0 / fan_in, _square("sigma_b", sigma_b), None, _WEIGHTS[weight])


def _square(name: str, sigma: Scalar) -> Scalar:
    return nonnegative(name, sigma, "pass a standard deviation >= 0") ** 2


def unit() -> Prior:
    """N(0, 1) and weight 1 for every parameter: for functions that carry their own factors σ_w/√n.

    >>> unit()("w", (3, 4))
    Moments(mean=0.0, variance=1.0, weight=1.0)
    """
    return lambda path, shape: Moments(0.0, 1.0, 1.0)


def by_path(rules: Mapping[str, Moments], default: Prior) -> Prior:
    """The moments of the first key that is part of a parameter's path, else those of `default`.

    Raises:
        ValueError: rules that are no mapping of paths to Moments, or a default that is no rule.

    >>> by_path({"gain": Moments(1.0, 0.0, 0.0)}, unit())("block/gain", (5,)).mean
    1.0
    """
    paths = isinstance(rules, Mapping) and all(isinstance(key, str) for key in rules)
    hint = 'pass e.g. {"gain": Moments(1.0, 0.0, 0.0)}'
    require(paths, "rules", repr(rules), "map parts of paths to Moments", hint)
    told = {part: check_moments(part, m) for part, m in rules.items()}
    require_rule("default", default)
    return _ByPath(told, default)


def require_rule(name: str, prior: object) -> None:
    """Raise unless a prior can be called with a path and a shape; a function of this module must have been called."""
    wanted = "be a function (path, shape) -> Moments"
    for maker, call in ((ntk, "ntk()"), (lecun, "lecun()"), (he, "he()"), (unit, "unit()"), (by_path, "by_path(...)")):
        require(prior is not maker, name, f"prior.{maker.__name__}", wanted, f"call it: {name}=prior.{call}")
    require(callable(prior) and _takes_two(prior), name, repr(prior), wanted, "use e.g. prior.ntk()")


def _takes_two(prior: Callable[..., object]) -> bool:
    try:
        inspect.signature(prior).bind("path", ())
    except TypeError:
        return False
    except ValueError:  # a builtin, whose signature cannot be read
        return True
    return True


def check_moments(path: str, told: object) -> Moments:
    """What a prior returned for a parameter, if it is three numbers; negative ones are NaN inside `jit`."""
    hint = "use e.g. jaxtheory.infinite.prior.ntk()"
    three = told if isinstance(told, tuple) else ()
    require(len(three) == 3, "prior", f"{told!r} for {path!r}", "return Moments(mean, variance, weight)", hint)
    mean, variance, weight = (_number(f"{part} of {path}", m) for part, m in zip(Moments._fields, three, strict=True))
    mean = constrain(f"mean of {path}", mean, lambda v: abs(v) < np.inf, "be finite", "pass a finite mean, e.g. 0.0")
    variance = nonnegative(f"variance of {path}", variance, "pass a variance >= 0")
    return Moments(mean, variance, nonnegative(f"weight of {path}", weight, "pass a learning rate >= 0"))


def _number(name: str, moment: object) -> Scalar:
    """One real number, as a Python float or as a JAX array."""
    real = isinstance(moment, int | float | np.generic | np.ndarray | jax.Array) and np.ndim(moment) == 0
    real = real and jnp.issubdtype(jnp.result_type(moment), jnp.number)
    real = real and not jnp.issubdtype(jnp.result_type(moment), jnp.complexfloating)
    require(real, name, repr(moment), "be one real number", "return Moments(0.0, 1.0, 1.0), one number each")
    return moment if isinstance(moment, jax.Array) else float(np.asarray(moment))


_DRAWN = ("hold finite numbers to compare with a prior", "pass what the initializer returns")


def validate(prior: Prior, params: PyTree, *, errors: float = 6.0) -> None:
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
    require_rule("prior", prior)
    positive("errors", errors, "use 6.0")
    require_arrays("params", params)
    for path, leaf in named_leaves(params):
        values, moments = np.asarray(leaf, np.float64), check_moments(path, prior(path, np.shape(leaf)))
        mean, variance, n = float(moments.mean), float(moments.variance), values.size
        require(n > 0 and bool(np.isfinite(values).all()), "params", f"{path} of shape {values.shape}", *_DRAWN)
        off_mean = abs(values.mean() - mean) > errors * math.sqrt(variance / n) + 1e-6
        off_variance = abs(((values - mean) ** 2).mean() - variance) > errors * variance * math.sqrt(2 / n) + 1e-6
        found = f"drawn with mean {values.mean():.4g} and variance {values.var():.4g}"
        requirement = f"describe parameter {path}, {found}"
        told = f"mean {mean:.4g} and variance {variance:.4g}"
        require(not (off_mean or off_variance), "prior", told, requirement, "use the rule that the initializer follows")


def draw(key: Key[Array, ""], shapes: PyTree, prior: Prior) -> PyTree[Array]:
    """Independent Gaussian parameters with the moments of a prior: a network of finite width as its limit sees it.

    Args:
        key: of the draws; each parameter has its own, by its path, whatever else is drawn.
        shapes: parameters, or their shapes (`jax.eval_shape` of an initializer).
        prior: a rule; `Limit.prior` is the one that a limit used, which knows the fan-in of every weight.

    Returns:
        Arrays of the shapes and dtypes of `shapes`.

    Raises:
        ValueError: a prior that is no rule, what is no array or shape.

    >>> shapes = {"w": jax.ShapeDtypeStruct((1000, 2), "float32")}
    >>> params = draw(jax.random.key(0), shapes, ntk(sigma_w=2.0))
    >>> f"{1000 * params['w'].var():.1f}"  # 4, within its standard error of 0.13
    '4.1'
    """
    require_rule("prior", prior)
    return _draw(key, shapes, prior)


@boundary
def _draw(key: Key[Array, ""], shapes: PyTree, prior: Prior) -> PyTree[Array]:
    def one(path: str, leaf: Any) -> Array:
        shaped = isinstance(leaf, jax.ShapeDtypeStruct) or as_array(leaf) is not None
        require(shaped, "shapes", f"{short(leaf)} at {path!r}", "hold arrays or their shapes", "use jax.eval_shape")
        shape, dtype = jnp.shape(leaf), jnp.result_type(leaf)
        moments = check_moments(path, prior(path, shape))
        own = jax.random.fold_in(key, zlib.crc32(path.encode()))
        deviation = jnp.sqrt(jnp.asarray(moments.variance, dtype))
        return jnp.asarray(moments.mean, dtype) + deviation * jax.random.normal(own, shape, dtype)

    return jax.tree.unflatten(jax.tree.structure(shapes), [one(path, leaf) for path, leaf in named_leaves(shapes)])


def scale_by_weight(prior: Prior) -> optax.GradientTransformation:
    r"""Each parameter's gradient times its NTK weight, so that a network as it is written trains in the tangent
    parameterization: θ ← θ − η weight ∂L, whose outputs move by −η Θ ∂L/∂f with Θ = Σ weight · ∂f ∂f'.

    Args:
        prior: a rule; `Limit.prior` for the weights of a limit.

    Returns:
        A transformation for `optax.chain`, before gradient descent with or without momentum. Adam undoes it.

    Raises:
        ValueError: a prior that is no rule.

    Source: Lee et al. (2019), section 2.1; Sohl-Dickstein et al. (2020), equation 6.

    >>> optimizer = optax.chain(scale_by_weight(ntk(sigma_w=2.0)), optax.sgd(0.1))
    >>> params = {"w": jnp.ones((4, 1))}
    >>> updates, _ = optimizer.update(params, optimizer.init(params), params)
    >>> float(updates["w"][0, 0])
    -0.10000000149011612
    """
    require_rule("prior", prior)

    def update(updates: PyTree, state: optax.EmptyState, params: PyTree = None) -> tuple[PyTree, optax.EmptyState]:
        scaled = [
            g * jnp.asarray(check_moments(path, prior(path, g.shape)).weight, g.dtype)
            for path, g in named_leaves(updates)
        ]
        return jax.tree.unflatten(jax.tree.structure(updates), scaled), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def named_leaves(params: PyTree) -> list[tuple[str, Any]]:
    """Leaves with their paths, such as "layers/0/kernel", as a prior sees them.

    >>> named_leaves({"layers": [{"kernel": 1.0}]})
    [('layers/0/kernel', 1.0)]
    """
    leaves, _ = jax.tree_util.tree_flatten_with_path(params)
    return [("/".join(_name(key) for key in path), leaf) for path, leaf in leaves]


def _name(key: object) -> str:
    for attribute in ("key", "name", "idx"):
        if hasattr(key, attribute):
            return str(getattr(key, attribute))
    return str(key)


def _last(path: str) -> str:
    """The name of a parameter, without the `value` of an NNX variable."""
    return next((part for part in reversed(path.split("/")) if part != "value"), path)


class _ByShape:
    """A rule by names and shapes, or by the role that a program gives a parameter."""

    def __init__(self, kernel: Callable[[int], Scalar], bias: Scalar, table: Scalar | None, weight: OfVariance) -> None:
        self._kernel, self._bias, self._table, self._weight = kernel, bias, table, weight

    def __call__(self, path: str, shape: tuple[int, ...]) -> Moments:
        if _last(path) == "g" and sum(n > 1 for n in shape) > 1:
            return self._centered(self._kernel(math.prod(shape[:-1])))
        return self._named(path, shape)

    def in_role(self, path: str, shape: tuple[int, ...], role: Role) -> Moments:
        """The moments of a parameter as a program uses it."""
        name = _last(path)
        if role.table:
            return self._rows(shape)
        scale = name in (*_SCALES, *_CONSTANTS, "embedding") or (name == "weight" and len(shape) == 1)
        hint = f'pass prior.by_path({{"{path}": Moments(1.0, 0.0, 0.0)}}, prior.ntk()), with its own mean'
        wish = f"give the mean of {path}, which multiplies activations"
        require(scale or not role.factor, "prior", "a rule by names, of which it is none", wish, hint)
        # by shape alone the last axis is that of outputs, and names tell what is no weight
        if len(shape) - 1 in role.inputs or (role.inputs and name in (*_SCALES, *_CONSTANTS, "bias", "embedding")):
            return self._centered(self._kernel(math.prod(shape[axis] for axis in role.inputs)))
        return self._named(path, shape)

    def _named(self, path: str, shape: tuple[int, ...]) -> Moments:
        name = _last(path)
        if name in _CONSTANTS:
            return Moments(1.0 if name == "var" else 0.0, 0.0, 0.0)
        if name in _SCALES or (name == "weight" and len(shape) == 1):
            return Moments(1.0, 0.0, self._weight(0.0))
        if name == "embedding":
            return self._rows(shape)
        inputs = shape[:1] if len(shape) == 3 and path.endswith(_OF_HEADS) else shape[:-1]
        return self._centered(self._bias if len(shape) < 2 or name == "bias" else self._kernel(math.prod(inputs)))

    def _rows(self, shape: tuple[int, ...]) -> Moments:
        return self._centered(1.0 / shape[-1] if self._table is None else self._table)

    def _centered(self, variance: Scalar) -> Moments:
        return Moments(0.0, variance, self._weight(variance))


class _ByPath:
    """Moments of parts of paths, and a rule for the rest."""

    def __init__(self, rules: dict[str, Moments], default: Prior) -> None:
        self._rules, self._default = rules, default

    def __call__(self, path: str, shape: tuple[int, ...]) -> Moments:
        return next((m for part, m in self._rules.items() if part in path), None) or self._default(path, shape)

    def in_role(self, path: str, shape: tuple[int, ...], role: Role) -> Moments:
        """As `_ByShape.in_role`, of the rest."""
        found = next((m for part, m in self._rules.items() if part in path), None)
        if found is not None:
            return found
        default = self._default
        return default.in_role(path, shape, role) if isinstance(default, ByRole) else default(path, shape)


_WEIGHTS: dict[str, OfVariance] = {"one": lambda variance: 1.0, "variance": lambda variance: variance}


__all__ = [
    "Moments",
    "Prior",
    "by_path",
    "draw",
    "he",
    "lecun",
    "named_leaves",
    "ntk",
    "scale_by_weight",
    "unit",
    "validate",
]
