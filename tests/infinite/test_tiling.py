"""Repeated places and channels, and products with a single number, against the same networks written without them."""

import jax
import jax.numpy as jnp
import pytest
from tolerances import assert_close

from jaxtheory import infinite
from jaxtheory.infinite import prior

X = jax.random.normal(jax.random.key(3), (3, 4, 2))
C = jnp.array([1.0, -0.5, 2.0, 0.25, 3.0, 1.5, -1.0, 0.5])


def kernels(f, out=64):
    shapes = {"in": jax.ShapeDtypeStruct((2, 64), "float32"), "out": jax.ShapeDtypeStruct((out, 1), "float32")}
    return infinite.limit(f, shapes, X, prior=prior.ntk(sigma_w=1.3)).both(X)


def hidden(p, x):
    return jax.nn.relu(x @ p["in"])  # [n, 4, 64]


PAIRS = {
    "places": (
        lambda p, x: (jnp.tile(hidden(p, x), (1, 2, 1)) * C[None, :, None]).sum(1) @ p["out"],
        lambda p, x: (hidden(p, x) * (C[:4] + C[4:])[None, :, None]).sum(1) @ p["out"],
    ),
    "a new axis": (
        lambda p, x: (jnp.tile(hidden(p, x)[:, None, 1], (1, 8, 1)) * C[None, :, None]).sum(1) @ p["out"],
        lambda p, x: hidden(p, x)[:, 1] @ p["out"] * C.sum(),
    ),
    "channels": (
        lambda p, x: jnp.tile(hidden(p, x).mean(1), (1, 3)) @ p["out"],
        lambda p, x: hidden(p, x).mean(1) @ p["out"],
    ),
    "a number from the right": (
        lambda p, x: jnp.einsum("ntc,->ntc", hidden(p, x), jnp.float32(-2.0)).mean(1) @ p["out"],
        lambda p, x: -2.0 * hidden(p, x).mean(1) @ p["out"],
    ),
    "a number from the left": (
        lambda p, x: jnp.dot(jnp.float32(3.0), hidden(p, x).mean(1) @ p["out"]),
        lambda p, x: 3.0 * hidden(p, x).mean(1) @ p["out"],
    ),
    "a matrix of one number": (
        lambda p, x: (hidden(p, x).mean(1) @ p["out"]) @ jnp.array([[0.5]]),
        lambda p, x: 0.5 * hidden(p, x).mean(1) @ p["out"],
    ),
    "a number of the example": (
        lambda p, x: jnp.einsum("nc,n->nc", hidden(p, x).mean(1) @ p["out"], x.sum((1, 2))),
        lambda p, x: (hidden(p, x).mean(1) @ p["out"]) * x.sum((1, 2))[:, None],
    ),
}


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.first_case
@pytest.mark.slow
def test_it_is_the_network_written_without(name):
    tiled, plain = PAIRS[name]
    found = kernels(tiled, 192 if name == "channels" else 64)
    for kernel, expected in zip(found, kernels(plain), strict=True):
        assert_close(kernel, expected, condition=30)


def test_a_repeated_merged_axis_is_refused():
    def f(p, x):
        merged = hidden(p, x).reshape(len(x), 4 * 64)
        return jnp.tile(merged, (1, 2)) @ jnp.ones((512, 1))

    with pytest.raises(infinite.NoLimitError, match=r"tile at .*test_tiling.py:\d+ .*repeat before reshaping"):
        kernels(f)
