r"""Duals: Gaussian expectations of pairs of activations, E[φ(u)ψ(v)], as functions of the covariance.

A wide layer sees its activation only through them: they are the map from the kernel of one layer to that of the next.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxtheory.activations.closed import Form, joint
from jaxtheory.activations.fingerprint import recognize
from jaxtheory.activations.named import Activation, resolve
from jaxtheory.activations.pieces import find_pieces
from jaxtheory.activations.piecewise import Piecewise, evaluate_piecewise, find_reach, fit_level
from jaxtheory.activations.quadrature import evaluate_on_host, find_kinks
from jaxtheory.activations.series import evaluate_series, fit_series
from jaxtheory.checks import boundary, known, nonnegative, positive, quantity, require
from jaxtheory.guarded import over, root

Number = Float[Array, "..."]
Dual = Callable[[Number, Number, Number], Number]


__all__ = ["Pair", "cross_dual", "derivative_dual", "dual", "dual_pair"]


class Pair(NamedTuple):
    """E[φ(u)ψ(v)] and E[φ'(u)ψ'(v)] at one covariance."""

    value: Float[Array, "..."]
    derivative: Float[Array, "..."]


@boundary
def dual(phi: str | Activation, *, scale: float = 3.0) -> Dual:
    r"""The dual of an activation: E[φ(u)φ(v)] for a centred Gaussian pair, as a function of its covariance.

        (q11, q12, q22) ↦ E[φ(u)φ(v)],   E u² = q11, E uv = q12, E v² = q22

    `cross_dual(phi, phi)`, where everything is said. hard_tanh, ELU and SELU cost some hundreds of evaluations a pair,
    softsign 1e4 and more, against one for ReLU and a hundred terms for tanh. Where a kernel of many points needs one of
    them, a smooth neighbour (tanh, softplus, GELU) is cheaper.

    >>> import jax.numpy as jnp
    >>> q = jnp.float32(1.0)
    >>> f"{dual('relu')(q, 0.5 * q, q):.6f}"
    '0.304499'
    """
    return cross_dual(phi, phi, scale=scale)


@boundary
def derivative_dual(phi: str | Activation, *, scale: float = 3.0) -> Dual:
    r"""E[φ'(u)φ'(v)] as a function of the covariance, φ' the derivative that JAX takes.

    It is ∂E[φ(u)φ(v)]/∂q12 where φ is continuous; where φ jumps, that has an atom which this has not (E of a step's
    derivative is 0, as in the gradient of a network with steps). Arguments, accuracy and what raises: `cross_dual`.

    >>> import jax.numpy as jnp
    >>> q = jnp.float32(1.0)
    >>> f"{derivative_dual('relu')(q, 0.5 * q, q):.6f}"
    '0.333333'
    """
    pair = dual_pair(phi, scale=scale)
    return lambda q11, q12, q22: pair(q11, q12, q22).derivative


@boundary
def cross_dual(phi: str | Activation, psi: str | Activation, *, scale: float = 3.0) -> Dual:
    r"""E[φ(u)ψ(v)] for a centred Gaussian pair, as a function of its covariance.

    Closed forms, recognized by the values of φ and not by its name: α + βx + γ·atom(x), the atom |x| (hence ReLU and
    leaky ReLU), sign (step), x|x| + r x² (ReLU²), erf(ax), x erf(ax) (exact GELU), cos(ax + b), e^(ax), e^(−ax²);
    polynomials to degree 8. Two activations of one family, or one and a line, share a closed form. Everything else: a
    power series in the correlation where both are smooth, quadrature between the kinks where one is not.

    Gradients are right at correlation ±1 and at zero variance, in the distributional sense at kinks:
    ∂/∂q12 = E[φ'(u)ψ'(v)], ∂/∂q11 = E[φ''(u)ψ(v)]/2. Where that is infinite (the dual of a jump at correlation ±1, q11
    → 0 next to a kink), it is 0, the derivative along the ray.

    Args:
        phi, psi: names or elementwise functions that keep the dtype of their input.
        scale: the largest standard deviation of u and v for which a series is fitted or a quadrature checked.

    Returns:
        A function of (q11, q12, q22), numbers or arrays that broadcast, with q11, q22 ≥ 0 and q12² ≤ q11 q22 (other
        values raise, or give NaN inside `jit`; an excess below ε^(1/4) is taken for rounding); elementwise, jittable,
        differentiable. Pass q11 and q22 unbroadcast, or vmap: what depends on one of them alone is then computed once.
        float16 and bfloat16 are computed in float32.
        Closed forms are exact to round-off (near correlation 1, to √eps in the angle); series and quadrature are within
        1e-8 of √(E φ² E ψ²) (1e-5 in float32); a series is NaN where standard deviations beyond `scale` make it lose
        more. Products of two variances must be numbers of the format: variances of 1e-18 to 1e18 in float32.

    Raises:
        ValueError: φ is not elementwise or not finite, grows too fast for `scale`, has more than eight kinks, or its
            integrals do not converge; a gradient is asked for where a jump has no closed form.

    Cost: closed forms one arctangent or so a pair; series up to 2048 terms a pair (a hundred for tanh at scale 3);
        between kinks some hundred evaluations a pair where lines, squares and exponentials are in between (one integral
        is closed), 1e4 and more elsewhere, in little memory.
    Source: Cho and Saul (2009); Williams (1997); Daniely, Frostig and Singer (2016); Han et al. (2022).

    >>> import jax.numpy as jnp
    >>> q = jnp.float32(1.0)
    >>> f"{cross_dual('tanh', jnp.sin)(q, 0.5 * q, q):.6f}"
    '0.188394'
    """
    return _of_covariances(unchecked_dual(_traceable(phi), _traceable(psi), _known_scale(scale)))


@boundary
def dual_pair(phi: str | Activation, psi: str | Activation | None = None, *, scale: float = 3.0) -> Callable[..., Pair]:
    """E[φ(u)ψ(v)] and E[φ'(u)ψ'(v)] in one evaluation, which share their transcendental functions.

    Args: as `cross_dual`; ψ = φ if left out. The derivative is that of `derivative_dual`.

    >>> import jax.numpy as jnp
    >>> q = jnp.float32(1.0)
    >>> [f"{part:.4f}" for part in dual_pair("erf")(q, 0.5 * q, q)]
    ['0.2163', '0.4502']
    """
    first = _traceable(phi)
    second = first if psi is None else _traceable(psi)
    return _of_covariances(unchecked_pair(first, second, _known_scale(scale)))


def _traceable(activation: str | Activation) -> Activation:
    """The function of a name, or a function that JAX can trace."""
    function = resolve(activation)
    try:
        jax.eval_shape(lambda x: function(x), jax.ShapeDtypeStruct((2,), jnp.result_type(float)))
    except (TypeError, ValueError) as error:
        requirement, hint = "be an elementwise JAX function", "write it with jax.numpy, and jnp.where in place of if"
        raise ValueError(f"activation must {requirement}, got activation={_names(function)}; {hint}.") from error
    return function


def _known_scale(scale: Any) -> float:
    hint = "pass the largest standard deviation of the pre-activations, e.g. scale=3.0"
    require(known(scale), "scale", scale, "be known while the function is traced", hint)
    return positive("scale", float(scale), hint)


def _of_covariances(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of valid covariances in one floating dtype, from numbers or arrays of any kind."""

    def checked(q11: Any, q12: Any, q22: Any) -> Any:
        given = [quantity(name, q) for name, q in (("q11", q11), ("q12", q12), ("q22", q22))]
        dtypes = [q.dtype for q in given if hasattr(q, "dtype")]
        dtype = max(dtypes, key=lambda d: d.itemsize, default=jnp.result_type(float))
        q11, q12, q22 = (jnp.asarray(q, dtype) for q in given)
        hint = "pass E u², E uv, E v² of a Gaussian pair"
        q11, q22 = nonnegative("q11", q11, hint), nonnegative("q22", q22, hint)
        return function(q11, _within_variances(q11, q12, q22, hint), q22)

    return checked


