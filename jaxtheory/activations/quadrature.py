r"""A quadrature rule fitted to one function: composite Gauss-Lobatto panels, halved until two rules agree.

Gauss-Hermite converges like a small power of 1/n on a kink or a jump; halving the panel that holds it gains a factor
of four or two a step, wherever it is. Lobatto and not Legendre rules: Legendre nodes stay off the ends of a panel, so
that a jump within 0.3% of an end is seen by neither rule, and the two agree on the wrong number.
"""

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from numpy.polynomial import chebyshev, legendre

from jaxtheory.checks import require

Result = TypeVar("Result")

ACCURACY = 1e-11
"""A rule is refused where its estimated error exceeds this fraction of ∫|f|·weight."""

_PANEL_ACCURACY = 1e-15  # of ∫|f|·weight: the round-off of a thousand panels stays below ACCURACY
_LOOSER = (1.0, 10.0, 100.0)  # for a search of kinks: high derivatives are noise of so many round-offs
_ORDER = 16
_REACH = 37.0  # e^(−37²/2) = 1e-298: the density is still a normal number in float64
_MUST_BE_FINITE = 13.0  # P(|G| > 13) = 1e-38: an overflow out there says nothing of the integral
_PANELS = 592  # of width 1/8
_BLOCK = 256  # panels evaluated at once: one shape, hence one compilation of f
_HALVINGS = 60  # 2^(−60)/8 is below the spacing of float64 at every x but 0
_MOST_PANELS = 2**16
_KINK_HALVINGS = 7  # panels of 2^(−10) standard deviations that still disagree hold a kink
_KINK_WIDTH = 2.0**-10
_MOST_KINKS = 8
_AT_ZERO = 1e-9
_OFFSET = 0.0173  # of the panels in a search for kinks: one at the end of a panel would not be seen


class Rule(NamedTuple):
    """Nodes x in standard deviations, the weights of dx, and f(scale·x): float64 of one length."""

    nodes: np.ndarray
    weights: np.ndarray
    values: np.ndarray


class _Panels(NamedTuple):
    """Panels [left, right], and the nodes and values (panels × order) of the rule on each."""

    left: np.ndarray
    right: np.ndarray
    nodes: np.ndarray
    values: np.ndarray

    def where(self, keep: np.ndarray) -> "_Panels":
        return _Panels(*(field[keep] for field in self))

    def weights(self) -> np.ndarray:
        return (self.right - self.left)[:, None] / 2 * _WEIGHTS

    def weighted(self, decay: float) -> np.ndarray:
        return self.weights() * self.values * np.exp(-decay * self.nodes**2)

    def mass(self, decay: float) -> np.ndarray:
        return np.abs(self.weighted(decay)).sum(1)


def fit_rule(function: Callable, scale: float, decay: float) -> Rule:
    r"""A rule that integrates f(scale·x) e^(−decay·x²) dx to `ACCURACY`, relative to ∫|f(scale·x)| e^(−decay·x²) dx.

    Panels of width 1/8 on |x| ≤ 37 are halved while the 16-point rule on the whole differs by more than 1e-15 of the
    total from that on its two halves, in the integral or in the first moment. The range ends sooner where f overflows
    beyond 13 standard deviations. In either case each outermost panel must hold less than 1e-16 of the total, which no
    function that grows too fast achieves.

    Args:
        function: f, elementwise; evaluated in float64 on the CPU, eagerly even while an outer function is traced.
        scale: the standard deviation of the argument of f.
        decay: 1/2 for an expectation; 1/4 for a rule that serves f against every Hermite function at once.

    Raises:
        ValueError: f changes shape or dtype, is not finite, grows too fast, or the rules do not come to agree.

    Limits: a feature narrower than 0.01 standard deviations, outside of which f is smooth, can fall between the nodes.
    Cost: 3e4 evaluations of f where it is smooth and 4e3 for each of up to 60 halvings at a kink; never above 2e8.
    """
    return on_host(lambda: _fit(function, scale, decay))


def evaluate_on_host(function: Callable, points: np.ndarray) -> np.ndarray:
    """Values of an elementwise function in float64 on the CPU, whatever is being traced."""

    return on_host(lambda: _evaluate_alone(function, points))


def on_host(computation: Callable[[], Result]) -> Result:
    """What a computation gives in float64 on the CPU, eagerly even while an outer function is traced.

    In a thread of its own: there nobody traces, and no mesh or promotion rule of the caller's is in force.
    """

    def run() -> Result:
        with _float64_on_host():
            return computation()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(run).result()


