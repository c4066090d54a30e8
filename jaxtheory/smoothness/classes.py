"""Function classes by their parameters, and the rates at which linear estimators and deep networks learn them.

| class | deep networks | linear estimators |
| --- | --- | --- |
| `Isotropic` B^s_{p,q} on [0, 1]^d | 2s/(2s + d) | 2s'/(2s' + d), s' = s − d(1/p − 1/2)_+ |
| `Mixed` MB^s_{p,q} | 2s/(2s + 1) | 2s'/(2s' + 1), s' = s − (1/p − 1/2)_+ |
| `Anisotropic`, 1/s̃ = Σ 1/s_i | 2s̃/(2s̃ + 1) | 2s'/(2s' + 1), s' = s̃ − (1/p − 1/2)_+ |
| `Variable` smoothness s(x) | 2s/(2s + d), s = min s(x) | unknown here |
| `Composite` g_q ∘ … ∘ g_0 | min_i 2β*_i/(2β*_i + t_i), β*_i = β_i Π_{l>i} min(β_l, 1) | unknown here |
| `Manifold` of dimension D | 2β/(2β + D) | unknown here |
| `PiecewiseSmooth` | min{2β/(2β + d), α/(α + d − 1)} | unknown here |

Entries are the exponents of n^{−r}, the squared L² risk of n noisy observations. Logarithms are those of the class.
"""

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np

from jaxtheory.checks import boundary, known, require

Estimator = Literal["deep", "linear"]


class Rate(NamedTuple):
    """Risk n^{−exponent} (log n)^{log_power}, up to the logarithms of the estimator; where from, and where it holds."""

    exponent: float
    log_power: float
    source: str
    valid: str


class Isotropic(NamedTuple):
    """The Besov ball B^s_{p,q}([0, 1]^d): smoothness s > d(1/p − 1/2)_+ in L^p, in each direction."""

    s: float
    p: float = 2.0
    dim: int = 1


class Mixed(NamedTuple):
    """The ball MB^s_{p,q} of mixed smoothness s > (1/p − 1/2)_+: tensor products of s-smooth functions belong to it."""

    s: float
    p: float = 2.0
    q: float = 2.0
    dim: int = 2


class Anisotropic(NamedTuple):
    """The Besov ball with smoothness s_i along axis i: (Σ 1/s_i)^{−1} > (1/p − 1/2)_+."""

    s: tuple[float, ...]
    p: float = 2.0


class Variable(NamedTuple):
    """The Besov ball whose smoothness s(x) depends on the point; s is its minimum, > d(1/p − 1/2)_+."""

    s: float
    p: float = 2.0
    dim: int = 1


class Composite(NamedTuple):
    """g_q ∘ … ∘ g_0, in the order in which they are applied: each output of g_i is β_i-Hölder in t_i variables."""

    smoothness: tuple[float, ...]
    variables: tuple[int, ...]


class Manifold(NamedTuple):
    """β-Hölder functions where the inputs lie on a set of Minkowski dimension D, below the dimension of the space."""

    smoothness: float
    intrinsic: float


class PiecewiseSmooth(NamedTuple):
    """β-Hölder pieces on [0, 1]^d, d ≥ 2, with α-Hölder boundaries between them."""

    smoothness: float
    boundary: float
    dim: int = 2


_SPARSE = Isotropic | Mixed | Anisotropic


@boundary
def rates(function_class: Any, estimator: Estimator = "deep") -> Rate:
    r"""The rate of the squared L² risk over a class, n^{−r} (log n)^l, for regression with n noisy observations.

    "deep": sparse ReLU networks of the best size by least squares; up to logarithms no estimator at all has a better
    exponent. "linear": the best linear estimator, kernel ridge regression among them; for p < 2 it is slower, since it
    cannot choose its atoms after it has seen the data. The logarithms of mixed smoothness are an upper bound,
    l = 2(d − 1)(s + u)/(2s + 1), u = (1/2 − 1/q)_+; networks add a power that does not depend on the class.

    Args:
        function_class: one of the classes of this module. estimator: above; "linear" for Besov balls.

    Returns:
        `Rate`.

    Raises:
        ValueError: parameters outside the valid range, another class, or "linear" for a class where it is not known.

    Cost: none. Source: in the result.

    >>> [round(rates(Isotropic(1.0, p=1.0), arm).exponent, 3) for arm in ("deep", "linear")]
    [0.667, 0.5]
    >>> rates(Composite((0.5, 2.0), (1, 4))).exponent == rates(Isotropic(0.5)).exponent
    True
    """
    kinds = ", ".join(kind.__name__ for kind in _RULES)
    listed = type(function_class) in _RULES
    require(listed, "function_class", repr(function_class), f"be one of {kinds}", "e.g. classes.Isotropic(1.0)")
    sparse = isinstance(function_class, _SPARSE) or estimator == "deep"
    wish = f"be 'deep' for {type(function_class).__name__}, whose linear rate is not given"
    require(sparse, "estimator", repr(estimator), wish, "use estimator='deep'")
    return _RULES[type(function_class)](_known(function_class), estimator)


def _known(given: Any) -> Any:
    """The same class with Python numbers, and tuples of them."""
    several = _SEVERAL.get(type(given), ())
    for name, value in zip(given._fields, given, strict=True):
        require(known(value), name, value, "be known, not traced", "call it outside jit")
        listed = isinstance(value, list | tuple) or np.ndim(value) == 1
        wish, hint = (
            ("be one number for each part", "e.g. (1.0, 2.0)") if name in several else ("be a number", "e.g. 1")
        )
        require(listed == (name in several), name, repr(value), wish, hint)
        numbers = tuple(_number(name, one) for one in (value if listed else [value]))
        given = given._replace(**{name: numbers if listed else numbers[0]})
    return given