def _within_variances(q11: Number, q12: Number, q22: Number, hint: str) -> Number:
    """q12 where q12² ≤ q11 q22 up to rounding; an error outside `jit`, NaN inside, elsewhere."""
    numbers, roots = jnp.finfo(q12.dtype), (root(q11), root(q22))
    lost = float(numbers.tiny) ** 0.5 * (roots[0] + roots[1])  # what variances that underflow may hide
    excess = jnp.abs(q12) - (1 + float(numbers.eps) ** 0.25) * roots[0] * roots[1] - lost
    valid = jax.lax.stop_gradient(excess) <= 0
    if known(valid):
        require(bool(valid.all()), "q12", q12, "be at most √(q11 q22) in magnitude", hint)
        return q12
    return jnp.where(valid, q12, jnp.full_like(q12, jnp.nan))


@functools.lru_cache(maxsize=512)
def unchecked_dual(phi: Callable, psi: Callable, scale: float) -> Dual:
    """`cross_dual` of functions, for covariances that are valid by construction."""
    forms = _closed_forms(phi, psi)
    if forms is not None:
        return functools.partial(_closed, *forms)
    # a series of a function with kinks converges too slowly for its coefficients to be had by a trapezoidal rule
    smooth = not (_kinks(phi, scale) or _kinks(psi, scale))
    series = fit_series(phi, psi, scale) if smooth else None
    if series is None:
        evaluate = _piecewise(phi, psi, scale)
    else:
        evaluate = functools.partial(evaluate_series, (phi, series[0]), (psi, series[1]))
    return _differentiable(evaluate, phi, psi, scale)


