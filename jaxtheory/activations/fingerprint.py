"""Which closed form an activation has, told from its values and not from its name."""

import functools
import math
from collections.abc import Callable, Iterator

import numpy as np
from numpy.polynomial import chebyshev

from jaxtheory.activations.closed import FAMILIES, Form
from jaxtheory.activations.quadrature import evaluate_on_host

_AGREEMENT = 1e-12  # of the sum of the magnitudes of the terms, at each point
_REACH = 40.0  # 13 standard deviations of a pre-activation of scale 3
_GOLDEN = (math.sqrt(5) - 1) / 2
# Neither equidistant nor symmetric: no kink, period or node of anything is met everywhere.
_CHECKED = _REACH * (2 * np.modf(_GOLDEN * np.arange(1, 4097))[0] - 1)
_FITTED = np.concatenate([4 * (2 * np.modf(_GOLDEN * np.arange(1, 65))[0] - 1), [-20.1, 17.3]])
_DEGREE = 8
_NEAR = 0.5 * np.cos(np.pi * np.arange(25) / 24)  # where Taylor coefficients at 0 are read off
_ROUNDS = 4


@functools.lru_cache(maxsize=512)
def recognize(function: Callable) -> Form | None:
    """The closed form of an elementwise function, or None.

    A candidate of each family is fitted to 66 values, its scale inside started from the Taylor coefficients at 0, and
    accepted if it reproduces φ to 1e-12 at 4096 points on |x| ≤ 40. A feature narrower than 0.02 can be missed.
    """
    values = evaluate_on_host(function, np.concatenate([_FITTED, _CHECKED, _NEAR, [0.0]]))
    fitted, checked, near, zero = np.split(values, np.cumsum([len(_FITTED), len(_CHECKED), len(_NEAR)]))
    if not np.isfinite(values).all():
        return None
    with np.errstate(all="ignore"):
        for kind, parameters in _candidates(near):
            form = _fit(kind, parameters, fitted, float(zero[0]))
            if _agrees(form, checked, np.abs(fitted).max()):
                return form
    return None


def _candidates(near: np.ndarray) -> Iterator[tuple[str, tuple[float, ...]]]:
    """Families without a scale first: these have no Taylor coefficients at 0."""
    yield from (("line", ()), ("absolute", ()), ("sign", ()), ("polynomial", ()), ("homogeneous square", ()))
    series = chebyshev.Chebyshev.fit(_NEAR, near, len(_NEAR) - 1, domain=[-0.5, 0.5])
    derivatives = np.array([series.deriv(k)(0.0) if k else series(0.0) for k in range(6)])
    scales = _inner_scales(derivatives)
    yield from ((kind, (scale,)) for kind, scale in scales.items() if 1e-3 < abs(scale) < 1e3)


def _inner_scales(t: np.ndarray) -> dict[str, float]:
    """The scale inside each family, from derivatives that a constant and a line do not touch."""
    return {
        "erf": float(np.sqrt(-t[5] / (6 * t[3]))),
        "gated erf": float(np.sqrt(-t[4] / (4 * t[2]))),
        "wave": float(np.sqrt(-t[4] / t[2] if abs(t[2]) > abs(t[3]) else -t[5] / t[3])),
        "exp": float(t[3] / t[2]),
        "gaussian": float(-t[4] / (6 * t[2])),
    }


def _columns(kind: str, parameters: tuple[float, ...], x: np.ndarray) -> list[np.ndarray]:
    if kind == "wave":
        return [np.cos(parameters[0] * x), np.sin(parameters[0] * x)]
    if kind == "polynomial":
        return [x**k for k in range(2, _DEGREE + 1)]
    if kind == "homogeneous square":
        return [x * np.abs(x), x**2]
    return [] if kind == "line" else [FAMILIES[kind].values(x, *parameters)]


def _fit(kind: str, parameters: tuple[float, ...], values: np.ndarray, at_zero: float) -> Form:
    """Gauss-Newton for the scale inside, then least squares for constant, slope and amplitude."""
    for _ in range(_ROUNDS if parameters else 0):
        (scale,) = parameters
        columns = _columns(kind, parameters, _FITTED)
        step = 1e-6 * scale
        moved = zip(_columns(kind, (scale + step,), _FITTED), _columns(kind, (scale - step,), _FITTED), strict=True)
        slopes = [(plus - minus) / (2 * step) for plus, minus in moved]
        amplitudes = _least_squares(columns, values)[2:]
        total = sum(amplitude * slope for amplitude, slope in zip(amplitudes, slopes, strict=True))
        parameters = (scale + float(_least_squares([*columns, total], values)[-1]),)
    constant, slope, *rest = map(float, _least_squares(_columns(kind, parameters, _FITTED), values))
    if kind == "polynomial":
        return Form(kind, (constant, slope, *rest), 1.0, 0.0, 0.0, at_zero)
    if kind == "wave":
        phase = math.atan2(-rest[1], rest[0])
        return Form(kind, (*parameters, phase), math.hypot(*rest), constant, slope, at_zero)
    if kind == "homogeneous square":
        return Form(kind, (rest[1] / rest[0] if rest[0] else 0.0,), rest[0], constant, slope, at_zero)
    return Form(kind, parameters, sum(rest), constant, slope, at_zero)


def _least_squares(columns: list[np.ndarray], values: np.ndarray) -> np.ndarray:
    """Coefficients of 1, x and the columns; rows weighted so that large values do not drown small ones.

    A coefficient that is round-off is 0; all are NaN where a column is not finite.
    """
    matrix = np.stack([np.ones_like(_FITTED), _FITTED, *columns], 1)
    if not np.isfinite(matrix).all():
        return np.full(matrix.shape[1], np.nan)
    weight = 1 / (1 + np.abs(matrix).max(1))
    weighted = matrix * weight[:, None]
    size = np.abs(weighted).max(0) + 1e-300
    solution = np.linalg.lstsq(weighted / size, values * weight, rcond=None)[0]
    return np.where(np.abs(solution) > 1e-13 * np.abs(solution).max(), solution / size, 0.0)


def _agrees(form: Form, values: np.ndarray, scale: float) -> bool:
    atoms = FAMILIES[form.kind].values
    found = form.constant + form.slope * _CHECKED + form.amplitude * atoms(_CHECKED, *form.parameters)
    size = abs(form.constant) + np.abs(form.slope * _CHECKED) + np.abs(form.amplitude) * _size(form)
    return bool((np.abs(found - values) <= _AGREEMENT * size + 1e-20 * scale).all())


def _size(form: Form) -> np.ndarray:
    """Magnitude of the terms that make up the atom: near a root of a sum, round-off is theirs."""
    if form.kind == "polynomial":
        return FAMILIES["polynomial"].values(np.abs(_CHECKED), *np.abs(form.parameters))
    if form.kind == "wave":
        return np.ones_like(_CHECKED)
    if form.kind == "homogeneous square":
        return (1 + abs(form.parameters[0])) * _CHECKED**2
    return np.abs(FAMILIES[form.kind].values(_CHECKED, *form.parameters))
