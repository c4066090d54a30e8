"""Calls under `vmap` over an axis of a mesh with Explicit axes: divided, and equal to those of one device."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jaxtyping import Array, Float

from jaxtheory import empirical, infinite, kernels, meanfield, smoothness, transport
from jaxtheory.checks import boundary

SEEDS = 8
KERNEL = kernels.gaussian(1.0)
EXCHANGES = ("all-gather", "all-to-all", "collective-permute")


def draws(*shape):
    return np.random.default_rng(len(shape)).standard_normal((SEEDS, *shape)).astype(np.float32)


def over_explicit_axis(function, *arrays):
    """The results, and the compiled program, where the seeds are split over all devices."""
    mesh = jax.make_mesh((SEEDS,), ("seeds",), axis_types=(AxisType.Explicit,))
    with jax.set_mesh(mesh):
        placed = [jax.device_put(a, NamedSharding(mesh, PartitionSpec("seeds"))) for a in arrays]
        compiled = jax.jit(jax.vmap(function)).lower(*placed).compile()
        return compiled(*placed), compiled.as_text()


@boundary
def looped(x: Float[Array, " n"], scale: float = 1.0) -> tuple[Array, int]:
    """A loop that begins with numbers, indexing by batched numbers, a stack with a constant: what JAX refuses."""
    chosen = x[jnp.argsort(x)[:2]].sum()
    count, total = jax.lax.while_loop(lambda c: c[1] < x.max() + 5, lambda c: (c[0] + 1, c[1] + scale), (0, 1.0))
    return jnp.stack([total, chosen, jnp.float32(3.0)]) + count, 7


def simulated(theta, x, y):
    """A functional that closes over batched data."""
    risk = meanfield.risk(meanfield.neuron("tanh"), "squared", x, y) + meanfield.quadratic(0.1)
    return meanfield.simulate(meanfield.gradient_flow(risk, 0.1), theta, steps=3, key=jax.random.key(0)).state.cloud


def tangent(w, v, x):
    return empirical.ntk(lambda p, x: jnp.tanh(x @ p[0]) @ p[1], (w, v), x, output="trace", method="jacobian")


CALLS = {
    "a loop": (lambda x: looped(x)[0], draws(4)),
    "a kernel that closes over the batch": (
        lambda x, s: kernels.gram(lambda a, b: kernels.gaussian(jnp.exp(s))(a, b), x, block=3),
        draws(6, 2),
        draws(),
    ),
    "simulate": (simulated, draws(12, 2), draws(6, 2), draws(6)),
    "fit": (lambda x, y: kernels.fit(KERNEL, x, y, 0.3).alpha, draws(16, 2), draws(16)),
    "centres": (lambda x, y: kernels.fit(KERNEL, x, y, 0.3, centres=x[:4]).alpha, draws(16, 2), draws(16)),
    "lasso": (lambda a, y: smoothness.lasso.lasso(a, y, 0.3).coefficients, draws(6, 9), draws(6)),
    "exact": (lambda x, y: transport.exact(x, y).cost, draws(6, 2), draws(6, 2) + 1),
    "sinkhorn": (lambda x, y: transport.sinkhorn(x, y, epsilon=0.5).cost, draws(6, 2), draws(5, 2)),
    "ntk": (tangent, draws(3, 7), draws(7, 1), draws(4, 3)),
    "phase": (lambda s: infinite.phase.fixed_point("tanh", 1.5 + jnp.tanh(s) / 9, 0.3).variance, draws()),
}
NAMES = [name if name == "a loop" else pytest.param(name, marks=pytest.mark.slow) for name in CALLS]


@pytest.mark.parametrize("name", NAMES)
def test_seeds_over_an_explicit_axis_are_divided(name):
    """No array is sent; loops ask each other whether they are over."""
    function, *arrays = CALLS[name]
    found, text = over_explicit_axis(function, *arrays)
    assert not [word for word in EXCHANGES if f"{word}(" in text]
    expected = jax.jit(jax.vmap(function))(*arrays)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert one.addressable_shards[0].data.shape == (1, *other.shape[1:])
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4 * np.abs(other).max())


def test_numbers_and_functions_pass_through():
    """Results that are no arrays, functions that close over the batch, arrays that are the same for all seeds."""
    kinds = []

    def call(x):
        array, number = looped(x, 2.0)
        kinds.append((type(number), callable(meanfield.quadratic(jnp.exp(x[0])).value)))
        return array + looped(jnp.ones(4))[0]

    found, _ = over_explicit_axis(call, draws(4))
    np.testing.assert_allclose(found, jax.vmap(call)(draws(4)), rtol=1e-5)
    assert set(kinds) == {(int, True)}