def _number(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        number = None
    require(number is not None, name, repr(value), "be a number", "e.g. 1.0")
    return math.nan


def _besov(s: float, p: float, estimator: Estimator, per: float) -> float:
    """The smoothness that counts: s, or what the embedding into L² leaves; `per` is d where s is of each direction."""
    _positive("p", p, "use math.inf for the sup norm", infinite=True)
    lost = per * max(0.0, 1 / p - 0.5)
    wish = f"be > {lost:g}, so that functions are square-integrable, and finite"
    require(lost < s < math.inf, "s", s, wish, "ask for more smoothness or a larger p")
    return s - lost if estimator == "linear" else s


def _isotropic(given: Isotropic, estimator: Estimator) -> Rate:
    _dimension(given.dim, 1)
    s = _besov(given.s, given.p, estimator, float(given.dim))
    sources = {"deep": "Suzuki (2019), Theorem 2", "linear": "Donoho and Johnstone (1998), Theorem 1"}
    return Rate(2 * s / (2 * s + given.dim), 0.0, sources[estimator], "s > d(1/p − 1/2)_+")


def _mixed(given: Mixed, estimator: Estimator) -> Rate:
    _dimension(given.dim, 1)
    _positive("q", given.q, "use math.inf for the sup norm", infinite=True)
    s = _besov(given.s, given.p, estimator, 1.0)
    logs = 2 * (given.dim - 1) * (s + max(0.0, 0.5 - 1 / given.q)) / (2 * s + 1)
    source = "Suzuki (2019), section 3.2; Dung, Temlyakov, Ullrich (2018), Theorem 4.3.1"
    return Rate(2 * s / (2 * s + 1), logs, source, "s > (1/p − 1/2)_+")


def _anisotropic(given: Anisotropic, estimator: Estimator) -> Rate:
    require(len(given.s) >= 1, "s", given.s, "hold a smoothness for each axis", "e.g. s=(1.0, 2.0)")
    for each in given.s:
        _positive("s", each, "pass a smoothness for each axis")
    s = _besov(1 / sum(1 / each for each in given.s), given.p, estimator, 1.0)
    return Rate(2 * s / (2 * s + 1), 0.0, "Suzuki and Nitanda (2021), Theorems 2 and 4", "s̃ > (1/p − 1/2)_+")


def _variable(given: Variable, estimator: Estimator) -> Rate:
    _dimension(given.dim, 1)
    s = _besov(given.s, given.p, estimator, float(given.dim))
    return Rate(2 * s / (2 * s + given.dim), 0.0, "Tsuji and Suzuki (2021)", "min s(x) > d(1/p − 1/2)_+")


def _composite(given: Composite, _: Estimator) -> Rate:
    pairs = (len(given.smoothness), len(given.variables))
    require(pairs[0] == pairs[1] >= 1, "variables", given.variables, "be one number a map", "match it to smoothness")
    exponents, left = [], 1.0
    for beta, count in zip(reversed(given.smoothness), reversed(given.variables), strict=True):
        _positive("smoothness", beta, "pass a Hölder exponent for each map")
        _dimension(count, 1)
        exponents.append(2 * beta * left / (2 * beta * left + count))
        left *= min(beta, 1.0)
    return Rate(min(exponents), 0.0, "Schmidt-Hieber (2020), Theorems 1 and 3", "β_i > 0, t_i ≥ 1")


def _manifold(given: Manifold, _: Estimator) -> Rate:
    for name in ("smoothness", "intrinsic"):
        _positive(name, float(getattr(given, name)), "e.g. Manifold(smoothness=2.0, intrinsic=2.0)")
    beta = given.smoothness
    return Rate(2 * beta / (2 * beta + given.intrinsic), 0.0, "Nakada and Imaizumi (2020), Theorem 7", "β > 0, D > 0")


def _piecewise(given: PiecewiseSmooth, _: Estimator) -> Rate:
    for name in ("smoothness", "boundary"):
        _positive(name, getattr(given, name), "pass a Hölder exponent")
    _dimension(given.dim, 2)
    inside = 2 * given.smoothness / (2 * given.smoothness + given.dim)
    across = given.boundary / (given.boundary + given.dim - 1)
    return Rate(min(inside, across), 0.0, "Imaizumi and Fukumizu (2019), Theorem 1", "α, β > 0, d ≥ 2")


def _positive(name: str, value: float, hint: str, infinite: bool = False) -> None:
    right = 0 < value < math.inf or (infinite and value == math.inf)
    require(right, name, value, "lie in (0, inf]" if infinite else "be positive and finite", hint)


def _dimension(dim: float, least: int) -> None:
    require(
        least <= dim < math.inf and dim % 1 == 0,
        "dim",
        dim,
        f"be an integer >= {least}",
        "name the number of variables",
    )


_SEVERAL: dict[type, tuple[str, ...]] = {Anisotropic: ("s",), Composite: ("smoothness", "variables")}
_RULES: dict[type, Callable[[Any, Estimator], Rate]] = {
    Isotropic: _isotropic,
    Mixed: _mixed,
    Anisotropic: _anisotropic,
    Variable: _variable,
    Composite: _composite,
    Manifold: _manifold,
    PiecewiseSmooth: _piecewise,
}
