r"""Nonlinearities of several Gaussians: their averages over channels are drawn, channel by channel.

A channel of relu(x + f(x)), where x is the output of a relu itself, is a function h(g₁, …, g_m) of independent
Gaussians. Between two examples each g_r has a covariance of two by two, and

    E[h h'] by draws of all (g_r, g'_r),   ⟨∂h, ∂h'⟩ = Σ_r E[∂_r h ∂_r h'] ⟨∂g_r, ∂g'_r⟩.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxtheory import guarded
from jaxtheory.checks import require
from jaxtheory.infinite.graph import joint_roots
from jaxtheory.infinite.graph.arrays import Entry, Mask, as_left, as_right, total
from jaxtheory.infinite.graph.expressions import evaluate
from jaxtheory.infinite.graph.nodes import Flags, JointFunction, Node
from jaxtheory.infinite.schedule.computation import Computation, Given, plan_of, quantity, variance
from jaxtheory.infinite.schedule.requests import Plan, Sides

# of one Gaussian in two examples: variance, covariance, variance; the variance alone of a value with itself
Law = tuple[Array, ...]
Moments = tuple[Array, list[Array | None]]  # E[h h'], and E[∂_r h ∂_r h'] for the Gaussians for which it is wanted
Arrays = dict[str, Array]  # by name of a Gaussian
T = TypeVar("T")


def pair(c: Computation, a: JointFunction, b: JointFunction, sides: Sides, mask: Mask) -> Plan:
    """Kernel and tangent of functions of several Gaussians."""
    roots = joint_roots(a, b)
    wanted, same = c.moving(sides), sides[0] == sides[1] and not any(mask)

    def make(given: Given) -> Entry:
        zero = c.zeros(mask)
        kernels = [e.kernel for e in given.entries]
        count = len(roots)
        cross = [zero if q is None else q for q in kernels[:count]]
        left = [zero if q is None else as_left(q, mask) for q in kernels[count : 2 * count]]
        right = [zero if q is None else as_right(q, mask) for q in kernels[2 * count :]]
        laws: list[Law] = [(q,) for q in left] if same else list(zip(left, cross, right, strict=True))
        slopes = [e.tangent if wanted else None for e in given.entries[:count]]
        expectation = _expectation(c, (a, b), roots, tuple(s is not None for s in slopes))
        kernel, moved = expectation(jnp.asarray(given.array(0)), laws)
        # a Gaussian of one of the functions alone moves nothing in common
        both = zip(moved, slopes, strict=True)
        return Entry(kernel, total(m * s for m, s in both if m is not None and s is not None))

    asked = [c.ask(r, r, sides, mask) for r in roots]
    own = [variance(r, side) for side in sides for r in roots]
    return plan_of(make, pairs=[*asked, *own], dets=[quantity(c.draws.key, 0)])


def _expectation(
    c: Computation, nodes: tuple[JointFunction, JointFunction], roots: list[Node], wanted: Flags
) -> Callable[[Array, list[Law]], Moments]:
    """E[h h'], and E[∂_r h ∂_r h'] where wanted, of a key and of the law of each Gaussian.

    Gradients are right at correlation 1 too: samples follow the variances at fixed correlations c, and
    ∂E[h h']/∂c = √(q11 q22) E[∂h ∂h'] (Price, 1958).
    """

    def sampled(key: Array, laws: list[Law], correlations: list[Array | None], wanted: Flags) -> Moments:
        def one(noise: Array) -> Moments:
            draws = [_draw(*each) for each in zip(noise, laws, correlations, strict=True)]
            return _products(nodes, roots, draws, wanted)

        return _average(c, key, roots, one)

    @jax.custom_jvp
    def expectation(key: Array, laws: list[Law]) -> Moments:
        return sampled(key, laws, [_correlation(law) for law in laws], wanted)

    @expectation.defjvp
    def jvp(primals: tuple[Array, list[Law]], tangents: tuple[Array, list[Law]]) -> tuple[Moments, Moments]:
        (key, laws), correlations = primals, [_correlation(law) for law in primals[1]]
        found, wish = "that of a drawn tangent kernel", "be that of nngp, where kinks do not count"
        require(not any(wanted), "gradient", found, wish, "differentiate nngp, or take finite differences")
        none = (False,) * len(roots)
        primal, (slope, moved) = jax.jvp(lambda q: sampled(key, q, correlations, none), (laws,), (tangents[1],))
        if all(len(law) > 1 for law in laws):
            _, derivatives = sampled(key, laws, correlations, (True,) * len(roots))
            for law, change, derivative in zip(laws, tangents[1], derivatives, strict=True):
                turn = jax.jvp(_correlation, (law,), (change,))[1]
                slope += 0 if derivative is None else derivative * guarded.root(law[0]) * guarded.root(law[2]) * turn
        return primal, (slope, moved)

    return expectation


def _average(c: Computation, key: Array, roots: Sequence[Node], sample: Callable[[Array], T]) -> T:
    """Over samples of the noise of some Gaussians."""
    noise = _noise(key, c.draws.samples, [c.graph.ordinal(r) for r in roots], c.dtype)
    return jax.tree.map(lambda v: v.mean(0), jax.vmap(sample)(noise))


def _products(
    nodes: tuple[JointFunction, JointFunction], roots: list[Node], draws: Sequence[tuple[Array, Array]], wanted: Flags
) -> Moments:
    """h h', and ∂_r h ∂_r h' for each wanted Gaussian that both depend on."""
    values, slopes = [], []
    for which, node in enumerate(nodes):
        given = {name: draws[roots.index(root)][which] for name, root in node.roots}
        value, own = _with_slopes(node, given, wanted=any(wanted))
        values.append(value)
        slopes.append(own)
    first, second = slopes
    moved = [
        first[r.number] * second[r.number] if w and r.number in first and r.number in second else None
        for r, w in zip(roots, wanted, strict=True)
    ]
    return values[0] * values[1], moved


def _with_slopes(node: JointFunction, given: Arrays, *, wanted: bool) -> tuple[Array, dict[int, Array]]:
    """A function's value, and its derivatives with respect to all of its Gaussians in one pass backwards."""
    function = partial(evaluate, node.expression)
    if not wanted:
        return function(given), {}
    shape = jnp.broadcast_shapes(*(a.shape for a in given.values()))
    value, pull = jax.vjp(function, {name: jnp.broadcast_to(a, shape) for name, a in given.items()})
    (slopes,) = pull(jnp.ones_like(value))
    return value, {root.number: slopes[name] for name, root in node.roots}


