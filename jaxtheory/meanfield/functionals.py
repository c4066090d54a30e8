"""Functionals of a measure, their first variation and their Wasserstein gradient.

A functional is a pure function of a `Cloud` of particles with weights. Differentiating it in a weight gives the first
variation, and in a particle, divided by that particle's weight, the Wasserstein gradient: with N equal weights this
is the factor N without which a mean-field flow stands still.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from jaxtheory import losses
from jaxtheory.activations.named import elementwise
from jaxtheory.checks import Checked, boundary, constrain, nonnegative, quantity, require
from jaxtheory.losses import Loss
from jaxtheory.meanfield.cloud import (
    Cloud,
    as_cloud,
    floating,
    matrix,
    mean,
    measure,
    pair_mean,
    per_particle,
    rows,
    rows_of,
    stacked,
)

Unit = Callable[[Array, PyTree], Array]


@dataclass(frozen=True)
class Functional:
    """F(μ), called on particles (weights 1/N) or on a `Cloud`; a vector space: `F + 0.1 * G`, `F - G`, `sum([F, G])`.

    Any function of a `Cloud` becomes one: `Functional(lambda cloud: ...)`. One that averages over `samples` data
    points also says in `subset` what it is on some of them, for flows with stochastic gradients.
    """

    value: Callable[[Cloud], Array]
    subset: Callable[[Array], "Functional"] | None = None
    samples: int = 0

    def __call__(self, particles: Cloud | PyTree) -> Float[Array, ""]:
        return _value(self, as_cloud(particles))

    def __add__(self, other: "Functional") -> "Functional":
        require(
            isinstance(other, Functional), "other", other, "be a Functional", "wrap it: Functional(lambda cloud: ...)"
        )
        known = {part.samples for part in (self, other) if part.subset}
        require(len(known) <= 1, "other", other.samples, f"average over {self.samples} samples", "share the data")

        def subset(indices: Array) -> Functional:
            return _on(self, indices) + _on(other, indices)

        total = lambda cloud: self.value(cloud) + other.value(cloud)  # noqa: E731
        return Functional(total, subset if known else None, max(known, default=0))

    def __radd__(self, other: Any) -> "Functional":
        # sum() starts from the number 0
        require(isinstance(other, int) and other == 0, "other", other, "be a Functional", "wrap it, or use F * scale")
        return self

    def __neg__(self) -> "Functional":
        return self * -1.0

    def __sub__(self, other: "Functional") -> "Functional":
        return self + (-other if isinstance(other, Functional) else other)

    def __truediv__(self, scale: float | int | Array) -> "Functional":
        scale = constrain("scale", quantity("scale", scale), lambda v: v != 0, "not be 0", "divide by a number")
        return self * (1 / scale)

    def __mul__(self, scale: float | int | Array) -> "Functional":
        scale, subset = quantity("scale", scale), self.subset
        part = None if subset is None else lambda indices: subset(indices) * scale
        return Functional(lambda cloud: scale * self.value(cloud), part, self.samples)

    __rmul__ = __mul__


@partial(jax.jit, static_argnums=0)
def _value(functional: Functional, cloud: Cloud) -> Array:
    return functional.value(cloud)


def evaluated(functional: Functional, cloud: Cloud) -> Array:
    """F of a cloud that has been checked; any function of a `Cloud` serves."""
    require(callable(functional), "functional", functional, "be a Functional", "pass e.g. risk(...)")
    return functional.value(cloud) if isinstance(functional, Functional) else functional(cloud)


def _on(functional: Functional, indices: Array) -> Functional:
    return functional if functional.subset is None else functional.subset(indices)


@boundary
def neuron(activation: str | Callable[[Array], Array], *, precision: str = "highest") -> Unit:
    """The unit h(x; θ) = σ(⟨x, θ⟩), θ in R^d; append a 1 to x for a bias.

    Args:
        activation: σ, a name of `activations.resolve` or a function.
        precision: of the product; "default" is faster on an accelerator and rounds to fewer bits there.

    Raises:
        ValueError: an unknown activation; on evaluation, x and θ of different shapes (a number x is a point of R^1).

    >>> float(neuron("relu")(jnp.array([1.0, 2.0]), jnp.array([1.0, 1.0])))
    3.0
    """
    function = elementwise(activation)

    def unit(x: Array, theta: Array) -> Array:
        x = x.reshape(1) if x.ndim == 0 and theta.shape == (1,) else x
        hint = "append a 1 to the points for a bias"
        require(x.shape == theta.shape, "theta", theta.shape, f"have the shape of a point, {x.shape}", hint)
        return function(jnp.vdot(x, theta, precision=precision))

    return unit


@boundary
def two_layer(activation: str | Callable[[Array], Array], *, precision: str = "highest") -> Unit:
    """The unit h(x; θ) = a σ(⟨x, w⟩) with both layers in one particle, θ = (a, w) in R^(1+d).

    >>> float(two_layer("relu")(jnp.array([1.0, 2.0]), jnp.array([-1.0, 1.0, 1.0])))
    -3.0
    """
    inner = neuron(activation, precision=precision)
    return lambda x, theta: theta[0] * inner(x, theta[1:])


@boundary(static=("block",))
def predict(
    unit: Unit, cloud: Cloud | PyTree, x: Float[Array, "n ..."], *, block: int | None = None
) -> Float[Array, "n ..."]:
    """The network's outputs f(x_k) = Σ_i w_i h(x_k; θ_i) at n points.

    Args:
        unit: h of one point and one particle. cloud: particles. x: points, stacked.
        block: particles at once, as in `mean`.

    Raises:
        ValueError: the unit refuses particles or points of these shapes, or returns no array of real numbers.

    Cost: N n evaluations of the unit, memory block · n.

    >>> predict(neuron("identity"), jnp.array([[1.0], [3.0]]), jnp.array([[1.0], [2.0]]))
    Array([2., 4.], dtype=float32)
    """
    cloud, unit = as_cloud(cloud), Checked("unit", unit, "any", whole=True)
    _require_fit(unit, cloud, x)
    return mean(cloud, lambda theta: jax.vmap(lambda point: unit(point, theta))(x), block=block)


def _require_fit(unit: Checked, cloud: Cloud, x: Array) -> None:
    one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), cloud.particles)
    point = jax.ShapeDtypeStruct(x.shape[1:], x.dtype)
    try:
        jax.eval_shape(lambda x, theta: unit.function(x, theta) is None, point, one)
    except (TypeError, ValueError, IndexError) as error:
        shapes = [leaf.shape for leaf in jax.tree.leaves(cloud.particles)]
        wish = f"fit the unit at points of shape {x.shape[1:]} and dtype {x.dtype}"
        action = "pass one particle a row, with the unit's number of components"
        raise ValueError(f"particles must {wish}, got shapes {shapes} ({error}); {action}.") from error
    jax.eval_shape(unit, point, one)


@boundary(static=("block",))
def risk(
    unit: Unit,
    loss: str | Loss,
    x: Float[Array, "n ..."],
    y: Float[Array, "n ..."] | Int[Array, "n ..."],
    *,
    block: int | None = None,
) -> Functional:
    r"""Empirical risk of a two-layer network in its mean-field scaling.

        R(μ) = (1/n) Σ_k ℓ(∫h(x_k; θ) μ(dθ), y_k),   δR/δμ(θ) = (1/n) Σ_k ∂ℓ(f(x_k), y_k) · h(x_k; θ)

    Args:
        unit: h(x, θ) of one point and one particle (an array or a pytree), a scalar or a vector of outputs.
        loss: ℓ(prediction, target) of one sample, e.g. `losses.squared`, `losses.logistic`, or its name.
        x: n data points.
        y: n targets of the outputs' shape; integers reach the loss as int32, also as n labels for vectors of outputs.
        block: particles at once, as in `mean`.

    Returns:
        `Functional` with stochastic versions on subsets of the data.

    Raises:
        ValueError: x and y of different length; on evaluation, particles or targets of the wrong shape, or a loss that
            is not one number a sample.

    Cost: N n evaluations of h; the gradient evaluates them again with their reverse. Memory block · n · outputs. On a
    mesh one all-reduce of n · outputs numbers, whatever N.
    Source: Mei, Montanari, Nguyen (2018), equations 2-3; Chizat, Bach (2018).

    >>> R = risk(neuron("identity"), "squared", jnp.ones((1, 1)), jnp.zeros(1))
    >>> f"{R(jnp.array([[1.0], [3.0]])):.1f}", wasserstein_gradient(R)(jnp.array([[1.0], [3.0]])).ravel().tolist()
    ('2.0', [2.0, 2.0])
    """
    require(len(x) == len(y), "y", y.shape, f"hold one target for each of {len(x)} points", "pair them")
    require(len(x) > 0, "x", x.shape, "hold at least one point", "pass the data")

    def value(cloud: Cloud) -> Array:
        outputs = predict(unit, cloud, x, block=block)
        return sample_losses(loss, outputs, targets(y, outputs)).mean()

    return Functional(value, lambda indices: risk(unit, loss, x[indices], y[indices], block=block), len(x))


def targets(y: Array, outputs: Array) -> Array:
    """Targets that fit the outputs: numbers in their shape and dtype, or integer labels."""
    labels = not jnp.issubdtype(y.dtype, jnp.floating)
    fits = outputs.shape == y.shape or (labels and outputs.shape[:-1] == y.shape)
    wish = "have the shape of the unit's outputs"
    require(fits, "y", y.shape, f"{wish}, {outputs.shape}", "reshape the targets")
    # unsigned numbers and booleans would wrap in a loss
    return y.astype(jnp.int32 if labels else outputs.dtype)


def sample_losses(loss: str | Loss, outputs: Array, y: Array) -> Float[Array, " n"]:
    """The loss of each sample."""
    found = jax.vmap(losses.resolve(loss))(outputs, y)
    require(found.shape == y.shape[:1], "loss", found.shape[1:], "be one number a sample", "sum it over the outputs")
    return found


@boundary(static=("block",))
def potential(energy: Callable[[PyTree], Array], *, block: int | None = None) -> Functional:
    r"""Potential energy ∫V dμ = Σ_i w_i V(θ_i): a regularizer, a confinement, a total mass (V = 1).

    Args:
        energy: V of one particle. block: as in `mean`.

    Raises:
        ValueError: on evaluation, an energy that is not one real number a particle.

    Its first variation is V. Cost: N evaluations of V.

    >>> f"{potential(lambda theta: theta @ theta / 2)(jnp.array([[2.0], [4.0]])):.1f}"
    '5.0'
    """
    checked = Checked("energy", energy, whole=True)
    return Functional(lambda cloud: mean(cloud, checked, block=block))


@boundary
def quadratic(ridge: float | Float[Array, ""]) -> Functional:
    """The regularizer (ridge/2) ∫|θ|² dμ over all leaves of a particle, ridge ≥ 0.

    Raises:
        ValueError: ridge < 0 (inside `jit`, the functional is NaN).

    >>> f"{quadratic(2.0)(jnp.array([[2.0], [4.0]])):.1f}"
    '10.0'
    """
    ridge = nonnegative("ridge", ridge, "use ridge=0.0 for no confinement")

    def energy(theta: PyTree) -> Array:
        squares = [(leaf**2).sum() for leaf in jax.tree.leaves(theta)]
        return jnp.asarray(ridge, squares[0].dtype) / 2 * sum(squares[1:], squares[0])

    return potential(energy)


@boundary(static=("block",))
def interaction(kernel: Callable[[Array, Array], Array], *, block: int | None = None) -> Functional:
    r"""Interaction energy ½∬W(θ, θ') μ(dθ) μ(dθ'), its diagonal included.

    Args:
        kernel: W(x1 [n1 d], x2 [n2 d]) -> [n1 n2], of particles as rows. block, and cost: as in `pair_mean`.

    Its first variation is ½∫(W(θ, θ') + W(θ', θ)) μ(dθ').

    >>> f"{interaction(lambda x, y: x @ y.T)(jnp.array([[1.0], [3.0]])):.1f}"
    '2.0'
    """
    return Functional(lambda cloud: pair_mean(cloud, kernel, block=block) / 2)


@boundary(static=("block",))
def mmd(
    kernel: Callable[[Array, Array], Array],
    target: Cloud | PyTree,
    target_weights: Float[Array, " m"] | None = None,
    *,
    block: int | None = None,
) -> Functional:
    r"""Squared maximum mean discrepancy to a target ν: ∬k d(μ − ν) d(μ − ν), biased (diagonal included).

    Args:
        kernel: symmetric positive k(x1 [n1 d], x2 [n2 d]) -> [n1 n2], of particles as rows.
        target: m points of ν, an array, a pytree or a `Cloud`; weights are 1/m unless given. block: as in `pair_mean`.

    Raises:
        ValueError: negative weights, or on evaluation, particles of another dimension than the target's.

    Cost: N² + N m kernel entries a value, memory block · (N + m) entries; the target stays on every device.
    Source: Gretton et al. (2012), equation 5; the flow, Arbel et al. (2019).

    >>> f"{mmd(lambda x, y: x @ y.T, jnp.ones((2, 1)))(jnp.array([[1.0], [4.0]])):.2f}"
    '2.25'
    """
    other = measure("target", target, "target_weights", target_weights)
    points, constant = rows(other), pair_mean(other, kernel, block=block)
    checked = Checked("kernel", kernel, "pairs", whole=True)

    def nearness(theta: PyTree) -> Array:
        one = matrix(jax.tree.map(lambda leaf: leaf[None], theta))
        wish = f"have the target's {points.shape[1]} components"
        require(one.shape[1] == points.shape[1], "particles", one.shape[1:], wish, "pass points of one space")
        with jax.default_matmul_precision("highest"):  # of a kernel's own products
            entries = checked(one, points)[0]
        return jnp.dot(entries, other.weights, precision="highest")

    cross = potential(nearness, block=block or rows_of(len(points)))
    return Functional(lambda cloud: pair_mean(cloud, kernel, block=block) - 2 * cross(cloud) + constant)


def first_variation(functional: Functional) -> Callable[[Cloud | PyTree, PyTree], Float[Array, " M"]]:
    r"""δF/δμ(μ)(θ) at M points: the derivative of F(μ + ε δ_θ) at ε = 0, with its additive constant.

    Args:
        functional: F, defined for weights that do not sum to one, as all functionals here are.

    Returns:
        A function of (particles or cloud, points [M, ...] of a particle's structure), compiled once for each F.

    Raises:
        ValueError: on evaluation, points that are not like the particles.

    Cost: that of a gradient of F on N + M particles, whose blocks are not split over a mesh.

    >>> V = potential(lambda theta: theta @ theta)
    >>> first_variation(V)(jnp.zeros((3, 1)), jnp.array([[1.0], [2.0]]))
    Array([1., 4.], dtype=float32)
    """

    def variation(particles: Cloud | PyTree, points: PyTree) -> Array:
        points = floating("points", points)
        stacked("points", points)
        return _variation(functional, as_cloud(particles), points)

    return variation


@partial(jax.jit, static_argnums=0)
def _variation(functional: Functional, cloud: Cloud, points: PyTree) -> Array:
    one, other = (jax.tree.map(lambda leaf: leaf.shape[1:], tree) for tree in (cloud.particles, points))
    require(one == other, "points", other, f"be like the particles, {one}", "pass points of a particle's structure")
    added = jax.tree.map(lambda leaf, more: jnp.concatenate([leaf, more.astype(leaf.dtype)]), cloud.particles, points)
    count = len(jax.tree.leaves(added)[0]) - cloud.size
    weights = jnp.concatenate([cloud.weights, jnp.zeros(count, cloud.weights.dtype)])
    return jax.grad(lambda w: evaluated(functional, Cloud(added, w)))(weights)[cloud.size :]


def wasserstein_gradient(functional: Functional) -> Callable[[Cloud | PyTree], PyTree[Array]]:
    r"""∇δF/δμ at every particle: (1/w_i) ∂F/∂θ_i, which is N ∂F/∂θ_i for N equal weights.

    Args:
        functional: F.

    Returns:
        A function of particles or a cloud, compiled once for each F, to a pytree like the particles; a particle of
        weight 0, or below the smallest normal number, gets 0.

    Cost: one value and one gradient of F.
    Source: Ambrosio, Gigli, Savaré (2008), lemma 10.4.1; Chizat, Bach (2018), equation 4.

    >>> wasserstein_gradient(quadratic(1.0))(jnp.array([[1.0], [2.0]])).ravel()
    Array([1., 2.], dtype=float32)
    """
    return lambda particles: _gradient(functional, as_cloud(particles))


@partial(jax.jit, static_argnums=0)
def _gradient(functional: Functional, cloud: Cloud) -> PyTree[Array]:
    return gradients(functional, cloud)[0]


def gradients(functional: Functional, cloud: Cloud) -> tuple[PyTree[Array], Float[Array, " N"]]:
    """The Wasserstein gradient and the first variation at the particles themselves, from one reverse pass."""
    slope, variation = jax.grad(lambda p, w: evaluated(functional, replace(cloud, particles=p, weights=w)), (0, 1))(
        cloud.particles, cloud.weights
    )
    present = cloud.weights >= jnp.finfo(cloud.weights.dtype).tiny  # 1/w overflows below
    inverse = jnp.where(present, 1 / jnp.where(present, cloud.weights, jnp.ones_like(cloud.weights)), 0.0)
    inverse = jnp.where(jnp.isnan(cloud.weights), cloud.weights, inverse)
    return jax.tree.map(lambda leaf: per_particle(inverse, leaf), slope), variation