def _fit(function: Callable, scale: float, decay: float) -> Rule:
    settled, error = [], 0.0
    panels = _within_reach(function, scale, decay)
    total = panels.mass(decay).sum()
    for halving in range(_HALVINGS):
        halves = _halve(function, scale, panels)
        difference = _disagreement(panels, halves, decay)
        unsettled = (difference > _PANEL_ACCURACY * total) & (halving < _HALVINGS - 1)
        error += difference[~unsettled].sum()
        settled.append(halves.where(np.repeat(~unsettled, 2)))
        panels = halves.where(np.repeat(unsettled, 2))
        if not unsettled.any():
            break
        _require_integrable(len(panels.left) <= _MOST_PANELS, function, f"{len(panels.left)} panels disagree")
    _require_integrable(error <= ACCURACY * total, function, f"the error is {error:.1e} of {total:.1e}")
    nodes, weights, values = zip(*((p.nodes, p.weights(), p.values) for p in settled), strict=True)
    return Rule(*(np.concatenate(part).ravel() for part in (nodes, weights, values)))


def find_kinks(function: Callable, scale: float) -> list[float] | None:
    """Where an elementwise function is not smooth, on |x| ≤ 37·scale; None if in more than eight places.

    A kink is what is left of the panels after seven halvings; it is placed where the function departs from its
    continuation. Jumps of the function and of its first two derivatives are found; higher ones look smooth to the rule.
    """

    def search() -> list[float] | None:
        found = (_find_kinks(function, scale, looser * _PANEL_ACCURACY) for looser in _LOOSER)
        return next((kinks for kinks in found if kinks is not None), None)

    return on_host(search)


def _find_kinks(function: Callable, scale: float, accuracy: float) -> list[float] | None:
    panels = _within_reach(function, scale, 0.25, _OFFSET)
    total = panels.mass(0.25).sum()
    for _ in range(_KINK_HALVINGS):
        halves = _halve(function, scale, panels)
        unsettled = _disagreement(panels, halves, 0.25) > accuracy * total
        panels = halves.where(np.repeat(unsettled, 2))
        if not unsettled.any():
            return []
    order = np.argsort(panels.left)
    left, right = scale * panels.left[order], scale * panels.right[order]
    starts = np.flatnonzero(np.append(True, np.diff(left) > 8 * scale * _KINK_WIDTH))
    if len(starts) > _MOST_KINKS:
        return None
    ends = np.append(starts[1:], len(left)) - 1
    return [_locate(function, left[start], right[end]) for start, end in zip(starts, ends, strict=True)]


def _locate(function: Callable, left: float, right: float) -> float:
    """Where the function departs from what it is to the left, continued."""
    width = 16 * (right - left)
    nodes = left - width / 2 * (1 - np.cos(np.pi * np.arange(13) / 12))
    before = _evaluate(function, nodes)
    continued = chebyshev.Chebyshev.fit(nodes, before, 10, domain=[left - width, left])
    noise = 1e-13 * (np.abs(before).max() + 1e-300)
    for _ in range(6):
        grid = np.linspace(left, right, 1025)
        departed = np.abs(_evaluate(function, grid) - continued(grid)) > noise
        first = int(np.argmax(departed)) if departed.any() else len(grid) - 1
        left, right = grid[max(first - 1, 0)], grid[first]
    place = float((left + right) / 2)
    return place if abs(place) > _AT_ZERO else 0.0  # exact, for arguments as small as its rounding


def _within_reach(function: Callable, scale: float, decay: float, offset: float = 0.0) -> _Panels:
    """The starting panels, as far out as f is finite, and a check that nothing is left beyond them."""
    _evaluate_alone(function, scale * _PROBED)
    edges = np.linspace(-_REACH, _REACH, _PANELS + 1) + offset
    panels = _sample(function, scale, edges[:-1], edges[1:])
    infinite = panels.nodes[~np.isfinite(panels.values)]
    first = min(infinite, key=abs, default=np.inf)
    _require_integrable(abs(first) > _MUST_BE_FINITE, function, f"f is not finite at {scale * first:.4g}")
    panels = panels.where(np.maximum(np.abs(panels.left), np.abs(panels.right)) < abs(first))
    mass = panels.mass(decay)
    tail, end = mass[[0, -1]].max(), scale * panels.right[-1]
    _require_integrable(tail <= 1e-16 * mass.sum() < np.inf, function, f"f grows too fast, as seen at ±{end:.4g}")
    return panels


def _disagreement(panels: _Panels, halves: _Panels, decay: float) -> np.ndarray:
    """By how much the rule on each panel and on its halves differ, in ∫f and in ∫ft, t from −1 to 1 on the panel.

    Either alone agrees by accident where a kink or a jump falls on a zero of the rules' difference, one place in some
    hundreds; both at once do not.
    """
    whole = panels.weighted(decay)
    pairs = halves.weighted(decay).reshape(-1, 2, _ORDER)
    integral = pairs.sum((1, 2)) - whole.sum(1)
    moment = (pairs[:, 0] @ (_NODES - 1) + pairs[:, 1] @ (_NODES + 1)) / 2 - whole @ _NODES
    return np.maximum(np.abs(integral), np.abs(moment))