@functools.lru_cache(maxsize=512)
def unchecked_pair(phi: Callable, psi: Callable, scale: float) -> Callable[..., Pair]:
    """`dual_pair` of functions, for covariances that are valid by construction."""
    value, forms = unchecked_dual(phi, psi, scale), _closed_forms(phi, psi)
    if forms is not None and "sign" in (forms[0].kind, forms[1].kind):
        product = forms[0].slope * forms[1].slope
        return lambda *q: Pair(value(*q), jnp.full_like(value(*q), product))
    if forms is not None:
        return functools.partial(_closed_pair, value)
    slope = unchecked_dual(derivative(phi), derivative(psi), scale)
    return lambda *q: Pair(value(*q), slope(*q))


def _closed_forms(phi: Callable, psi: Callable) -> tuple[Form, Form] | None:
    """The forms of both, if they are of one family or one is a line."""
    first, second = recognize(phi), recognize(psi)
    if first is None or second is None:
        return None
    return (first, second) if first.kind == second.kind or "line" in (first.kind, second.kind) else None


def _closed(first: Form, second: Form, q11: Number, q12: Number, q22: Number) -> Number:
    return joint(first, second, q11, q12, q22)  # unbroadcast: what depends on a variance alone is computed once


def _closed_pair(value: Dual, q11: Number, q12: Number, q22: Number) -> Pair:
    """∂/∂q12 of the closed form, which JAX differentiates with the same angle."""
    return Pair(*jax.jvp(lambda q: value(q11, q, q22), (q12,), (jnp.ones_like(q12),)))


@functools.lru_cache(maxsize=512)
def derivative(function: Callable) -> Callable:
    """The elementwise derivative that JAX takes: 0 at a jump, one side's at a kink."""
    return lambda x: jax.jvp(function, (x,), (jnp.ones_like(x),))[1]


def _piecewise(phi: Callable, psi: Callable, scale: float) -> Dual:
    first, second = (_cut(function, scale) for function in (phi, psi))
    level = fit_level(first, second, scale)
    _require_converged(level is not None, _names(phi, psi), scale)
    return functools.partial(evaluate_piecewise, first, second, level or 0)