def _correlation(law: Law) -> Array | None:
    """Of the values in two examples; None of a value with itself."""
    if len(law) == 1:
        return None
    scale = guarded.root(law[0]) * guarded.root(law[2])
    return law[1] / jnp.where(scale > 0, scale, 1)


def _draw(noise: Array, law: Law, correlation: Array | None) -> tuple[Array, Array]:
    """A Gaussian in two examples, from two normals that are the same at all places."""
    left, right = (guarded.root(q) for q in (law[0], law[-1]))
    if correlation is None:
        return left * noise[0], right * noise[0]
    cosine = jnp.clip(correlation, -1, 1)
    other = right * (cosine * noise[0] + jnp.sqrt(1 - cosine**2) * noise[1])
    return jnp.broadcast_to(left * noise[0], other.shape), other


def _noise(key: Array, samples: int, ordinals: Sequence[int], dtype: np.dtype) -> Array:
    """Two normals [samples, Gaussians, 2]: number · √p modulo 1, for primes p of each Gaussian, shifted at random.

    The shift makes averages unbiased. Source: Richtmyer (1951), for sequences that fill a cube more evenly than
    independent points.
    """
    found = [_primes(2 * ordinal + 2)[-2:] for ordinal in ordinals]
    steps = jnp.asarray(np.sqrt(np.array(found).reshape(-1, 2)) % 1, dtype)
    keys = jax.vmap(lambda ordinal: jax.random.fold_in(key, ordinal))(jnp.asarray(ordinals, jnp.int32))
    shifts = jax.vmap(lambda k: jax.random.uniform(k, (2,), dtype))(keys)
    edge = jnp.finfo(dtype).eps
    numbers = jnp.arange(samples, dtype=dtype)[:, None, None]
    return jax.scipy.special.ndtri(jnp.clip((numbers * steps[None] + shifts[None]) % 1, edge, 1 - edge))


def _primes(count: int) -> list[int]:
    found: list[int] = []
    candidate = 2
    while len(found) < count:
        if all(candidate % p for p in found):
            found.append(candidate)
        candidate += 1
    return found


def mean(c: Computation, x: JointFunction, side: int) -> Plan:
    """E h, by draws."""

    def make(given: Given) -> Array:
        key, zero = jnp.asarray(given.array(0)), jnp.zeros((1,) * len(x.index), c.dtype)
        variances = [zero if e.kernel is None else e.kernel for e in given.entries]

        def one(noise: Array) -> Array:
            named = zip(x.roots, noise, variances, strict=True)
            return evaluate(x.expression, {name: _draw(z, (v,), None)[0] for (name, _), z, v in named})

        return _average(c, key, [r for _, r in x.roots], one)

    return plan_of(make, pairs=[variance(r, side) for _, r in x.roots], dets=[quantity(c.draws.key, 0)])