def _halve(function: Callable, scale: float, panels: _Panels) -> _Panels:
    """The two halves of each panel, next to each other."""
    middle = (panels.left + panels.right) / 2
    left, right = np.stack([panels.left, middle], 1).ravel(), np.stack([middle, panels.right], 1).ravel()
    halves = _sample(function, scale, left, right)
    bad = ~np.isfinite(halves.values)
    _require_integrable(not bad.any(), function, f"f is not finite at {scale * halves.nodes[bad].max(initial=0.0):.4g}")
    return halves


def _sample(function: Callable, scale: float, left: np.ndarray, right: np.ndarray) -> _Panels:
    """Nodes and values on each panel; the ends are nodes, exactly."""
    nodes = (left[:, None] * (1 - _NODES) + right[:, None] * (1 + _NODES)) / 2
    padded = np.concatenate([nodes, np.broadcast_to(nodes[-1:], (-len(nodes) % _BLOCK, _ORDER))])
    blocks = scale * padded.reshape(-1, _BLOCK * _ORDER)
    values = np.concatenate([_evaluate(function, block) for block in blocks])
    return _Panels(left, right, nodes, values.reshape(-1, _ORDER)[: len(nodes)])


def _evaluate_alone(function: Callable, points: np.ndarray) -> np.ndarray:
    """The values, once they are found not to depend on the other points, nor on where in the array a point stands."""
    values = _evaluate(function, points)
    moved = points / 2 + 0.1
    moved[::2] = points[::2]
    again = _evaluate(function, moved[::-1].copy())[::-1]
    size = np.abs(values[np.isfinite(values)]).max(initial=0.0)
    with np.errstate(all="ignore"):
        same = np.isclose(again[::2], values[::2], rtol=1e-9, atol=1e-12 * size, equal_nan=True)
    requirement, hint = (
        "be elementwise, each value a function of one number",
        "leave softmax and normalization to the network",
    )
    require(bool(same.all()), "function", f"{_name(function)}, whose values depend on the others", requirement, hint)
    return values


def _evaluate(function: Callable, points: np.ndarray) -> np.ndarray:
    values = _applied(function, points)
    requirement, hint = (
        "be elementwise, an array to an array of its shape",
        "apply jax.vmap to a function of one number",
    )
    require(values.shape == points.shape, "function", f"{_name(function)} with {values.shape}", requirement, hint)
    requirement, hint = "keep the precision of a real input", "leave out casts and constants of a fixed dtype"
    exact = values.dtype == np.float64 or values.dtype.kind in "biu"
    require(exact, "function", f"{_name(function)} with {values.dtype}", requirement, hint)
    return values.astype(np.float64)


def _applied(function: Callable, points: np.ndarray) -> np.ndarray:
    """The function's values; where it raises, it is no function of one array of known numbers."""
    cause: Exception
    try:
        return np.asarray(function(jnp.asarray(points)))
    except jax.errors.UnexpectedTracerError as error:
        found, requirement, cause = "a traced one", "hold known numbers only", error
        hint = "make it outside of jit and grad"
    except (TypeError, ValueError) as error:
        found, requirement, cause = f"{error!r}", "be elementwise, of one array", error
        hint = "write it with jax.numpy and jnp.where"
    raise ValueError(f"function {_name(function)} must {requirement}, got {found}; {hint}.") from cause


def _require_integrable(ok: bool | np.bool_, function: Callable, found: str) -> None:
    requirement = f"have a Gaussian integral that converges to {ACCURACY:.0e} ({found})"
    hint = "bound its growth below exp(x²/2) (exp(x²/4) for moments) and its singularities, or integrate it by hand"
    require(bool(ok), "function", _name(function), requirement, hint)


def _name(function: Callable) -> str:
    return getattr(function, "__name__", repr(function))


@contextlib.contextmanager
def _float64_on_host() -> Iterator[None]:
    """float64 whatever the mode, on the CPU if there is one whatever the device."""
    try:
        device = jax.local_devices(backend="cpu")[0]
    except RuntimeError:  # JAX was told to start without its CPU backend
        device = jax.local_devices()[0]
    with jax.enable_x64(True), jax.default_device(device):
        yield


def _lobatto(order: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes on [−1, 1], the ends and the roots of P'_{n−1}, and weights 2/(n(n−1)P_{n−1}²)."""
    basis = legendre.Legendre.basis(order - 1)
    roots = np.sort(basis.deriv().roots().real)
    roots = roots - basis.deriv()(roots) / basis.deriv(2)(roots)
    nodes = np.concatenate([[-1.0], (roots - roots[::-1]) / 2, [1.0]])
    return nodes, 2 / (order * (order - 1) * basis(nodes) ** 2)


_NODES, _WEIGHTS = _lobatto(_ORDER)
_PROBED = 6 * np.modf((np.sqrt(5) - 1) / 2 * np.arange(_BLOCK * _ORDER))[0] - 3