def _cut(function: Callable, scale: float) -> Piecewise:
    kinks, reach = _kinks(function, scale), find_reach(function, scale)
    _require_converged(reach is not None, _names(function), scale)
    return Piecewise(function, kinks, find_pieces(function, kinks), reach or 0.0)


def _require_converged(ok: bool, names: str, scale: float) -> None:
    hint = "lower scale to what the pre-activations have, or smooth the activation"
    require(ok, "activation", names, f"have Gaussian integrals that converge to 1e-9 at scale {scale:g}", hint)


@functools.lru_cache(maxsize=512)
def _kinks(function: Callable, scale: float) -> tuple[float, ...]:
    kinks = find_kinks(function, scale)
    hint = "approximate it by a function with fewer"
    require(kinks is not None, "activation", _names(function), "have at most eight kinks", hint)
    return tuple(kinks or ())


def _jumps(function: Callable, scale: float) -> bool:
    """Whether the function has another value on the other side of a kink, beyond what a slope of fifty explains."""
    places = np.array(_kinks(function, scale))
    if not len(places):
        return False
    aside = 1e-7 * np.maximum(1.0, np.abs(places))
    left, right = (evaluate_on_host(function, places + side * aside) for side in (-1, 1))
    return bool((np.abs(right - left) > 1e-5).any())


def _names(*functions: Callable) -> str:
    return ", ".join(getattr(function, "__name__", repr(function)) for function in functions)


def _differentiable(evaluate: Dual, phi: Callable, psi: Callable, scale: float) -> Dual:
    """Its derivatives are duals of derivatives, each built when it is first asked for."""

    @jax.custom_jvp
    def value(q11: Number, q12: Number, q22: Number) -> Number:
        return evaluate(q11, q12, q22)

    @value.defjvp
    def jvp(primals: tuple, tangents: tuple) -> tuple[Number, Number]:
        slopes = _slopes(phi, psi, scale)(*primals)
        moves = (slope * tangent for slope, tangent in zip(slopes, tangents, strict=True))
        return value(*primals), functools.reduce(jnp.add, moves)

    return value


@functools.lru_cache(maxsize=512)
def _slopes(phi: Callable, psi: Callable, scale: float) -> Callable[..., tuple[Number, Number, Number]]:
    """The derivatives by q11, q12, q22 of E[φ(u)ψ(v)]."""
    hint = "differentiate the dual of a continuous activation, or smooth the jump"
    for function in (phi, psi):
        require(not _jumps(function, scale), "activation", _names(function), "be continuous for a gradient", hint)
    both = unchecked_dual(derivative(phi), derivative(psi), scale)
    own, other = _own_slope(phi, psi, scale), _own_slope(psi, phi, scale)

    def slopes(q11: Number, q12: Number, q22: Number) -> tuple[Number, Number, Number]:
        cross = both(q11, q12, q22)
        return own(q11, q12, q22, cross), cross, other(q22, q12, q11, cross)

    return slopes


def _own_slope(phi: Callable, psi: Callable, scale: float) -> Callable[..., Number]:
    """E[φ''(u)ψ(v)]/2; where φ has kinks, by Stein's identity (E[uφ'(u)ψ(v)] − q12 E[φ'(u)ψ'(v)])/(2 q11)."""
    second = derivative(derivative(phi))
    if not (_kinks(phi, scale) or _kinks(derivative(phi), scale)):
        curved = unchecked_dual(second, psi, scale)
        return lambda q11, q12, q22, _: curved(q11, q12, q22) / 2
    moment = unchecked_dual(_times(derivative(phi)), psi, scale)

    def slope(q11: Number, q12: Number, q22: Number, cross: Number) -> Number:
        return over(moment(q11, q12, q22) - q12 * cross, 2 * q11)

    return slope


@functools.lru_cache(maxsize=512)
def _times(function: Callable) -> Callable:
    return lambda x: x * function(x)
