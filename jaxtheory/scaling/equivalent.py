r"""The mean over random features of the risk of one-pass SGD, without drawing them.

The spectral measures of K = WᵀHW that the recursion of `one_pass_risk` needs have deterministic equivalents, known by
their Stieltjes transforms off the real axis. A contour around the spectrum turns a sum over eigenvalues into one over
complex nodes, on which the same recursion runs.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxtheory.checks import boundary, positive
from jaxtheory.guarded import over, power_of_two
from jaxtheory.kernels import effective_regularization
from jaxtheory.results import Status, status_where
from jaxtheory.scaling.one_pass import Modes, OnePassRisk, Schedule, Steps, evolve, judged, schedule, spectrum

_ANGLE = math.pi / 4  # of the rays; steeper ones would leave |1 − γz| < 1
_PANELS, _PER_PANEL, _ON_ARC, _AROUND_ZERO = 28, 10, 32, 12  # nodes: 1e-8 with panels as long as 1.5 in log |z|
_UNMOVED = 1e-6  # 2 |z| Σγ where the ray ends: what is closer to 0 does not decay
_MARGIN = 1.05  # of the contour's right end over the edge of the spectrum
_NEWTON = 5


class _Node(NamedTuple):
    """Where the contour passes, and dz/z along it times the weight of the quadrature."""

    z: Array
    weight: Array


@boundary(static=("steps",))
def one_pass_equivalent(
    eigs: Float[Array, " modes"],
    target: Float[Array, " modes"],
    width: float | Float[Array, ""],
    *,
    batch: Schedule,
    step_size: Schedule,
    steps: int,
) -> OnePassRisk:
    r"""Risk of one-pass SGD on d random features W_ij ~ N(0, 1/d), as d and the number of modes grow.

    The recursion of `one_pass_risk` (momentum 0) needs of K = WᵀHW the spectral measure of the signal h = H^{1/2}b and
    the number of eigenvalues. With κ(z) the root, Im κ < 0 for Im z > 0, of

        z = −κ (1 − (1/d) Σ_i λ_i/(λ_i + κ))

    they have the Stieltjes transforms −(κ/z) Σ_i h_i²/(λ_i + κ) and, weighted with the eigenvalue, Σ_i λ_i/(λ_i + κ).
    The contour is a wedge of ±45° within a disc over the spectrum, where all decays stay decays.

    Args:
        eigs: the diagonal of H ≥ 0. target: b. width: d > 0, any real number, may be traced.
        batch: B ≥ 1. step_size: γ ≥ 0. Each one number or an array [steps]. steps: known when the program is compiled.

    Returns:
        `OnePassRisk`: `floor` is Σ_i h_i² κ0/(λ_i + κ0) with Σ_i λ_i/(λ_i + κ0) = d, and 0 for d ≥ modes.
        ILL_CONDITIONED where γ (1 + 1/B) times the spectrum's edge exceeds 1.9, which is next to divergence;
        NOT_CONVERGED where κ was not found.

    Raises:
        ValueError: as `one_pass_risk`.

    Accuracy: 1e-5 of the limit, relative, also where the risk has become small. The mean over finite W differs by
    O(1/d). Derivatives need positive `eigs`.

    Cost: O(nodes (modes + steps)), 324 nodes. Source: Paquette, Paquette, Xiao, Pennington (2024), section 2; Bai and
    Silverstein (1998) for the equivalent.

    >>> i = jnp.arange(1, 401, dtype=jnp.float32)
    >>> curve = one_pass_equivalent(i**-2.0, i**-0.3, 100, batch=1, step_size=0.2, steps=500)
    >>> f"{curve.risk[10]:.4f} {curve.risk[100]:.4f}"
    '0.2600 0.0456'
    """
    eigs, target = spectrum(eigs, target)
    width = jnp.asarray(positive("width", width, "count the features"), eigs.dtype)
    return _one_pass_equivalent(eigs, target, width, schedule(steps, eigs.dtype, step_size, batch, 0.0))


@jax.jit
def _one_pass_equivalent(eigs: Array, target: Array, width: Array, plan: Steps) -> OnePassRisk:
    power = eigs * target**2
    total, some = jnp.sum(power), ((eigs > 0) & (target != 0)).any()
    unit = power_of_two(eigs)
    eigs, scaled = eigs / unit, plan._replace(step_size=plan.step_size * unit)
    edge, nodes = _contour(eigs, width, jnp.sum(scaled.step_size))
    unlearned, learned, found = _resolvent(eigs, power, width, edge, nodes)
    # ∫ f dρ = (1/π) Re Σ i f G dz over the upper half; the atom at 0 does not move
    weight = jax.lax.complex(-jnp.imag(nodes.weight), jnp.real(nodes.weight)) / math.pi
    rest = jnp.real(unlearned[-1])
    signal = weight * (_complex(rest) - unlearned)
    risk = evolve(Modes(nodes.z, signal, weight * learned, rest), scaled)
    resolution = effective_regularization(eigs, jnp.ones_like(eigs), width, 0.0)
    floor = jnp.sum(power * over(jnp.full_like(eigs, resolution), eigs + resolution))
    steepest = jnp.max(scaled.step_size * (1 + 1 / scaled.batch), initial=0) * _MARGIN * edge
    status = status_where(
        (total == 0, Status.OK), (steepest > 2, Status.ILL_CONDITIONED), (~found, Status.NOT_CONVERGED)
    )
    return judged(OnePassRisk(risk, floor, status), (eigs, target, width, plan), some)


def _image(kappa: Array, eigs: Array, width: Array) -> Array:
    """z(κ), also of real κ."""
    return kappa * (jnp.sum(eigs * _inverse(eigs + kappa)) / width - 1)


def _slope(kappa: Array, eigs: Array, width: Array) -> Array:
    """dz/dκ."""
    return jnp.sum((eigs * _inverse(eigs + kappa)) ** 2) / width - 1


def _complex(x: Array) -> Array:
    return jax.lax.complex(x, jnp.zeros_like(x))


def _inverse(x: Array) -> Array:
    """1/x of numbers whose squares do not overflow; a general complex division takes far longer to compile."""
    if not jnp.iscomplexobj(x):
        return 1 / x
    return jnp.conj(x) / _complex(jnp.real(x) ** 2 + jnp.imag(x) ** 2)


def _contour(eigs: Array, width: Array, passed: Array) -> tuple[Array, _Node]:
    """The edge of the spectrum, and nodes from the real axis right of it, along a ray and around 0."""
    eigs, passed = jax.lax.stop_gradient((eigs, passed))
    edge = _edge(eigs, width)
    right = _MARGIN * edge
    at, gauss = (jnp.asarray(values, eigs.dtype) for values in _unit_interval(_ON_ARC))
    angle = _ANGLE * at
    # the circle of diameter [0, right]: z = right cos(a) exp(ia)
    arc = jax.lax.complex(right * jnp.cos(angle) ** 2, right * jnp.cos(angle) * jnp.sin(angle))
    arc_weight = jax.lax.complex(-_ANGLE * gauss * jnp.tan(angle), _ANGLE * gauss)
    depth = jnp.log(jnp.maximum(2 * right * passed / _UNMOVED, 100))
    at, gauss = (jnp.asarray(values, eigs.dtype) for values in _unit_interval(_PER_PANEL, _PANELS))
    length = right * math.cos(_ANGLE) * jnp.exp(-depth * at)
    ray = jax.lax.complex(length * math.cos(_ANGLE), length * math.sin(_ANGLE))
    ray_weight = _complex(-depth * gauss)
    # around 0 to the left, where nothing has moved yet
    at, gauss = (jnp.asarray(values, eigs.dtype) for values in _unit_interval(_AROUND_ZERO))
    angle, radius = _ANGLE + (math.pi - _ANGLE) * at, right * math.cos(_ANGLE) * jnp.exp(-depth)
    around = jax.lax.complex(radius * jnp.cos(angle), radius * jnp.sin(angle))
    around_weight = jax.lax.complex(jnp.zeros_like(gauss), (math.pi - _ANGLE) * gauss)
    weights = arc_weight, ray_weight, around_weight
    return edge, _Node(jnp.concatenate([arc, ray, around]), jnp.concatenate(weights))


def _unit_interval(points: int, panels: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of composite Gauss–Legendre quadrature on [0, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(points)
    starts = np.arange(panels)[:, None]
    return ((starts + (nodes + 1) / 2) / panels).ravel(), np.tile(weights / 2 / panels, panels)


def _edge(eigs: Array, width: Array) -> Array:
    """The right end of the limiting spectrum: the least z(−x) over x above all eigenvalues, 1 % above at most."""
    largest = jnp.max(eigs, initial=0)
    largest = jnp.where(largest > 0, largest, 1)
    # the minimum lies between that of one eigenvalue alone and that of all being equal
    root = jnp.sqrt(width)
    low, high = jnp.log(0.25 / root), jnp.log(4 + 4 * math.sqrt(max(len(eigs), 1)) / root)
    beyond = largest * (1 + jnp.exp(jnp.linspace(0.0, 1.0, 64, dtype=eigs.dtype) * (high - low) + low))
    return jnp.min(jax.vmap(lambda x: _image(-x, eigs, width))(beyond))


def _resolvent(eigs: Array, power: Array, width: Array, edge: Array, nodes: _Node) -> tuple[Array, Array, Array]:
    """Σ h² κ/(λ + κ) and Σ λ/(λ + κ) at each node, and whether all κ were found, by Newton steps from node to node."""
    right = _MARGIN * edge

    def from_above(_: Any, x: Array) -> Array:
        # z(−x) is convex and increasing there: the steps descend to the root
        return x + (_image(-x, eigs, width) - right) / _slope(-x, eigs, width)

    first = jax.lax.stop_gradient(-jax.lax.fori_loop(0, 30, from_above, right))
    start = _complex(right), _complex(first)
    moving = _complex(eigs), _complex(width)
    fixed = jax.lax.stop_gradient(moving)

    def newton(z: Array, kappa: Array, eigs: Array, width: Array) -> Array:
        return kappa - (_image(kappa, eigs, width) - z) * _inverse(_slope(kappa, eigs, width))

    def follow(last: tuple[Array, Array], z: Array) -> tuple[tuple[Array, Array], Array]:
        at, kappa = last
        guess = kappa + (z - at) * _inverse(_slope(kappa, *fixed))
        kappa = jax.lax.fori_loop(0, _NEWTON, lambda _, k: newton(z, k, *fixed), guess)
        return (z, kappa), kappa

    def sums(given: tuple[Array, Array]) -> tuple[Array, Array, Array]:
        z, kappa = given
        # two steps, that carry first and second derivatives
        kappa = jax.lax.scan(lambda k, _: (newton(z, k, *moving), None), kappa, length=2)[0]
        missed = jnp.abs(jax.lax.stop_gradient(_image(kappa, *moving) - z))
        rounding = float(jnp.finfo(eigs.dtype).eps) * (jnp.abs(z) + jnp.abs(kappa))
        learned = moving[0] * _inverse(moving[0] + kappa)
        found = (missed <= 30 * rounding) & (jnp.imag(kappa) <= 0)
        return jnp.sum(_complex(power) * (1 - learned)), jnp.sum(learned), found

    _, kappa = jax.lax.scan(follow, start, nodes.z)
    unlearned, learned, found = jax.lax.map(sums, (nodes.z, jax.lax.stop_gradient(kappa)))
    return unlearned, learned, found.all()
